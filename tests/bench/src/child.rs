//! A child process: pinned to a processor, its output in files, and it ends with its handle.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::usage;

/// Which processor a part runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// The first one: what is measured.
    Measured,
    /// The second one: the bus, the backend and who writes.
    Rest,
    /// Wherever there is room.
    Any,
}

impl Core {
    /// The words in front of a command that keep it there. Nothing on a machine with one processor.
    fn words(self) -> Vec<String> {
        let number = match self {
            Self::Measured => "0",
            Self::Rest => "1",
            Self::Any => return Vec::new(),
        };
        if processors() < 2 {
            return Vec::new();
        }
        ["taskset", "-c", number].map(str::to_owned).to_vec()
    }

    /// Keeps this process there, and what it starts from now on without words of its own.
    pub fn keep_this_process(self) -> Result<()> {
        let words = self.words();
        let Some((taskset, rest)) = words.split_first() else { return Ok(()) };
        let core = rest.last().map_or("1", String::as_str);
        let mut command = Command::new(taskset);
        command.args(["-a", "-c", "-p", core, &std::process::id().to_string()]).stdout(Stdio::null());
        let status =
            command.status().context("taskset (of util-linux) keeps processes on their processor")?;
        if status.success() {
            Ok(())
        } else {
            bail!("taskset cannot keep this process on a processor: {status}")
        }
    }
}

/// How many processors the machine has, whatever this process is kept to.
pub fn processors() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count()
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Order {
    /// For its files and for errors.
    pub name: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Its whole environment, beside `PATH`.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub core: Core,
}

/// A running process. Dropping it is `kill -9` and a wait for its end.
#[derive(Debug)]
pub struct Child {
    name: String,
    child: std::process::Child,
    out: PathBuf,
    err: PathBuf,
}

impl Child {
    /// Starts it, in `dir`.
    pub fn start(order: &Order, dir: &Path) -> Result<Self> {
        let name = order.name.clone();
        let mut words = order.core.words();
        words.extend(order.words.iter().cloned());
        let (program, arguments) = words.split_first().context("no program")?;
        let number = std::fs::read_dir(dir).map_or(0, Iterator::count);
        let file = |kind: &str| dir.join(format!("{number}-{name}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&order.environment).current_dir(dir);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
        let child = command.spawn().with_context(|| format!("{name}: {program} does not start"))?;
        Ok(Self { name, child, out, err })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its processor time, with all below it.
    pub fn cpu(&self) -> Duration {
        usage::cpu(self.pid())
    }

    /// What it has printed.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// An error if it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended, {status}:\n{}", self.name, self.last_words()),
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.err).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits for its end, which must be a good one.
    pub async fn ends_well(&mut self, bound: Duration) -> Result<()> {
        let status = self.end(bound).await?;
        if status.success() { Ok(()) } else { bail!("{} ended, {status}:\n{}", self.name, self.last_words()) }
    }

    /// `SIGTERM`, and waits for its end.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM);
        self.end(Duration::from_secs(40)).await.map(|_| ())
    }

    async fn end(&mut self, bound: Duration) -> Result<std::process::ExitStatus> {
        let deadline = tokio::time::Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{} does not end:\n{}", self.name, self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a line on standard output that begins with `prefix`; the rest of it.
    pub async fn line(&mut self, prefix: &str, bound: Duration) -> Result<String> {
        let deadline = tokio::time::Instant::now() + bound;
        loop {
            let printed = self.stdout();
            if let Some(rest) = printed.lines().find_map(|line| line.strip_prefix(prefix)) {
                return Ok(rest.to_owned());
            }
            self.still_runs()?;
            if tokio::time::Instant::now() > deadline {
                bail!("{} does not print `{prefix}`:\n{}", self.name, self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn signal(&mut self, signal: Signal) {
        // Once it is waited for, its id may be somebody else's.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // What it has started first: they would be nobody's.
            for pid in usage::tree(self.pid()).into_iter().skip(1) {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
