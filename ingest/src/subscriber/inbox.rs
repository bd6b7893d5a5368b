//! What the broker sent, cut into packets. Of a packet that is too large only the front is kept, the rest is skipped as it comes.

use super::malformed::Malformed;
use bytes::{Buf, Bytes, BytesMut};

/// First byte of a PUBLISH, without its flags.
const PUBLISH: u8 = 0x30;

/// A whole packet, or the front of a PUBLISH that is too large.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// With the fixed header.
    frame: BytesMut,
    header: usize,
    length: usize,
}

impl Packet {
    pub(crate) fn first_byte(&self) -> u8 {
        self.frame.first().copied().unwrap_or_default()
    }

    pub(crate) fn is_publish(&self) -> bool {
        self.first_byte() & 0xF0 == PUBLISH
    }

    /// Bytes that the broker sent behind the fixed header: more than the body has, if the packet was too large.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The packet as it came.
    pub(crate) fn into_frame(self) -> BytesMut {
        self.frame
    }

    /// What stands behind the fixed header.
    pub(crate) fn into_body(self) -> Bytes {
        let mut body = self.frame.freeze();
        body.advance(self.header.min(body.len()));
        body
    }
}

/// Bytes on their way to packets. Holds at most one packet limit and one read.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) bytes: BytesMut,
    packet_max: usize,
    /// The front of a packet that is too large, and how much of it is still to come.
    skipping: Option<(Packet, usize)>,
}

impl Inbox {
    pub(crate) fn new(packet_max: u32) -> Self {
        Self { bytes: BytesMut::new(), packet_max: packet_max as usize, skipping: None }
    }

    /// The next packet, once it is there as a whole (or was skipped to its end).
    ///
    /// # Errors
    /// If the bytes are no packets of MQTT, or a packet that is no PUBLISH is too large.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, Malformed> {
        if self.skipping.is_some() {
            return Ok(self.skip());
        }
        let Some((header, length)) = header(&self.bytes)? else {
            return Ok(None);
        };
        let total = header + length;
        let kept = total.min(self.packet_max.max(header));
        if self.bytes.len() < kept {
            self.bytes.reserve(kept - self.bytes.len());
            return Ok(None);
        }
        let packet = Packet { frame: self.bytes.split_to(kept), header, length };
        if total == kept {
            return Ok(Some(packet));
        }
        if !packet.is_publish() {
            return Err(Malformed::TooLarge(total));
        }
        self.skipping = Some((packet, total - kept));
        Ok(self.skip())
    }

    fn skip(&mut self) -> Option<Packet> {
        let (_, left) = self.skipping.as_mut()?;
        let here = self.bytes.len().min(*left);
        self.bytes.advance(here);
        *left -= here;
        if *left > 0 { None } else { self.skipping.take().map(|(packet, _)| packet) }
    }
}

/// Bytes of the fixed header, and of what follows it.
fn header(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0_usize;
    for place in 0..4 {
        let Some(byte) = bytes.get(1 + place) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((2 + place, length)));
        }
    }
    Err(Malformed::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First byte, length and kept bytes of each packet, when the bytes come in pieces of this size.
    fn packets(bytes: &[u8], piece: usize) -> Result<Vec<(u8, usize, usize)>, Malformed> {
        let mut inbox = Inbox::new(16);
        let mut packets = Vec::new();
        for piece in bytes.chunks(piece) {
            inbox.bytes.extend_from_slice(piece);
            while let Some(packet) = inbox.next()? {
                packets.push((packet.first_byte(), packet.length(), packet.into_body().len()));
            }
            assert!(inbox.bytes.len() < 16 + piece.len(), "{} bytes are kept", inbox.bytes.len());
        }
        Ok(packets)
    }

    #[test]
    fn packets_come_out_whole_and_large_ones_are_skipped_over_however_they_arrive() {
        let mut bytes = vec![0xD0, 0];
        bytes.extend([0x32, 14]);
        bytes.extend([1; 14]);
        bytes.extend([0x32, 200, 1]);
        bytes.extend([2; 200]);
        bytes.extend([0x30, 15]);
        bytes.extend([3; 15]);
        bytes.extend([0x40, 2, 0, 1]);
        let expected = vec![(0xD0, 0, 0), (0x32, 14, 14), (0x32, 200, 13), (0x30, 15, 14), (0x40, 2, 2)];
        for piece in [1, 2, 3, 7, 16, 100, 1000] {
            assert_eq!(packets(&bytes, piece), Ok(expected.clone()), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_packet_is_an_error() {
        assert_eq!(packets(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], 9), Err(Malformed::Length));
        assert_eq!(packets(&[[0x90, 40].as_slice(), &[0; 40]].concat(), 99), Err(Malformed::TooLarge(42)));
    }
}
