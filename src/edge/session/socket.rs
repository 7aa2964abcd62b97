//! The socket to WhatsApp's server: the library's own way there, and each message leaves at once.
//!
//! The library leaves Nagle's algorithm on. Then a second small message waits until the server has acknowledged the
//! first, and servers delay that for 40 ms: an answer's median was 52 ms, and is 16 ms without
//! (docs/performance.md). Also, all addresses of a name are tried, and not only the first.
//!
//! A line that is cut refuses nothing: both sides believe in the connection, and what is sent is repeated at ever longer
//! intervals. The library notices after 20 to 50 s. The system is told to notice after [`DEAD_AFTER`].

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderValue, ORIGIN};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_websockets::ClientBuilder;
use whatsapp_rust::async_trait;
use whatsapp_rust::transport::{
    Connector, Transport, TransportEvent, TransportFactory, default_tls_connector, from_websocket,
};
use whatsapp_rust::wacore::net::{WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL};

use super::gate::{Gate, Gated, Life};
use super::home::Database;

/// A peer that has acknowledged nothing for so long, neither what was sent nor a probe, is away.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// How long nothing may come before the system sends a probe, and from one probe to the next.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Connects to WhatsApp's server.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    url: String,
    gate: Gate,
    life: Life,
    session: Option<Database>,
}

impl Sockets {
    /// Those of a new client to this address, behind this gate. `None`: WhatsApp.
    pub(super) fn to(url: Option<&str>, gate: Gate) -> Self {
        let life = gate.begins();
        Self { url: url.unwrap_or(WHATSAPP_WEB_WS_URL).to_owned(), gate, life, session: None }
    }

    /// With this session. Before each connection it is shown that it is still this edge's.
    pub(super) fn with(self, session: Database) -> Self {
        Self { session: Some(session), ..self }
    }
}

#[async_trait]
impl TransportFactory for Sockets {
    async fn create_transport(
        &self,
    ) -> Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>), anyhow::Error> {
        self.life.goes_on()?;
        self.gate.connects().await;
        if let Some(session) = &self.session {
            session.is_still_ours().await?;
        }
        let uri: Uri = self.url.parse()?;
        // The brackets of an IPv6 address belong to the URL.
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let (connector, default_port) = match uri.scheme_str() {
            Some("wss") => (default_tls_connector(), 443),
            _ => (Connector::Plain, 80),
        };
        let socket = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(default_port))).await?;
        socket.set_nodelay(true)?;
        ends_when_cut(&socket)?;
        let stream = connector.wrap(&host, socket).await?;
        let request =
            ClientBuilder::from_uri(uri).add_header(ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN))?;
        let (websocket, _response) = request.connect_on(stream).await?;
        let (socket, events) = from_websocket(websocket);
        let gated = Arc::new(Gated::new(self.gate.clone(), self.life.clone(), socket));
        if let Err(over) = self.life.opened(&gated) {
            gated.disconnect().await;
            return Err(over);
        }
        Ok((gated, events))
    }
}

fn ends_when_cut(socket: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY))?;
    // Also the limit for probes.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
    Ok(())
}
