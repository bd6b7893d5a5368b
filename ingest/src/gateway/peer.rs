//! The other end of a connection, before it has said a word of MQTT.

use crate::gateway::Shared;
use crate::gateway::connection::linger;
use crate::gateway::handshake::{self, Room};
use crate::gateway::listeners::Transport;
use crate::identity::Certificate;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Who is at the other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The certificate whose key it has.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// By when its CONNECT must be there.
    pub(crate) connect_by: Instant,
}

/// Serves a new connection. The TLS handshake counts against the time to CONNECT, and each is in the task of its connection, so that a slow one holds up
/// nobody.
pub(crate) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    transport: Transport,
    room: Room,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) {
    let connect_by = Instant::now() + shared.settings.connect_timeout;
    let mut peer = Peer { address, certificate: None, connect_by };
    if transport == Transport::Plain {
        return handshake::serve(stream, peer, room, shared, shutdown).await;
    }
    let Some(stream) = shutdown.run_until_cancelled(secure(stream, &peer, &shared)).await.flatten() else {
        return;
    };
    let chain = stream.get_ref().1.peer_certificates();
    // One that cannot be read has failed the handshake.
    peer.certificate = chain.and_then(|chain| Certificate::read(chain).ok()).map(Arc::new);
    handshake::serve(stream, peer, room, shared, shutdown).await;
}

/// Speaks TLS with the peer. What does not is closed without fuss: anybody can send anything to an open port.
async fn secure(stream: TcpStream, peer: &Peer, shared: &Shared) -> Option<TlsStream<TcpStream>> {
    let address = peer.address;
    let accepting = TlsAcceptor::from(shared.access.server()?).accept(stream).into_fallible();
    match tokio::time::timeout_at(peer.connect_by, accepting).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, mut stream))) => {
            debug!(%address, %error, "a connection does not speak TLS as it should, and is closed");
            // It was told by an alert; it must be able to read it.
            if stream.shutdown().await.is_ok() {
                linger(stream, shared.settings.linger_timeout).await;
            }
            None
        }
        Err(_elapsed) => {
            debug!(%address, "no TLS handshake came to its end in time");
            None
        }
    }
}
