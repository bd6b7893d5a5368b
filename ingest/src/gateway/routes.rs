//! Routing with a memory: who was seen first, and where a connection's topics go.

use crate::gateway::Observer;
use crate::route::{Route, Router};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

/// Topics that are told apart when it comes to "seen first"; whatever comes later is told to nobody. Eight bytes each.
const SEEN_MAX: usize = 4096;

/// Topics whose route a connection remembers. Most devices publish to one or a few.
const REMEMBERED_MAX: usize = 32;

/// A longer topic is routed each time: what a connection remembers stays small.
const REMEMBERED_BYTES_MAX: usize = 256;

/// The router, and who is told of topics that nobody has published to before. Shared by all connections.
#[derive(Debug)]
pub(crate) struct Routes {
    router: Arc<Router>,
    observer: Arc<dyn Observer>,
    /// Hashes of topics, because a topic may be 64 KiB long.
    seen: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Routes {
    /// Nothing seen yet.
    pub(crate) fn new(router: Arc<Router>, observer: Arc<dyn Observer>) -> Self {
        Self { router, observer, seen: Mutex::default(), hasher: RandomState::new() }
    }

    /// Where a message goes; tells the observer if it is the first on this topic.
    pub(crate) fn route(&self, topic: &str, client_id: &str) -> Route {
        let route = self.router.route(topic, client_id);
        if self.is_first(topic) {
            self.observer.first_seen(topic, &route);
        }
        route
    }

    fn is_first(&self, topic: &str) -> bool {
        let hash = self.hasher.hash_one(topic);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len() < SEEN_MAX && seen.insert(hash)
    }
}

/// The routes of one connection's topics.
#[derive(Debug, Default)]
pub(crate) struct Remembered(HashMap<String, Arc<Route>>);

impl Remembered {
    /// Where a message of this connection goes.
    pub(crate) fn route(&mut self, topic: &str, client_id: &str, routes: &Routes) -> Arc<Route> {
        if let Some(route) = self.0.get(topic) {
            return Arc::clone(route);
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        let route = Arc::new(routes.route(topic, client_id));
        if topic.len() <= REMEMBERED_BYTES_MAX {
            self.0.insert(topic.to_owned(), Arc::clone(&route));
        }
        route
    }
}
