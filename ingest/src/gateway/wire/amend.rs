//! Walks through the bytes of a packet before the codec does.
//!
//! It refuses what the codec would let pass (bytes behind the end of a CONNECT, a password without a user name in 3.1.1), bounds what decoding can cost, and
//! amends what is legal and yet refused by the codec: a message expiry of 0 becomes 1, which is all the same to us, because the expiry goes nowhere; and an
//! MQTT 5 client without a name gets a clean start, because a client that is only now being named has no session.

use super::{BadConnect, Version};
use crate::gateway::violation::Violation;

/// Most user properties of one packet: each takes 5 bytes on the wire and about 100 in memory.
const USER_PROPERTIES_MAX: usize = 1024;

/// Most bytes of properties in one packet.
const PROPERTIES_MAX: usize = 64 * 1024;

/// Where the flags of a CONNECT stand: behind the protocol's name and level.
const FLAGS_AT: usize = 7;
const FLAG_CLEAN: u8 = 0b0000_0010;
const FLAG_WILL: u8 = 0b0000_0100;
const FLAG_PASSWORD: u8 = 0b0100_0000;
const FLAG_USER: u8 = 0b1000_0000;

const MESSAGE_EXPIRY: u8 = 0x02;
const USER_PROPERTY: u8 = 0x26;

/// Which version the body of a CONNECT speaks.
pub(super) fn level(body: &[u8]) -> Result<Version, BadConnect> {
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Ok(Version::V3),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Ok(Version::V5),
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => {
            Err(BadConnect::Level(*level))
        }
        _ => Err(BadConnect::Unintelligible(Violation::Protocol("the first packet does not name MQTT"))),
    }
}

/// The body of a CONNECT of a version that we speak.
pub(super) fn connect(body: &mut [u8], version: Version) -> Result<(), BadConnect> {
    let (flags, named) =
        walk_connect(body, version).map_err(|violation| BadConnect::Invalid(version, violation))?;
    if named || flags & FLAG_CLEAN != 0 {
        return Ok(());
    }
    match version {
        Version::V3 => Err(BadConnect::Nameless),
        Version::V5 => {
            body[FLAGS_AT] |= FLAG_CLEAN;
            Ok(())
        }
    }
}

/// The CONNECT's flags, and whether it has a client identifier.
fn walk_connect(body: &mut [u8], version: Version) -> Result<(u8, bool), Violation> {
    let mut walk = Walk { bytes: body, at: FLAGS_AT };
    let flags = walk.byte()?;
    if version == Version::V3 && flags & FLAG_PASSWORD != 0 && flags & FLAG_USER == 0 {
        return Err(Violation::Protocol("a password without a user name"));
    }
    walk.skip(2)?;
    if version == Version::V5 {
        walk.properties()?;
    }
    let named = walk.text()? > 0;
    if flags & FLAG_WILL != 0 {
        if version == Version::V5 {
            walk.properties()?;
        }
        walk.text()?;
        walk.text()?;
    }
    for flag in [FLAG_USER, FLAG_PASSWORD] {
        if flags & flag != 0 {
            walk.text()?;
        }
    }
    if walk.at == walk.bytes.len() {
        Ok((flags, named))
    } else {
        Err(Violation::Malformed("bytes behind the end of the packet"))
    }
}

/// The body of any other packet.
pub(super) fn packet(first_byte: u8, body: &mut [u8], version: Version) -> Result<(), Violation> {
    if version == Version::V3 {
        return Ok(());
    }
    let mut walk = Walk { bytes: body, at: 0 };
    match first_byte & 0xF0 {
        super::frame::PUBLISH => {
            walk.text()?;
            walk.skip(if first_byte & 0b0110 == 0 { 0 } else { 2 })?;
            walk.properties()
        }
        0x80 | 0xA0 => {
            walk.skip(2)?;
            walk.properties()
        }
        0x60 if walk.bytes.len() > 3 => {
            walk.skip(3)?;
            walk.properties()
        }
        0xE0 if walk.bytes.len() > 1 => {
            walk.skip(1)?;
            walk.properties()
        }
        _ => Ok(()),
    }
}

struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Walk<'_> {
    const SHORT: Violation = Violation::Malformed("the packet ends too early");

    fn byte(&mut self) -> Result<u8, Violation> {
        let byte = *self.bytes.get(self.at).ok_or(Self::SHORT)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, length: usize) -> Result<(), Violation> {
        self.at += length;
        if self.at <= self.bytes.len() { Ok(()) } else { Err(Self::SHORT) }
    }

    /// Skips text or binary data with its length in front, and returns that length.
    fn text(&mut self) -> Result<usize, Violation> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        self.skip(length)?;
        Ok(length)
    }

    fn variable(&mut self) -> Result<usize, Violation> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Violation::Malformed("a length of more than four bytes"))
    }

    fn properties(&mut self) -> Result<(), Violation> {
        let length = self.variable()?;
        if length > PROPERTIES_MAX {
            return Err(Violation::Properties("more than 64 KiB"));
        }
        let start = self.at;
        self.skip(length)?;
        let end = self.at;
        self.at = start;
        let mut user_properties = 0;
        while self.at < end {
            let property = self.byte()?;
            user_properties += usize::from(property == USER_PROPERTY);
            if user_properties > USER_PROPERTIES_MAX {
                return Err(Violation::Properties("more than 1024 user properties"));
            }
            self.property(property)?;
        }
        if self.at == end {
            Ok(())
        } else {
            Err(Violation::Malformed("a property reaches beyond the properties' end"))
        }
    }

    fn property(&mut self, property: u8) -> Result<(), Violation> {
        match property {
            MESSAGE_EXPIRY => {
                self.skip(4)?;
                if self.bytes.get(self.at - 4..self.at).is_some_and(|value| value == [0; 4]) {
                    self.bytes[self.at - 1] = 1;
                }
                Ok(())
            }
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => self.skip(1),
            0x13 | 0x21..=0x23 => self.skip(2),
            0x11 | 0x18 | 0x27 => self.skip(4),
            0x0B => self.variable().map(drop),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => self.text().map(drop),
            USER_PROPERTY => {
                self.text()?;
                self.text().map(drop)
            }
            _ => Err(Violation::Malformed("an unknown property")),
        }
    }
}
