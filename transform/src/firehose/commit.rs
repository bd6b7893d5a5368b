//! A flush: everything in the buffer becomes part of the tables, in the order in which a crash at any step loses and doubles nothing.
//!
//! 1. If the columns grew: a commit of the columns alone. A crash after it leaves columns without values.
//! 2. Files are uploaded under unique names. A crash after it leaves files that no table knows.
//!    Meanwhile the log is asked whether it is still the one that was claimed.
//! 3. One commit to the ledger: its files, every owned partition's transaction, the [`Decision`]. This is the moment at which it happened.
//! 4. One commit to quarantine with the files that the decision names. A crash before it is made good by whoever claims next.
//! 5. Only then what may be lost: the notice, trimming, a checkpoint.

use super::buffer::{Batch, Learned};
use super::claim::{Claim, Standing};
use super::decision::{mismatches_in_words, tag, totals};
use super::error::FirehoseError;
use super::ledger::{epoch, grown, redo, schema_app};
use super::status::{Committed, InFlight, Progress, Status, Totals};
use super::work::{Fence, Step, Work};
use super::{TrimRule, notice};
use crate::backoff::chain;
use arrow::record_batch::RecordBatch;
use chrono::Utc;
use millstream_lake::ledger::{Closed, Decision, INPUT_SCHEMA, Mark};
use millstream_lake::{NewFile, Operation, Outcome, Plan, Table, WriteOptions};
use millstream_model::name::{Offset, Partition, QUARANTINE};
use millstream_model::time::Micros;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Commits a batch. On [`Step::Lost`] nothing of it may be used again.
pub(crate) async fn flush(
    work: &Work,
    claim: &mut Claim,
    batch: Batch,
    closed: Closed,
) -> Result<Step<()>, FirehoseError> {
    let started = Instant::now();
    if let Some(learned) = &batch.schema
        && let Step::Lost(why) = evolve(work, claim, learned).await?
    {
        return Ok(Step::Lost(why));
    }
    let uploaded = upload(work, &claim.ledger, &batch.rows);
    // Both to their end: an upload that is dropped midway leaves parts in the store.
    let (files, doubt) = tokio::join!(uploaded, claim.doubt(work, &batch.heads, &batch.marks));
    let mut files = files?;
    if let Some(why) = doubt? {
        return Ok(Step::Lost(why));
    }
    let mut quarantine = match &claim.quarantine {
        Some(table) => upload(work, table, &batch.quarantined).await?,
        None => Vec::new(),
    };
    let (held, passed) = (batch.held.clone(), claim.passed_after(&batch));
    let mut decision = decide(claim, batch, closed);
    tag(files.iter_mut().chain(&mut quarantine), &decision);
    decision.quarantine = quarantine;
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let count = files.len();

    let plan = plan(work, claim, files, &decision, &passed)?;
    let version = match work.keep_trying("commit", || claim.ledger.commit(plan.clone())).await? {
        Outcome::Applied { version } => version,
        other => return Ok(Step::Lost(lost(&other))),
    };
    let quarantined = match &claim.quarantine {
        Some(table) => {
            work.keep_trying("commit to quarantine", || redo(table, &claim.topic, &decision)).await
        }
        None => Ok(Step::Done(None)),
    };
    // Whatever came of that: the ledger's commit is made.
    claim.advance(&decision, passed);
    let rows = Totals { files: u64::try_from(count).unwrap_or(u64::MAX), bytes, ..totals(&decision) };
    tracing::info!(
        table = work.duty.table(),
        version,
        closed = closed.as_str(),
        messages = rows.messages,
        readings = rows.readings,
        quarantined = rows.quarantined,
        dropped = rows.dropped,
        mismatches = mismatches_in_words(&decision.mismatches),
        files = count,
        bytes,
        elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "committed"
    );
    say_so(work, &decision, &held, version, rows);
    follow_up(work, &claim.ledger, work.duty.table(), version).await;
    let quarantined = match quarantined? {
        Step::Done(version) => version,
        Step::Lost(why) => return Ok(Step::Lost(why)),
    };
    if let (Some(table), Some(version)) = (&claim.quarantine, quarantined) {
        follow_up(work, table, QUARANTINE, version).await;
    }
    trim(work, claim, &decision).await;
    Ok(Step::Done(()))
}

/// Words for a commit that was refused.
pub(crate) fn lost(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied { version } => format!("version {version} was made"),
        Outcome::Fenced { app, expected, found } => {
            let word = |txn: &Option<i64>| txn.map_or_else(|| "nothing".to_owned(), |txn| txn.to_string());
            format!("{app} stands at {}, expected {}", word(found), word(expected))
        }
        Outcome::Moved => "its columns or properties were changed".to_owned(),
        Outcome::Stale { path } => format!("{path} waited too long for its commit"),
    }
}

async fn upload(work: &Work, table: &Table, rows: &RecordBatch) -> Result<Vec<NewFile>, FirehoseError> {
    let options = WriteOptions::default();
    work.keep_trying("upload", || table.write(rows.clone(), &options)).await
}

fn decide(claim: &Claim, batch: Batch, closed: Closed) -> Decision {
    Decision {
        flush: uuid::Uuid::new_v4().to_string(),
        log_topic: claim.topic.to_string(),
        epoch: claim.epoch,
        closed,
        ranges: batch.ranges,
        marks: claim.marks_after(&batch.marks),
        quarantine: Vec::new(),
        mismatches: batch.mismatches,
    }
}

fn plan(
    work: &Work,
    claim: &Claim,
    adds: Vec<NewFile>,
    decision: &Decision,
    passed: &BTreeMap<Partition, i64>,
) -> Result<Plan, FirehoseError> {
    let mut set: BTreeMap<String, i64> =
        claim.txns().into_iter().filter_map(|(app, txn)| Some((app, txn?))).collect();
    for range in &decision.ranges {
        set.insert(claim.app(range.partition), range.last.0);
    }
    set.extend(passed.iter().map(|(partition, time)| (claim.passed_app(*partition), *time)));
    Ok(Plan {
        operation: Operation::Append,
        expect: fenced(work, claim.fences()),
        set,
        adds,
        promises: decision.quarantine.clone(),
        data_change: true,
        info: decision.to_info()?,
        metadata_of: Some(Arc::clone(&claim.snapshot)),
        ..Plan::default()
    })
}

fn fenced(work: &Work, expect: BTreeMap<String, Option<i64>>) -> BTreeMap<String, Option<i64>> {
    match work.fence {
        Fence::Checked => expect,
        #[cfg(test)]
        Fence::Off => BTreeMap::new(),
    }
}

/// Makes the table know the columns of the coming rows, before the rows.
async fn evolve(work: &Work, claim: &mut Claim, learned: &Learned) -> Result<Step<()>, FirehoseError> {
    let table = work.duty.table();
    let columns = grown(table, &claim.snapshot.schema(), &learned.table)?;
    if columns.is_none() && claim.snapshot.property(INPUT_SCHEMA) == Some(learned.json.as_str()) {
        return Ok(Step::Done(()));
    }
    let changes = schema_app(table);
    let before = claim.snapshot.txn(&changes);
    let mut expect = claim.fences();
    expect.insert(changes.clone(), before);
    let plan = Plan {
        operation: Operation::Schema,
        expect: fenced(work, expect),
        set: BTreeMap::from([(changes, before.unwrap_or_default() + 1)]),
        schema: columns,
        properties: BTreeMap::from([(INPUT_SCHEMA.to_owned(), learned.json.clone())]),
        metadata_of: Some(Arc::clone(&claim.snapshot)),
        ..Plan::default()
    };
    let version = match work.keep_trying("commit of columns", || claim.ledger.commit(plan.clone())).await? {
        Outcome::Applied { version } => version,
        other => return Ok(Step::Lost(lost(&other))),
    };
    claim.snapshot = work.keep_trying("read", || claim.ledger.snapshot()).await?;
    if claim.snapshot.property(INPUT_SCHEMA) != Some(learned.json.as_str()) {
        return Ok(Step::Lost("its columns were changed".to_owned()));
    }
    // Who raised it meanwhile has carried over what was committed then, not what is in the buffer.
    if epoch(table, &claim.snapshot)? != claim.epoch {
        return Ok(Step::Lost("its epoch was raised".to_owned()));
    }
    tracing::info!(
        table,
        version,
        columns = claim.snapshot.schema().fields().len(),
        "the table has new columns"
    );
    follow_up(work, &claim.ledger, table, version).await;
    Ok(Step::Done(()))
}

impl Claim {
    fn advance(&mut self, decision: &Decision, passed: BTreeMap<Partition, i64>) {
        self.passed = passed;
        for range in &decision.ranges {
            let fingerprint =
                decision.marks.get(&range.partition).map(|mark: &Mark| mark.fingerprint.clone());
            self.standing.insert(range.partition, Standing { committed: range.last, fingerprint });
        }
    }
}

fn say_so(
    work: &Work,
    decision: &Decision,
    held: &BTreeMap<Partition, InFlight>,
    version: i64,
    rows: Totals,
) {
    let at = Micros::from(Utc::now());
    work.report(|status| {
        status.last_commit = Some(Committed { version, at, closed: decision.closed, rows });
        status.totals.add(rows);
        status.count(decision, held, at);
        status.in_flight.clear();
    });
}

impl Status {
    /// Adds what a commit decided, by partition and by column.
    fn count(&mut self, decision: &Decision, held: &BTreeMap<Partition, InFlight>, at: Micros) {
        for range in &decision.ranges {
            let partition = range.partition;
            let totals = self.by_partition.entry(partition).or_default();
            totals.messages += range.messages;
            totals.readings += range.readings;
            totals.quarantined += range.quarantined;
            totals.dropped += range.dropped;
            totals.commits += 1;
            totals.bytes += held.get(&partition).map_or(0, |held| held.bytes);
            let seen = self.partitions.get(&partition).map_or(Offset::ZERO, |progress| progress.next);
            let progress = Progress {
                committed: Some(range.last),
                // What was committed had been there: a look from before says less.
                next: seen.max(range.last.next()),
                received_at: decision.marks.get(&partition).and_then(|mark| mark.received_at),
                committed_at: Some(at),
                waiting_since: None,
            };
            let progress = progress.waiting(at);
            self.partitions.insert(partition, progress);
        }
        for mismatch in &decision.mismatches {
            *self.mismatches.entry(mismatch.column.clone()).or_default() += mismatch.count;
        }
    }
}

/// What follows a commit and may be lost: the notice, and the checkpoint where one is due.
async fn follow_up(work: &Work, table: &Table, name: &str, version: i64) {
    notice::send(work, name, version).await;
    if let Err(error) = table.checkpoint_if_due().await {
        tracing::warn!(
            table = name,
            version,
            error = chain(&error),
            "a checkpoint could not be written; the next commit will try again"
        );
    }
}

/// Lets the log forget what is committed in both tables, but for each partition's last record, by which the log is recognised.
async fn trim(work: &Work, claim: &Claim, decision: &Decision) {
    if work.settings.trim == TrimRule::Keep {
        return;
    }
    let mut untrimmed = None;
    for range in &decision.ranges {
        let Some(owned) = claim.partitions.iter().find(|owned| owned.partition == range.partition) else {
            continue;
        };
        if let Err(error) = work.log.trim(owned, range.last).await {
            work.report(|status| status.failed_at(range.partition));
            untrimmed = Some(chain(&error));
        }
    }
    // Said once: whoever may not trim may not after the next commit, either.
    if let Some(error) = &untrimmed
        && work.status.borrow().untrimmed.is_none()
    {
        let table = work.duty.table();
        tracing::warn!(
            table,
            error,
            "the log could not be trimmed and grows meanwhile; every further commit tries again"
        );
    }
    work.report(|status| status.untrimmed = untrimmed);
}
