//! The command line.

use clap::{Parser, Subcommand};

use crate::bus::embedded;
use crate::commands;

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
    /// One of the operator's commands: it ends by itself.
    #[command(flatten)]
    Operator(commands::Command),
    /// Becomes the private nats-server of `run`.
    #[command(name = embedded::CHILD_COMMAND, hide = true)]
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
