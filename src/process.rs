//! How every process of this program begins and ends: settings, runtime, telemetry, exit code.

use std::process::ExitCode;

use crate::config::{Config, ConfigError, Environment, remarks};
use crate::exit::{EX_CONFIG, Fatal};
use crate::telemetry;

/// The environment and `.env`; the exit code if `.env` cannot be read.
pub fn environment() -> Result<Environment, ExitCode> {
    Environment::read().map_err(|error| refuse(&error, None))
}

/// All settings; the exit code if one of them cannot be used.
pub fn settings(environment: &Environment) -> Result<Config, ExitCode> {
    Config::parse(environment).map_err(|error| refuse(&error, Some(environment)))
}

/// The same, with the routes of accounts, for who asks assistants.
pub fn settings_with_routes(environment: &Environment) -> Result<Config, ExitCode> {
    settings(environment)?.with_routes().map_err(|error| refuse(&error, Some(environment)))
}

/// Says why the settings cannot be used, and what else may be the cause, such as a misspelt name.
fn refuse(error: &ConfigError, environment: Option<&Environment>) -> ExitCode {
    complain(error);
    environment.into_iter().flat_map(remarks).for_each(complain);
    EX_CONFIG.into()
}

/// A line on standard error, by name.
fn complain(what: impl std::fmt::Display) {
    eprintln!("whatsapp-connector: {what}");
}

/// The exit code of a result. An error is printed to standard error.
pub fn ended(ended: Result<ExitCode, impl Fatal>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        complain(&error);
        error.exit_code().into()
    })
}

/// A panic's words may quote what a customer wrote, so standard error gets its place only. To be called first of all.
pub fn hide_words_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        eprintln!(
            "thread '{name}' panicked at {place}; its words are not shown, because they may quote a message"
        );
        // Empty unless RUST_BACKTRACE is set. It names functions and lines, and no values.
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            eprintln!("{trace}");
        }
    }));
}

/// How many threads a process works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// No part of the work takes long, so a message is handed from task to task on one thread. That costs less than
    /// waking another one each time.
    One,
    /// One for each core.
    PerCore,
}

/// A runtime, and TLS ready in it.
fn runtime(threads: Threads) -> Result<tokio::runtime::Runtime, ExitCode> {
    // Fails only if a provider was installed before, and none was.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::PerCore => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().map_err(|error| {
        complain(format_args!("no runtime: {error}"));
        ExitCode::FAILURE
    })
}

/// Does `work` without logs, traces and metrics: only its own output is seen.
pub fn quietly<E: Fatal>(work: impl Future<Output = Result<ExitCode, E>>) -> ExitCode {
    runtime(Threads::PerCore).map_or_else(|code| code, |runtime| ended(runtime.block_on(work)))
}

/// Does `work` with logs, traces and metrics. `work` gets the registry that `/metrics` shows.
pub fn observed<E: Fatal>(
    settings: &telemetry::Settings,
    environment: &Environment,
    threads: Threads,
    work: impl AsyncFnOnce(prometheus::Registry) -> Result<ExitCode, E>,
) -> ExitCode {
    let runtime = match runtime(threads) {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let started = {
        let _within = runtime.enter();
        telemetry::start(settings)
    };
    let telemetry = match started {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(&error);
            return EX_CONFIG.into();
        }
    };
    for remark in remarks(environment) {
        if remark.is_all_right() {
            tracing::info!("{remark}");
        } else {
            tracing::warn!("{remark}");
        }
    }
    let result = runtime.block_on(work(telemetry.registry()));
    // The exporters may need a runtime that runs.
    let told = runtime.block_on(async { tokio::task::spawn_blocking(move || telemetry.shutdown()).await });
    if told.is_err() {
        complain("the end of logs and traces failed");
    }
    if let Err(error) = &result
        && error.is_failure()
    {
        tracing::error!(%error, "cannot go on");
    }
    ended(result)
}
