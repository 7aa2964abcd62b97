//! Parse, load the settings, run a role, exit code; nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use whatsapp_connector::admin::health;
use whatsapp_connector::bus::embedded;
use whatsapp_connector::check;
use whatsapp_connector::cli::{Cli, Command};
use whatsapp_connector::config::{Config, ConfigError, Environment, InForce, unknown};
use whatsapp_connector::dlq;
use whatsapp_connector::provision;
use whatsapp_connector::run::{RunError, Sides, run};
use whatsapp_connector::status;
use whatsapp_connector::tap;
use whatsapp_connector::telemetry;

/// `EX_CONFIG` of `sysexits.h`.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Command::EmbeddedNatsServer { parent, program, args } = &command {
        let error = embedded::become_server(*parent, program, args);
        eprintln!("{}: {error}", program.display());
        return ExitCode::FAILURE;
    }
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(error) => return refuse(&error, None),
    };
    if let Command::Config { json } = command {
        return show(&environment, json);
    }
    // Fails only if one was installed before, and nobody did.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Command::Check(command) = &command {
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(code) => return code,
        };
        let fine = runtime.block_on(check::command::run(command, &environment));
        return if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let config = match Config::parse(&environment) {
        Ok(config) => config,
        Err(error) => return refuse(&error, Some(&environment)),
    };
    if let Command::Healthcheck { ready } = command {
        return health(&config, ready);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let telemetry = {
        let _within = runtime.enter();
        match telemetry::start(&told(&command, &config)) {
            Ok(telemetry) => telemetry,
            Err(error) => {
                eprintln!("whatsapp-connector: {error}");
                return ExitCode::from(BAD_CONFIG);
            }
        }
    };
    for unknown in unknown(&environment) {
        tracing::warn!("{unknown}");
    }
    let registry = telemetry.registry();
    let ended = runtime.block_on(async {
        match command {
            Command::Run => run(config, Sides::Both, registry).await,
            Command::Edge => run(config, Sides::Edge, registry).await,
            Command::Forwarder => run(config, Sides::Forwarder, registry).await,
            Command::Provision { accounts } => {
                provision::run(&config, &accounts).await.map_err(RunError::from)
            }
            Command::Dlq(command) => dlq::command::run(command, &config).await.map_err(RunError::from),
            Command::Tap(args) => tap::command::run(args, &config).await.map_err(RunError::from),
            Command::Status(args) => status::command::run(args, &config).await.map_err(RunError::from),
            // Dealt with above.
            Command::Config { .. }
            | Command::Check(_)
            | Command::Healthcheck { .. }
            | Command::EmbeddedNatsServer { .. } => Ok(()),
        }
    });
    telemetry.shutdown();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot go on");
            eprintln!("whatsapp-connector: {error}");
            error.exit_code()
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        eprintln!("whatsapp-connector: no runtime: {error}");
        ExitCode::FAILURE
    })
}

/// Says why the settings cannot be used, and what a misspelt one was likely meant to be.
fn refuse(error: &ConfigError, environment: Option<&Environment>) -> ExitCode {
    eprintln!("whatsapp-connector: {error}");
    for unknown in environment.into_iter().flat_map(unknown) {
        eprintln!("whatsapp-connector: {unknown}");
    }
    ExitCode::from(BAD_CONFIG)
}

fn health(config: &Config, ready: bool) -> ExitCode {
    match health::ask(config.http_addr, ready) {
        Ok(health) => {
            println!("{}", health.words);
            if health.well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("whatsapp-connector: nobody answers on HTTP_ADDR={}: {error}", config.http_addr);
            ExitCode::FAILURE
        }
    }
}

fn show(environment: &Environment, json: bool) -> ExitCode {
    let (in_force, fine) = InForce::of(environment);
    if json {
        // Plain data always serialises.
        println!("{}", serde_json::to_string(&in_force).unwrap_or_default());
    } else {
        print!("{in_force}");
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIG) }
}

/// A command's output is for whoever typed it; its log only for those who ask, and its spans for nobody.
fn told(command: &Command, config: &Config) -> telemetry::Settings {
    let mut told = config.telemetry.clone();
    let for_a_person = matches!(command, Command::Dlq(_) | Command::Tap(_) | Command::Status(_));
    if for_a_person || matches!(command, Command::Provision { .. }) {
        told.otel = told.otel.local();
    }
    if for_a_person && std::env::var_os("RUST_LOG").is_none() {
        told.filter = "off".to_owned();
    }
    told
}
