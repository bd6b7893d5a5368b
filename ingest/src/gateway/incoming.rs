//! The bytes of a connection that are not decoded yet.
//!
//! Every connection may have a little more than one read. A packet that is longer must have room for all of it first, out of what all connections have
//! together; then it cannot be left half read because others took the rest.

use crate::gateway::wire;
use bytes::BytesMut;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};

/// Bytes of the buffer that are made when it is nearly full.
pub(crate) const READ_CHUNK: usize = 8 << 10;

/// Room that is left in the buffer before it is made larger. Payloads are slices of it, so a buffer without room would have to be copied.
const READ_ROOM_MIN: usize = 1 << 10;

/// What came and is not decoded.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) bytes: BytesMut,
    /// The room of the packet at the front, if that is a long one.
    room: Option<OwnedSemaphorePermit>,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(READ_CHUNK), room: None }
    }

    /// Bytes of room that are to be asked for before more is read. The packet at the front is not there as a whole, and no longer than is allowed.
    pub(crate) fn wants(&self) -> Option<usize> {
        wire::claimed(&self.bytes).filter(|claimed| *claimed > READ_CHUNK && self.room.is_none())
    }

    /// There is room for the packet at the front, whose length can be trusted now. A semaphore that is closed gives none; nobody closes it.
    pub(crate) fn admit(&mut self, room: Result<OwnedSemaphorePermit, AcquireError>) {
        self.room = room.ok();
        let claimed = wire::claimed(&self.bytes).unwrap_or(0);
        self.bytes.reserve((claimed + READ_CHUNK).saturating_sub(self.bytes.len()));
    }

    /// Whether a long packet is being read.
    pub(crate) fn is_admitted(&self) -> bool {
        self.room.is_some()
    }

    /// The packet at the front was taken: gives back its room, if it had some.
    pub(crate) fn taken(&mut self) -> Option<OwnedSemaphorePermit> {
        self.room.take()
    }

    /// Nothing of this is read any more: gives back memory and room.
    pub(crate) fn discard(&mut self) {
        self.bytes = BytesMut::new();
        self.room = None;
    }

    /// Sees to it that the next read does not have to copy what is in the buffer.
    pub(crate) fn make_room(&mut self) {
        if self.bytes.capacity() - self.bytes.len() < READ_ROOM_MIN {
            self.bytes.reserve(READ_CHUNK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn only_a_long_packet_wants_room_and_only_with_it_the_buffer_grows() {
        let check = |bytes: &[u8], expected: Option<usize>| {
            let mut incoming = Incoming::new();
            incoming.bytes.extend_from_slice(bytes);
            assert_eq!(incoming.wants(), expected, "{bytes:x?}");
        };
        check(&[], None);
        check(&[0x30], None);
        check(&[0x30, 0x80], None);
        check(&[0x30, 0x10], None);
        check(&[0x30, 0xFD, 0x3F, 1], None);
        check(&[0x30, 0xFE, 0x3F, 1], Some(READ_CHUNK + 1));

        let mut incoming = Incoming::new();
        incoming.bytes.extend_from_slice(&[0x30, 0x80, 0x80, 0x40]);
        let claimed = incoming.wants().unwrap();
        assert_eq!((claimed, incoming.bytes.capacity()), ((1 << 20) + 4, READ_CHUNK));
        incoming.admit(Arc::new(Semaphore::new(1)).acquire_owned().await);
        assert!(incoming.wants().is_none() && incoming.bytes.capacity() > claimed);
        assert!(incoming.taken().is_some() && !incoming.is_admitted());
    }
}
