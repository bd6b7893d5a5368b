//! The tail of a table: the readings that are in the log and in no file yet.
//!
//! A [`Follower`](follower) looks at one table and its log topic: first the table's version, then where the log ends. What the log has between is read, made into
//! rows by the firehose's own code ([`maker`]), and held in memory from look to look ([`held`], [`lane`], [`chunk`]) within a [`budget`]. A look gives a
//! [`View`](view): the version, and exactly the offsets behind the last one that has an outcome in it. [`provider`] makes a table for the engine of it,
//! [`quarantine`] does so for the table of bad input, which waits in every topic.
//!
//! It never makes a log topic, never changes a table, and never answers with a hole: what it cannot account for is an error.

mod budget;
mod chunk;
mod error;
mod exec;
mod follower;
mod held;
mod lane;
mod maker;
mod provider;
mod quarantine;
mod reach;
mod standing;
mod view;

pub(crate) use error::TailFailure;
pub(crate) use exec::{Looked, add_tails};

use crate::definitions::Definitions;
use crate::handles::Handles;
use crate::limits::Limits;
use budget::Budget;
use datafusion::catalog::TableProvider;
use follower::Follower;
use millstream_log::Log;
use millstream_model::name::QUARANTINE;
use provider::TailProvider;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tails of all tables of a session.
#[derive(Debug)]
pub(crate) struct Tails {
    tables: Arc<Handles>,
    /// By stream.
    streams: BTreeMap<String, Arc<Follower>>,
    unclaimed: Arc<Follower>,
}

/// A table with its tail, for one query.
#[derive(Debug)]
pub(crate) struct Tailed {
    pub(crate) provider: Arc<dyn TableProvider>,
    pub(crate) looked: Arc<Looked>,
}

impl Tails {
    /// Nothing is read before the first look.
    pub(crate) fn new(
        definitions: &Definitions,
        log: &Arc<dyn Log>,
        tables: &Arc<Handles>,
        limits: &Limits,
    ) -> Self {
        let budget = Budget::new(limits.tail_bytes);
        let follow = |stream| Follower::of_stream(stream, log, tables, &budget);
        Self {
            tables: Arc::clone(tables),
            streams: definitions
                .streams
                .iter()
                .map(|stream| (stream.name.to_string(), follow(stream)))
                .collect(),
            unclaimed: Follower::of_unclaimed(definitions.unclaimed, log, tables, &budget),
        }
    }

    /// The tables that have one.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.streams.keys().map(String::as_str).chain([QUARANTINE])
    }

    /// Makes room for one table: what is held of the others is worth less than an answer.
    fn give_up_all_but(&self, follower: &Arc<Follower>) {
        let all = self.streams.values().chain([&self.unclaimed]);
        all.filter(|other| !Arc::ptr_eq(other, follower)).for_each(|other| other.give_up());
    }

    /// A table as it is now, with what waits for it; `None` if it has no tail. What is configured is a table, also before its first file.
    pub(crate) async fn open(&self, table: &str) -> Result<Option<Tailed>, TailFailure> {
        if table == QUARANTINE {
            return self.quarantine().await.map(Some);
        }
        let Some(follower) = self.streams.get(table) else { return Ok(None) };
        let view = match follower.look().await {
            Err(failure) if failure.is_for_others() => {
                self.give_up_all_but(follower);
                follower.look().await?
            }
            found => found?,
        };
        let looked = Looked::new(view.readings(), view.newest, view.as_of);
        TailProvider::of(&view, looked, Vec::new(), self.tables.bucket()).map(Some)
    }
}
