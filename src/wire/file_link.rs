//! Addresses of files that are good for a while: who has one may fetch one file, and nobody else may.
//!
//! The address names the file, its type and until when it is good, and is signed with a secret that the processes share.
//! What is wrong with one that is not good is told to nobody.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

/// Where the files are, below the address of a process.
pub const PATH: &str = "/media/";
/// What is said of an address that is good for no file.
pub const NOT_GOOD: &str = "this address is good for no file, or not any more\n";
/// What is said of a file that is not in the bucket.
pub const NOT_THERE: &str = "the file is not there yet, or not any more\n";
/// The longest name of a type that is shown.
const TYPE: usize = 64;

/// Signs addresses of files, and knows its own.
#[derive(Debug, Clone)]
pub struct FileLinks(Hmac<Sha256>);

/// The file that an address is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Its name in the bucket.
    pub key: String,
    /// What it is, if that is something to show. It is its sender's word.
    pub mime_type: Option<String>,
}

impl FileLinks {
    /// Links that are signed with this secret.
    pub fn new(secret: &str) -> Option<Self> {
        Hmac::new_from_slice(secret.as_bytes()).ok().map(Self)
    }

    /// The address of a file of this type, below `base`, good until `expires` (seconds since the epoch).
    pub fn sign(&self, base: &str, key: &str, mime_type: &str, expires: u64) -> String {
        let (base, name) = (base.trim_end_matches('/'), BASE64_URL_SAFE_NO_PAD.encode(key));
        let mime_type = harmless(mime_type).unwrap_or_default();
        let signed = self.mac(key, &mime_type, expires).finalize().into_bytes();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signed);
        let shown = if mime_type.is_empty() { String::new() } else { format!("type={mime_type}&") };
        format!("{base}{PATH}{name}?{shown}expires={expires}&signature={signature}")
    }

    /// The file that this path and query are good for at `now` (seconds since the epoch). `None`: they are good for none.
    pub fn open(&self, path: &str, query: &str, now: u64) -> Option<Granted> {
        let name = BASE64_URL_SAFE_NO_PAD.decode(path.strip_prefix(PATH)?).ok()?;
        let key = String::from_utf8(name).ok()?;
        let given = |name: &str| {
            let mut found =
                query.split('&').filter_map(|part| part.split_once('=')).filter(|(n, _)| *n == name);
            let (_, value) = found.next()?;
            // One that comes twice can be read in two ways.
            let is_only = found.next().is_none();
            percent_decode_str(value).decode_utf8().ok().filter(|_| is_only).map(String::from)
        };
        let expires = given("expires")?;
        let expires =
            expires.bytes().all(|byte| byte.is_ascii_digit()).then(|| expires.parse::<u64>().ok())??;
        let mime_type = given("type").unwrap_or_default();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(given("signature")?).ok()?;
        // In constant time, and before anything is said of the time.
        self.mac(&key, &mime_type, expires).verify_slice(&signature).ok()?;
        (now <= expires).then(|| Granted { key, mime_type: harmless(&mime_type) })
    }

    fn mac(&self, key: &str, mime_type: &str, expires: u64) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        // A name cannot have a line break in front of it, so no two files have the same words.
        mac.update(format!("file\n{expires}\n{mime_type}\n{key}").as_bytes());
        mac
    }
}

/// The type, if a browser that shows it runs nothing of it.
fn harmless(mime_type: &str) -> Option<String> {
    let name = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (family, kind) = name.split_once('/')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let fits = name.len() <= TYPE && !kind.is_empty() && kind.bytes().all(is_plain);
    let is_shown = ["image", "audio", "video"].contains(&family) || name == "application/pdf";
    (fits && is_shown).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "default/54911/54911/3EB0%2F";
    const NOW: u64 = 1_736_330_400;

    fn links() -> FileLinks {
        FileLinks::new("a-secret-of-the-tests").unwrap()
    }

    fn open(url: &str, now: u64) -> Option<Granted> {
        let (path, query) = url.strip_prefix("http://edge:8080").unwrap().split_once('?').unwrap();
        links().open(path, query, now)
    }

    #[test]
    fn an_address_is_good_for_its_file_until_its_time_is_over() {
        let url = links().sign("http://edge:8080/", KEY, "image/JPEG; q=1", NOW);
        assert!(url.starts_with("http://edge:8080/media/ZGVmYXVsdC8"), "{url}");
        let granted = Granted { key: KEY.to_owned(), mime_type: Some("image/jpeg".to_owned()) };
        assert_eq!(open(&url, NOW), Some(granted.clone()));
        assert_eq!(open(&url.replace("image/jpeg", "image%2Fjpeg"), NOW), Some(granted));
        assert_eq!(open(&url, NOW + 1), None);
        let other = FileLinks::new("another-secret-of-the-tests").unwrap();
        let (path, query) = url.split_at(16).1.split_once('?').unwrap();
        assert_eq!(other.open(path, query, NOW), None);
    }

    #[test]
    fn an_address_that_was_changed_is_good_for_nothing() {
        let url = links().sign("http://edge:8080", KEY, "image/jpeg", NOW);
        let name = BASE64_URL_SAFE_NO_PAD.encode(KEY);
        let other = BASE64_URL_SAFE_NO_PAD.encode("default/54911/54911/3EB0AC");
        let signature = url.rsplit('=').next().unwrap();
        for changed in [
            url.replace(&name, &other),
            url.replace(&name, ""),
            url.replace(&name, &format!("{name}/")),
            url.replace("expires=1736330400", "expires=1736330401"),
            url.replace("expires=1736330400", "expires=%2B1736330400"),
            url.replace("expires=1736330400", "expires="),
            url.replace("expires=1736330400&", ""),
            url.replace("expires=1736330400", "expires=1736330401&expires=1736330400"),
            url.replace("type=image/jpeg", "type=image/png"),
            url.replace("type=image/jpeg&", ""),
            url.replace(signature, &signature[1..]),
            url.replace(signature, ""),
            url.replace("&signature=", "&signatur="),
            url.replace("/media/", "/link/"),
            url.replacen(&signature[..1], if signature.starts_with('A') { "B" } else { "A" }, 1),
        ] {
            assert_eq!(open(&changed, 0), None, "{changed}");
        }
        // The end of a name and the beginning of a type are not one text.
        let url = links().sign("http://edge:8080", "a", "", NOW);
        assert!(!url.contains("type=") && open(&url, NOW).is_some());
    }

    #[test]
    fn what_a_browser_could_run_has_no_type() {
        for (given, want) in [
            ("image/jpeg", Some("image/jpeg")),
            ("audio/ogg; codecs=opus", Some("audio/ogg")),
            ("VIDEO/mp4", Some("video/mp4")),
            ("application/pdf", Some("application/pdf")),
            ("image/svg+xml", None),
            ("text/html", None),
            ("application/xhtml+xml", None),
            ("image/", None),
            ("image", None),
            ("", None),
            ("image/a\r\nSet-Cookie: a", None),
            (&format!("image/{}", "a".repeat(TYPE)), None),
        ] {
            assert_eq!(harmless(given).as_deref(), want, "{given}");
        }
    }
}
