//! Who looks after a table just now, so that several janitors need not do the same work.
//!
//! It saves work and nothing else: who has no lease, or whose lease is over, does no harm, because every commit that takes files away is fenced by itself.

use crate::table::Table;
use crate::{LakeError, Operation, Outcome, Plan, Snapshot};
use chrono::{DateTime, Utc};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a lease holds: longer than most tables take, and shorter than anybody waits for a janitor that was killed.
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

/// Takes the lease; until when somebody else has it, if so.
///
/// # Errors
/// As [`Table::commit`].
pub(super) async fn take(
    table: &Table,
    others: Others,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, LakeError> {
    let app = lease_app(table.name());
    let until = now + HOLDS;
    let found = table.snapshot().await?.txn(&app);
    if let Some(theirs) = held(found, now).filter(|_| others == Others::Respected) {
        return Ok(Some(theirs));
    }
    let mut info = Map::new();
    info.insert("millstreamLease".to_owned(), json!(until.to_rfc3339()));
    let plan = Plan {
        operation: Operation::Lease,
        expect: BTreeMap::from([(app.clone(), found)]),
        // It must move, or of two who come in the same moment both would have it.
        set: BTreeMap::from([(app, until.timestamp_millis().max(found.unwrap_or(0).saturating_add(1)))]),
        info,
        ..Plan::default()
    };
    match table.commit(plan).await? {
        Outcome::Fenced { found, .. } => Ok(Some(held(found, now).unwrap_or(until))),
        Outcome::Applied { .. } | Outcome::Moved | Outcome::Stale { .. } => Ok(None),
    }
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
