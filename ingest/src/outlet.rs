//! What one of our clients still has to write to a broker.

use crate::replay::Wire;
use bytes::{Buf, BytesMut};
use std::io;
use tokio::io::{AsyncWriteExt, WriteHalf};

/// Bytes that wait to be written. Whoever fills it bounds it.
pub(crate) struct Outlet {
    writer: WriteHalf<Box<dyn Wire>>,
    pub(crate) bytes: BytesMut,
    unflushed: bool,
}

impl Outlet {
    /// Nothing to write.
    pub(crate) fn new(writer: WriteHalf<Box<dyn Wire>>) -> Self {
        Self { writer, bytes: BytesMut::new(), unflushed: false }
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_done(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Writes some of it, or flushes when all is written. Cancel-safe: one step a call.
    pub(crate) async fn step(&mut self) -> io::Result<()> {
        if self.bytes.has_remaining() {
            if self.writer.write_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.unflushed = true;
        } else {
            self.writer.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Writes all of it.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        while !self.is_done() {
            self.step().await?;
        }
        Ok(())
    }

    /// Says that nothing more will be written.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.writer.shutdown().await
    }
}
