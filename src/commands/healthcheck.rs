//! `whatsapp-connector healthcheck`: asks the process on this machine whether it is alive, for containers that have
//! no shell.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::CommandError;
use crate::config::Config;
use crate::stdout;

/// About as long as a container platform waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What to ask.
#[derive(Debug, Clone, Args)]
pub struct HealthcheckArgs {
    /// Asks whether the process is ready, not only alive.
    #[arg(long)]
    ready: bool,
}

/// No process answers.
#[derive(Debug, thiserror::Error)]
#[error("no process answers on HTTP_ADDR={addr}: {source}")]
pub struct HealthcheckError {
    addr: SocketAddr,
    source: std::io::Error,
}

/// What the process answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Health {
    /// It answered yes.
    well: bool,
    /// Its own words.
    words: String,
}

/// Asks, prints the answer, and says by its exit code whether the process is well.
pub fn run(args: &HealthcheckArgs, config: &Config) -> Result<ExitCode, CommandError> {
    let addr = config.http_addr;
    let health = ask(addr, args.ready).map_err(|source| HealthcheckError { addr, source })?;
    let _ = stdout::line(&health.words)?;
    Ok(if health.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks the process that serves `addr` whether it is alive, or with `ready` whether it is ready.
fn ask(addr: SocketAddr, ready: bool) -> std::io::Result<Health> {
    let path = if ready { "/readyz" } else { "/livez" };
    let mut stream = TcpStream::connect_timeout(&reachable(addr), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    // Far more than an answer ever has.
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(read(&answer))
}

/// A process that listens on every address is asked on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, addr.port())
}

fn read(answer: &str) -> Health {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1);
    Health { well: status == Some("200"), words: body.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_well() {
        let of = |answer: &str| read(answer).well;
        assert!(of("HTTP/1.1 200 OK\r\n\r\nalive\n"));
        assert!(!of("HTTP/1.1 503 Service Unavailable\r\n\r\n200"));
        assert!(!of("") && !of("200"));
    }

    #[test]
    fn every_address_is_reached_on_loopback() {
        let of = |addr: &str| reachable(addr.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(of("[::]:8080"), "[::1]:8080");
        assert_eq!(of("10.0.0.1:1"), "10.0.0.1:1");
    }
}
