//! Tells whether a log is the one that a table was filled from.

use millstream_model::arrival::RECEIVED_AT;
use millstream_model::record::Record;

/// A short digest of a record: of its key, its value and when it was received, each with its length so that they cannot run into each other.
///
/// Against a log that was recreated or mixed up, not against forgery: 32 bits of CRC32C do.
#[must_use]
pub fn fingerprint(record: &Record) -> String {
    let received_at = record
        .headers
        .iter()
        .find(|(name, _)| name == RECEIVED_AT)
        .map(|(_, value)| value.as_ref())
        .unwrap_or_default();
    let mut crc = 0;
    for part in [record.key.as_ref(), record.value.as_ref(), received_at] {
        crc = crc32c::crc32c_append(crc, &(part.len() as u64).to_le_bytes());
        crc = crc32c::crc32c_append(crc, part);
    }
    format!("{crc:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(key: &'static str, value: &'static str, received_at: Option<&'static str>) -> Record {
        let headers = received_at
            .map(|at| (RECEIVED_AT.to_owned(), Bytes::from_static(at.as_bytes())))
            .into_iter()
            .collect();
        Record {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
            headers,
        }
    }

    #[test]
    fn every_part_counts_and_so_do_their_borders() {
        let base = fingerprint(&record("d1", "21.5", Some("t")));
        assert_eq!(base, fingerprint(&record("d1", "21.5", Some("t"))));
        for other in [
            record("d", "121.5", Some("t")),
            record("d1", "21.6", Some("t")),
            record("d1", "21.5", Some("u")),
            record("d1", "21.5", None),
        ] {
            assert_ne!(base, fingerprint(&other));
        }
    }
}
