//! Gaps: offsets of the log that a table will never have, because a person accepted that, or the stream begins where the log does.
//!
//! A worker refuses a log that lacks what the table does not have, or that is another one. Where it was told to accept that, it writes one commit before it claims:
//! the commit moves the transactions to where the log begins (or, for another log, raises the epoch: [`renew`]), and says what is missing, in its own words and in
//! a property of the table, which outlives them. Nothing is accepted that was not there when a partition was first claimed, early in a run.

use super::claim::{Claim, Found, Looked, look};
use super::commit::lost;
use super::error::FirehoseError;
use super::ledger::{epoch_app, schema_app};
use super::renew::renew;
use super::work::{Duty, Step, Work};
use chrono::Utc;
use millstream_lake::ledger::{Closed, Decision, EPOCH, Mark, app, passed_app};
use millstream_lake::{Operation, Outcome, Plan, Snapshot};
use millstream_model::name::{Offset, Partition, TopicPartition};
use millstream_model::stream::Start;
use millstream_model::time::Micros;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Table property: the gaps that were accepted, as a JSON list, the oldest first.
pub const GAPS: &str = "millstream.gaps";

/// Table property: how many gaps have left the list because it was full.
pub const GAPS_OMITTED: &str = "millstream.gaps_omitted";

/// So many gaps stand in the property: it is part of every change of the table's columns. Those before are in the commits that accepted them.
const GAPS_MAX: usize = 256;

/// The key of accepted gaps in a commit's metadata.
const INFO: &str = "millstreamGaps";

/// A run of offsets that the table does not have and will not get, or of which that is not known.
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
    /// The log had lost its end, and records before it were taken for those that the table has, because they had been received by the last commit; there was
    /// nothing to compare them with. Where that was wrong, these offsets of the log are not in the table.
    Uncompared,
}

/// For people, without when it was accepted: `millstream.telemetry/1, offsets 50 to 74: forgotten by the log before they were committed`.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log_topic, partition, first, last, why, .. } = self;
        write!(f, "{log_topic}/{partition}, ")?;
        match last {
            Some(last) => write!(f, "offsets {first} to {last}: ")?,
            None => write!(f, "offsets from {first} on: ")?,
        }
        f.write_str(match why {
            GapReason::Trimmed => "forgotten by the log before they were committed",
            GapReason::OtherLog => "the log was made anew",
            GapReason::LostEnd => "the log had lost its end",
            GapReason::Uncompared => {
                "the log had lost its end; taken for what the table has, and not compared"
            }
        })
    }
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

/// How many gaps were accepted before those of [`gaps`].
#[must_use]
pub fn gaps_omitted(snapshot: &Snapshot) -> usize {
    snapshot.property(GAPS_OMITTED).and_then(|text| text.parse().ok()).unwrap_or_default()
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

/// Accepts what is missing of these partitions, and of `fresh` ones also that it is another log. Where nothing is to be accepted, it changes nothing,
/// and gives back what it saw.
pub(crate) async fn accept(
    work: &Work,
    partitions: &[TopicPartition],
    fresh: &BTreeSet<Partition>,
) -> Result<Step<Option<Looked>>, FirehoseError> {
    let looked = match look(work, partitions).await? {
        Step::Done(looked) => looked,
        Step::Lost(why) => return Ok(Step::Lost(why)),
    };
    let claim = &looked.claim;
    let mut accepted = Accepted::default();
    for (partition, _, found) in &looked.found {
        let told = work.settings.accept_gap && fresh.contains(&partition.partition);
        let is_new = !claim.standing.contains_key(&partition.partition);
        match found {
            Found::Gap { wanted, first } if told || (is_new && begins_at_earliest(work)) => {
                accepted.trimmed(claim, claim.epoch, partition.partition, *wanted, *first);
            }
            Found::Another(_) if told => return Ok(nothing_looked(renew(work).await?)),
            // Nothing is wrong with it; or it is, and the claim refuses it.
            Found::Gap { .. } | Found::Another(_) | Found::Ours { .. } | Found::Nothing => {}
        }
    }
    if accepted.gaps.is_empty() {
        return Ok(Step::Done(Some(looked)));
    }
    let expect = accepted.set.keys().map(|app| (app.clone(), claim.snapshot.txn(app))).collect();
    Ok(nothing_looked(accepted.commit(work, claim, expect, None).await?))
}

/// After a commit, the look before it is worth nothing.
fn nothing_looked(step: Step<()>) -> Step<Option<Looked>> {
    match step {
        Step::Done(()) => Step::Done(None),
        Step::Lost(why) => Step::Lost(why),
    }
}

/// What is accepted at once.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    gaps: Vec<Gap>,
    /// Where the partitions' transactions are moved to.
    set: BTreeMap<String, i64>,
    /// What the records there look like, where the log has them: so that it is recognised also before the next flush.
    marks: BTreeMap<Partition, Mark>,
}

impl Accepted {
    pub(crate) fn gap(
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
    pub(crate) fn trimmed(
        &mut self,
        claim: &Claim,
        epoch: i64,
        partition: Partition,
        wanted: Offset,
        first: Offset,
    ) {
        self.gap(claim, partition, wanted, Some(Offset(first.0 - 1)), GapReason::Trimmed);
        if let Some(gap) = self.gaps.last_mut() {
            gap.epoch = epoch;
        }
        self.goes_on(claim, epoch, partition, Offset(first.0 - 1));
    }

    /// A partition goes on, in an epoch, behind a record that the log has.
    pub(crate) fn carried(&mut self, claim: &Claim, epoch: i64, partition: Partition, mark: Mark) {
        self.goes_on(claim, epoch, partition, mark.offset);
        self.marks.insert(partition, mark);
    }

    pub(crate) fn goes_on(&mut self, claim: &Claim, epoch: i64, partition: Partition, committed: Offset) {
        self.set.insert(app(claim.ledger.name(), &claim.topic, epoch, partition), committed.0);
    }

    /// Event time goes on in an epoch from where it was.
    pub(crate) fn passed(&mut self, claim: &Claim, epoch: i64) {
        let passed = claim.passed.iter().map(|(partition, time)| {
            (passed_app(claim.ledger.name(), &claim.topic, epoch, *partition), *time)
        });
        self.set.extend(passed);
    }

    /// Writes it down; `raised` is the epoch that begins with it.
    pub(crate) async fn commit(
        mut self,
        work: &Work,
        claim: &Claim,
        mut expect: BTreeMap<String, Option<i64>>,
        raised: Option<i64>,
    ) -> Result<Step<()>, FirehoseError> {
        let changes = schema_app(claim.ledger.name());
        let before = claim.snapshot.txn(&changes);
        expect.insert(changes.clone(), before);
        self.set.insert(changes, before.unwrap_or_default() + 1);
        let mut properties = listed(&claim.snapshot, &self.gaps)?;
        expect.insert(epoch_app(claim.ledger.name()), claim.raised);
        if let Some(epoch) = raised {
            self.set.insert(epoch_app(claim.ledger.name()), epoch);
            properties.insert(EPOCH.to_owned(), epoch.to_string());
        }
        let mut info = match raised {
            Some(epoch) => standing(claim, epoch, std::mem::take(&mut self.marks)).to_info()?,
            None => Map::new(),
        };
        info.insert(INFO.to_owned(), serde_json::to_value(&self.gaps)?);
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
                epoch = raised,
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

/// Decides nothing, but says how the partitions are recognised that go on in a new epoch.
fn standing(claim: &Claim, epoch: i64, marks: BTreeMap<Partition, Mark>) -> Decision {
    Decision {
        flush: Uuid::new_v4().to_string(),
        log_topic: claim.topic.to_string(),
        epoch,
        closed: Closed::Gap,
        ranges: Vec::new(),
        marks,
        quarantine: Vec::new(),
        mismatches: Vec::new(),
    }
}

/// The properties that hold these gaps beside those that the table has.
fn listed(snapshot: &Snapshot, more: &[Gap]) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let mut all = gaps(snapshot);
    all.extend_from_slice(more);
    let beyond = all.len().saturating_sub(GAPS_MAX);
    let mut properties = BTreeMap::from([(GAPS.to_owned(), serde_json::to_string(&all[beyond..])?)]);
    if beyond > 0 {
        properties.insert(GAPS_OMITTED.to_owned(), (gaps_omitted(snapshot) + beyond).to_string());
    }
    Ok(properties)
}
