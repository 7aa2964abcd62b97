//! Who may do what on the page.
//!
//! Whoever logs in with `HTTP_TOKEN` gets a cookie that only this process knows, and may change something. A form carries
//! a token of its own as well, and comes from this page: no other page in the same browser can send one. A script sends
//! the token as Bearer, and needs neither. Basic shows the page and changes nothing: a browser sends it by itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::admin::guard::Guard;

/// A login ends after this time.
const LASTS: Duration = Duration::from_secs(12 * 3_600);
/// So many are known; one more ends the oldest. Only the right token makes one.
const SESSIONS: usize = 64;
/// So many cookies are looked at.
const COOKIES: usize = 8;

/// What a client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum May {
    /// Look, and no more.
    Look,
    /// Change something too. The forms carry this.
    Change(Login),
    /// The same for a script.
    Script,
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    key: [u8; 32],
    /// What forms carry.
    pub csrf: String,
}

/// Why a client may not even look.
#[derive(Debug)]
pub(super) enum Turned {
    /// It gets this answer.
    Away(Box<Response>),
    /// It has to log in.
    ToLogin,
}

/// The logins of this process.
#[derive(Debug, Default)]
pub(super) struct Entry(Mutex<HashMap<[u8; 32], (Instant, String)>>);

impl Entry {
    /// What the client may do that has sent these headers.
    pub(super) fn may(&self, guard: &Guard, peer: SocketAddr, headers: &HeaderMap) -> Result<May, Turned> {
        if !guard.has_token() {
            return guard
                .refusal(peer, headers)
                .map_or(Ok(May::Look), |away| Err(Turned::Away(Box::new(away))));
        }
        if let Some(login) = self.login(headers, Instant::now()) {
            return Ok(May::Change(login));
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Err(Turned::ToLogin) };
        if let Some(away) = guard.refusal(peer, headers) {
            return Err(Turned::Away(Box::new(away)));
        }
        let scheme = given.as_bytes().get(..7).unwrap_or_default();
        Ok(if scheme.eq_ignore_ascii_case(b"bearer ") { May::Script } else { May::Look })
    }

    /// The right token was given: the cookie of a new login. `None` if there is no randomness.
    pub(super) fn begin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let (secret, csrf) = (random()?, random()?);
        let now = Instant::now();
        {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, (ends, _)| *ends > now);
            if all.len() >= SESSIONS
                && let Some(oldest) = all.iter().min_by_key(|(_, (ends, _))| *ends).map(|(key, _)| *key)
            {
                all.remove(&oldest);
            }
            all.insert(digest(&secret), (now + LASTS, csrf));
        }
        let (name, secure) = (cookie(headers), if is_https(headers) { "; Secure" } else { "" });
        let lasts = LASTS.as_secs();
        let text = format!("{name}={secret}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::from_str(&text).ok()
    }

    /// Ends a login: what takes the cookie away.
    pub(super) fn end(&self, login: &Login, headers: &HeaderMap) -> Option<HeaderValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&login.key);
        let text = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict", cookie(headers));
        HeaderValue::from_str(&text).ok()
    }

    /// Does this login last still?
    pub(super) fn lasts(&self, may: &May) -> bool {
        let May::Change(login) = may else { return true };
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&login.key).is_some_and(|(ends, _)| *ends > Instant::now())
    }

    fn login(&self, headers: &HeaderMap, now: Instant) -> Option<Login> {
        let name = cookie(headers);
        let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let own = pairs.filter(|(known, _)| *known == name).map(|(_, value)| digest(value)).take(COOKIES);
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.filter_map(|key| Some((key, all.get(&key)?)))
            .find(|(_, (ends, _))| *ends > now)
            .map(|(key, (_, csrf))| Login { key, csrf: csrf.clone() })
    }
}

impl Login {
    /// Is it what this login's forms carry?
    pub(super) fn is_form(&self, given: &str) -> bool {
        self.csrf.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Comes the request from a page of this server, or from no page at all? What browsers say of it, no page can change.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        return ["same-origin", "none"].contains(&site);
    }
    let Some(origin) = text("origin") else { return true };
    let origin = origin.split_once("://").map(|(_, authority)| authority);
    origin.is_some() && (origin == text("host") || origin == text("x-forwarded-host"))
}

/// The cookie's name. Browsers do not tell the ports of one host apart, and each may be another process.
fn cookie(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.len() <= 5 && port.chars().all(|c| c.is_ascii_digit());
    format!("wa_console_{}", if is_port { port } else { "" })
}

fn is_https(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

fn random() -> Option<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (header::HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(pair).collect()
    }

    /// The cookie as a browser sends it back.
    fn sent(set: &HeaderValue) -> String {
        set.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_login_is_good_for_its_cookie_until_it_ends() {
        let (entry, host) = (Entry::default(), headers(&[("host", "localhost:8080")]));
        let set = entry.begin(&host).unwrap();
        let text = set.to_str().unwrap();
        assert!(text.contains("; HttpOnly; SameSite=Strict") && !text.contains("Secure"), "{text}");
        let cookie = sent(&set);
        let seen = headers(&[("host", "localhost:8080"), ("cookie", &format!("a=b; {cookie}"))]);
        let now = Instant::now();
        let login = entry.login(&seen, now).unwrap();
        assert!(login.is_form(&login.csrf) && !login.is_form("") && !login.is_form(&login.csrf[1..]));
        assert_eq!(entry.login(&seen, now + LASTS + Duration::from_secs(1)), None);
        // Another process, on another port of the same host.
        assert_eq!(entry.login(&headers(&[("host", "localhost:8081"), ("cookie", &cookie)]), now), None);
        let wrong = cookie.replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(entry.login(&headers(&[("host", "localhost:8080"), ("cookie", &wrong)]), now), None);
        entry.end(&login, &seen);
        assert_eq!(entry.login(&seen, now), None);
        assert!(!entry.lasts(&May::Change(login)));
    }

    #[test]
    fn over_https_the_cookie_stays_there() {
        let host = headers(&[("host", "wa.example"), ("x-forwarded-proto", "https")]);
        assert!(Entry::default().begin(&host).unwrap().to_str().unwrap().ends_with("; Secure"));
    }

    #[test]
    fn there_are_never_more_logins_than_that() {
        let (entry, host) = (Entry::default(), headers(&[("host", "a")]));
        let first = sent(&entry.begin(&host).unwrap());
        let mut last = first.clone();
        for _ in 0..SESSIONS {
            last = sent(&entry.begin(&host).unwrap());
        }
        assert_eq!(entry.0.lock().unwrap().len(), SESSIONS);
        let of = |cookie: &str| entry.login(&headers(&[("host", "a"), ("cookie", cookie)]), Instant::now());
        assert!(of(&first).is_none() && of(&last).is_some());
    }

    #[test]
    fn another_page_is_known_by_what_the_browser_says_of_it() {
        let rows: [(&[(&str, &str)], bool); 10] = [
            (&[], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site"), ("host", "a"), ("origin", "http://a")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("host", "a:1"), ("origin", "http://a:1")], true),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (
                &[("host", "in.side"), ("x-forwarded-host", "wa.example"), ("origin", "https://wa.example")],
                true,
            ),
            (&[("host", "a"), ("origin", "null")], false),
            (&[("origin", "null")], false),
        ];
        for (given, own) in rows {
            assert_eq!(is_own(&headers(given)), own, "{given:?}");
        }
    }
}
