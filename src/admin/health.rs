//! `whatsapp-connector healthcheck`: asks the process on this machine, for containers that have no shell.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A container platform waits about as long.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the process said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Is it well?
    pub well: bool,
    /// In its own words.
    pub words: String,
}

/// Asks the process that serves `addr` whether it is alive, or with `ready` whether it is ready.
pub fn ask(addr: SocketAddr, ready: bool) -> std::io::Result<Health> {
    let path = if ready { "/readyz" } else { "/livez" };
    let mut stream = TcpStream::connect_timeout(&reachable(addr), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    // Far more than it ever says.
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(read(&answer))
}

/// Whoever listens on every address is asked on loopback.
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
