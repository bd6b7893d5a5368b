//! Where one packet ends and whether a client may send such a one, told by its first bytes alone: nothing is buffered for a packet that will be refused.

use super::Version;
use crate::gateway::violation::Violation;

const CONNECT: u8 = 0x10;

/// First byte of a PUBLISH, without its flags.
pub(super) const PUBLISH: u8 = 0x30;
const PUBREL: u8 = 0x62;
const SUBSCRIBE: u8 = 0x82;
const UNSUBSCRIBE: u8 = 0xA2;
const PINGREQ: u8 = 0xC0;
const DISCONNECT: u8 = 0xE0;

/// A packet that is in the buffer as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first_byte: u8,
    header: usize,
    total: usize,
}

impl Frame {
    /// What follows the fixed header.
    pub(super) fn body(self, buffer: &mut [u8]) -> &mut [u8] {
        buffer.get_mut(self.header..self.total).unwrap_or_default()
    }
}

/// The packet at the front, which must be a CONNECT.
pub(super) fn connect(buffer: &[u8], packet_max: usize) -> Result<Option<Frame>, Violation> {
    match buffer.first() {
        Some(&CONNECT) => whole(buffer, packet_max),
        Some(_) => Err(Violation::Protocol("the first packet is not a CONNECT")),
        None => Ok(None),
    }
}

/// The packet at the front of an accepted connection.
pub(super) fn next(buffer: &[u8], packet_max: usize, version: Version) -> Result<Option<Frame>, Violation> {
    let Some(&first_byte) = buffer.first() else {
        return Ok(None);
    };
    check_type(first_byte)?;
    let frame = whole(buffer, packet_max)?;
    let empty = first_byte == PINGREQ || (first_byte == DISCONNECT && version == Version::V3);
    match frame {
        Some(frame) if empty && frame.total > frame.header => {
            Err(Violation::Malformed("bytes behind the end of the packet"))
        }
        frame => Ok(frame),
    }
}

fn check_type(first_byte: u8) -> Result<(), Violation> {
    match first_byte {
        PUBREL | SUBSCRIBE | UNSUBSCRIBE | PINGREQ | DISCONNECT => Ok(()),
        CONNECT => Err(Violation::Protocol("a second CONNECT")),
        byte => match byte & 0xF0 {
            PUBLISH if byte & 0b0110 == 0b0110 => Err(Violation::Malformed("a PUBLISH of QoS 3")),
            PUBLISH if byte & 0b1110 == 0b1000 => Err(Violation::Malformed("a PUBLISH of QoS 0 with DUP")),
            PUBLISH => Ok(()),
            0x20 | 0x90 | 0xB0 | 0xD0 => Err(Violation::Protocol("a packet that only a server may send")),
            0x40 | 0x50 | 0x70 => {
                Err(Violation::Protocol("an acknowledgement of a message that was never sent"))
            }
            0xF0 => Err(Violation::Protocol("an AUTH without an authentication method")),
            0x00 => Err(Violation::Malformed("packet type 0")),
            _ => Err(Violation::Malformed("wrong flags in the fixed header")),
        },
    }
}

/// Bytes that the packet at the front says it has, with its header; `None` while that is not known.
pub(crate) fn claimed(buffer: &[u8]) -> Option<usize> {
    let (header, length) = header(buffer).ok()??;
    Some(header + length)
}

fn whole(buffer: &[u8], packet_max: usize) -> Result<Option<Frame>, Violation> {
    let Some((header, length)) = header(buffer)? else {
        return Ok(None);
    };
    let total = header + length;
    if total > packet_max {
        return Err(Violation::PacketTooLarge { size: total, max: packet_max });
    }
    let first_byte = *buffer.first().unwrap_or(&0);
    Ok((buffer.len() >= total).then_some(Frame { first_byte, header, total }))
}

/// Bytes of the fixed header, and of what follows it.
fn header(buffer: &[u8]) -> Result<Option<(usize, usize)>, Violation> {
    let mut length = 0_usize;
    for place in 0..4 {
        let Some(byte) = buffer.get(1 + place) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((2 + place, length)));
        }
    }
    Err(Violation::Malformed("a length of more than four bytes"))
}
