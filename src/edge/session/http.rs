//! The edge's HTTP client, for the WhatsApp library and for files: one, with one TLS and one proxy. It calls WhatsApp's
//! hosts only (`hosts`), follows no redirect, and reads up to a limit.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Method, Response, Url};
use rustls::{ClientConfig, RootCertStore};
use whatsapp_rust::anyhow;
use whatsapp_rust::http::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::wacore::net::WHATSAPP_WEB_ORIGIN;

use super::hosts::{Foreign, Hosts};
use crate::proxy::Proxy;

/// Which proxy counts is asked for this host of WhatsApp's.
pub const HOST: &str = "https://web.whatsapp.com/";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte. The library waits as long as its client does.
const SILENCE: Duration = Duration::from_secs(30);
/// For all of an answer that is held in memory.
const WHOLE: Duration = Duration::from_secs(120);
/// The page has about one megabyte. More is not held in memory.
const MAX_BODY: usize = 64 << 20;
/// What a refusal says beside its status is for people, and the rest of it is left where it is.
const MAX_REFUSAL: usize = 64 << 10;

/// The library's trait over the client that calls the assistant, so that one HTTP is in the process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    /// For uploads: their silence is watched by who makes them, because the answer comes after the last byte.
    uploads: Client,
    hosts: Hosts,
    max_body: usize,
}

/// A client that calls `hosts`, goes through `proxy`, and never through one that the library finds in the environment
/// by itself.
pub(crate) fn client(hosts: Hosts, proxy: Option<&Proxy>) -> reqwest::Result<Http> {
    let build = || {
        let client = Client::builder()
            // Which proxy counts is decided in `proxy`.
            .no_proxy()
            // WhatsApp's connection trusts the same authorities. So the edge needs no certificates of the system's.
            .tls_backend_preconfigured(trusts_the_web())
            // A page a day: no connection waits for the next.
            .pool_max_idle_per_host(0)
            // A redirect is a refusal like others: it could lead anywhere.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        Ok::<_, reqwest::Error>(match (&hosts, proxy) {
            (Hosts::WhatsApp, Some(proxy)) => client.proxy(reqwest::Proxy::all(proxy.url())?),
            // The setting is about WhatsApp's hosts. A simulator is near.
            _ => client,
        })
    };
    let (client, uploads) = (build()?.read_timeout(SILENCE).build()?, build()?.build()?);
    Ok(Http { client, uploads, hosts, max_body: MAX_BODY })
}

impl Http {
    /// The address of a file on a media host, if that is one that may be called.
    pub(super) fn file(&self, host: &str, path: &str, query: &[(&str, &str)]) -> Result<Url, Foreign> {
        self.hosts.file(host, path, query)
    }

    /// The head of the answer; its body is still to come. Who reads it limits it.
    pub(super) async fn get(&self, url: Url) -> reqwest::Result<Response> {
        // WhatsApp's media hosts want to hear where the page is from.
        self.client.get(url).header(ORIGIN, WHATSAPP_WEB_ORIGIN).send().await
    }

    /// Sends so many bytes. Whoever calls limits the time. WhatsApp's media hosts want to hear the length before.
    pub(super) async fn post(&self, url: Url, body: Body, length: u64) -> reqwest::Result<Response> {
        let call = self.uploads.post(url).header(ORIGIN, WHATSAPP_WEB_ORIGIN);
        let call = call.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, length);
        call.body(body).send().await
    }
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
        let url = self.hosts.allowed(&request.url)?;
        let call = self.client.request(method, url).headers(headers).timeout(WHOLE);
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

    async fn listener() -> (TcpListener, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    fn simulator(address: &str) -> Http {
        client(Hosts::of(Some(&format!("ws://{address}/ws/chat"))), None).unwrap()
    }

    /// Answers one call with `answer`; the call's first bytes are returned.
    async fn serve(listener: &TcpListener, answer: &[u8]) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let count = stream.read(&mut asked).await.unwrap();
        // The client may hang up as soon as it has what it takes.
        let _ = stream.write_all(answer).await;
        String::from_utf8_lossy(&asked[..count]).into_owned()
    }

    /// A server for one call.
    async fn ask(answer: Vec<u8>, max_body: usize) -> (String, anyhow::Result<HttpResponse>) {
        let (listener, address) = listener().await;
        let http = Http { max_body, ..simulator(&address) };
        let url = format!("https://{address}/page");
        let request = HttpRequest::get(url).with_header("sec-fetch-site", "none");
        tokio::join!(serve(&listener, &answer), http.execute(request))
    }

    fn answer(status: &str, body: &[u8]) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn a_page_is_read_with_the_headers_of_the_library() {
        let (asked, response) = ask(answer("200 OK", b"page"), MAX_BODY).await;
        let response = response.unwrap();
        assert_eq!((response.status_code, response.body.as_slice()), (200, b"page".as_slice()));
        assert!(asked.starts_with("GET /page ") && asked.contains("sec-fetch-site: none"), "{asked}");
    }

    #[tokio::test]
    async fn it_goes_through_the_proxy_that_it_is_told() {
        let (listener, address) = listener().await;
        let proxy = format!("http://{address}");
        let proxies = crate::proxy::Proxies::read(|name| (name == "HTTPS_PROXY").then_some(proxy.as_str())).0;
        let http = client(Hosts::WhatsApp, proxies.of(HOST)).unwrap();
        let call = http.execute(HttpRequest::get("https://web.whatsapp.com/sw.js"));
        let refusal = answer("502 Bad Gateway", b"");
        let (asked, response) = tokio::join!(serve(&listener, &refusal), call);
        assert!(response.is_err());
        assert!(asked.starts_with("CONNECT web.whatsapp.com:443 "), "{asked}");
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_however_long_it_is() {
        let (_, response) = ask(answer("403 Forbidden", &vec![b'x'; 4 << 20]), 1 << 20).await;
        let response = response.unwrap();
        assert!(response.status_code == 403 && response.body.len() <= MAX_REFUSAL);
    }

    #[tokio::test]
    async fn a_page_that_is_too_long_is_an_error_and_not_half_a_page() {
        let (_, response) = ask(answer("200 OK", &vec![b'x'; 2 << 20]), 1 << 20).await;
        assert!(response.is_err());
    }

    /// Whatever the library is told by a sender, and wherever a redirect leads.
    #[tokio::test]
    async fn nothing_but_the_server_is_reached() {
        let (elsewhere, foreign) = listener().await;
        let (listener, address) = listener().await;
        let http = simulator(&address);
        for url in [
            format!("https://{foreign}/"),
            format!("http://{foreign}/"),
            format!("https://{address}@{foreign}/"),
            format!("http://{address}:pass@{foreign}/"),
            format!("https://localhost:{}/", foreign.rsplit(':').next().unwrap()),
        ] {
            assert!(http.execute(HttpRequest::get(&url)).await.is_err(), "{url}");
        }
        let redirect =
            format!("HTTP/1.1 302 Found\r\nLocation: http://{foreign}/\r\nContent-Length: 0\r\n\r\n");
        let call = http.execute(HttpRequest::get(format!("https://{address}/")));
        let (_, response) = tokio::join!(serve(&listener, redirect.as_bytes()), call);
        assert_eq!(response.unwrap().status_code, 302);
        // A connection would wait in the listener's queue by now.
        let mut knock = std::pin::pin!(elsewhere.accept());
        assert!(futures::poll!(&mut knock).is_pending(), "somebody else was reached");
    }
}
