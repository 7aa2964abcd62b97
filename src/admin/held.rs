//! What is said of a route that is held, so that an operator knows which assistant it is and where to look.

use super::Reason;
use crate::forwarder::HeldRoute;

/// Why its messages do not go.
pub(super) fn reason(held: &HeldRoute) -> Reason {
    Reason::new("backend", &held.reason, &detail(held))
}

/// One sentence.
pub(super) fn detail(held: &HeldRoute) -> String {
    let Some(account) = &held.account else { return of_all(&held.reason).to_owned() };
    match held.reason.as_str() {
        "http-401" | "http-403" => format!(
            "Route {account}: its backend refuses this connector: check api_key_file and webhook_secret_file of [{account}] in ROUTES_FILE, then send SIGHUP."
        ),
        "http-404" | "http-405" => format!(
            "Route {account}: its backend does not have the endpoint: check url of [{account}] in ROUTES_FILE, then send SIGHUP."
        ),
        "unreachable" => format!(
            "Route {account}: its backend cannot be reached: check url of [{account}] in ROUTES_FILE and that it runs."
        ),
        _ => format!("Route {account}: its backend says that it is unavailable."),
    }
}

/// The backend of all that have no route of their own.
fn of_all(reason: &str) -> &'static str {
    match reason {
        "http-401" | "http-403" => {
            "The backend refuses this connector: check API_KEY and WHATSAPP_WEBHOOK_SECRET."
        }
        "http-404" | "http-405" => "The backend does not have the endpoint: check BACKEND_URL.",
        "unreachable" => "The backend cannot be reached: check BACKEND_URL and that it runs.",
        _ => "The backend says that it is unavailable.",
    }
}
