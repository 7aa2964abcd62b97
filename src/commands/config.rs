//! `whatsapp-connector config`: the settings in force, and where each comes from.

use std::process::ExitCode;

use clap::Args;

use super::CommandError;
use crate::config::{Environment, InForce};
use crate::exit::EX_CONFIG;
use crate::stdout;

/// How the settings are shown.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the settings. The exit code says whether each of them can be used.
pub fn run(args: &ConfigArgs, environment: &Environment) -> Result<ExitCode, CommandError> {
    let (in_force, fine) = InForce::of(environment);
    let _ = if args.json {
        // Plain data always serialises.
        stdout::line(serde_json::to_string(&in_force).unwrap_or_default())?
    } else {
        stdout::print(in_force)?
    };
    Ok(if fine { ExitCode::SUCCESS } else { EX_CONFIG.into() })
}
