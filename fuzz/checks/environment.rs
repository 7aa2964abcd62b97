//! A `.env` file, the settings that it makes, and what is shown of them.

use whatsapp_connector::config::{Config, Environment, InForce, dotenv, table};

/// Stands in every secret; in nothing else.
const CANARY: &str = "Zq7xK";
/// Settings that are never shown.
const SECRETS: [&str; 8] = [
    "API_KEY",
    "WHATSAPP_WEBHOOK_SECRET",
    "NATS_TOKEN",
    "NATS_PASSWORD",
    "NATS_NKEY",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
];
/// Settings that are shown without user and password.
const ADDRESSES: [&str; 3] = ["NATS_URL", "BACKEND_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Settings that are shown by their last four digits.
const NUMBERS: [&str; 2] = ["ALLOWED_NUMBERS", "WHATSAPP_PAIR_PHONE"];

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = match dotenv(bytes) {
        Ok(pairs) => pairs,
        Err(error) => {
            // The line may be a secret's.
            let shown = error.to_string();
            let lines = text.lines().map(str::trim).filter(|line| line.len() > 60);
            assert!(!lines.into_iter().any(|line| shown.contains(line)), "{shown}");
            return;
        }
    };
    // Files are this machine's, and no bytes from outside. A canary that the fuzzer writes itself is no secret.
    let pairs = read.into_iter().filter(|(name, _)| !name.ends_with("_FILE"));
    let pairs: Vec<_> =
        pairs.filter(|(name, value)| !name.contains(CANARY) && !value.contains(CANARY)).collect();
    shown(&Environment::of(pairs.clone(), []));

    let short: String = text.chars().filter(|c| *c != '\0').take(48).collect();
    if short.contains(CANARY) {
        return;
    }

    // The same with a canary in each secret, around what the file says or else its text.
    let given = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    // No address has a slash in its login.
    let secret = |name: &str| format!("{CANARY}{}{CANARY}", given(name).unwrap_or(&short).replace('/', ""));
    let secrets = SECRETS.iter().filter(|name| given(name).is_some());
    let secrets = secrets.map(|name| ((*name).to_owned(), secret(name)));
    let addresses = ADDRESSES.map(|name| (name.to_owned(), format!("http://me:{}@host:1", secret(name))));
    let own: Vec<_> = secrets.chain(addresses).collect();
    let canaries = shown(&Environment::of(pairs.clone(), own));
    for text in canaries {
        assert!(!text.contains(CANARY), "a secret is shown: {text}");
    }
}

/// All that people see of it.
fn shown(environment: &Environment) -> Vec<String> {
    let parsed = Config::parse(environment);
    let (in_force, fine) = InForce::of(environment);
    assert_eq!(parsed.is_ok(), fine);
    let json = serde_json::to_value(&in_force).expect("it is JSON");
    let lines = json["settings"].as_array().expect("a list");
    assert!(lines.len() >= table::ALL.len());
    for (line, setting) in lines.iter().zip(table::ALL) {
        assert_eq!(line["name"], setting.name);
        if NUMBERS.contains(&setting.name) {
            masked(line["value"].as_str().unwrap_or_default());
        }
    }
    let mut shown = vec![in_force.to_string(), json.to_string()];
    if let Err(error) = parsed {
        assert!(!error.0.is_empty());
        for bad in error.0.iter().filter(|bad| NUMBERS.contains(&bad.name.as_str())) {
            masked(&bad.got);
        }
        shown.push(error.to_string());
    }
    shown
}

/// However people write a phone number, no more than four digits of it are shown.
fn masked(numbers: &str) {
    for number in numbers.split(',') {
        let digits = number.chars().filter(char::is_ascii_digit).count();
        assert!(digits <= 4, "a phone number is shown: {number}");
    }
}
