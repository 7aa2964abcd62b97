//! The commands.

use clap::{Parser, Subcommand};

/// Customers on WhatsApp, an assistant behind HTTP, NATS JetStream in between.
///
/// All settings come from the environment, and from `.env` in the working directory (the environment
/// wins). Those that matter first:
///
///   BACKEND_URL        where the assistant is [default: http://localhost:8000]
///   API_KEY            its key, sent as X-API-Key
///   WHATSAPP_AUTH_DIR  where the WhatsApp session is kept [default: ./auth_info]
///   NATS_URL           the bus; without it `run` starts a private nats-server
///   HTTP_ADDR          health and linking [default: 127.0.0.1:8080]
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub struct Cli {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Both sides in one process. Without NATS_URL it starts a private nats-server on loopback.
    Run,
    /// WhatsApp to NATS and back: one per linked number. Needs NATS_URL.
    Edge,
    /// NATS to the assistant and back: any number of them, anywhere. Needs NATS_URL.
    Forwarder,
    /// Makes the streams, buckets and consumers that are missing on the bus, and ends. Needs NATS_URL.
    Provision {
        /// The accounts whose edges will run; may be given several times. WHATSAPP_ACCOUNT if none is.
        #[arg(long = "account", value_parser = crate::wire::Account::parse)]
        accounts: Vec<crate::wire::Account>,
    },
    /// Dead letters: list, show, replay, drop.
    #[command(subcommand)]
    Dlq(crate::dlq::command::Dlq),
    /// Says why it would not work, and what mends it: settings, NATS, the assistant, the session. Changes nothing.
    ///
    /// Exit code 0: nothing is in the way; 1: something is.
    Check(crate::check::command::Check),
    /// Prints what is on the bus, decoded, a JSON object a line.
    Tap(crate::tap::command::TapArgs),
    /// Prints how a running system is, on one screen.
    Status(crate::status::command::StatusArgs),
    /// Prints the settings in force and where each comes from. Secrets are masked.
    Config {
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Is the process on HTTP_ADDR alive? For containers: exit code 0 or 1.
    Healthcheck {
        /// Is it ready?
        #[arg(long)]
        ready: bool,
    },
    /// Becomes the private nats-server of `run`.
    #[command(name = crate::bus::embedded::CHILD_COMMAND, hide = true)]
    EmbeddedNatsServer {
        /// The process to die with.
        parent: u32,
        /// The binary.
        program: std::path::PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}
