//! Going on with another log: a new epoch of the table, in which nothing counts that is known of the former log's offsets but what this one still holds of it.
//!
//! [`gap`](super::gap) calls it, where a person accepted that, and writes down what is missing. It never reads a record a second time that the table has, nor
//! passes one over in silence: where neither can be told, it refuses.

use super::claim::{Claim, Found, Looked, Standing, look, record_at, soon};
use super::error::FirehoseError;
use super::gap::{Accepted, GapReason};
use super::work::{Step, Work};
use millstream_lake::LakeError;
use millstream_lake::ledger::{Decision, Mark, apps, fingerprint};
use millstream_log::Bounds;
use millstream_model::name::{Offset, Partition, TopicPartition};
use millstream_model::time::Micros;
use std::collections::BTreeMap;

/// So many commits are looked through for records that the log still has. One that has lost more than these wrote begins anew.
const COMMITS_BACK: i64 = 4096;

/// So many commits are read at a time.
const COMMITS_AT_ONCE: i64 = 256;

/// What speaks for it that a partition is the one that the ledger was filled from.
#[derive(Debug)]
enum Verdict {
    /// It never had an outcome.
    New,
    /// Its last committed record is there.
    Same,
    /// Nothing that could be compared.
    Unknown,
    /// It has lost its end: up to `compared` it holds what was committed, and by the times of its records up to `upto`.
    LostEnd { compared: Offset, upto: Offset },
    /// None of the records that are known.
    Other,
}

/// Raises the epoch, because one partition at least is not the one that the ledger was filled from.
///
/// All partitions of the topic are looked at, whoever owns them: a topic is made anew as a whole. Where one is recognised, though, the topic is not another one but
/// damaged, and what was committed of it is carried over, so that it is not read a second time.
pub(crate) async fn renew(work: &Work) -> Result<Step<()>, FirehoseError> {
    let partitions = work.log.partitions(&work.duty.topic()).await?;
    let Looked { claim, found } = match look(work, &partitions).await? {
        Step::Done(looked) => looked,
        Step::Lost(why) => return Ok(Step::Lost(why)),
    };
    let mut seen = Vec::new();
    for (partition, bounds, found) in found {
        let verdict = judge(work, &claim, &partition, bounds, &found).await?;
        seen.push((partition, bounds, verdict));
    }
    let verdicts = || seen.iter().map(|(_, _, verdict)| verdict);
    if !verdicts().any(|verdict| matches!(verdict, Verdict::LostEnd { .. } | Verdict::Other)) {
        return Ok(Step::Lost("the log was another one and is not any more".to_owned()));
    }
    let damaged = verdicts().any(|verdict| matches!(verdict, Verdict::Same | Verdict::LostEnd { .. }));
    let epoch = next_epoch(&claim).await?;
    let mut accepted = Accepted::default();
    for (place, bounds, verdict) in seen {
        let partition = place.partition;
        let goes_on = goes_on(&claim, &mut accepted, &place, bounds, &verdict, damaged)?;
        let wanted = goes_on.map_or(Offset::ZERO, Offset::next);
        if wanted < bounds.first {
            accepted.trimmed(&claim, epoch, partition, wanted, bounds.first);
        } else if let Some(committed) = goes_on {
            match mark_at(work, &place, bounds, committed).await? {
                Some(mark) => accepted.carried(&claim, epoch, partition, mark),
                None => accepted.goes_on(&claim, epoch, partition, committed),
            }
        }
    }
    accepted.passed(&claim, epoch);
    accepted.commit(work, &claim, claim.fences(), Some(epoch)).await
}

/// Where a partition goes on in the new epoch: behind this offset, or at its beginning.
fn goes_on(
    claim: &Claim,
    accepted: &mut Accepted,
    place: &TopicPartition,
    bounds: Bounds,
    verdict: &Verdict,
    damaged: bool,
) -> Result<Option<Offset>, FirehoseError> {
    let partition = place.partition;
    let Some(Standing { committed, .. }) = claim.standing.get(&partition) else { return Ok(None) };
    Ok(match verdict {
        Verdict::Same => Some(*committed),
        Verdict::Unknown if damaged => Some(*committed),
        // What the table has of it may be in this log, or not: neither to read it again nor to skip it is right.
        Verdict::Unknown if *committed >= bounds.first => {
            return Err(FirehoseError::Unrecognised {
                table: claim.ledger.name().to_owned(),
                partition: place.clone(),
                committed: *committed,
            });
        }
        Verdict::LostEnd { compared, upto } => {
            if compared < upto {
                accepted.gap(claim, partition, compared.next(), Some(*upto), GapReason::Uncompared);
            }
            accepted.gap(claim, partition, committed.next(), None, GapReason::LostEnd);
            Some(*upto)
        }
        Verdict::Unknown | Verdict::Other | Verdict::New => {
            accepted.gap(claim, partition, committed.next(), None, GapReason::OtherLog);
            None
        }
    })
}

/// What the record at an offset looks like, if the log has it.
async fn mark_at(
    work: &Work,
    partition: &TopicPartition,
    bounds: Bounds,
    offset: Offset,
) -> Result<Option<Mark>, FirehoseError> {
    if !(bounds.first..bounds.next).contains(&offset) {
        return Ok(None);
    }
    Ok(record_at(work, partition, offset).await?.as_ref().map(Mark::of))
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
            Some((compared, upto)) => Verdict::LostEnd { compared, upto },
            None => Verdict::Other,
        },
    })
}

/// The last offset up to which the log is known to hold what was committed of a partition, and the one up to which it seems to; `None` if it holds nothing of it
/// that is known.
async fn shared(
    work: &Work,
    claim: &Claim,
    partition: &TopicPartition,
    bounds: Bounds,
) -> Result<Option<(Offset, Offset)>, FirehoseError> {
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
    let upto = before_anything_newer(work, partition, mark.next(), end, last_ms).await?;
    Ok(Some((*mark, upto)))
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
pub(crate) async fn before_anything_newer(
    work: &Work,
    partition: &TopicPartition,
    from: Offset,
    end: Offset,
    last_ms: i64,
) -> Result<Offset, FirehoseError> {
    let last = Micros(last_ms.saturating_mul(1000));
    let mut next = from;
    let mut reader = soon(partition, from, work.log.reader(partition, from)).await?;
    while next < end {
        for stored in soon(partition, next, reader.next(work.settings.read)).await? {
            let newer = stored.received_at().is_some_and(|at| at > last);
            if newer || stored.offset >= end {
                return Ok(Offset(stored.offset.0 - 1));
            }
            next = stored.offset.next();
        }
    }
    Ok(Offset(next.0 - 1))
}
