//! The operator's commands: each looks at a system or changes what it keeps, says so, and ends.
//!
//! A file or folder for each. `bus_access` is how they reach the bus. May import everything below `run`; nothing
//! but `cli` and `main` imports them.

pub mod bus_access;
pub mod check;
pub mod config;
pub mod dlq;
pub mod healthcheck;
pub mod provision;
pub mod status;
pub mod tap;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{Config, Environment, Origin, Variable};
use crate::exit::{EX_CONFIG, EX_UNAVAILABLE, Fatal};
use crate::process::{ended, observed, quietly, settings};
use crate::telemetry;
use bus_access::BusUnavailable;
use dlq::DlqError;
use status::StatusError;
use tap::TapError;

/// What an operator can ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the streams, buckets and consumers that are missing on the bus, and ends. Needs NATS_URL.
    Provision(provision::ProvisionArgs),
    /// Dead letters: list, show, replay, drop.
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Says why it would not work, and what mends it: settings, NATS, the assistant, the session. Changes nothing.
    ///
    /// Exit code 0: nothing is in the way; 1: something is.
    Check(check::CheckArgs),
    /// Prints what is on the bus, decoded, a JSON object a line.
    Tap(tap::TapArgs),
    /// Prints how a running system is, on one screen.
    Status(status::StatusArgs),
    /// Prints the settings in force and where each comes from. Secrets are masked.
    Config(config::ConfigArgs),
    /// Is the process on HTTP_ADDR alive? For containers: exit code 0 or 1.
    Healthcheck(healthcheck::HealthcheckArgs),
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// `provision`.
    #[error(transparent)]
    Provision(#[from] provision::ProvisionError),
    /// `dlq`.
    #[error(transparent)]
    Dlq(#[from] DlqError),
    /// `tap`.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// `status`.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// `healthcheck`.
    #[error(transparent)]
    Healthcheck(#[from] healthcheck::HealthcheckError),
    /// What it has to say cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Fatal for CommandError {
    fn exit_code(&self) -> u8 {
        let bus = |error: &BusUnavailable| if error.is_setting() { EX_CONFIG } else { EX_UNAVAILABLE };
        match self {
            Self::Provision(error) if error.is_setting() => EX_CONFIG,
            Self::Dlq(DlqError::Access(error))
            | Self::Tap(TapError::Access(error))
            | Self::Status(StatusError::Access(error)) => bus(error),
            Self::Status(StatusError::Wanted(_)) | Self::Healthcheck(_) => 1,
            Self::Provision(_) | Self::Dlq(_) | Self::Tap(_) | Self::Status(_) | Self::Output(_) => {
                EX_UNAVAILABLE
            }
        }
    }
}

/// Runs one to its end.
pub fn run(command: Command, environment: &Environment) -> ExitCode {
    match command {
        Command::Config(args) => ended(config::run(&args, environment)),
        Command::Check(args) => quietly(check::run(&args, environment)),
        Command::Healthcheck(args) => match settings(environment) {
            Ok(config) => ended(healthcheck::run(&args, &config)),
            Err(code) => code,
        },
        Command::Provision(args) => for_everybody(environment, async |config| {
            provision::run(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Dlq(command) => for_a_person(environment, async |config| {
            dlq::run(command, &config).await.map_err(CommandError::from)
        }),
        Command::Tap(args) => for_a_person(environment, async |config| {
            tap::run(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Status(args) => for_a_person(environment, async |config| {
            status::run(&args, &config).await.map_err(CommandError::from)
        }),
    }
}

/// With its log on standard error, and no spans.
fn for_everybody(
    environment: &Environment,
    work: impl AsyncFnOnce(Config) -> Result<ExitCode, CommandError>,
) -> ExitCode {
    let config = match settings(environment) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let telemetry = telemetry::Settings { otel: config.telemetry.otel.local(), ..config.telemetry.clone() };
    observed(&telemetry, environment, async |_metrics| work(config).await)
}

/// A command's output is for the person who typed it: its log only if that person asked for one.
fn for_a_person(
    environment: &Environment,
    work: impl AsyncFnOnce(Config) -> Result<ExitCode, CommandError>,
) -> ExitCode {
    let mut config = match settings(environment) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let asked_for = |variable: &Variable| variable.origin == Origin::Environment;
    if !environment.get("RUST_LOG").is_some_and(asked_for) {
        "off".clone_into(&mut config.telemetry.filter);
    }
    config.telemetry.otel = config.telemetry.otel.local();
    let telemetry = config.telemetry.clone();
    observed(&telemetry, environment, async |_metrics| work(config).await)
}
