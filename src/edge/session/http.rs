//! The HTTP client that the WhatsApp library uses beside its connection: it asks WhatsApp's web page for the current
//! version of the protocol.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use rustls::{ClientConfig, RootCertStore};
use whatsapp_rust::anyhow;
use whatsapp_rust::http::{HttpClient, HttpRequest, HttpResponse};

use crate::proxy::Proxy;

/// A page of this host is all that it reads.
pub const HOST: &str = "https://web.whatsapp.com/";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte. The library waits as long as its client does.
const SILENCE: Duration = Duration::from_secs(30);
/// The page has about one megabyte. More is not held in memory.
const MAX_BODY: usize = 64 << 20;
/// What a refusal says beside its status is for people, and the rest of it is left where it is.
const MAX_REFUSAL: usize = 64 << 10;

/// The library's trait over the client that calls the assistant, so that one HTTP is in the process.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    max_body: usize,
}

/// A client that goes through `proxy`, and never through one that the library finds in the environment by itself.
pub(super) fn client(proxy: Option<&Proxy>) -> reqwest::Result<Http> {
    let client = Client::builder()
        // Which proxy counts is decided in `proxy`.
        .no_proxy()
        // WhatsApp's connection trusts the same authorities. So the edge needs no certificates of the system's.
        .tls_backend_preconfigured(trusts_the_web())
        // A page a day: no connection waits for the next.
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE);
    let client = match proxy {
        Some(proxy) => client.proxy(reqwest::Proxy::all(proxy.url())?),
        None => client,
    };
    Ok(Http { client: client.build()?, max_body: MAX_BODY })
}

fn trusts_the_web() -> ClientConfig {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    ClientConfig::builder().with_root_certificates(Arc::new(roots)).with_no_client_auth()
}

#[async_trait]
impl HttpClient for Http {
    /// Every answer is one, whatever its status: the library looks at it.
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let method = Method::from_bytes(request.method.as_bytes())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let call = self.client.request(method, &request.url).headers(headers);
        let call = match request.body {
            Some(body) => call.body(body),
            None => call,
        };
        let mut response = call.send().await?;
        let status = response.status();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if !status.is_success() && body.len() + chunk.len() > MAX_REFUSAL {
                break;
            }
            if body.len() + chunk.len() > self.max_body {
                anyhow::bail!("an answer of more than {} bytes", self.max_body);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse { status_code: status.as_u16(), body: body.into() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server for one call: it answers with `answer`; the call's first bytes are returned.
    async fn ask(
        answer: Vec<u8>,
        through_proxy: bool,
        max_body: usize,
    ) -> (String, anyhow::Result<HttpResponse>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let proxies =
            crate::proxy::Proxies::read(|name| (name == "HTTP_PROXY").then_some(address.as_str())).0;
        let proxy = proxies.of("http://elsewhere.test").filter(|_| through_proxy);
        let http = Http { max_body, ..client(proxy).unwrap() };
        let url = if through_proxy { "http://elsewhere.test/page" } else { &format!("{address}/page") };
        let request = HttpRequest::get(url).with_header("sec-fetch-site", "none");
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap();
            // The client may hang up as soon as it has what it takes.
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&asked[..count]).into_owned()
        };
        tokio::join!(serve, http.execute(request))
    }

    fn answer(status: &str, body: &[u8]) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn a_page_is_read_with_the_headers_of_the_library() {
        let (asked, response) = ask(answer("200 OK", b"page"), false, MAX_BODY).await;
        let response = response.unwrap();
        assert_eq!((response.status_code, response.body.as_slice()), (200, b"page".as_slice()));
        assert!(asked.starts_with("GET /page ") && asked.contains("sec-fetch-site: none"), "{asked}");
    }

    #[tokio::test]
    async fn it_goes_through_the_proxy_that_it_is_told() {
        let (asked, response) = ask(answer("200 OK", b"page"), true, MAX_BODY).await;
        assert_eq!(response.unwrap().status_code, 200);
        assert!(asked.starts_with("GET http://elsewhere.test/page "), "{asked}");
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_however_long_it_is() {
        let (_, response) = ask(answer("403 Forbidden", &vec![b'x'; 4 << 20]), false, 1 << 20).await;
        let response = response.unwrap();
        assert!(response.status_code == 403 && response.body.len() <= MAX_REFUSAL);
    }

    #[tokio::test]
    async fn a_page_that_is_too_long_is_an_error_and_not_half_a_page() {
        let (_, response) = ask(answer("200 OK", &vec![b'x'; 2 << 20]), false, 1 << 20).await;
        assert!(response.is_err());
    }
}
