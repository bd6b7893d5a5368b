//! Which partition a key belongs to: Kafka's own default, so that a log that moves to Kafka keeps its devices where they are.

use millstream_model::name::Partition;

/// The partition of a key among `count`, as Kafka's Java client and librdkafka's `murmur2` partitioner choose it.
pub(crate) fn partition_of(key: &[u8], count: usize) -> Partition {
    let positive = murmur2(key) & 0x7fff_ffff;
    Partition(positive.checked_rem(count as u32).unwrap_or(0) as i32)
}

/// MurmurHash2 of 32 bits with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn keys_hash_as_in_kafka() {
        let check = |key: &str, expected: i32| assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
        // And those that librdkafka compares itself with the Java client by.
        check("", 0x106e_08d9);
        check("4", 0x5a4b_5ca1);
        check("34", 0x8739_30da_u32 as i32);
        check("234", 0xe7c0_09ca_u32 as i32);
        check("1234", 0x9fc9_7b14_u32 as i32);
        check("kafka", 0xd067_cf64_u32 as i32);
        check("giberish123456789", 0x8f55_2b0c_u32 as i32);
        check("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c);
    }

    #[test]
    fn a_partition_lies_within_the_count() {
        let check =
            |key: &str, count, expected| assert_eq!(partition_of(key.as_bytes(), count), Partition(expected));
        check("abc", 1, 0);
        check("abc", 10, 7);
        check("foobar", 7, ((-790_332_482_i32) & 0x7fff_ffff) % 7);
    }
}
