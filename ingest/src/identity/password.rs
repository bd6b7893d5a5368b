//! Passwords and their hashes (argon2id, as PHC strings).

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

/// Memory that a hash may ask for, in KiB. The gateway verifies a few at a time.
const MEMORY_MAX: u32 = 256 << 10;

/// Passes that a hash may ask for.
const PASSES_MAX: u32 = 64;

/// Signs of a password that is made, without those that people take for each other. 32, so that five bits choose one.
const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Length of a password that is made: 120 bits.
const MADE_LENGTH: usize = 24;

/// What a device shows. It prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Bytes);

impl Password {
    /// Hides some bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// One that nobody can guess; of letters and digits.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> io::Result<Self> {
        let random = crate::identity::digest::random::<MADE_LENGTH>()?;
        let signs = random.iter().map(|byte| SIGNS[usize::from(byte % 32)]);
        Ok(Self(signs.collect::<Vec<_>>().into()))
    }

    /// The bytes themselves, for the one who needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An argon2id hash. Clones share the text; it prints as `***`, because a weak password can be guessed from it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<str>);

/// Why there is no hash.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadHash {
    /// Not a PHC string.
    #[error("a password is kept as an argon2id hash, as in \"$argon2id$v=19$m=19456,t=2,p=1$...\"")]
    Text,
    /// Another algorithm.
    #[error("the hash is of {0}, and only argon2id is taken")]
    Algorithm(String),
    /// Verifying it would cost too much.
    #[error("the hash asks for more than {MEMORY_MAX} KiB or {PASSES_MAX} passes")]
    Cost,
    /// It cannot be made.
    #[error("the password cannot be hashed: {0}")]
    Hashing(argon2::password_hash::Error),
}

impl PasswordHash {
    /// Hashes a password with a new salt, at the cost that OWASP asks for (19 MiB, two passes). Takes some 20 ms and blocks.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn of(password: &Password) -> Result<Self, BadHash> {
        let hash = Argon2::default().hash_password(password.expose()).map_err(BadHash::Hashing)?;
        Ok(Self(hash.to_string().into()))
    }

    /// Whether this is the password. Costs what the hash says, and blocks.
    pub(crate) fn verify(&self, password: &Password) -> bool {
        phc::PasswordHash::new(&self.0)
            .is_ok_and(|hash| Argon2::default().verify_password(password.expose(), &hash).is_ok())
    }

    /// The PHC string.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for PasswordHash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, BadHash> {
        let hash = phc::PasswordHash::new(text).ok().ok_or(BadHash::Text)?;
        if hash.algorithm.as_str() != "argon2id" {
            return Err(BadHash::Algorithm(hash.algorithm.as_str().to_owned()));
        }
        let params = Params::try_from(&hash).ok().ok_or(BadHash::Text)?;
        if params.m_cost() > MEMORY_MAX || params.t_cost() > PASSES_MAX {
            return Err(BadHash::Cost);
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(BadHash::Text);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for PasswordHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use argon2::{Algorithm, Version};

    pub(crate) fn password(text: &str) -> Password {
        Password::new(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A hash that costs next to nothing.
    pub(crate) fn cheap(text: &str) -> PasswordHash {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        PasswordHash(argon2.hash_password(text.as_bytes()).unwrap().to_string().into())
    }

    #[test]
    fn only_the_password_fits_its_hash() {
        for hash in [cheap("open sesame"), PasswordHash::of(&password("open sesame")).unwrap()] {
            assert!(hash.verify(&password("open sesame")));
            for wrong in ["", "open sesam", "open sesame ", "Open sesame"] {
                assert!(!hash.verify(&password(wrong)), "{wrong:?}");
            }
            assert_eq!(hash.expose().parse(), Ok(hash.clone()));
            assert_eq!(format!("{hash:?} {:?}", password("open sesame")), "*** ***");
        }
        assert_ne!(cheap("a"), cheap("a"));
    }

    #[test]
    fn a_hash_of_another_kind_is_refused() {
        let good = cheap("x").expose().to_owned();
        let check =
            |text: &str, expected: BadHash| assert_eq!(text.parse::<PasswordHash>(), Err(expected), "{text}");
        check("secret", BadHash::Text);
        check(good.rsplit_once('$').unwrap().0, BadHash::Text);
        check(&good.replace("argon2id", "argon2i"), BadHash::Algorithm("argon2i".to_owned()));
        check(&good.replace("m=8", "m=1048576"), BadHash::Cost);
        check(&good.replace("t=1", "t=100"), BadHash::Cost);
    }

    #[test]
    fn passwords_that_are_made_differ_and_can_be_pasted() {
        let made = Password::generate().unwrap();
        assert_ne!(made, Password::generate().unwrap());
        assert_eq!(made.expose().len(), MADE_LENGTH);
        assert!(made.expose().iter().all(u8::is_ascii_alphanumeric));
    }
}
