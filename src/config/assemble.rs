//! Makes each module's settings. All settings are read before any module fails, so that one message names every bad
//! one. `None` means that `check` has collected a bad setting.

use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::read::{self, Check};
use super::{Config, RoutesFile, table};
use crate::bus::{self, embedded, topology};
use crate::edge::journal::SessionKeys;
use crate::edge::{self, rate};
use crate::forwarder;
use crate::pool;
use crate::proxy::Proxies;
use crate::telemetry;
use crate::wire::opt_out::{self, Words};
use crate::wire::takeover::Lasts;
use crate::wire::{Account, FileLinks, Subjects};

impl Config {
    pub(super) fn assemble(
        given: &table::All,
        otel: telemetry::otel::Settings,
        proxies: &Proxies,
        access: Option<bus::Access>,
        check: &mut Check,
    ) -> Option<Self> {
        let subjects = check.read(&given.nats_subject_prefix, |text| Subjects::new(text).ok());
        let ages = Ages::read(given, check);
        let opt_out = opt_out(given, check);
        let store = session_store(given, check);
        let sessions = matches!(store, Some(edge::SessionStore::Bus { .. }));
        let pool = pool(given, sessions, check);
        let topology = topology(given, &ages, (opt_out.is_some(), sessions), check);
        let shutdown_grace = check.duration(&given.shutdown_grace);
        let takeover = takeover(given, &ages, check);
        let forwarder = forwarder(given, &ages, (takeover.flatten().is_some(), proxies), check);
        let routes = forwarder.as_ref().and_then(|forwarder| routes(given, forwarder, proxies, check));
        let edge = edge(given, &ages, (shutdown_grace, takeover, opt_out), store, proxies, check);
        let data_dir = check.path(&given.nats_data_dir);
        let http_addr = check.read(&given.http_addr, |text| text.parse().ok());
        let http_token = check.token(&given.http_token);
        let compat_status = check.read(&given.compat_status, read::switch);
        let cors_origin = check.read(&given.http_cors_origin, read::origin);
        check.token(&given.media_url_secret);
        let service = check.read(&given.service, read::switch);
        let telemetry = telemetry(given, otel, check);
        Some(Self {
            nats_url: read::secret(&given.nats_url),
            nats_access: access?,
            embedded: embedded::Settings { binary: check.path(&given.nats_server_bin), data_dir: data_dir? },
            subjects: subjects?,
            topology: topology?,
            routes,
            forwarder: forwarder?,
            edge: edge?,
            pool: pool?,
            http_addr: http_addr?,
            http_token,
            compat_status: compat_status?,
            cors_origin,
            file_links: file_links(given),
            service: service?,
            shutdown_grace: shutdown_grace?,
            telemetry: telemetry?,
        })
    }
}

/// The durations that promises depend on. Each has to fit the others.
struct Ages {
    inbound: Option<Duration>,
    outbound: Option<Duration>,
    dead: Option<Duration>,
    window: Option<Duration>,
    reply: Option<Duration>,
}

impl Ages {
    fn read(given: &table::All, check: &mut Check) -> Self {
        let inbound = check.duration(&given.nats_in_max_age);
        let outbound = check.duration(&given.nats_out_max_age);
        let dead = check.duration(&given.nats_dlq_max_age);
        let window = check.duration(&given.nats_duplicate_window);
        let reply = check.duration(&given.reply_max_age);
        let takes = "more than NATS_IN_MAX_AGE: an outcome has to outlive its message";
        check.relation("NATS_OUT_MAX_AGE", outbound, |out| Some(out > inbound?), takes);
        let takes = "at most NATS_IN_MAX_AGE: what is not stored any more is not recognised";
        check.relation("NATS_DUPLICATE_WINDOW", window, |window| Some(window <= inbound?), takes);
        let takes = "at most NATS_DUPLICATE_WINDOW: a message that WhatsApp hands over again later than that could \
                     be answered twice";
        check.relation("REPLY_MAX_AGE", reply, |age| Some(age <= window?), takes);
        Self { inbound, outbound, dead, window, reply }
    }
}

fn topology(
    given: &table::All,
    ages: &Ages,
    (opt_outs, sessions): (bool, bool),
    check: &mut Check,
) -> Option<topology::Settings> {
    let provision = check.read(&given.nats_provision, read::provision);
    let replicas = check.read(&given.nats_replicas, read::replicas);
    let in_max_bytes = check.read(&given.nats_in_max_bytes, read::size);
    let out_max_bytes = check.read(&given.nats_out_max_bytes, read::size);
    let dlq_max_bytes = check.read(&given.nats_dlq_max_bytes, read::size);
    let media = check.read(&given.media, read::media);
    let media_max_bytes = check.read(&given.nats_media_max_bytes, read::size);
    let forwarder_ack_wait = check.duration(&given.forwarder_ack_wait);
    let edge_ack_wait = check.duration(&given.edge_ack_wait);
    Some(topology::Settings {
        provision: provision?,
        replicas: replicas?,
        in_max_age: ages.inbound?,
        out_max_age: ages.outbound?,
        dlq_max_age: ages.dead?,
        in_max_bytes,
        out_max_bytes,
        dlq_max_bytes,
        media: media?.map(|sends| topology::Media { max_bytes: media_max_bytes, sends }),
        opt_outs,
        sessions,
        duplicate_window: ages.window?,
        forwarder_ack_wait: forwarder_ack_wait?,
        edge_ack_wait: edge_ack_wait?,
    })
}

fn forwarder(
    given: &table::All,
    ages: &Ages,
    (takeover, proxies): (bool, &Proxies),
    check: &mut Check,
) -> Option<forwarder::Settings> {
    let url = check.read(&given.backend_url, read::url);
    let proxy = url.as_ref().and_then(|url| proxies.of(url.as_str())).cloned();
    let api_key = check.header(&given.api_key);
    let timeout = check.duration(&given.backend_timeout);
    let allowed_numbers = check.read(&given.allowed_numbers, read::numbers).unwrap_or_default();
    let allowed_numbers =
        allowed_numbers.iter().map(|number| forwarder::numbers::canonical(number)).collect();
    let self_chat = check.read(&given.self_chat, read::switch);
    let groups = check.read(&given.groups, read::groups);
    let group_names = check.read(&given.groups_name, read::switch);
    let unknown_numbers = check.read(&given.unknown_numbers, read::unknown_numbers);
    let concurrency = check.read(&given.backend_concurrency, read::concurrency);
    let retry_for = check.duration(&given.backend_retry_for);
    let format = check.read(&given.reply_format, read::format);
    let mode = check.read(&given.backend_mode, read::mode);
    let shadow_delay = check.read(&given.shadow_delay, read::delay);
    let join = join(given, check);
    let fields = check.read(&given.backend_fields, read::fields);
    // A bad value is named once, by the edge's settings.
    let typing = given.typing.value.as_deref() != Some("off");
    let calls_per_chat = check.read(&given.calls_per_chat, rate_limit);
    let files = files(given, check);
    let transcriber = transcriber(given, proxies, check);
    Some(forwarder::Settings {
        backend: forwarder::backend::Settings {
            url: url?,
            proxy,
            api_key,
            webhook_secret: read::secret(&given.whatsapp_webhook_secret),
            timeout: timeout?,
        },
        routes: Vec::new(),
        eligible: forwarder::eligible::Settings {
            allowed_numbers,
            self_chat: self_chat?,
            reply_max_age: ages.reply?,
            unknown_numbers: unknown_numbers?,
            fields: fields?,
            groups: groups?,
            group_names: group_names?,
        },
        concurrency: concurrency?,
        retry_for: retry_for?,
        fallback_text: given.fallback_text.value.clone().unwrap_or_default(),
        unsupported_text: given.unsupported_text.value.clone().unwrap_or_default(),
        calls_per_chat: calls_per_chat?,
        rate_text: given.rate_text.value.clone().unwrap_or_default(),
        files: files?,
        transcriber: transcriber?,
        format: format?,
        mode: mode?,
        typing,
        shadow_delay: shadow_delay?,
        join: join?,
        takeover,
    })
}

/// Where it is said which accounts have an assistant of their own. What is not said there is as `settings` has it.
fn routes(
    given: &table::All,
    settings: &forwarder::Settings,
    proxies: &Proxies,
    check: &mut Check,
) -> Option<RoutesFile> {
    let path = check.path(&given.routes_file)?;
    let (others, concurrency) = (settings.backend.clone(), settings.concurrency);
    Some(RoutesFile { path, others, concurrency, proxies: proxies.clone() })
}

/// Which texts are asked about together.
fn join(given: &table::All, check: &mut Check) -> Option<forwarder::burst::Settings> {
    let within = check.read(&given.join_within, read::media_wait);
    let at_most = check.read(&given.join_max, read::join_max);
    let takes = "at least as long as JOIN_WITHIN";
    check.relation("JOIN_MAX", at_most, |at_most| Some(at_most >= within?), takes);
    Some(forwarder::burst::Settings { within: within?, at_most: at_most? })
}

/// How often the backend is called for one chat.
fn rate_limit(text: &str) -> Option<Option<forwarder::calls_per_chat::Limit>> {
    let limit = rate::limit(text)?;
    Some(limit.map(|rate| forwarder::calls_per_chat::Limit { count: rate.count.get(), window: rate.window }))
}

/// What the backend is told of files. Their addresses are signed with a secret, and only then are there any.
fn files(given: &table::All, check: &mut Check) -> Option<forwarder::Files> {
    let wait = check.read(&given.media_wait, read::media_wait);
    let base = check.read(&given.media_url, read::url);
    let signer = file_links(given);
    if let (Some(url), None) = (&base, &signer) {
        let setting = given.media_url.setting;
        check.bad(setting.name, setting.show(url.as_str()), "an address only together with MEDIA_URL_SECRET");
    }
    let good_for = check.read(&given.media_url_ttl, read::ttl);
    let links = base.zip(signer).zip(good_for);
    let links = links.map(|((base, signer), good_for)| forwarder::Links { base, signer, good_for });
    Some(forwarder::Files { wait: wait?, links })
}

/// How voice notes are written down. `Some(None)`: they are not.
fn transcriber(
    given: &table::All,
    proxies: &Proxies,
    check: &mut Check,
) -> Option<Option<forwarder::backend::TranscriberSettings>> {
    let url = check.read(&given.transcribe_url, read::url);
    let api_key = check.header(&given.transcribe_api_key);
    let model = check.read(&given.transcribe_model, read::model);
    let timeout = check.duration(&given.transcribe_timeout);
    let (model, timeout) = (model?, timeout?);
    Some(url.map(|url| {
        let proxy = proxies.of(url.as_str()).cloned();
        forwarder::backend::TranscriberSettings { url, proxy, api_key, model, timeout }
    }))
}

/// What signs the addresses of files, and knows them again.
fn file_links(given: &table::All) -> Option<FileLinks> {
    let secret = read::secret(&given.media_url_secret)?;
    FileLinks::new(secret.expose_secret())
}

/// How long a person who writes keeps the assistant silent. `Some(None)`: not at all.
fn takeover(given: &table::All, ages: &Ages, check: &mut Check) -> Option<Option<Lasts>> {
    let each = check.read(&given.takeover, read::takeover);
    let most = check.duration(&given.takeover_max);
    let Some(each) = each? else { return most.map(|_| None) };
    let takes = "at most TAKEOVER_MAX";
    check.relation("TAKEOVER", Some(each), |each| Some(each <= most?), takes);
    let takes = "at most NATS_DUPLICATE_WINDOW: what a person wrote must be known again for as long";
    check.relation("TAKEOVER_MAX", most, |most| Some(most <= ages.window?), takes);
    Some(Some(Lasts { each, most: most? }))
}

/// The words with which people opt out and in. `None`: nobody does, or `check` has collected a bad setting.
fn opt_out(given: &table::All, check: &mut Check) -> Option<Words> {
    let out = check.read(&given.opt_out_words, opt_out::words).unwrap_or_default();
    let back = check.read(&given.opt_in_words, opt_out::words).unwrap_or_default();
    let table::Given { setting, value } = &given.opt_in_words;
    let shown = setting.show(value.as_deref().unwrap_or_default());
    if out.is_empty() {
        if !back.is_empty() {
            check.bad(setting.name, shown, "words only together with OPT_OUT_WORDS");
        }
        return None;
    }
    let words = Words::new(out, back);
    if words.is_none() {
        check.bad(setting.name, shown, "words that are none of OPT_OUT_WORDS");
    }
    words
}

/// Where the session is. `None`: `check` has collected a bad setting.
fn session_store(given: &table::All, check: &mut Check) -> Option<edge::SessionStore> {
    let on_bus = check.read(&given.session_store, read::on_bus);
    let unsafe_sync = check.read(&given.session_unsafe_sync, read::switch);
    let keys = check.read(&given.session_key, |text| SessionKeys::parse(text).ok());
    if on_bus? && given.session_key.value.is_none() {
        check.bad(
            "SESSION_KEY",
            "(not set)".to_owned(),
            "a key, with SESSION_STORE=nats: `openssl rand -base64 32` makes one",
        );
    }
    if !on_bus? {
        return Some(edge::SessionStore::File);
    }
    Some(edge::SessionStore::Bus { keys: keys?, unsafe_sync: unsafe_sync? })
}

/// Which accounts a pool's edge works for. `Some(None)`: it is none of a pool.
fn pool(given: &table::All, sessions: bool, check: &mut Check) -> Option<Option<pool::Settings>> {
    let capacity = check
        .read(&given.edge_capacity, |text| text.parse().ok().filter(|count| (1..=1_000).contains(count)));
    if given.whatsapp_accounts.value.is_none() {
        return capacity.map(|_| None);
    }
    // Without it, no other edge could go on with an account.
    let which = check.read(&given.whatsapp_accounts, |text| read::which(text).filter(|_| sessions));
    Some(Some(pool::Settings { which: which?, capacity: capacity? }))
}

fn edge(
    given: &table::All,
    ages: &Ages,
    (grace, takeover, opt_out): (Option<Duration>, Option<Option<Lasts>>, Option<Words>),
    store: Option<edge::SessionStore>,
    proxies: &Proxies,
    check: &mut Check,
) -> Option<edge::Settings> {
    let account = check.read(&given.whatsapp_account, |text| Account::parse(text).ok());
    let auth_dir = check.path(&given.whatsapp_auth_dir);
    let pair_phone = check.read(&given.whatsapp_pair_phone, read::digits);
    let extra = check.read(&given.inbound_extra, edge::Extra::parse);
    let media_max_bytes = check.read(&given.media_max_bytes, read::size);
    let presence = check.read(&given.presence, read::presence);
    let interactive = check.read(&given.interactive, read::interactive);
    let typing = check.read(&given.typing, read::switch);
    let reads = check.read(&given.read_receipts, read::switch);
    let simulator_url = check.simulator(&given.whatsapp_simulator_url, cfg!(feature = "simulator"));
    // Far above what one person reads and what the customers of one number write. A machine in a loop exceeds it at
    // once.
    let per_chat = check.read(&given.send_per_chat, rate::limit);
    let total = check.read(&given.send_total, rate::limit);
    let loops = check.read(&given.loop_limit, rate::limit_per_minute);
    let checks = check.read(&given.service_checks, rate::limit);
    let per_hour = check
        .read(&given.send_new_chats_per_hour, |text| text.parse().ok().filter(|count| *count <= 100_000_u32));
    let pause = check.duration(&given.send_new_chats_pause);
    Some(edge::Settings {
        account: account?,
        auth_dir: auth_dir?,
        store: store?,
        session: edge::SessionSettings {
            pair_phone,
            simulator_url,
            extra: extra.unwrap_or_default(),
            presence: presence?,
            resend_for: ages.outbound?,
            proxy: proxies.of(edge::HOST).cloned(),
            flush_timeout: grace?.mul_f64(0.3),
        },
        shown: edge::Shown { typing: typing?, reads: reads? },
        media_max_bytes: media_max_bytes?,
        interactive: interactive?,
        takeover: takeover?,
        opt_out,
        limits: edge::Limits {
            per_chat: per_chat?,
            total: total?,
            loops: loops?,
            new_chats: edge::NewChatLimits { per_hour: NonZeroU32::new(per_hour?), pause: pause? },
            checks: checks?,
        },
    })
}

fn telemetry(
    given: &table::All,
    otel: telemetry::otel::Settings,
    check: &mut Check,
) -> Option<telemetry::Settings> {
    let format = check.read(&given.log_format, read::log_format);
    let full_pii = check.read(&given.log_pii, read::full_pii);
    let filter = check.read(&given.rust_log, read::filter);
    Some(telemetry::Settings { format, filter: filter?, full_pii: full_pii?, otel })
}
