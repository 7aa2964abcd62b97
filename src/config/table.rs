//! Every setting, once. This table decides what is parsed, what `config` prints, what docs/configuration.md has to
//! say (a test compares them) and what a misspelt name was likely meant for.
//!
//! A new setting needs a row here, a line in [`Config::checked`](super::Config), and a row in the docs.

use serde::Deserialize;

use crate::bus::access;
use crate::edge::rate;
use crate::telemetry::DEFAULT_FILTER;
use crate::wire::opt_out;

/// What a duration takes.
pub const DURATION: &str = "a duration, such as 30s, 5m or 24h";

/// What the size of a stream or a file takes.
pub const SIZE: &str = "a size of 1MiB or more, such as 64MiB or 10GiB";

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its default.
    pub default: Default,
    /// What it takes. Shown to an operator who gave it something else.
    pub takes: &'static str,
    /// The side that uses it.
    pub side: Side,
    /// The first version that has it.
    pub since: &'static str,
    /// How much of it may be shown.
    pub shown: Shown,
    /// May its value be in a file that `<name>_FILE` names?
    pub file: File,
}

/// Whether a value may be in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// It may not.
    Never,
    /// It may; the file is read at the start.
    Once,
    /// It may; the file is read again for each connection, so that the value may change.
    EachConnection,
}

/// The default of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This value.
    Value(&'static str),
    /// No value; the text says what that means.
    Words(&'static str),
}

/// The side that uses a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Edge and forwarder.
    Both,
    /// The edge.
    Edge,
    /// The forwarder.
    Forwarder,
    /// `run`, when it starts a private nats-server.
    PrivateServer,
}

impl Side {
    /// As the documentation has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Edge => "edge",
            Self::Forwarder => "forwarder",
            Self::PrivateServer => "run without NATS_URL",
        }
    }
}

/// How much of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    Whole,
    /// Nothing.
    Never,
    /// Addresses without user and password.
    WithoutUser,
    /// Phone numbers by their last four digits.
    LastFour,
}

impl Setting {
    const fn of(side: Side) -> Self {
        let default = Default::Words("nothing");
        Self {
            name: "",
            default,
            takes: "a text",
            side,
            since: "0.1.0",
            shown: Shown::Whole,
            file: File::Never,
        }
    }

    const fn or(self, value: &'static str) -> Self {
        Self { default: Default::Value(value), ..self }
    }

    const fn or_else(self, words: &'static str) -> Self {
        Self { default: Default::Words(words), ..self }
    }

    const fn takes(self, takes: &'static str) -> Self {
        Self { takes, ..self }
    }

    const fn shown(self, shown: Shown) -> Self {
        Self { shown, ..self }
    }

    /// Never shown, and may be in a file.
    const fn secret(self) -> Self {
        Self { shown: Shown::Never, file: File::Once, ..self }
    }

    /// An address that may hold a password, and may be in a file.
    const fn secret_address(self) -> Self {
        Self { shown: Shown::WithoutUser, file: File::Once, ..self }
    }

    /// Never shown, and may be in a file that may change.
    const fn rotated_secret(self) -> Self {
        Self { shown: Shown::Never, file: File::EachConnection, ..self }
    }
}

impl Setting {
    /// The variable that names the file with its value, if it may be in one.
    pub fn pointer(&self) -> Option<String> {
        (self.file != File::Never).then(|| format!("{}_FILE", self.name))
    }
}

/// A setting, and its value.
#[derive(Clone)]
pub struct Given {
    /// Which.
    pub setting: Setting,
    /// As it was written; `None` if it is not set.
    pub value: Option<String>,
}

impl std::fmt::Debug for Given {
    /// Its value may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("name", &self.setting.name).finish_non_exhaustive()
    }
}

macro_rules! settings {
    ($($field:ident: $name:literal, $setting:expr;)*) => {
        /// All of them, in the order of docs/configuration.md.
        pub const ALL: &[Setting] = &[$(Setting { name: $name, ..$setting }),*];

        /// The environment as it is: the field names are the variables' names in lower case; everything is
        /// text, so that every bad value can be named at once.
        #[derive(std::default::Default, Deserialize)]
        #[serde(default)]
        struct Raw { $($field: Option<String>),* }

        /// The value of each. The compiler warns about a row that no code reads.
        #[derive(Debug)]
        pub struct All { $(pub(super) $field: Given),* }

        impl All {
            /// Picks them out of variables.
            pub fn pick(variables: impl Iterator<Item = (String, String)>) -> Result<Self, envy::Error> {
                let raw: Raw = envy::from_iter(variables)?;
                Ok(Self {
                    $($field: Given { setting: Setting { name: $name, ..$setting }, value: raw.$field }),*
                })
            }
        }
    };
}

use Side::{Both, Edge, Forwarder, PrivateServer};

settings! {
    // The assistant.
    backend_url: "BACKEND_URL", Setting::of(Forwarder).or("http://localhost:8000")
        .takes("http://host:port or https://host").shown(Shown::WithoutUser);
    api_key: "API_KEY", Setting::of(Forwarder).or_else("none is sent")
        .takes("printable ASCII: it goes into an HTTP header").secret();
    whatsapp_webhook_secret: "WHATSAPP_WEBHOOK_SECRET", Setting::of(Forwarder).or_else("calls are not signed")
        .takes("any text").secret();
    backend_timeout: "BACKEND_TIMEOUT", Setting::of(Forwarder).or("120s").takes(DURATION);
    backend_concurrency: "BACKEND_CONCURRENCY", Setting::of(Forwarder).or("256")
        .takes("a number from 1 to 100000");
    routes_file: "ROUTES_FILE", Setting::of(Forwarder).or_else("BACKEND_URL is everybody's")
        .takes("a TOML file of accounts that have an assistant of their own");
    backend_retry_for: "BACKEND_RETRY_FOR", Setting::of(Forwarder).or("5m").takes(DURATION);
    fallback_text: "FALLBACK_TEXT", Setting::of(Forwarder).or_else("nothing is sent");
    allowed_numbers: "ALLOWED_NUMBERS", Setting::of(Forwarder).or_else("everybody")
        .takes("phone numbers separated by commas").shown(Shown::LastFour);
    unknown_numbers: "UNKNOWN_NUMBERS", Setting::of(Forwarder).or("chat").takes("silent or chat");
    groups: "GROUPS", Setting::of(Forwarder).or("off").takes("off, mention or all");
    groups_name: "GROUPS_NAME", Setting::of(Forwarder).or("off").takes("on or off");
    self_chat: "SELF_CHAT", Setting::of(Forwarder).or("off").takes("on or off");
    reply_max_age: "REPLY_MAX_AGE", Setting::of(Forwarder).or("24h").takes(DURATION);
    reply_format: "REPLY_FORMAT", Setting::of(Forwarder).or("text").takes("text or markdown");
    backend_fields: "BACKEND_FIELDS", Setting::of(Forwarder).or("basic").takes("basic or full");
    media_wait: "MEDIA_WAIT", Setting::of(Forwarder).or("10s").takes("a duration up to 1m, such as 10s; 0s for none");
    media_url: "MEDIA_URL", Setting::of(Forwarder).or_else("no addresses")
        .takes("http://host:port or https://host").shown(Shown::WithoutUser);
    media_url_secret: "MEDIA_URL_SECRET", Setting::of(Both).or_else("no files are served")
        .takes("16 to 256 characters of printable ASCII without spaces; MEDIA_URL needs it").secret();
    media_url_ttl: "MEDIA_URL_TTL", Setting::of(Forwarder).or("15m").takes("a duration from 1s to 24h, such as 15m");
    transcribe_url: "TRANSCRIBE_URL", Setting::of(Forwarder).or_else("voice notes have no words")
        .takes("http://host:port or https://host").shown(Shown::WithoutUser);
    transcribe_api_key: "TRANSCRIBE_API_KEY", Setting::of(Forwarder).or_else("none is sent")
        .takes("printable ASCII: it goes into an HTTP header").secret();
    transcribe_model: "TRANSCRIBE_MODEL", Setting::of(Forwarder).or("whisper-1").takes("a model's name");
    transcribe_timeout: "TRANSCRIBE_TIMEOUT", Setting::of(Forwarder).or("30s").takes(DURATION);
    unsupported_text: "UNSUPPORTED_TEXT", Setting::of(Forwarder).or_else("nothing is sent");
    calls_per_chat: "CALLS_PER_CHAT", Setting::of(Forwarder).or("off").takes(rate::TAKES);
    rate_text: "RATE_TEXT", Setting::of(Forwarder).or_else("nothing is sent");
    backend_mode: "BACKEND_MODE", Setting::of(Forwarder).or("answer").takes("answer or shadow");
    shadow_delay: "SHADOW_DELAY", Setting::of(Forwarder).or("5s").takes("a duration up to 1h, such as 5s; 0s for none");
    join_within: "JOIN_WITHIN", Setting::of(Forwarder).or("0s").takes("a duration up to 1m, such as 3s; 0s for none");
    join_max: "JOIN_MAX", Setting::of(Forwarder).or("15s").takes("a duration up to 10m, such as 15s");

    // A person takes over.
    takeover: "TAKEOVER", Setting::of(Both).or("off").takes("off, or a duration such as 30m");
    takeover_max: "TAKEOVER_MAX", Setting::of(Both).or("12h").takes(DURATION);

    // Who wants nothing unasked.
    opt_out_words: "OPT_OUT_WORDS", Setting::of(Edge).or_else("nobody opts out").takes(opt_out::TAKES);
    opt_in_words: "OPT_IN_WORDS", Setting::of(Edge).or_else("nobody opts in").takes(opt_out::TAKES);

    // WhatsApp.
    whatsapp_auth_dir: "WHATSAPP_AUTH_DIR", Setting::of(Edge).or("./auth_info").takes("a directory");
    session_store: "SESSION_STORE", Setting::of(Edge).or("file").takes("file or nats");
    session_key: "SESSION_KEY", Setting::of(Edge).or_else("none; SESSION_STORE=nats needs one")
        .takes("1 to 8 different keys of 32 bytes in base64, separated by commas").secret();
    session_unsafe_sync: "SESSION_UNSAFE_SYNC", Setting::of(Edge).or("off").takes("on or off");
    whatsapp_account: "WHATSAPP_ACCOUNT", Setting::of(Edge).or("default")
        .takes("1 to 64 of a-z, 0-9, _ and -");
    whatsapp_accounts: "WHATSAPP_ACCOUNTS", Setting::of(Edge).or_else("one account: WHATSAPP_ACCOUNT")
        .takes("* or names of accounts, separated by commas; with SESSION_STORE=nats");
    edge_capacity: "EDGE_CAPACITY", Setting::of(Edge).or("100").takes("1 to 1000");
    whatsapp_pair_phone: "WHATSAPP_PAIR_PHONE", Setting::of(Edge).or_else("QR code only")
        .takes("a phone number in digits, with its country code").shown(Shown::LastFour);
    inbound_extra: "INBOUND_EXTRA", Setting::of(Edge).or_else("neither")
        .takes("status, newsletter, or both separated by a comma");
    media: "MEDIA", Setting::of(Edge).or("off").takes("off, inbound or all");
    media_max_bytes: "MEDIA_MAX_BYTES", Setting::of(Edge).or("64MiB").takes(SIZE);
    presence: "PRESENCE", Setting::of(Edge).or("unavailable").takes("unavailable or available");
    typing: "TYPING", Setting::of(Both).or("on").takes("on or off");
    read_receipts: "READ_RECEIPTS", Setting::of(Edge).or("off").takes("off or on");
    send_per_chat: "SEND_PER_CHAT", Setting::of(Edge).or("20/10s").takes(rate::TAKES);
    send_total: "SEND_TOTAL", Setting::of(Edge).or("50/1s").takes(rate::TAKES);
    send_new_chats_per_hour: "SEND_NEW_CHATS_PER_HOUR", Setting::of(Edge).or("60")
        .takes("a number from 1 to 100000, or 0 for no limit");
    send_new_chats_pause: "SEND_NEW_CHATS_PAUSE", Setting::of(Edge).or("1h").takes(DURATION);
    interactive: "INTERACTIVE", Setting::of(Edge).or("text").takes("text or native");
    service_checks: "SERVICE_CHECKS", Setting::of(Edge).or("20/1m").takes(rate::TAKES);
    loop_limit: "LOOP_LIMIT", Setting::of(Edge).or("30/1m").takes(rate::TAKES_PER_MINUTE);
    whatsapp_simulator_url: "WHATSAPP_SIMULATOR_URL", Setting::of(Edge).or_else("WhatsApp itself")
        .takes("nothing, in a normal build");

    // The bus.
    nats_url: "NATS_URL", Setting::of(Both).or_else("run starts a nats-server of its own")
        .takes("nats://host:port, several separated by commas").secret_address();
    nats_server_bin: "NATS_SERVER_BIN", Setting::of(PrivateServer).or_else("nats-server on PATH").takes("a file");
    nats_data_dir: "NATS_DATA_DIR", Setting::of(PrivateServer).or("./data/nats").takes("a directory");
    nats_subject_prefix: "NATS_SUBJECT_PREFIX", Setting::of(Both).or("wa")
        .takes("1 to 32 letters, digits, _ and -");
    nats_provision: "NATS_PROVISION", Setting::of(Both).or("create").takes("create, verify or off");
    nats_replicas: "NATS_REPLICAS", Setting::of(Both).or("1").takes("1, 3 or 5");
    nats_in_max_age: "NATS_IN_MAX_AGE", Setting::of(Both).or("7d").takes(DURATION);
    nats_out_max_age: "NATS_OUT_MAX_AGE", Setting::of(Both).or("8d").takes(DURATION);
    nats_dlq_max_age: "NATS_DLQ_MAX_AGE", Setting::of(Both).or("30d").takes(DURATION);
    nats_in_max_bytes: "NATS_IN_MAX_BYTES", Setting::of(Both).or_else("no limit").takes(SIZE);
    nats_out_max_bytes: "NATS_OUT_MAX_BYTES", Setting::of(Both).or_else("no limit").takes(SIZE);
    nats_dlq_max_bytes: "NATS_DLQ_MAX_BYTES", Setting::of(Both).or_else("no limit").takes(SIZE);
    nats_media_max_bytes: "NATS_MEDIA_MAX_BYTES", Setting::of(Edge).or_else("no limit").takes(SIZE);
    nats_duplicate_window: "NATS_DUPLICATE_WINDOW", Setting::of(Both).or("24h").takes(DURATION);
    forwarder_ack_wait: "FORWARDER_ACK_WAIT", Setting::of(Forwarder).or("15s").takes(DURATION);
    edge_ack_wait: "EDGE_ACK_WAIT", Setting::of(Edge).or("30s").takes(DURATION);

    // A guarded bus. `bus::Access` reads these, together: see `Config::access`.
    nats_creds: "NATS_CREDS", Setting::of(Both).or_else("none").takes("a credentials file (JWT and seed)");
    nats_nkey: "NATS_NKEY", Setting::of(Both).or_else("none").takes("a user's seed (SU...)").rotated_secret();
    nats_token: "NATS_TOKEN", Setting::of(Both).or_else("none").takes("a token").rotated_secret();
    nats_user: "NATS_USER", Setting::of(Both).or_else("none").takes("a name");
    nats_password: "NATS_PASSWORD", Setting::of(Both).or_else("none").takes("the user's password").rotated_secret();
    nats_ca: "NATS_CA", Setting::of(Both).or_else("the system's authorities").takes("a PEM file");
    nats_cert: "NATS_CERT", Setting::of(Both).or_else("none").takes("a PEM file");
    nats_key: "NATS_KEY", Setting::of(Both).or_else("none").takes("a PEM file");
    nats_js_domain: "NATS_JS_DOMAIN", Setting::of(Both).or_else("the server's own").takes(access::TAKES_DOMAIN);
    nats_inbox_prefix: "NATS_INBOX_PREFIX", Setting::of(Both).or_else(access::INBOX).takes(access::TAKES_INBOX);
    nats_tls_first: "NATS_TLS_FIRST", Setting::of(Both).or("off").takes(access::TAKES_SWITCH);
    nats_ignore_discovered: "NATS_IGNORE_DISCOVERED", Setting::of(Both).or("off").takes(access::TAKES_SWITCH);

    // The process.
    http_addr: "HTTP_ADDR", Setting::of(Both).or("127.0.0.1:8080")
        .takes("an address and a port, such as 127.0.0.1:8080");
    http_token: "HTTP_TOKEN", Setting::of(Both).or_else("/link answers to loopback only")
        .takes("16 to 256 characters of printable ASCII without spaces").secret();
    http_cors_origin: "HTTP_CORS_ORIGIN", Setting::of(Both).or_else("no page of another origin reads /status")
        .takes("an origin, such as https://admin.example.com");
    compat_status: "COMPAT_STATUS", Setting::of(Both).or("off").takes("on or off");
    service: "SERVICE", Setting::of(Both).or("off").takes("on or off");
    shutdown_grace: "SHUTDOWN_GRACE", Setting::of(Both).or("25s").takes(DURATION);
    log_format: "LOG_FORMAT", Setting::of(Both).or_else("pretty on a terminal, else json").takes("pretty or json");
    rust_log: "RUST_LOG", Setting::of(Both).or(DEFAULT_FILTER)
        .takes("a filter, such as info or off,whatsapp_connector=debug");
    log_pii: "LOG_PII", Setting::of(Both).or("masked").takes("masked or full");
}
