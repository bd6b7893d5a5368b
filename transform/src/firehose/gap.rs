//! Gaps: offsets of the log that a table will never have, because a person accepted that, or the stream begins where the log does.
//!
//! A worker refuses a log that lacks what the table does not have, or that is another one. Where it was told to accept that, it writes one commit before it claims:
//! the commit moves the transactions to where the log begins (or, for another log, raises the epoch), and says what is missing, in its own words and in a property
//! of the table, which outlives them. Nothing is accepted that was not there when a partition was first claimed in a run.

use super::claim::{Claim, Found, look, record_at};
use super::commit::lost;
use super::decision::Decision;
use super::error::FirehoseError;
use super::fingerprint::fingerprint;
use super::ledger::{EPOCH, app, apps, schema_app};
use super::work::{Duty, Step, Work};
use chrono::Utc;
use millstream_lake::{LakeError, Operation, Outcome, Plan, Snapshot};
use millstream_log::Bounds;
use millstream_model::arrival::ArrivalView;
use millstream_model::name::{Offset, Partition, TopicPartition};
use millstream_model::stream::Start;
use millstream_model::time::Micros;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Table property: the gaps that were accepted, as a JSON list, the oldest first.
pub const GAPS: &str = "millstream.gaps";

/// Table property: how many gaps have left the list because it was full.
pub const GAPS_OMITTED: &str = "millstream.gaps_omitted";

/// So many gaps stand in the property: it is part of every change of the table's columns. Those before are in the commits that accepted them.
const GAPS_MAX: usize = 256;

/// The key of accepted gaps in a commit's metadata.
const INFO: &str = "millstreamGaps";

/// So many commits are looked through for records that the log still has. One that has lost more than these wrote begins anew.
const COMMITS_BACK: i64 = 4096;

/// So many commits are read at a time.
const COMMITS_AT_ONCE: i64 = 256;

/// A run of offsets that the table does not have and will not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The log topic.
    pub log_topic: String,
    /// The epoch of the table that the offsets belong to.
    pub epoch: i64,
    /// The partition.
    pub partition: Partition,
    /// The first offset that is missing.
    pub first: Offset,
    /// The last offset that is missing; `None` where the log that had them is gone, so that nobody knows how many there were.
    pub last: Option<Offset>,
    /// How they were lost.
    pub why: GapReason,
    /// When that was accepted: RFC 3339, UTC.
    pub accepted_at: String,
}

/// How offsets were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The log had forgotten them before they were committed.
    Trimmed,
    /// The log is another one, and begins anew.
    OtherLog,
    /// The log had lost its end, or was put back from a copy; what it shares with the former one is not read again.
    LostEnd,
}

/// The gaps of a table that were accepted, the oldest first; none if there were none. Millstream's own words are read back; anything else reads as none.
#[must_use]
pub fn gaps(snapshot: &Snapshot) -> Vec<Gap> {
    let text = snapshot.property(GAPS).unwrap_or("[]");
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(table = snapshot.table(), %error, "the list of accepted gaps cannot be read");
        Vec::new()
    })
}

/// Whether anything would be accepted for these partitions.
pub(crate) fn accepts(work: &Work, fresh: &BTreeSet<Partition>) -> bool {
    begins_at_earliest(work) || (work.settings.accept_gap && !fresh.is_empty())
}

fn begins_at_earliest(work: &Work) -> bool {
    match &work.duty {
        Duty::Stream(stream) => stream.start == Start::Earliest,
        Duty::Unrouted => false,
    }
}

/// Accepts what is missing of these partitions, and of `fresh` ones also that it is another log. Where nothing is to be accepted, it changes nothing.
pub(crate) async fn accept(
    work: &Work,
    partitions: &[TopicPartition],
    fresh: &BTreeSet<Partition>,
) -> Result<Step<()>, FirehoseError> {
    let claim = match look(work, partitions).await? {
        Step::Done(claim) => claim,
        Step::Lost(why) => return Ok(Step::Lost(why)),
    };
    let mut accepted = Accepted::default();
    for partition in partitions {
        let told = work.settings.accept_gap && fresh.contains(&partition.partition);
        let is_new = !claim.standing.contains_key(&partition.partition);
        match claim.find(work, partition).await?.1 {
            Found::Gap { wanted, first } if told || (is_new && begins_at_earliest(work)) => {
                accepted.trimmed(&claim, claim.epoch, partition.partition, wanted, first);
            }
            Found::Another(_) if told => return renew(work).await,
            // Nothing is wrong with it; or it is, and the claim refuses it.
            Found::Gap { .. } | Found::Another(_) | Found::Ours { .. } | Found::Nothing => {}
        }
    }
    if accepted.gaps.is_empty() {
        return Ok(Step::Done(()));
    }
    let expect = accepted.set.keys().map(|app| (app.clone(), claim.snapshot.txn(app))).collect();
    accepted.commit(work, &claim, expect, None).await
}

/// What is accepted at once.
#[derive(Debug, Default)]
struct Accepted {
    gaps: Vec<Gap>,
    /// Where the partitions' transactions are moved to.
    set: BTreeMap<String, i64>,
}

impl Accepted {
    fn gap(
        &mut self,
        claim: &Claim,
        partition: Partition,
        first: Offset,
        last: Option<Offset>,
        why: GapReason,
    ) {
        let (log_topic, accepted_at) = (claim.topic.to_string(), Micros::from(Utc::now()).to_string());
        let epoch = claim.epoch;
        self.gaps.push(Gap { log_topic, epoch, partition, first, last, why, accepted_at });
    }

    /// A partition goes on, in an epoch, behind what is missing.
    fn trimmed(&mut self, claim: &Claim, epoch: i64, partition: Partition, wanted: Offset, first: Offset) {
        self.gap(claim, partition, wanted, Some(Offset(first.0 - 1)), GapReason::Trimmed);
        if let Some(gap) = self.gaps.last_mut() {
            gap.epoch = epoch;
        }
        self.goes_on(claim, epoch, partition, Offset(first.0 - 1));
    }

    fn goes_on(&mut self, claim: &Claim, epoch: i64, partition: Partition, committed: Offset) {
        self.set.insert(app(claim.ledger.name(), &claim.topic, epoch, partition), committed.0);
    }

    async fn commit(
        mut self,
        work: &Work,
        claim: &Claim,
        mut expect: BTreeMap<String, Option<i64>>,
        epoch: Option<i64>,
    ) -> Result<Step<()>, FirehoseError> {
        let changes = schema_app(claim.ledger.name());
        let before = claim.snapshot.txn(&changes);
        expect.insert(changes.clone(), before);
        self.set.insert(changes, before.unwrap_or_default() + 1);
        let mut properties = listed(&claim.snapshot, &self.gaps)?;
        properties.extend(epoch.map(|epoch| (EPOCH.to_owned(), epoch.to_string())));
        let info = Map::from_iter([(INFO.to_owned(), serde_json::to_value(&self.gaps)?)]);
        let plan = Plan {
            operation: Operation::Schema,
            expect,
            set: self.set,
            properties,
            info,
            metadata_of: Some(Arc::clone(&claim.snapshot)),
            ..Plan::default()
        };
        let version = match claim.ledger.commit(plan).await? {
            Outcome::Applied { version } => version,
            other => return Ok(Step::Lost(lost(&other))),
        };
        for gap in &self.gaps {
            tracing::warn!(
                table = work.duty.table(),
                version,
                epoch,
                partition = gap.partition.0,
                first = gap.first.0,
                last = gap.last.map(|last| last.0),
                why = ?gap.why,
                "a gap of the log is accepted: these offsets are not in the table and never will be"
            );
        }
        let count = u64::try_from(self.gaps.len()).unwrap_or(u64::MAX);
        work.report(|status| status.incidents.gaps += count);
        Ok(Step::Done(()))
    }
}

/// The properties that hold these gaps beside those that the table has.
fn listed(snapshot: &Snapshot, more: &[Gap]) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let mut all = gaps(snapshot);
    all.extend_from_slice(more);
    let beyond = all.len().saturating_sub(GAPS_MAX);
    let mut properties = BTreeMap::from([(GAPS.to_owned(), serde_json::to_string(&all[beyond..])?)]);
    if beyond > 0 {
        let before: usize =
            snapshot.property(GAPS_OMITTED).and_then(|text| text.parse().ok()).unwrap_or_default();
        properties.insert(GAPS_OMITTED.to_owned(), (before + beyond).to_string());
    }
    Ok(properties)
}

/// What speaks for it that a partition is the one that the ledger was filled from.
#[derive(Debug)]
enum Verdict {
    /// It never had an outcome.
    New,
    /// Its last committed record is there.
    Same,
    /// Nothing that could be compared.
    Unknown,
    /// It has lost its end: up to this offset it holds what was committed.
    LostEnd(Offset),
    /// None of the records that are known.
    Other,
}

/// Raises the epoch, because one partition at least is not the one that the ledger was filled from.
///
/// All partitions of the topic are looked at, whoever owns them: a topic is made anew as a whole. Where one is recognised, though, the topic is not another one but
/// damaged, and what was committed of it is carried over, so that it is not read a second time.
async fn renew(work: &Work) -> Result<Step<()>, FirehoseError> {
    let partitions = work.log.partitions(&work.duty.topic()).await?;
    let claim = match look(work, &partitions).await? {
        Step::Done(claim) => claim,
        Step::Lost(why) => return Ok(Step::Lost(why)),
    };
    let mut seen = Vec::new();
    for partition in &partitions {
        let (bounds, found) = claim.find(work, partition).await?;
        seen.push((partition.partition, bounds, judge(work, &claim, partition, bounds, &found).await?));
    }
    if !seen.iter().any(|(_, _, verdict)| matches!(verdict, Verdict::LostEnd(_) | Verdict::Other)) {
        return Ok(Step::Lost("the log was another one and is not any more".to_owned()));
    }
    let damaged = seen.iter().any(|(_, _, verdict)| matches!(verdict, Verdict::Same | Verdict::LostEnd(_)));
    let epoch = next_epoch(&claim).await?;
    let mut accepted = Accepted::default();
    for (partition, bounds, verdict) in seen {
        let committed = claim.standing.get(&partition).map(|standing| standing.committed);
        let goes_on = match (&verdict, committed) {
            (Verdict::Same, committed) => committed,
            (Verdict::Unknown, committed) if damaged => committed,
            (Verdict::LostEnd(upto), Some(committed)) => {
                accepted.gap(&claim, partition, committed.next(), None, GapReason::LostEnd);
                Some(*upto)
            }
            (_, Some(committed)) => {
                accepted.gap(&claim, partition, committed.next(), None, GapReason::OtherLog);
                None
            }
            (_, None) => None,
        };
        let wanted = goes_on.map_or(Offset::ZERO, Offset::next);
        if wanted < bounds.first {
            accepted.trimmed(&claim, epoch, partition, wanted, bounds.first);
        } else if let Some(committed) = goes_on {
            accepted.goes_on(&claim, epoch, partition, committed);
        }
    }
    accepted.commit(work, &claim, claim.txns(), Some(epoch)).await
}

/// An epoch that neither the ledger nor quarantine has seen of this topic.
async fn next_epoch(claim: &Claim) -> Result<i64, FirehoseError> {
    let mut last = apps(&claim.snapshot, &claim.topic).map(|app| app.epoch).max();
    if let Some(quarantine) = &claim.quarantine {
        let snapshot = quarantine.snapshot().await?;
        last = last.max(apps(&snapshot, &claim.topic).map(|app| app.epoch).max());
    }
    Ok(last.unwrap_or_default().max(claim.epoch) + 1)
}

async fn judge(
    work: &Work,
    claim: &Claim,
    partition: &TopicPartition,
    bounds: Bounds,
    found: &Found,
) -> Result<Verdict, FirehoseError> {
    Ok(match found {
        _ if !claim.standing.contains_key(&partition.partition) => Verdict::New,
        Found::Ours { .. } => Verdict::Same,
        Found::Nothing | Found::Gap { .. } => Verdict::Unknown,
        Found::Another(_) => match shared(work, claim, partition, bounds).await? {
            Some(last) => Verdict::LostEnd(last),
            None => Verdict::Other,
        },
    })
}

/// The last offset up to which the log holds what was committed of a partition; `None` if it holds nothing of it that is known.
async fn shared(
    work: &Work,
    claim: &Claim,
    partition: &TopicPartition,
    bounds: Bounds,
) -> Result<Option<Offset>, FirehoseError> {
    let History { marks, last_ms } = history(claim, partition.partition, bounds).await?;
    let marks: Vec<_> = marks.into_iter().collect();
    // Of a log that has lost its end the records up to some offset are the same, and behind it others.
    let (mut same, mut other) = (0, marks.len());
    while same < other {
        let middle = (same + other) / 2;
        let stored = record_at(work, partition, marks[middle].0).await?;
        if stored.is_some_and(|stored| fingerprint(&stored.record) == marks[middle].1) {
            same = middle + 1;
        } else {
            other = middle;
        }
    }
    let Some((mark, _)) = same.checked_sub(1).and_then(|last| marks.get(last)) else { return Ok(None) };
    let committed = claim.standing.get(&partition.partition).map_or(*mark, |standing| standing.committed);
    let end = bounds.next.min(committed.next());
    before_anything_newer(work, partition, mark.next(), end, last_ms).await.map(Some)
}

/// What the ledger remembers of one partition.
#[derive(Debug, Default)]
struct History {
    /// Fingerprints of records at which flushes ended, where the log has a record at that offset.
    marks: BTreeMap<Offset, String>,
    /// When the last flush was committed, in milliseconds since 1970.
    last_ms: i64,
}

async fn history(claim: &Claim, partition: Partition, bounds: Bounds) -> Result<History, FirehoseError> {
    let mut history = History::default();
    let latest = claim.snapshot.version();
    let oldest = (latest - COMMITS_BACK).max(-1);
    let mut upto = latest;
    while upto > oldest {
        let from = (upto - COMMITS_AT_ONCE).max(oldest);
        let commits = match claim.ledger.changes(from, upto).await {
            Ok(commits) => commits,
            // Older ones are cleaned away.
            Err(LakeError::Gone { .. }) => return Ok(history),
            Err(error) => return Err(error.into()),
        };
        for commit in commits {
            let Some(decision) = Decision::from_info(&commit.info)? else { continue };
            if !decision.is_about(&claim.topic, claim.epoch) {
                continue;
            }
            if decision.ranges.iter().any(|range| range.partition == partition) {
                history.last_ms = history.last_ms.max(commit.timestamp_ms);
            }
            if let Some(mark) = decision.marks.get(&partition)
                && (bounds.first..bounds.next).contains(&mark.offset)
            {
                history.marks.insert(mark.offset, mark.fingerprint.clone());
            }
        }
        upto = from;
    }
    Ok(history)
}

/// The last offset before the first record, of those in `from..end`, that was received after the last flush and so cannot have been in it.
async fn before_anything_newer(
    work: &Work,
    partition: &TopicPartition,
    from: Offset,
    end: Offset,
    last_ms: i64,
) -> Result<Offset, FirehoseError> {
    let last = Micros(last_ms.saturating_mul(1000));
    let mut next = from;
    let mut reader = work.log.reader(partition, from).await?;
    while next < end {
        for stored in reader.next(work.settings.read).await? {
            let newer = ArrivalView(&stored.record).received_at().is_some_and(|at| at > last);
            if newer || stored.offset >= end {
                return Ok(Offset(stored.offset.0 - 1));
            }
            next = stored.offset.next();
        }
    }
    Ok(Offset(next.0 - 1))
}
