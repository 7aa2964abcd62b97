//! A child process: its output goes to files, and it ends with its handle.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;
use super::warm::Fork;

/// How much of a log a failed test shows.
const TAIL: usize = 60;

/// Whose child it is.
#[derive(Debug)]
enum Kin {
    Own(Child),
    Forked(Fork),
}

impl Kin {
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self {
            Self::Own(child) => child.try_wait(),
            Self::Forked(fork) => fork.try_wait(),
        }
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Own(child) => child.wait(),
            Self::Forked(fork) => fork.wait(),
        }
    }
}

/// A running part. Dropping it is `kill -9` and a wait for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Kin,
    pid: Pid,
    out: PathBuf,
    err: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its output in files below `logs`.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Self {
        let [out, err] = files(name, logs);
        let create =
            |path: &Path| File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&out)).stderr(create(&err));
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{name} does not start: {} : {error}", command.get_program().display())
        });
        let pid = Pid::from_child(&child);
        Self { name: name.to_owned(), child: Kin::Own(child), pid, out, err, ended: None }
    }

    /// The reference backend, out of an interpreter that has it loaded.
    pub fn fork(name: &str, arguments: &[&str], environment: &BTreeMap<String, String>, logs: &Path) -> Self {
        let [out, err] = files(name, logs);
        let fork = Fork::start(arguments, environment, &out, &err)
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), pid: fork.pid, child: Kin::Forked(fork), out, err, ended: None }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// What it has written to standard output.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What it has written to standard error: its log.
    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    /// The most memory that it ever had at once (its high-water mark), in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {name} in {status}")) << 10
    }

    /// The processor time that it has used so far.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // The name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(") ").expect("fields after the name");
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
        // USER_HZ, which Linux shows to programs as 100 everywhere.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    fn proc(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
        self.ended
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self, bound: Duration) -> impl Future<Output = ExitStatus> {
        let what = format!("{} to end", self.name);
        eventually(what, bound, async || self.ended().ok_or_else(|| "still running".to_owned()))
    }

    /// Waits for its end by `kill -9`, by whomever: a test's crash point, for example.
    #[track_caller]
    pub fn end_by_kill(&mut self, bound: Duration) -> impl Future<Output = ()> {
        let end = self.end(bound);
        async move {
            let status = end.await;
            let want = Some(Signal::KILL.as_raw());
            assert_eq!(status.signal(), want, "it was to be killed, and ended with {status}");
        }
    }

    /// Waits until it has stopped itself, at a point that a test has named in `FREEZE_AT`.
    #[track_caller]
    pub fn stops_itself(&mut self, bound: Duration) -> impl Future<Output = ()> {
        eventually(format!("{} to stop itself", self.name), bound, async || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
            // The state stands behind the name, which is in brackets.
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if state == Some('T') { Ok(()) } else { Err(format!("{state:?}")) }
        })
    }

    /// `SIGTERM`.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// `SIGHUP`: read the configuration again.
    pub fn hang_up(&self) {
        // Once it is waited for, its id may be somebody else's.
        if self.ended.is_none() {
            kill_process(self.pid, Signal::HUP).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    /// Stops it in its tracks, as a machine without breath would.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9` of the process itself, not of its children, and a wait for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended = self.child.wait().ok();
    }

    fn signal(&mut self, signal: Signal) {
        // Once it is waited for, its id may be somebody else's.
        if self.ended().is_none() {
            kill_process(self.pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    /// Waits for a line on standard output that begins with `prefix`, and returns the rest of it.
    pub async fn line(&mut self, prefix: &str, bound: Duration) -> String {
        let what = format!("{} to print `{prefix}...`", self.name);
        eventually(what, bound, async || {
            let ended = self.ended();
            let found = self.stdout().lines().find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
            match (found, ended) {
                (Some(rest), _) => Ok(rest),
                (None, None) => Err("no such line".to_owned()),
                (None, Some(status)) => panic!("{} ended early, {status}", self.name),
            }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.ended().map_or("running".to_owned(), |status| status.to_string());
            eprintln!("---- {} ({status}), the end of its log ----\n{}", self.name, tail(&self.stderr()));
        }
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// A command with a clean environment: what the machine has set changes no test.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Its output and its log, under a name that no other process has.
fn files(name: &str, logs: &Path) -> [PathBuf; 2] {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    ["out", "err"].map(|kind| logs.join(format!("{number}-{name}.{kind}")))
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
