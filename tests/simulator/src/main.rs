//! `whatsapp-simulator`: the simulator as a program.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "walls of the product, not of what it is tested with")]

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use whatsapp_simulator::{Config, Simulator};

/// A WhatsApp server on loopback for tests: it links the unmodified client library, and simulates
/// customers that are driven over HTTP.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
The control API is described at http://ADDRESS/sim/help and in the README.
Logs go to standard error; RUST_LOG chooses how much (default: info)."
)]
struct Arguments {
    /// Where to listen; loopback only. Port 0 takes a free port. The first line on standard output
    /// says which address it became.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7080")]
    listen: SocketAddr,
    /// A directory to keep all state in; without it, everything is forgotten at the end.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whatsapp-simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything else, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let simulator = Simulator::start(Config { listen: arguments.listen, state: arguments.state }).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", simulator.url())?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping on SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping on SIGINT"),
    }
    simulator.shutdown().await?;
    Ok(())
}
