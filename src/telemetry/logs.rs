//! The format of log lines. A line about a message has the message's trace, account, chat and id. They come from the
//! spans around it, so the code that logs need not add them.

use std::fmt::{self, Write as _};

use opentelemetry::trace::TraceContextExt as _;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::uncollected::Place;
use crate::task::Scope;
use crate::wire::{header, now_ms};

/// How log lines look (`LOG_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: a JSON object a line.
    Json,
}

/// What a span knows of the message that it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

impl Message {
    /// Fills what is missing here from `outer`.
    fn or(self, outer: &Self) -> Self {
        Self {
            account: self.account.or_else(|| outer.account.clone()),
            chat: self.chat.or_else(|| outer.chat.clone()),
            message_id: self.message_id.or_else(|| outer.message_id.clone()),
            ..self
        }
    }
}

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        let known = match field.name() {
            "wa.account" => &mut self.account,
            "wa.chat" => &mut self.chat,
            "messaging.message.id" => &mut self.message_id,
            _ => return,
        };
        *known = (!value.is_empty()).then(|| value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Stores what spans know of their message, for [`Lines`].
#[derive(Debug)]
pub(super) struct Messages;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Messages {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut message = Message::default();
        attributes.record(&mut message);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(message);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(message) = span.extensions_mut().get_mut::<Message>()
        {
            values.record(message);
        }
    }
}

/// Writes our own lines.
#[derive(Debug)]
pub(super) struct Lines(pub LogFormat);

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    fields: Map<String, Value>,
    #[serde(flatten)]
    message: Message,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line {
            timestamp: header::rfc3339_ms(now_ms()),
            level: event.metadata().level().as_str(),
            target: event.metadata().target(),
            fields: fields.0,
            message: about(context),
        };
        match self.0 {
            LogFormat::Json => writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?),
            LogFormat::Pretty => line.pretty(&mut writer, *event.metadata().level()),
        }
    }
}

impl Line<'_> {
    fn pretty(mut self, writer: &mut Writer<'_>, level: Level) -> fmt::Result {
        let [dim, bold, color, end] = match (writer.has_ansi_escapes(), level) {
            (false, _) => [""; 4],
            (true, Level::ERROR) => ["\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"],
            (true, Level::WARN) => ["\x1b[2m", "\x1b[1m", "\x1b[33m", "\x1b[0m"],
            (true, Level::INFO) => ["\x1b[2m", "\x1b[1m", "\x1b[32m", "\x1b[0m"],
            (true, _) => ["\x1b[2m", "\x1b[1m", "\x1b[34m", "\x1b[0m"],
        };
        let said = self.fields.remove("message").map(|said| bare(&said)).unwrap_or_default();
        write!(writer, "{dim}{}{end} {color}{:>5}{end} {bold}{said}{end}", self.timestamp, self.level)?;
        for (name, value) in &self.fields {
            write!(writer, " {dim}{name}={end}{}", bare(value))?;
        }
        let Message { trace_id, account, chat, message_id, .. } = self.message;
        let about =
            [("account", account), ("chat", chat), ("message_id", message_id), ("trace_id", trace_id)];
        for (name, value) in about {
            if let Some(value) = value {
                write!(writer, " {dim}{name}={value}{end}")?;
            }
        }
        writeln!(writer)
    }
}

/// The message that the current span, or one around it, is about.
fn about<S, N>(context: &FmtContext<'_, S, N>) -> Message
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut about = Message::default();
    // Outside of a message's spans, at least whose it is.
    let scope = Scope::account().map(|account| account.to_string());
    for span in context.lookup_current().into_iter().flat_map(|span| span.scope()) {
        if let Some(message) = span.extensions().get::<Message>() {
            about = about.or(message);
        }
    }
    about.account = about.account.or(scope);
    // Not while a span's extensions are locked: this locks them itself.
    if let Some(span) = context.lookup_current() {
        let place = span.extensions().get::<Place>().map(|Place(context)| context.clone());
        let collected = || {
            tracing::dispatcher::get_default(|dispatch| {
                tracing_opentelemetry::get_otel_context(&span.id(), dispatch)
            })
        };
        let place = place.or_else(collected).unwrap_or_default();
        let ids = place.span().span_context().clone();
        if ids.is_valid() {
            about.trace_id = Some(ids.trace_id().to_string());
            about.span_id = Some(ids.span_id().to_string());
        }
    }
    about
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An event's fields as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field, value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = write!(text, "{value:?}");
        self.set(field, text);
    }
}

/// A line needs no span's fields formatted: see [`Messages`].
#[derive(Debug)]
pub(super) struct NoFields;

impl<'writer> FormatFields<'writer> for NoFields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        _writer: Writer<'writer>,
        _fields: R,
    ) -> fmt::Result {
        Ok(())
    }

    fn add_fields(&self, _current: &'writer mut FormattedFields<Self>, _fields: &Record<'_>) -> fmt::Result {
        Ok(())
    }
}
