//! A header that kills async-nats' own task must not leave a process behind that lives and hears nothing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Layout, PATIENCE, Stage, warning};

/// As no client library would write it: a carriage return within a value.
const MESSAGE: &[u8] = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n\
    HPUB wa.in.default.message.5491100009999 20 21\r\nNATS/1.0\r\nX: a\rb\r\n\r\nx\r\nPING\r\n";

#[tokio::test]
async fn a_header_that_the_library_dies_of_ends_the_process_and_not_only_its_hearing() {
    let stage = Stage::plan().set().await;
    stage.logs.expects("/src/header.rs:");
    stage.logs.expects("the connection to nats-server has ended for good");
    stage.logs.expects(warning::CANNOT_GO_ON);
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;

    let address = stage.nats.url().replacen("nats://", "", 1);
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(MESSAGE).await.expect("a message");
    let mut heard = Vec::new();
    while !heard.windows(4).any(|words| words == b"PONG") {
        assert_ne!(stream.read_buf(&mut heard).await.expect("an answer"), 0, "nats-server has closed it");
    }

    let forwarder = &mut product.forwarders[0].process;
    let status = forwarder.end(PATIENCE).await;
    // `EX_UNAVAILABLE`: a supervisor starts it again.
    assert_eq!(status.code(), Some(69), "{}", forwarder.stderr());
    assert!(forwarder.stderr().contains("has ended for good"), "{}", forwarder.stderr());
    assert!(product.edge.process.ended().is_none(), "who does not read it lives");
}
