//! The operator's commands. Each inspects a system or changes what it keeps, says what it did, and ends.
//!
//! Each command has a file or a folder. `bus_access` is how they reach the bus. They may import everything below
//! `run`; only `cli` and `main` import them.

pub mod accounts;
pub mod bus_access;
pub mod check;
pub mod config;
pub mod dlq;
pub mod healthcheck;
pub mod opt_out;
pub mod provision;
pub mod send;
pub mod service;
pub mod session;
pub mod status;
pub mod takeover;
pub mod tap;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{Config, Environment, Origin, Variable};
use crate::exit::{EX_CONFIG, EX_UNAVAILABLE, Fatal};
use crate::operator::accounts::NotChanged;
use crate::process::{Threads, ended, observed, quietly, settings};
use crate::telemetry;
use accounts::AccountsError;
use bus_access::BusUnavailable;
use dlq::DlqError;
use opt_out::OptOutError;
use send::SendError;
use service::ServiceError;
use session::SessionError;
use status::StatusError;
use takeover::TakeoverCommandError;
use tap::TapError;

/// The operator's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates the streams, buckets and consumers that are missing on the bus. Needs NATS_URL.
    ///
    /// For systems in which edges and forwarders have least privileges and may not create these themselves. The
    /// value of NATS_PROVISION does not matter here. What exists stays as it is; a difference that breaks a promise
    /// is an error.
    Provision(provision::ProvisionArgs),
    /// Lists, shows, replays or drops dead letters: messages that were given up on.
    ///
    /// Needs NATS_URL, or a `run` on this machine.
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Checks the settings, NATS, the assistant and the session, and says what mends each problem. Changes nothing.
    ///
    /// Run it before the first start, or when a process does not start. The assistant gets empty calls, which it
    /// refuses.
    ///
    /// Exit code 0: nothing is in the way. Exit code 1: something is.
    Check(check::CheckArgs),
    /// Prints the messages on the bus, decoded, one JSON object per line.
    ///
    /// Phone numbers are always masked, as in `…5678`, even with --text. The words of customers and of the assistant
    /// are left out unless --text is given. Messages stay on the bus, and no consumer is created. Needs NATS_URL,
    /// or a `run` on this machine.
    Tap(tap::TapArgs),
    /// Has a message sent on WhatsApp, and says as JSON what became of it.
    ///
    /// The request goes onto the bus, and the account's edge sends it. Without --wait the command ends as soon as the bus has it
    /// (state `stored`). With --wait it goes on until the message is `accepted`, `delivered` or `read`; a `reason` says why it is
    /// `failed`, and a `detail` what is wrong with it. Repeat a command with the --id that it printed, and the message is sent
    /// once.
    ///
    ///   whatsapp-connector send --to 5491112345678 --text "Su mesa está lista." --id order-77 --wait delivered
    ///
    ///   whatsapp-connector send --to 5491112345678 --kind edit --about-request order-77 --text "Su mesa lo espera."
    ///
    ///   whatsapp-connector send --to 5491112345678 --kind poll --text "¿Cuándo?" --option hoy --option mañana
    ///
    ///   whatsapp-connector send --to 5491112345678 --file menu.pdf --caption "El menú de hoy" --wait delivered
    ///
    /// Exit code 0: it has come so far. Exit code 1: it has failed, or has not come so far within --timeout. Needs NATS_URL, or a
    /// `run` on this machine.
    #[command(verbatim_doc_comment)]
    Send(Box<send::SendArgs>),
    /// Silences the assistant in one chat, as if a person had just written there. Prints what holds then, as JSON.
    ///
    /// What was written in the chat until then gets no answer either. What other services have sent goes out. Edge and forwarders
    /// need TAKEOVER for it. Needs NATS_URL, or a `run` on this machine.
    ///
    ///   whatsapp-connector takeover --chat 5491112345678 --for 2h
    #[command(verbatim_doc_comment)]
    Takeover(takeover::TakeoverArgs),
    /// Has the assistant answer in a chat again that a person has taken over. Prints what holds then, as JSON.
    ///
    /// It answers what is written from now on, and nothing older. Needs NATS_URL, or a `run` on this machine.
    ///
    ///   whatsapp-connector resume --chat 5491112345678
    #[command(verbatim_doc_comment)]
    Resume(takeover::ChatArgs),
    /// Shows who wants nothing unasked, and changes it.
    ///
    /// What services ask to have sent to such a chat fails; answers of the assistant go out. The edge needs OPT_OUT_WORDS for it,
    /// and so does this command. Needs NATS_URL, or a `run` on this machine.
    ///
    ///   whatsapp-connector opt-out add --chat 5491112345678
    #[command(subcommand, verbatim_doc_comment)]
    OptOut(opt_out::OptOutCommand),
    /// Adds, lists, pauses and removes the accounts of a pool of edges: those that run with WHATSAPP_ACCOUNTS.
    ///
    ///   whatsapp-connector accounts add shop --link
    ///
    /// Exit code 1: there is no such account, or the edge refuses. Exit code 2: an option cannot be used. Needs NATS_URL, or a `run` on
    /// this machine.
    #[command(subcommand, verbatim_doc_comment)]
    Accounts(accounts::AccountsCommand),
    /// Prints how to link an account's number, as JSON: the QR code that its edge shows, or that it is linked.
    ///
    /// With --phone, the edge asks WhatsApp for a code to type into that phone. Whoever has the QR code or the code can link a number of
    /// their own. The edge runs with SERVICE=on. Needs NATS_URL, or a `run` on this machine.
    ///
    ///   whatsapp-connector link --phone 5491112345678
    #[command(verbatim_doc_comment)]
    Link(service::LinkArgs),
    /// Unlinks an account's number. A person with the phone has to link it again.
    ///
    /// The edge runs with SERVICE=on. Needs NATS_URL, or a `run` on this machine.
    ///
    ///   whatsapp-connector unlink --account default
    #[command(verbatim_doc_comment)]
    Unlink(service::UnlinkArgs),
    /// Takes a session elsewhere, without linking the number again: onto the bus or back, into a file or out of it.
    ///
    /// Stop all edges of the account first. As long as one is at work, each of these commands ends with exit code 75, and nothing
    /// is changed. They need SESSION_KEY.
    ///
    ///   whatsapp-connector session move --to nats
    #[command(subcommand, verbatim_doc_comment)]
    Session(session::SessionCommand),
    /// Asks WhatsApp whether somebody has this phone number there. Prints the answer as JSON.
    ///
    /// The edge remembers who was found for a day. It asks as often as SERVICE_CHECKS says. It runs with SERVICE=on.
    ///
    ///   whatsapp-connector check-number 5491112345678
    ///
    /// Exit code 0: somebody has it. Exit code 1: nobody has it, or the edge cannot ask. Needs NATS_URL, or a `run` on this machine.
    #[command(verbatim_doc_comment)]
    CheckNumber(service::CheckNumberArgs),
    /// Prints the state of a running system on one screen. Changes nothing.
    ///
    /// Exit code 0: all is well. Exit code 1: something needs a person; the last lines say what, and what mends it.
    /// Needs NATS_URL, or a `run` on this machine.
    Status(status::StatusArgs),
    /// Prints the settings in force and where each comes from. Secrets are masked.
    ///
    /// Exit code 0: every setting can be used. Exit code 78: one cannot; its line says what it takes.
    Config(config::ConfigArgs),
    /// Asks the process on HTTP_ADDR whether it is alive, for containers that have no shell.
    ///
    /// Exit code 0: it is. Exit code 1: it is not, or no process answers.
    Healthcheck(healthcheck::HealthcheckArgs),
}

/// Why a command failed.
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
    /// `send`.
    #[error(transparent)]
    Send(#[from] SendError),
    /// `status`.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// `accounts`.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// `opt-out`.
    #[error(transparent)]
    OptOut(#[from] OptOutError),
    /// `takeover` and `resume`.
    #[error(transparent)]
    Takeover(#[from] TakeoverCommandError),
    /// `link`, `unlink` and `check-number`.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// `session`.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// `healthcheck`.
    #[error(transparent)]
    Healthcheck(#[from] healthcheck::HealthcheckError),
    /// The output cannot be written.
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
            | Self::Send(SendError::Access(error))
            | Self::Takeover(TakeoverCommandError::Access(error))
            | Self::OptOut(OptOutError::Access(error))
            | Self::Service(ServiceError::Access(error))
            | Self::Accounts(
                AccountsError::Access(error) | AccountsError::Service(ServiceError::Access(error)),
            )
            | Self::Status(StatusError::Access(error)) => bus(error),
            Self::Session(error) => error.exit_code(),
            Self::Takeover(error) if error.is_setting() => EX_CONFIG,
            Self::OptOut(OptOutError::Off) => EX_CONFIG,
            Self::Status(StatusError::Wanted(_))
            | Self::Send(SendError::NotThere | SendError::Recipient | SendError::NoFile)
            | Self::Service(ServiceError::NotThere | ServiceError::Refused(_))
            | Self::Accounts(
                AccountsError::NotChanged(NotChanged::NotThere(_) | NotChanged::TooMany)
                | AccountsError::Service(ServiceError::Refused(_))
                | AccountsError::NotUnlinked(ServiceError::Refused(_)),
            )
            | Self::Healthcheck(_) => 1,
            Self::Provision(_)
            | Self::Dlq(_)
            | Self::Tap(_)
            | Self::Send(_)
            | Self::Takeover(_)
            | Self::OptOut(_)
            | Self::Accounts(_)
            | Self::Service(_)
            | Self::Status(_)
            | Self::Output(_) => EX_UNAVAILABLE,
        }
    }

    fn is_failure(&self) -> bool {
        !matches!(
            self,
            Self::Status(StatusError::Wanted(_))
                | Self::Send(SendError::NotThere)
                | Self::Service(ServiceError::NotThere)
        )
    }
}

/// Runs one command to its end.
pub fn run(command: Command, environment: &Environment) -> ExitCode {
    match command {
        Command::Config(args) => ended(config::run(&args, environment)),
        Command::Check(args) => quietly(check::run(&args, environment)),
        Command::Healthcheck(args) => match settings(environment) {
            Ok(config) => ended(healthcheck::run(&args, &config)),
            Err(code) => code,
        },
        Command::Provision(args) => with_log(environment, async |config| {
            provision::run(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Dlq(command) => for_operator(environment, async |config| {
            dlq::run(command, &config).await.map_err(CommandError::from)
        }),
        Command::Tap(args) => for_operator(environment, async |config| {
            tap::run(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Send(args) => for_operator(environment, async |config| {
            send::run(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Takeover(args) => for_operator(environment, async |config| {
            takeover::take_over(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Resume(args) => for_operator(environment, async |config| {
            takeover::resume(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Link(args) => for_operator(environment, async |config| {
            service::link(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Unlink(args) => for_operator(environment, async |config| {
            service::unlink(&args, &config).await.map_err(CommandError::from)
        }),
        Command::CheckNumber(args) => for_operator(environment, async |config| {
            service::check_number(&args, &config).await.map_err(CommandError::from)
        }),
        Command::Accounts(command) => for_operator(environment, async |config| {
            Box::pin(accounts::run(&command, &config)).await.map_err(CommandError::from)
        }),
        Command::OptOut(command) => for_operator(environment, async |config| {
            opt_out::run(&command, &config).await.map_err(CommandError::from)
        }),
        Command::Session(command) => match session::place(environment) {
            // As if the session was on the bus: what that needs is checked.
            Ok(place) => for_operator(&session::on_the_bus(environment), async |config| {
                session::run(command, place, &config).await.map_err(CommandError::from)
            }),
            Err(code) => code,
        },
        Command::Status(args) => for_operator(environment, async |config| {
            status::run(&args, &config).await.map_err(CommandError::from)
        }),
    }
}

/// Runs a command with its log on standard error, and without spans.
fn with_log(
    environment: &Environment,
    work: impl AsyncFnOnce(Config) -> Result<ExitCode, CommandError>,
) -> ExitCode {
    let config = match settings(environment) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let telemetry = telemetry::Settings { otel: config.telemetry.otel.local(), ..config.telemetry.clone() };
    observed(&telemetry, environment, Threads::PerCore, async |_metrics| work(config).await)
}

/// Runs a command whose output is for the operator who typed it. It logs only if the operator has set `RUST_LOG`.
fn for_operator(
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
    observed(&telemetry, environment, Threads::PerCore, async |_metrics| work(config).await)
}
