//! Checking passwords without letting anybody make that expensive.
//!
//! A check costs some 20 ms of a core and 19 MiB, on purpose. So a few run at a time, on blocking threads, a bounded number waits for a bounded time, and a
//! password that was right is known again without its hash: otherwise five thousand devices that come back at once would wait for minutes.
//!
//! What is remembered is SHA-256 of a key that is made at each start, the hash and the password. It never leaves the process's memory, through which every
//! password goes at every CONNECT anyway; it depends on the hash, so that it dies with it; and only a right password gets there, so that a wrong one, and an
//! unknown user, cost the full price each time. There is one for each device at most.
//!
//! Who waits, waits with those who come from the same place (`lines`): a crowd of guesses from one address keeps out nobody who comes from another.

mod lines;

pub(crate) use lines::Source;

use crate::identity::digest::{DIGEST_BYTES, random, sha256};
use crate::identity::password::{Password, PasswordHash};
use lines::{Lines, Place};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Checks that run at a time, at most: 19 MiB each. On a small machine half of its cores.
const RUNNING_MAX: usize = 4;

/// How long a client waits for a check: they give up a CONNECT after some ten seconds.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Checks passwords, for all connections of a gateway.
#[derive(Debug)]
pub(crate) struct Verification {
    running: Arc<Semaphore>,
    lines: Lines,
    known: Mutex<HashMap<String, [u8; DIGEST_BYTES]>>,
    key: [u8; DIGEST_BYTES],
}

/// Too many passwords are to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

impl Verification {
    pub(crate) fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of((cores / 2).clamp(1, RUNNING_MAX))
    }

    /// With so many checks at a time.
    fn of(running: usize) -> io::Result<Self> {
        Ok(Self {
            running: Arc::new(Semaphore::new(running)),
            lines: Lines::new(running),
            known: Mutex::default(),
            key: random()?,
        })
    }

    /// Whether it is the password of this device.
    pub(crate) async fn check(
        &self,
        source: Source,
        device: &str,
        hash: &PasswordHash,
        password: &Password,
    ) -> Result<bool, Busy> {
        let digest = self.digest(hash, password);
        if self.known().get(device) == Some(&digest) {
            return Ok(true);
        }
        let right = self.verify(source, hash.clone(), password.clone()).await?;
        if right {
            self.known().insert(device.to_owned(), digest);
        }
        Ok(right)
    }

    /// Costs what a check costs, and comes to nothing: nobody learns by the time it takes whether a user is known.
    pub(crate) async fn pretend(
        &self,
        source: Source,
        decoy: &PasswordHash,
        password: &Password,
    ) -> Result<(), Busy> {
        self.verify(source, decoy.clone(), password.clone()).await.map(drop)
    }

    /// Forgets the devices that are not known any more.
    pub(crate) fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.known().retain(|device, _| is_known(device));
    }

    async fn verify(&self, source: Source, hash: PasswordHash, password: Password) -> Result<bool, Busy> {
        let place = self.lines.join(source)?;
        let Ok(Some(turn)) = tokio::time::timeout(WAIT_MAX, self.turn(&place)).await else {
            return Err(Busy);
        };
        // The turn goes with the work: a client that hangs up meanwhile does not make room for another check beside it.
        let checked = tokio::task::spawn_blocking(move || {
            let right = hash.verify(&password);
            drop(turn);
            right
        });
        Ok(checked.await.unwrap_or(false))
    }

    /// The turn among those of the same source, then that among all.
    async fn turn(&self, place: &Place<'_>) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let first = place.front().await?;
        let running = Arc::clone(&self.running).acquire_owned().await.ok()?;
        Some((first, running))
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
    use futures::FutureExt;
    use futures::stream::{FuturesUnordered, StreamExt};
    use std::net::Ipv4Addr;

    fn source(number: u8) -> Source {
        Source::of(Ipv4Addr::new(192, 0, 2, number).into())
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_until_its_hash_changes() {
        let verification = Verification::new().unwrap();
        let (hash, right, wrong) = (cheap("right"), password("right"), password("wrong"));
        let check = |device: &'static str, hash: PasswordHash, password: Password| {
            let verification = &verification;
            async move { verification.check(source(1), device, &hash, &password).await }
        };
        assert_eq!(check("d1", hash.clone(), wrong.clone()).await, Ok(false));
        assert!(verification.known().is_empty());
        assert_eq!(check("d1", hash.clone(), right.clone()).await, Ok(true));
        // Nothing can be checked now, so what is answered is remembered.
        verification.running.close();
        assert_eq!(check("d1", hash.clone(), right.clone()).await, Ok(true));
        assert_eq!(check("d1", hash.clone(), wrong).await, Err(Busy));
        assert_eq!(check("d1", cheap("right"), right.clone()).await, Err(Busy));
        assert_eq!(check("d2", hash.clone(), right.clone()).await, Err(Busy));
        verification.retain(|device| device != "d1");
        assert_eq!(check("d1", hash, right).await, Err(Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_to_come_back() {
        let verification = Verification::of(2).unwrap();
        let all = verification.running.acquire_many(2).await.unwrap();
        let (hash, password) = (cheap("x"), password("x"));
        let waited = || verification.pretend(source(1), &hash, &password);
        // The third waits behind the two of its own source.
        assert_eq!(tokio::join!(waited(), waited(), waited()), (Err(Busy), Err(Busy), Err(Busy)));
        drop(all);
        assert_eq!(waited().await, Ok(()));
    }

    #[tokio::test]
    async fn a_crowd_of_guesses_from_one_address_holds_up_nobody_from_another() {
        let verification = Verification::of(1).unwrap();
        let (hash, right, guess) = (cheap("right"), password("right"), password("guess"));
        let all = verification.running.acquire().await.unwrap();
        // Who they are, and what became of it, as it comes.
        let mut answers = FuturesUnordered::new();
        let ask = async |source: Source, device: String, password: &Password| {
            let answer = verification.check(source, &device, &hash, password).await;
            (device, answer)
        };
        for _ in 0..5000 {
            answers.push(ask(source(0), "guess".to_owned(), &guess));
        }
        let mut refused = 0;
        while let Some(Some((device, answer))) = tokio::task::unconstrained(answers.next()).now_or_never() {
            assert_eq!((&*device, answer), ("guess", Err(Busy)));
            refused += 1;
        }
        assert!((3000..5000).contains(&refused), "{refused}");
        for number in 1..=200 {
            answers.push(ask(source(number), format!("d{number}"), &right));
        }
        drop(all);
        let (mut honest, mut guesses) = (0, 0);
        while honest < 200 {
            match answers.next().await.unwrap() {
                (device, Ok(false)) if device == "guess" => guesses += 1,
                (_, answer) => {
                    assert_eq!(answer, Ok(true));
                    honest += 1;
                }
            }
        }
        assert!(guesses <= 5, "{guesses} guesses were checked before the last honest device");
    }
}
