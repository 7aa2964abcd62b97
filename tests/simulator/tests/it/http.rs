//! Just enough of an HTTP client for the control API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than any call may take.
const LIMIT: Duration = Duration::from_secs(180);

/// The status and the body of a call.
pub async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Result<(u16, String)> {
    let (status, body) = bytes(address, method, path, body.unwrap_or_default().as_bytes()).await?;
    Ok((status, String::from_utf8(body)?))
}

/// The same, for what is no text.
pub async fn bytes(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(LIMIT, exchange).await??;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the headers")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, answer[end + 4..].to_vec()))
}

/// A call that must succeed.
pub async fn good(address: SocketAddr, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
    let text = body.map(|body| body.to_string());
    let (status, answer) = call(address, method, path, text.as_deref()).await?;
    if !(200..300).contains(&status) {
        bail!("{method} {path}: {status} {answer}");
    }
    Ok(serde_json::from_str(&answer)?)
}

/// A call that must fail with this status; returns the error.
pub async fn bad(address: SocketAddr, method: &str, path: &str, body: &str, expected: u16) -> Result<String> {
    let (status, answer) = call(address, method, path, Some(body)).await?;
    if status != expected {
        bail!("{method} {path} {body}: {status} instead of {expected}: {answer}");
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let error = answer["error"].as_str().context("no `error`")?;
    Ok(error.to_owned())
}
