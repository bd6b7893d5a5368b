//! Checking passwords without letting anybody make that expensive.
//!
//! A check costs some 20 ms of a core and 19 MiB, on purpose. So a few run at a time, on blocking threads, a bounded number waits for a bounded time, and a
//! password that was right is known again without its hash: otherwise five thousand devices that come back at once would wait for minutes.
//!
//! What is remembered is SHA-256 of a key that is made at each start, the hash and the password. It never leaves the process's memory, through which every
//! password goes at every CONNECT anyway; it depends on the hash, so that it dies with it; and only a right password gets there, so that a wrong one, and an
//! unknown user, cost the full price each time. There is one for each device at most.

use crate::identity::digest::{DIGEST_BYTES, random, sha256};
use crate::identity::password::{Password, PasswordHash};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Checks that run at a time, at most: 19 MiB each. On a small machine half of its cores.
const RUNNING_MAX: usize = 4;

/// Clients that wait for a check. Those beyond are told to come back.
const WAITING_MAX: usize = 1024;

/// How long one waits: clients give up a CONNECT after some ten seconds.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Checks passwords, for all connections of a gateway.
#[derive(Debug)]
pub(crate) struct Verification {
    running: Arc<Semaphore>,
    waiting: Semaphore,
    known: Mutex<HashMap<String, [u8; DIGEST_BYTES]>>,
    key: [u8; DIGEST_BYTES],
}

/// Too many passwords are to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

impl Verification {
    pub(crate) fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            running: Arc::new(Semaphore::new((cores / 2).clamp(1, RUNNING_MAX))),
            waiting: Semaphore::new(WAITING_MAX),
            known: Mutex::default(),
            key: random()?,
        })
    }

    /// Whether it is the password of this device.
    pub(crate) async fn check(
        &self,
        device: &str,
        hash: &PasswordHash,
        password: &Password,
    ) -> Result<bool, Busy> {
        let digest = self.digest(hash, password);
        if self.known().get(device) == Some(&digest) {
            return Ok(true);
        }
        let right = self.verify(hash.clone(), password.clone()).await?;
        if right {
            self.known().insert(device.to_owned(), digest);
        }
        Ok(right)
    }

    /// Costs what a check costs, and comes to nothing: nobody learns by the time it takes whether a user is known.
    pub(crate) async fn pretend(&self, decoy: &PasswordHash, password: &Password) -> Result<(), Busy> {
        self.verify(decoy.clone(), password.clone()).await.map(drop)
    }

    /// Forgets the devices that are not known any more.
    pub(crate) fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.known().retain(|device, _| is_known(device));
    }

    async fn verify(&self, hash: PasswordHash, password: Password) -> Result<bool, Busy> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Busy);
        };
        let running = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.running).acquire_owned());
        let Ok(Ok(running)) = running.await else {
            return Err(Busy);
        };
        // The permit goes with the work: a client that hangs up meanwhile does not make room for another check beside it.
        let checked = tokio::task::spawn_blocking(move || {
            let right = hash.verify(&password);
            drop(running);
            right
        });
        Ok(checked.await.unwrap_or(false))
    }

    fn digest(&self, hash: &PasswordHash, password: &Password) -> [u8; DIGEST_BYTES] {
        let hash = hash.expose().as_bytes();
        // The hash's length is part of it, so that no other hash and password make the same bytes.
        sha256(&[&self.key, &hash.len().to_be_bytes()[..], hash, password.expose()].concat())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, [u8; DIGEST_BYTES]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::password::tests::{cheap, password};

    #[tokio::test]
    async fn a_right_password_is_remembered_until_its_hash_changes() {
        let verification = Verification::new().unwrap();
        let (hash, right, wrong) = (cheap("right"), password("right"), password("wrong"));
        assert_eq!(verification.check("d1", &hash, &wrong).await, Ok(false));
        assert!(verification.known().is_empty());
        assert_eq!(verification.check("d1", &hash, &right).await, Ok(true));
        // Nothing can be checked now, so what is answered is remembered.
        verification.running.close();
        assert_eq!(verification.check("d1", &hash, &right).await, Ok(true));
        assert_eq!(verification.check("d1", &hash, &wrong).await, Err(Busy));
        assert_eq!(verification.check("d1", &cheap("right"), &right).await, Err(Busy));
        assert_eq!(verification.check("d2", &hash, &right).await, Err(Busy));
        verification.retain(|device| device != "d1");
        assert_eq!(verification.check("d1", &hash, &right).await, Err(Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_behind_too_many_is_told_to_come_back() {
        let verification = Verification::new().unwrap();
        let permits = u32::try_from(verification.running.available_permits()).unwrap();
        let all = verification.running.acquire_many(permits).await.unwrap();
        assert_eq!(verification.pretend(&cheap("x"), &password("x")).await, Err(Busy));
        drop(all);
        let crowd = verification.waiting.acquire_many(WAITING_MAX as u32).await.unwrap();
        assert_eq!(verification.pretend(&cheap("x"), &password("x")).await, Err(Busy));
        drop(crowd);
        assert_eq!(verification.pretend(&cheap("x"), &password("x")).await, Ok(()));
    }
}
