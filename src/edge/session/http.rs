//! The HTTP client that the WhatsApp library uses beside its connection: it asks WhatsApp's web page for the current
//! version of the protocol.

use whatsapp_rust::http::UreqHttpClient;

use crate::proxy::Proxy;

/// A page of this host is all that it reads.
pub const HOST: &str = "https://web.whatsapp.com/";

/// Small buffers and few connections, as the library has them without a proxy of ours.
const BUFFER: usize = 16 << 10;

/// A client that goes through `proxy`, and never through one that the library finds in the environment by itself.
pub(super) fn client(proxy: Option<&Proxy>) -> UreqHttpClient {
    let proxy = proxy.and_then(|proxy| ureq::Proxy::new(proxy.url()).ok());
    let config = ureq::config::Config::builder()
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_idle_connections(3)
        .max_idle_connections_per_host(2)
        .proxy(proxy);
    UreqHttpClient::with_agent(config.build().into())
}
