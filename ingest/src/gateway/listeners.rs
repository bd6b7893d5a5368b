//! Where devices connect: in plain text, over TLS, or both.

use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};

/// The sockets of a gateway, already bound.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Plain text.
    pub plain: Option<TcpListener>,
    /// TLS.
    pub tls: Option<TcpListener>,
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

impl Listeners {
    /// Plain text only.
    #[must_use]
    pub fn plain(listener: TcpListener) -> Self {
        Self { plain: Some(listener), tls: None }
    }

    /// The next connection of either; waits for ever if there is none of them. Cancel-safe.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Transport)> {
        let (accepted, transport) = tokio::select! {
            accepted = accept(self.plain.as_ref()) => (accepted, Transport::Plain),
            accepted = accept(self.tls.as_ref()) => (accepted, Transport::Tls),
        };
        accepted.map(|(stream, address)| (stream, address, transport))
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
