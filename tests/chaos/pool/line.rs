//! A line between an edge and a server that can be cut: nothing gets through any more, and neither side is told.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The line; its connections end with it.
#[derive(Debug)]
pub struct Line {
    port: u16,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Line {
    /// To whoever listens on this port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port for a line");
        let own = listener.local_addr().expect("its port").port();
        let (cut, is_cut) = watch::channel(false);
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((near, _)) = listener.accept() => drop(connections.spawn(carry(near, port, is_cut.clone()))),
                    Some(_ended) = connections.join_next() => {}
                }
            }
        });
        Self { port: own, cut, task }
    }

    /// Where it begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on.
    pub fn cut(&self, is_cut: bool) {
        self.cut.send_replace(is_cut);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, port: u16, mut cut: watch::Receiver<bool>) {
    // A connection that is begun meanwhile gets nowhere, until it is mended.
    if cut.wait_for(|cut| !cut).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    // Whichever side ends it, ends it: the other side's half is closed with it.
    tokio::select! {
        _ = pump(near_in, far_out, cut.clone()) => {}
        _ = pump(far_in, near_out, cut) => {}
    }
}

/// What is read while the line is cut arrives when it is mended, the end as well: so does what a kernel has sent again.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await;
        if cut.wait_for(|cut| !cut).await.is_err() {
            return Ok(());
        }
        match count? {
            0 => return to.shutdown().await,
            count => to.write_all(&buffer[..count]).await?,
        }
    }
}
