//! Random and damaged bytes: whatever they are, decoding ends in packets or a violation.

use super::{Version, Wire};
use bytes::BytesMut;
use proptest::prelude::{any, prop, proptest};
use proptest::strategy::Strategy;

const PACKET_MAX: usize = 1 << 16;

const CONNECT_V3: &[u8] =
    b"\x10\x2B\0\x04MQTT\x04\xC6\0\x3C\0\x02d1\0\x04will\0\x05words\0\x04user\0\x08password";
const CONNECT_V5: &[u8] = b"\x10\x33\0\x04MQTT\x05\x06\0\x3C\x0C\x11\0\0\x0E\x10\x26\0\x01n\0\x01v\0\x02d1\x0A\x02\0\0\0\0\x18\0\0\0\x05\0\x04will\0\x05words";

/// Valid packets behind a CONNECT.
const PACKETS: [&[u8]; 10] = [
    b"\x30\x07\0\x03a/bxy",
    b"\x32\x09\0\x03a/b\0\x01\0x",
    b"\x3C\x1B\0\x03a/b\0\x02\x11\x02\0\0\0\0\x26\0\x01n\0\x02vw\x03\0\x01t{}",
    b"\x62\x02\0\x02",
    b"\x82\x07\0\x01\0\0\x01a\0",
    b"\xA2\x06\0\x01\0\0\x01a",
    b"\xC0\x00",
    b"\xE0\x00",
    b"\xE0\x07\x04\x05\x11\0\0\0\x09",
    b"\x82\x06\0\x01\0\x01a\0",
];

/// Feeds the bytes in pieces of this length, as a network would, and returns how many packets came before the end or the first error.
fn feed(bytes: &[u8], piece: usize) -> usize {
    let mut buffer = BytesMut::new();
    let mut wire: Option<Wire> = None;
    let mut packets = 0;
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let Some(wire) = &mut wire else {
                match Wire::accept(&mut buffer, PACKET_MAX) {
                    Ok(Some((accepted, _))) => wire = Some(accepted),
                    Ok(None) => break,
                    Err(_) => return packets,
                }
                packets += 1;
                continue;
            };
            match wire.decode(&mut buffer) {
                Ok(Some(_)) => packets += 1,
                Ok(None) => break,
                Err(_) => return packets,
            }
        }
    }
    packets
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let connect = prop::sample::select(vec![CONNECT_V3, CONNECT_V5]);
    let packets = prop::collection::vec(prop::sample::select(PACKETS.to_vec()), 0..6);
    (connect, packets).prop_map(|(connect, packets)| [connect, &packets.concat()].concat())
}

#[test]
fn a_conversation_is_understood_whatever_the_pieces() {
    for (connect, version) in [(CONNECT_V3, Version::V3), (CONNECT_V5, Version::V5)] {
        let (wire, connect) = Wire::accept(&mut BytesMut::from(connect), PACKET_MAX).unwrap().unwrap();
        assert_eq!((wire.version(), connect.client_id.as_str()), (version, "d1"));
        assert_eq!(
            connect.will.map(|will| (will.topic, will.payload)),
            Some(("will".to_owned(), "words".into()))
        );
    }
    let conversation = [CONNECT_V5, &PACKETS[1..9].concat()].concat();
    for piece in [1, 2, 3, 7, 1000] {
        assert_eq!(feed(&conversation, piece), 9);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..40) {
        feed(&bytes, piece);
    }

    #[test]
    fn random_bytes_behind_a_connect_never_panic(
        connect in prop::sample::select(vec![CONNECT_V3, CONNECT_V5]),
        first in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let length = u8::try_from(body.len()).unwrap();
        feed(&[connect, &[first, length], &body].concat(), 64);
    }

    #[test]
    fn damaged_conversations_never_panic(
        mut bytes in conversation(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        piece in 1_usize..40,
    ) {
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let cut = cut.index(bytes.len()) + 1;
        feed(&bytes[..cut], piece);
    }
}
