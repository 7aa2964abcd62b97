//! Parse, load the settings, run; nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use whatsapp_connector::bus::embedded;
use whatsapp_connector::cli::{Cli, Command};
use whatsapp_connector::commands;
use whatsapp_connector::process;
use whatsapp_connector::run::{Sides, run};

fn main() -> ExitCode {
    process::hide_words_of_panics();
    let command = Cli::parse().command;
    if let Command::EmbeddedNatsServer { parent, program, args } = &command {
        return embedded::child(*parent, program, args);
    }
    let environment = match process::environment() {
        Ok(environment) => environment,
        Err(code) => return code,
    };
    match command {
        Command::Run => run(&environment, Sides::Both),
        Command::Edge => run(&environment, Sides::Edge),
        Command::Forwarder => run(&environment, Sides::Forwarder),
        Command::Operator(command) => commands::run(command, &environment),
        Command::EmbeddedNatsServer { .. } => unreachable!("it does not come back"),
    }
}
