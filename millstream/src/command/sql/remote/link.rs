//! The way to a server: TCP, with TLS where its URL says so, and HTTP/1.1 over it.

use anyhow::Context;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use millstream_ingest::replay::{Broker, Dial, Tcp, Tls, TlsFiles};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use url::{Host, Url};

/// How long a connection may take, name and TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Works off one connection, and closes it when it is dropped.
pub(super) type Connection = JoinSet<()>;

/// Where a server is, and how it is reached.
#[derive(Debug, Clone)]
pub(super) struct Link {
    dial: Arc<dyn Dial>,
    /// As the header says it.
    host: String,
    /// What stands before all paths, where a proxy has put it there.
    base: String,
}

impl Link {
    /// To a URL with a host.
    pub(super) fn to(url: &Url, ca: Option<&Path>) -> anyhow::Result<Self> {
        let is_tls = url.scheme() == "https";
        let name = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let to = Broker { host: name, port: url.port_or_known_default().unwrap_or(80) };
        let dial: Arc<dyn Dial> = if is_tls {
            let files = TlsFiles { ca: ca.map(Path::to_owned), ..TlsFiles::default() };
            Arc::new(Tls::new(to, &files).context("failed to prepare TLS")?)
        } else {
            Arc::new(Tcp(to))
        };
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { dial, host, base: url.path().trim_end_matches('/').to_owned() })
    }

    /// To an address of this machine.
    pub(super) fn on(address: SocketAddr) -> Self {
        let to = Broker { host: address.ip().to_string(), port: address.port() };
        Self { dial: Arc::new(Tcp(to)), host: address.to_string(), base: String::new() }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request over a connection of its own, and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> anyhow::Result<(Response<Incoming>, Connection)> {
        let connecting = async {
            let wire = self.dial.dial().await.context("failed to connect")?;
            http1::handshake(TokioIo::new(wire)).await.context("failed to connect")
        };
        let connected = tokio::time::timeout(CONNECT_MAX, connecting).await;
        let (mut sender, wire) =
            connected.with_context(|| format!("it took no connection in {} s", CONNECT_MAX.as_secs()))??;
        let mut connection = Connection::new();
        connection.spawn(async move {
            // What goes wrong with it, whoever waits for the answer is told.
            drop(wire.await);
        });
        Ok((
            sender.send_request(request).await.context("it closed the connection without an answer")?,
            connection,
        ))
    }
}
