//! `whatsapp-connector session`: takes a session onto the bus or back, into a file or out of it, and under another key.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::bus_access::{self, BusUnavailable};
use crate::bus::Bus;
use crate::config::{Config, Environment};
use crate::edge::journal::{LoadError, TakeError, Unreadable};
use crate::edge::moving::{Allowed, Done, MoveError, Mover, OnTheBus, Store};
use crate::edge::{LockError, SessionStore};
use crate::exit::{EX_CONFIG, EX_TEMPFAIL, EX_UNAVAILABLE};
use crate::process::settings;
use crate::stdout;
use crate::wire::Account;

/// What is done with a session.
#[derive(Debug, Clone, Subcommand)]
pub enum SessionCommand {
    /// Moves a session from WHATSAPP_AUTH_DIR to the bus, or back. Prints what was moved, as JSON.
    ///
    /// The number stays linked, and the conversations go on. Stop the edge, move, and start the edge with SESSION_STORE=nats (or
    /// file). The old place does not have the session any more: an edge that is started there says where it is. The old file is
    /// kept under another name. Do not use it again: keys that are used twice make messages unreadable. If the command is stopped
    /// in the middle, run it again; an edge that cannot start until then says so.
    ///
    ///   whatsapp-connector session move --to nats
    ///
    /// Exit code 0: it is there. Exit code 1: there is nothing to move, or something else is there; the message says what. Exit code
    /// 75: an edge is at work. Needs NATS_URL, SESSION_KEY, and the directory.
    #[command(verbatim_doc_comment)]
    Move(MoveArgs),
    /// Writes a session into a file, encrypted with SESSION_KEY. Prints what is in it, as JSON.
    ///
    /// The session stays where it is (SESSION_STORE). Whoever has the file and the key has the linked number, as if they had its
    /// phone. Once an edge goes on, the file is old: who goes back to it makes messages unreadable. So it is for moving an
    /// installation, and no backup.
    ///
    ///   whatsapp-connector session export --out default.session
    ///
    /// Exit code 75: an edge is at work.
    #[command(verbatim_doc_comment)]
    Export(ExportArgs),
    /// Puts the session of such a file where SESSION_STORE says. Prints what was in it, as JSON.
    ///
    /// See to it that no edge goes on where it was exported.
    ///
    ///   whatsapp-connector session import --in default.session
    ///
    /// Exit code 1: it is no such file, or is that of another account; or a session is there already. Exit code 75: an edge is at
    /// work.
    #[command(verbatim_doc_comment)]
    Import(ImportArgs),
    /// Encrypts all of a session on the bus with the first key of SESSION_KEY. Prints how much that was, as JSON.
    ///
    /// To replace a key: give all edges SESSION_KEY=new,old and stop them, run this command with it, and give the edges the new key
    /// alone. If the command is stopped in the middle, nothing is lost: run it again.
    ///
    ///   SESSION_KEY=new,old whatsapp-connector session rekey
    ///
    /// Exit code 0: the other keys are not needed any more. Exit code 75: an edge is at work.
    #[command(verbatim_doc_comment)]
    Rekey(WhoseArgs),
}

/// Whose.
#[derive(Debug, Clone, Args)]
pub struct WhoseArgs {
    /// The account. Without it: WHATSAPP_ACCOUNT.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// The bus.
    Nats,
    /// WHATSAPP_AUTH_DIR.
    File,
}

/// What `move` takes.
#[derive(Debug, Clone, Args)]
pub struct MoveArgs {
    /// Where the session is to be: on the bus, or in WHATSAPP_AUTH_DIR.
    #[arg(long)]
    to: To,
    /// Replaces the session that is there already. In a directory it is set aside; on the bus it is gone.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    whose: WhoseArgs,
}

/// What `export` takes.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The file. It must not exist yet.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    whose: WhoseArgs,
}

/// What `import` takes.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The file.
    #[arg(long = "in")]
    file: PathBuf,
    /// Replaces the session that is there already. In a directory it is set aside; on the bus it is gone.
    #[arg(long)]
    replace: bool,
    /// With --replace: even if the session that is there was written after the export. Keys are used twice then, and phones
    /// cannot read messages.
    #[arg(long, requires = "replace")]
    go_back: bool,
    #[command(flatten)]
    whose: WhoseArgs,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// The session is where it was, or on its way.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The settings are those of an edge with a file.
    #[error("SESSION_KEY is not set; `openssl rand -base64 32` makes a key")]
    NoKey,
    /// The result cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl SessionError {
    /// What a supervisor makes of it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoKey => EX_CONFIG,
            Self::Access(error) if error.is_setting() => EX_CONFIG,
            Self::Move(MoveError::Lock(LockError::Taken { .. }) | MoveError::Running(_)) => EX_TEMPFAIL,
            Self::Move(
                MoveError::Lock(_)
                | MoveError::Unsafe(_)
                | MoveError::Load(LoadError::Unreadable { why: Unreadable::NoKey, .. }),
            ) => EX_CONFIG,
            Self::Move(MoveError::Take(TakeError::Load(LoadError::Unreadable {
                why: Unreadable::NoKey,
                ..
            }))) => EX_CONFIG,
            Self::Move(
                MoveError::None { .. }
                | MoveError::Elsewhere(_)
                | MoveError::Lost { .. }
                | MoveError::There { .. }
                | MoveError::Newer { .. }
                | MoveError::NotAnExport { .. }
                | MoveError::Exists(_),
            ) => 1,
            Self::Access(_) | Self::Move(_) | Self::Output(_) => EX_UNAVAILABLE,
        }
    }
}

/// Where the settings say that the session is; the exit code if they cannot be used.
pub fn place(environment: &Environment) -> Result<Store, ExitCode> {
    Ok(match settings(environment)?.edge.store {
        SessionStore::File => Store::File,
        SessionStore::Bus { .. } => Store::Nats,
    })
}

/// The settings of an edge whose session is on the bus.
pub fn on_the_bus(environment: &Environment) -> Environment {
    environment.with("SESSION_STORE", "nats")
}

/// Runs `session`. `place` is where the session is to be, and `config` has what the bus needs.
pub async fn run(command: SessionCommand, place: Store, config: &Config) -> Result<ExitCode, SessionError> {
    let SessionStore::Bus { keys, unsafe_sync } = &config.edge.store else {
        return Err(SessionError::NoKey);
    };
    let whose = match &command {
        SessionCommand::Move(args) => &args.whose,
        SessionCommand::Export(args) => &args.whose,
        SessionCommand::Import(args) => &args.whose,
        SessionCommand::Rekey(args) => args,
    };
    let account = whose.account.clone().unwrap_or_else(|| config.edge.account.clone());
    let tell = |line: &str| eprintln!("{line}");
    let mover = Mover { account: &account, dir: &config.edge.auth_dir, keys, tell: &tell };
    let needs_bus = match &command {
        SessionCommand::Move(_) | SessionCommand::Rekey(_) => true,
        SessionCommand::Export(_) | SessionCommand::Import(_) => place == Store::Nats,
    };
    let on = if needs_bus { Some(on(config, *unsafe_sync).await?) } else { None };
    let done = match (command, &on) {
        (SessionCommand::Move(MoveArgs { to, replace, .. }), Some(on)) => {
            let to = if to == To::Nats { Store::Nats } else { Store::File };
            Box::pin(mover.move_to(to, on, Allowed { replace, go_back: false })).await?
        }
        (SessionCommand::Rekey(_), Some(on)) => Box::pin(mover.rekey(on)).await?,
        (SessionCommand::Export(ExportArgs { out, .. }), on) => {
            Box::pin(mover.export(on.as_ref(), &out)).await?
        }
        (SessionCommand::Import(ImportArgs { file, replace, go_back, .. }), on) => {
            Box::pin(mover.import(on.as_ref(), &file, Allowed { replace, go_back })).await?
        }
        // They have one.
        (SessionCommand::Move(_) | SessionCommand::Rekey(_), None) => {
            return Err(BusUnavailable::Timeout.into());
        }
    };
    print(&done)?;
    Ok(ExitCode::SUCCESS)
}

async fn on(config: &Config, unsafe_sync: bool) -> Result<OnTheBus, BusUnavailable> {
    let bus: Bus = bus_access::connect(config, "session").await?;
    let (subjects, topology) = (config.subjects.clone(), config.topology.clone());
    Ok(OnTheBus { bus, subjects, topology, unsafe_sync })
}

/// The result for machines, and for people what comes next.
fn print(done: &Done) -> Result<(), SessionError> {
    let line = serde_json::to_string(done).map_err(io::Error::from)?;
    let _ = stdout::line(&line)?;
    match (done.state, done.to) {
        ("moved" | "already-moved", Some(Store::Nats)) => {
            eprintln!("start the edges with SESSION_STORE=nats, and with the same SESSION_KEY");
        }
        ("moved" | "already-moved", _) => eprintln!("start the edge with SESSION_STORE=file, here"),
        ("exported", _) => eprintln!(
            "whoever has this file and SESSION_KEY has the linked number. Once an edge goes on with the session, do not go back to it"
        ),
        ("imported", _) => eprintln!(
            "no edge may go on where it was exported: a session that is used twice makes messages unreadable"
        ),
        ("rekeyed", _) => eprintln!("the other keys of SESSION_KEY are not needed any more for this account"),
        _ => {}
    }
    if done.left_out > 0 {
        eprintln!("{} values were too long for the bus, and are left out, as an edge does it", done.left_out);
    }
    Ok(())
}
