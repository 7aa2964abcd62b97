//! The command line.

use clap::{Parser, Subcommand};

use crate::bus::embedded;
use crate::commands;

/// Connects customers on WhatsApp with an assistant behind HTTP. NATS JetStream is in between.
///
/// All settings come from the environment, and from `.env` in the working directory. The environment
/// wins. The most important ones:
///
///   BACKEND_URL        the assistant's address [default: http://localhost:8000]
///   API_KEY            the assistant's key, sent as X-API-Key
///   WHATSAPP_AUTH_DIR  the directory of the WhatsApp session [default: ./auth_info]
///   NATS_URL           the bus; without it, `run` starts a private nats-server
///   HTTP_ADDR          health, metrics and linking [default: 127.0.0.1:8080]
///
/// Before the first start, `check` says what would not work, and what mends it.
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the edge and the forwarder in one process. Without NATS_URL, it starts a private nats-server.
    ///
    /// The private nats-server listens on loopback only, and keeps its data in NATS_DATA_DIR. SIGTERM or Ctrl-C
    /// stops the process: it has SHUTDOWN_GRACE to finish its work. A second signal ends it at once; nothing is lost.
    Run,
    /// Runs the edge: it carries messages between WhatsApp and NATS. Needs NATS_URL.
    ///
    /// Each linked number needs an edge of its own; WHATSAPP_ACCOUNT is its name. A second edge on the same
    /// WHATSAPP_AUTH_DIR ends with exit code 75.
    Edge,
    /// Runs a forwarder: it carries messages between NATS and the assistant. Needs NATS_URL.
    ///
    /// Start as many as you need, on any machine: they share the work of all accounts.
    Forwarder,
    /// A command for the operator. It ends by itself.
    #[command(flatten)]
    Operator(commands::Command),
    /// Becomes the private nats-server of `run`.
    #[command(name = embedded::CHILD_COMMAND, hide = true)]
    EmbeddedNatsServer {
        /// The parent process: nats-server dies with it.
        parent: u32,
        /// The binary of nats-server.
        program: std::path::PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}
