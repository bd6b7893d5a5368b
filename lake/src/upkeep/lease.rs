//! Who looks after a table just now, so that several janitors need not do the same work.
//!
//! It saves work and nothing else: who has no lease, or whose lease is over, does no harm, because every commit that takes files away is fenced by itself.

use crate::table::Table;
use crate::{LakeError, Operation, Outcome, Plan, Snapshot};
use chrono::{DateTime, Utc};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a lease holds without being renewed: longer than one merge takes, and shorter than anybody waits for a janitor that was killed.
const HOLDS: Duration = Duration::from_secs(5 * 60);

/// The transaction that says until when, in milliseconds since 1970, somebody looks after a table.
#[must_use]
pub fn lease_app(table: &str) -> String {
    format!("millstream/{table}/janitor")
}

/// Whether somebody else's lease counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// It does: who comes on schedule comes again.
    Respected,
    /// It does not: a person wants it done now.
    Overruled,
}

/// Who has it now.
#[derive(Debug)]
pub(super) enum Claimed {
    /// Whoever asked, as long as it is renewed.
    Ours(Lease),
    /// Somebody else, until then.
    Theirs(DateTime<Utc>),
}

impl Claimed {
    /// What whoever asked has now.
    pub(super) fn ours(self) -> Option<Lease> {
        match self {
            Self::Ours(lease) => Some(lease),
            Self::Theirs(_) => None,
        }
    }
}

/// What its holder knows of it.
#[derive(Debug)]
pub(super) struct Lease {
    /// What the transaction is at.
    until_ms: i64,
    /// When it was last moved.
    moved: Instant,
}

/// Takes the lease, or says who has it.
///
/// # Errors
/// As [`Table::commit`].
pub(super) async fn take(table: &Table, others: Others, now: DateTime<Utc>) -> Result<Claimed, LakeError> {
    let found = table.snapshot().await?.txn(&lease_app(table.name()));
    if let Some(theirs) = held(found, now).filter(|_| others == Others::Respected) {
        return Ok(Claimed::Theirs(theirs));
    }
    let until = now + HOLDS;
    let until_ms = until.timestamp_millis();
    // It must move, or of two who come in the same moment both would have it.
    let until_ms = if found == Some(until_ms) { until_ms + 1 } else { until_ms };
    let moved = Instant::now();
    Ok(match put(table, found, until_ms).await? {
        Outcome::Fenced { found, .. } => Claimed::Theirs(held(found, now).unwrap_or(until)),
        Outcome::Applied { .. } | Outcome::Moved | Outcome::Stale { .. } => {
            Claimed::Ours(Lease { until_ms, moved })
        }
    })
}

impl Lease {
    /// Keeps it, where half of its time is over; false if somebody else has taken it.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub(super) async fn renew(&mut self, table: &Table) -> Result<bool, LakeError> {
        let (moved, passed) = (Instant::now(), self.moved.elapsed());
        if passed < HOLDS / 2 {
            return Ok(true);
        }
        let until_ms = self.until_ms.saturating_add(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX));
        let is_ours = matches!(put(table, Some(self.until_ms), until_ms).await?, Outcome::Applied { .. });
        *self = Self { until_ms, moved };
        Ok(is_ours)
    }
}

async fn put(table: &Table, found: Option<i64>, until_ms: i64) -> Result<Outcome, LakeError> {
    let app = lease_app(table.name());
    let until = DateTime::from_timestamp_millis(until_ms).map(|until| until.to_rfc3339());
    let mut info = Map::new();
    info.insert("millstreamLease".to_owned(), json!(until));
    let plan = Plan {
        operation: Operation::Lease,
        expect: BTreeMap::from([(app.clone(), found)]),
        set: BTreeMap::from([(app, until_ms)]),
        info,
        ..Plan::default()
    };
    table.commit(plan).await
}

/// Until when it holds, if it does.
fn held(found: Option<i64>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let until = DateTime::from_timestamp_millis(found?)?;
    // One that holds for longer than any does was written by a clock that is wrong.
    (now < until && until <= now + 2 * HOLDS).then_some(until)
}

/// Until when somebody looks after a table.
#[must_use]
pub fn leased_until(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    held(snapshot.txn(&lease_app(snapshot.table())), now)
}
