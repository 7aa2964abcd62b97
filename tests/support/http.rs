//! A small JSON client for the parts' HTTP sides.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PATIENCE;

/// A client for what is no JSON.
pub fn http_client() -> reqwest::Client {
    client().build().expect("an HTTP client")
}

fn client() -> reqwest::ClientBuilder {
    // The provider is the process's; only the first of the tests that run at once installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE)
}

/// One part's HTTP side.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
}

impl Http {
    /// Below `base`, such as `http://127.0.0.1:1234`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { client: http_client(), base: base.into() }
    }

    /// The same, with `HTTP_TOKEN` if there is one.
    pub fn with_token(base: impl Into<String>, token: Option<&String>) -> Self {
        let bearer = token.map(|token| format!("Bearer {}", token.trim()).parse().expect("a header"));
        let headers = bearer.map(|bearer| (reqwest::header::AUTHORIZATION, bearer)).into_iter().collect();
        Self { client: client().default_headers(headers).build().expect("an HTTP client"), base: base.into() }
    }

    /// The address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET`: the status and the JSON body. An error is a text, for `eventually`.
    pub async fn get(&self, path: &str) -> Result<(u16, Value), String> {
        self.answer(self.client.get(format!("{}{path}", self.base))).await
    }

    /// `GET` of a text that must be there.
    pub async fn text(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.base)).send();
        let answer = request.await.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert_eq!(answer.status(), 200, "GET {path}");
        answer.text().await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `POST` of a JSON body: the status and the JSON body.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<(u16, Value), String> {
        self.answer(self.client.post(format!("{}{path}", self.base)).json(body)).await
    }

    /// `GET` of something that must be there.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.get(path).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status, 200, "GET {}{path}: {body}", self.base);
        let shown = body.to_string();
        serde_json::from_value(body)
            .unwrap_or_else(|error| panic!("GET {}{path}: {error} in {shown}", self.base))
    }

    /// `POST` of something that must succeed.
    pub async fn make(&self, path: &str, body: &impl Serialize) -> Value {
        let (status, answer) = self.post(path, body).await.unwrap_or_else(|error| panic!("{error}"));
        assert!((200..300).contains(&status), "POST {}{path}: {status} {answer}", self.base);
        answer
    }

    /// `DELETE` of something that can be deleted.
    pub async fn remove(&self, path: &str) {
        let request = self.client.delete(format!("{}{path}", self.base));
        let (status, answer) = self.answer(request).await.unwrap_or_else(|error| panic!("{error}"));
        assert!((200..300).contains(&status), "DELETE {}{path}: {status} {answer}", self.base);
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), String> {
        let response = request.send().await.map_err(|error| format!("{}: {error:?}", self.base))?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| format!("{}: {error}", self.base))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, body))
    }
}
