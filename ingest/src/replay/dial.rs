//! How a connection to the broker is made: the place where another transport comes in.

use crate::replay::settings::Broker;
use async_trait::async_trait;
use std::fmt::Debug;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection's two directions.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// Makes connections. The client calls it for every attempt and bounds the time.
#[async_trait]
pub trait Dial: Send + Sync + Debug {
    /// A new connection, ready for a CONNECT.
    ///
    /// # Errors
    /// If the broker cannot be reached. The client tries again.
    async fn dial(&self) -> io::Result<Box<dyn Wire>>;
}

/// Plain TCP.
#[derive(Debug, Clone)]
pub struct Tcp(pub Broker);

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(tcp(&self.0).await?))
    }
}

/// A connection to the broker's port.
pub(crate) async fn tcp(broker: &Broker) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await?;
    // The client gathers small packets itself.
    stream.set_nodelay(true)?;
    Ok(stream)
}
