//! What callers are told when a call fails, and how bodies and numbers are read.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::delivery::SendError;
use crate::ids::PhoneNumber;
use crate::pairing::PairError;

/// A failed call: a status and `{"error": "..."}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request makes no sense.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The request contradicts what is there.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn wrong_method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }

    /// The simulator is ending.
    pub(crate) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the simulator is stopping")
    }

    /// A defect of the simulator.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.message}))).into_response()
    }
}

impl From<PairError> for ApiError {
    fn from(error: PairError) -> Self {
        let message = error.to_string();
        match error {
            PairError::Qr(_) | PairError::Code => Self::bad(message),
            PairError::NoAccount(_) => Self::not_found(message),
            PairError::NobodyShowsIt
            | PairError::NobodyShowsCode
            | PairError::WrongCode
            | PairError::Busy
            | PairError::Refused(_)
            | PairError::Gone => Self::conflict(message),
            PairError::Phone(_) => Self::internal(message),
        }
    }
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        let message = error.to_string();
        match error {
            SendError::NoCustomer(_) | SendError::NoAccount(_) | SendError::NoMessage(_) => {
                Self::not_found(message)
            }
            SendError::OtherContent(_) | SendError::NoMember(_) => Self::conflict(message),
            SendError::Attachment(_) => Self::bad(message),
            SendError::Phone(_) => Self::internal(message),
        }
    }
}

/// The phone number in a call's path.
pub(crate) struct Phone(pub(crate) PhoneNumber);

impl<S: Send + Sync> FromRequestParts<S> for Phone {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|error| ApiError::bad(format!("phone: {error}")))?;
        number("phone", &text).map(Self)
    }
}

/// Reads a JSON body whatever its content type says; the error names the field.
pub(crate) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::bad("the body is empty; send a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::bad(format!("the body: {error}")))
}

/// Reads a phone number; the error names the field.
pub(crate) fn number(field: &str, text: &str) -> Result<PhoneNumber, ApiError> {
    text.parse().map_err(|error| ApiError::bad(format!("{field}: {error}")))
}

/// Far longer than any phone's.
const LONGEST_ID: usize = 400_000;

/// Checks a message id that the caller chose.
pub(crate) fn message_id(id: Option<String>) -> Result<Option<String>, ApiError> {
    match id {
        Some(id) if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(ApiError::bad(
                "`id`: write 1 to 400000 printable ASCII characters without spaces, or leave it out",
            ))
        }
        id => Ok(id),
    }
}

/// Checks a display name.
pub(crate) fn name(name: String) -> Result<String, ApiError> {
    if name.trim().is_empty() || name.len() > 200 {
        return Err(ApiError::bad("`name`: write 1 to 200 characters"));
    }
    Ok(name)
}
