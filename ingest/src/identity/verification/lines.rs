//! Who waits for a check, in one line for each source.
//!
//! **Places.** Each source may have as many of them as are free at that moment. So whoever is alone has half of all, be it a fleet behind one address that comes
//! back at once, or somebody who guesses; whoever comes beside it finds room; and where several want all they can get, they come to have the same, and as much
//! again stays free for the next. A fixed bound for each source, low enough to keep a crowd of guesses out, would send most of such a fleet away while nobody
//! else wants the places.
//!
//! **Turns.** Of each line only as many stand in the common queue as checks run at a time. That is enough to keep all of them busy where there is one line, and
//! where there are more, each gets its turn: who comes from another address waits for a few checks of a crowd, not for all of it.
//!
//! An address says little of who is behind it: devices behind one address share its line with whoever guesses there, and who has many addresses has many lines.

use super::Busy;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Clients that wait for a check or have it, from all sources; those beyond are told to come back. Half of them, which is what one source has alone, are more than
/// can be checked while they wait on a small machine, and half of what can be on a large one.
const PLACES: usize = 2048;

/// The network of an IPv6 address: what one customer of a provider has at least. Anybody has as many addresses in it as he likes.
const NETWORK: u128 = !0 << 64;

/// Where a client comes from: its address, or for IPv6 its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn of(address: IpAddr) -> Self {
        // On a socket for both, an IPv4 address is written as one of IPv6, and all of them would be one network.
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// All lines.
#[derive(Debug)]
pub(super) struct Lines {
    standing: Mutex<Standing>,
    /// Of each line, how many stand in the common queue.
    in_front: usize,
}

#[derive(Debug, Default)]
struct Standing {
    /// None of them is empty.
    lines: HashMap<Source, Line>,
    taken: usize,
}

#[derive(Debug)]
struct Line {
    taken: usize,
    front: Arc<Semaphore>,
}

/// A place in a line, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'l> {
    lines: &'l Lines,
    source: Source,
    front: Arc<Semaphore>,
}

impl Lines {
    /// With so many of each line in the common queue.
    pub(super) fn new(in_front: usize) -> Self {
        Self { standing: Mutex::default(), in_front }
    }

    /// Takes a place.
    pub(super) fn join(&self, source: Source) -> Result<Place<'_>, Busy> {
        let mut standing = self.standing();
        let free = PLACES - standing.taken;
        let has = standing.lines.get(&source).map_or(0, |line| line.taken);
        if has >= free {
            return Err(Busy);
        }
        standing.taken += 1;
        let front = || Line { taken: 0, front: Arc::new(Semaphore::new(self.in_front)) };
        let line = standing.lines.entry(source).or_insert_with(front);
        line.taken += 1;
        Ok(Place { lines: self, source, front: Arc::clone(&line.front) })
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits until it is among the first of its line. Cancel-safe.
    pub(super) async fn front(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.front).acquire_owned().await.ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut standing = self.lines.standing();
        standing.taken -= 1;
        if let Some(line) = standing.lines.get_mut(&self.source) {
            line.taken -= 1;
            if line.taken == 0 {
                standing.lines.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    /// As many places as there are for a source.
    fn all<'l>(lines: &'l Lines, of: &str) -> Vec<Place<'l>> {
        std::iter::from_fn(|| lines.join(source(of)).ok()).collect()
    }

    #[test]
    fn a_source_is_an_address_or_a_network() {
        let check = |one: &str, other: &str, same: bool| {
            assert_eq!(source(one) == source(other), same, "{one} {other}");
        };
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
        check("2001:db8::1", "2001:db8::ffff:0:0:2", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
    }

    #[test]
    fn a_source_has_as_many_places_as_are_free_and_who_comes_next_finds_some() {
        let lines = Lines::new(1);
        let first = all(&lines, "192.0.2.1");
        assert_eq!(first.len(), PLACES / 2);
        let second = all(&lines, "192.0.2.2");
        assert_eq!(second.len(), PLACES / 4);
        let many: Vec<_> = (0..100).flat_map(|n| all(&lines, &format!("2001:db8:0:{n:x}::1"))).collect();
        assert!(many.len() > PLACES / 8);
        drop(first);
        assert!(all(&lines, "192.0.2.3").len() >= PLACES / 4);
        drop((second, many));
        assert_eq!(all(&lines, "2001:db8::1").len(), PLACES / 2);
        assert!(lines.standing().lines.is_empty());
        assert_eq!(lines.standing().taken, 0);
    }
}
