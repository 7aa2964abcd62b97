//! Processes that are forked from a warm interpreter, see `warm.py`.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::OnceLock;

use rustix::process::Pid;
use serde_json::json;

use super::backend::python;
use super::process::clean;
use super::root;

/// The interpreter of this test program. It ends with it, because its standard input does.
#[derive(Debug)]
struct Interpreter {
    address: SocketAddr,
    _child: Child,
}

fn interpreter() -> &'static Interpreter {
    static INTERPRETER: OnceLock<Interpreter> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let name = format!("whatsapp-connector-tests-{}", std::process::id());
        let mut child = clean(&python())
            .arg(root().join("tests/support/warm.py"))
            .arg(&name)
            .current_dir(root().join("deploy/backend"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python interpreter");
        let mut said = String::new();
        let out = child.stdout.as_mut().expect("its standard output");
        BufReader::new(out).read_line(&mut said).expect("its first line");
        assert_eq!(said, "ready\n", "the interpreter for backends does not start; what it said is above");
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        Interpreter { address, _child: child }
    })
}

/// A forked process. It is killed, and its id is free again, once this is dropped.
#[derive(Debug)]
pub struct Fork {
    /// Its id.
    pub pid: Pid,
    told: UnixStream,
    status: String,
}

impl Fork {
    /// Starts the reference backend.
    pub fn start(
        arguments: &[&str],
        environment: &BTreeMap<String, String>,
        out: &Path,
        err: &Path,
    ) -> io::Result<Self> {
        let order = json!({ "arguments": arguments, "environment": environment, "out": out, "err": err });
        let mut told = UnixStream::connect_addr(&interpreter().address)?;
        writeln!(told, "{order}")?;
        let pid = byte_by_byte(&mut told)?;
        let pid = pid.parse().ok().and_then(Pid::from_raw).ok_or(ErrorKind::InvalidData)?;
        Ok(Self { pid, told, status: String::new() })
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.told.set_nonblocking(true)?;
        self.hear()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.told.set_nonblocking(false)?;
        self.hear()?.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    fn hear(&mut self) -> io::Result<Option<ExitStatus>> {
        while !self.status.ends_with('\n') {
            let mut part = [0; 16];
            match self.told.read(&mut part) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.status.push_str(&String::from_utf8_lossy(&part[..count])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let status = self.status.trim_end().parse().map_err(io::Error::other)?;
        Ok(Some(ExitStatus::from_raw(status)))
    }
}

/// No more than a line: what comes after it is for later.
fn byte_by_byte(told: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    let mut byte = [0];
    loop {
        told.read_exact(&mut byte)?;
        if byte == [b'\n'] {
            return Ok(line);
        }
        line.push(char::from(byte[0]));
    }
}
