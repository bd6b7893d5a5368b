//! SHA-256 and randomness, by the library that TLS uses anyway.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::{cipher_suite, default_provider};
use std::io;

/// Bytes of a SHA-256.
pub(crate) const DIGEST_BYTES: usize = 32;

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let common = match cipher_suite::TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls12(suite) => &suite.common,
        SupportedCipherSuite::Tls13(suite) => &suite.common,
    };
    let mut digest = [0; DIGEST_BYTES];
    for (to, from) in digest.iter_mut().zip(common.hash_provider.hash(bytes).as_ref()) {
        *to = *from;
    }
    digest
}

/// Bytes that nobody can guess.
///
/// # Errors
/// If the system has none.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = default_provider().secure_random.fill(&mut bytes);
    filled
        .map(|()| bytes)
        .map_err(|error| io::Error::other(format!("no random bytes from the system: {error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_standard() {
        let hex: String = sha256(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
    }
}
