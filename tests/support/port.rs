//! Ports of parts that end and come back.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of loopback that nobody else is given. Between a part's end and its restart it would be free otherwise,
/// and another test's part might listen there, which is not what "away" means.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Bound and never listening: who asks for this very port may have it, and who asks for any port may not.
    _held: TcpSocket,
}

impl Port {
    /// One that is free.
    pub fn free() -> Self {
        let held = TcpSocket::new_v4().expect("a socket");
        held.set_reuseaddr(true).expect("a port that may be shared");
        held.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        Self { number: held.local_addr().expect("its number").port(), _held: held }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_part_may_come_and_go_and_nobody_answers_meanwhile() {
        let port = Port::free();
        let address = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..2 {
            let refused = TcpStream::connect(address).expect_err("nobody is there");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let part = TcpListener::bind(address).expect("its port");
            TcpStream::connect(address).expect("somebody is there");
            drop(part);
        }
    }
}
