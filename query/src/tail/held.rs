//! What a tail holds in memory between two looks, and how it follows the log and the table.

use super::budget::Budget;
use super::error::TailError;
use super::lane::Lane;
use super::maker::{Agreement, Maker};
use super::reach::Reach;
use super::standing::{Decisions, Seen, Standing};
use super::view::Piece;
use futures::future::try_join_all;
use millstream_lake::ledger::{Mark, fingerprint};
use millstream_log::{Bounds, LogError, LogReader};
use millstream_model::name::{Offset, Partition, TopicPartition};
use millstream_model::stream::Start;
use millstream_model::time::Micros;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::yield_now;
use tokio::time::Instant;

/// The offsets of one partition that are asked for: `from..next`, or as many more as were read by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) partition: TopicPartition,
    pub(super) from: Offset,
    pub(super) next: Offset,
    /// The oldest record that the log still has.
    first: Offset,
    /// The record before `from` that was committed; `None`: nothing is.
    committed: Option<Offset>,
}

impl Wanted {
    /// Whether it begins where the log does, only because nothing is committed.
    pub(super) fn begins_with_a_trimmed_log(&self) -> bool {
        self.committed.is_none() && self.from > Offset::ZERO
    }
}

/// The log is recognised again after so many times as long as that took: where it is quick, at each look; on Kafka, where it takes a reader of its own, now and then.
const RECOGNISED_FOR: u32 = 100;

/// What came of looking at the log.
#[derive(Debug)]
pub(super) enum Step<T> {
    Done(T),
    /// The table has moved on while the log was looked at: what is missing has its outcome by now, or else it is gone for good, as this says.
    Moved(Option<TailError>),
}

/// Rows and where they end, by partition.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) standing: Standing,
    pub(super) maker: Maker,
    lanes: BTreeMap<Partition, Lane>,
    /// When the log is to be recognised again.
    recognise_at: Instant,
}

/// Which offsets have no outcome in this version of the table, and are in the log.
pub(super) fn wanted(
    table: &str,
    start: Start,
    standing: &Standing,
    bounds: &BTreeMap<TopicPartition, Bounds>,
) -> Result<Step<Vec<Wanted>>, TailError> {
    let mut all = Vec::with_capacity(bounds.len());
    for (partition, &Bounds { first, next }) in bounds {
        let committed = standing.committed.get(&partition.partition).copied();
        let from = match committed {
            Some(committed) => committed.next(),
            None if start == Start::Earliest => first,
            None => Offset::ZERO,
        };
        let (name, partition) = (|| table.to_owned(), partition.clone());
        match committed {
            Some(committed) if from > next => {
                return Err(TailError::OtherLog { table: name(), partition, committed, next });
            }
            _ if from < first => {
                let gap = TailError::Gap { table: name(), partition, wanted: from, first };
                return Ok(Step::Moved(Some(gap)));
            }
            _ => all.push(Wanted { partition, from, next, first, committed }),
        }
    }
    Ok(Step::Done(all))
}

impl Held {
    pub(super) fn new(standing: Standing, maker: Maker) -> Self {
        Self { standing, maker, lanes: BTreeMap::new(), recognise_at: Instant::now() }
    }

    /// Goes on with a newer version of the table, whose offsets mean the same.
    pub(super) fn follow(&mut self, standing: Standing, seen: Option<&Seen>) -> Result<(), TailError> {
        if self.maker.follow(seen.map(|(_, snapshot)| &**snapshot))? == Agreement::Contradicts {
            self.lanes.clear();
        }
        self.standing = standing;
        Ok(())
    }

    /// Drops what is in files by now, and begins to read what is missing.
    pub(super) async fn open(
        &mut self,
        reach: &Reach,
        wanted: &[Wanted],
        seen: Option<&Seen>,
        decisions: &Decisions,
    ) -> Result<Step<()>, TailError> {
        self.lanes.retain(|partition, _| wanted.iter().any(|each| each.partition.partition == *partition));
        let mut closed = Vec::new();
        for each in wanted {
            let lane = self.lanes.entry(each.partition.partition).or_insert_with(|| Lane::at(each.from));
            if lane.next() > each.next {
                return self.begin_anew(seen);
            }
            lane.begin(each.from);
            if lane.next() < each.next && lane.reader.is_none() {
                closed.push((each, lane.next(), lane.read().cloned()));
            }
        }
        if !self.recognises(reach, wanted).await? {
            return self.begin_anew(seen);
        }
        let marks = match committed_marks(reach, &closed, seen, decisions).await? {
            Step::Done(marks) => marks,
            Step::Moved(why) => return Ok(Step::Moved(why)),
        };
        let opened = closed.into_iter().map(|(each, next, read)| {
            let mark = read.map(Before::Read).or_else(|| marks.get(&each.partition.partition).cloned());
            async move {
                let opened = open(reach, each, next, mark).await?;
                Ok::<_, TailError>((each.partition.partition, opened))
            }
        });
        for (partition, opened) in try_join_all(opened).await? {
            match opened {
                Opened::Reader(reader) => {
                    if let Some(lane) = self.lanes.get_mut(&partition) {
                        lane.reader = Some(reader);
                    }
                }
                Opened::Another => return self.begin_anew(seen),
                Opened::Trimmed => return Ok(Step::Moved(None)),
            }
        }
        Ok(Step::Done(()))
    }

    /// The log was made anew since it was read, or has lost its end: nothing of it counts, and the next look finds out what does.
    fn begin_anew(&mut self, seen: Option<&Seen>) -> Result<Step<()>, TailError> {
        self.lanes.clear();
        self.maker.begin_anew(seen.map(|(_, snapshot)| &**snapshot))?;
        Ok(Step::Moved(None))
    }

    /// Whether the log still has the records that were read last, as far as it is time to ask: a reader need not notice that it reads on in another log.
    async fn recognises(&mut self, reach: &Reach, wanted: &[Wanted]) -> Result<bool, TailError> {
        let began = Instant::now();
        if began < self.recognise_at {
            return Ok(true);
        }
        let looks = wanted.iter().filter_map(|each| {
            let lane = self.lanes.get(&each.partition.partition)?;
            let read = lane.read().filter(|read| read.offset >= each.first)?;
            // Whoever has to open it does this anyway.
            lane.reader.is_some().then_some((each, read))
        });
        let looks = looks.map(|(each, read)| async move {
            let mut reader = reach.reader(&each.partition, read.offset).await?;
            let found = reach.first(&each.partition, read.offset, reader.as_mut()).await?;
            Ok::<_, TailError>(found.is_some_and(|stored| fingerprint(&stored.record) == read.fingerprint))
        });
        let all = match try_join_all(looks).await {
            Ok(all) => all.into_iter().all(|same| same),
            // Trimmed since the bounds were asked for: this is nobody's other log.
            Err(TailError::Log { source: LogError::Trimmed { .. }, .. }) => true,
            Err(error) => return Err(error),
        };
        self.recognise_at = Instant::now() + began.elapsed() * RECOGNISED_FOR;
        Ok(all)
    }

    /// Reads and makes rows of everything up to where the log ended. What was made stays when this is dropped midway.
    pub(super) async fn fill(
        &mut self,
        reach: &Reach,
        wanted: &[Wanted],
        budget: &Arc<Budget>,
    ) -> Result<Step<()>, TailError> {
        for each in wanted {
            let partition = each.partition.partition;
            let Some(lane) = self.lanes.get_mut(&partition) else { continue };
            while lane.next() < each.next {
                if lane.unmade.is_empty() {
                    let from = lane.next();
                    let Some(reader) = &mut lane.reader else { break };
                    match reach.read(&each.partition, from, reader.as_mut()).await {
                        Ok(records) => lane.unmade.extend(records),
                        Err(error) => {
                            lane.close();
                            return trimmed(error);
                        }
                    }
                }
                let records = lane.unmade.make_contiguous();
                let Some((made, taken)) = self.maker.make(partition, records) else { break };
                let now = &records[..taken];
                let follows =
                    now.iter().zip(offsets_from(made.first)).all(|(stored, at)| stored.offset == at);
                let read = now.last().map(Mark::of).filter(|_| follows);
                lane.unmade.drain(..taken);
                let Some(read) = read.filter(|_| made.first == lane.next()) else {
                    lane.close();
                    return Err(hole(reach, each, lane.next()));
                };
                let bytes = made.bytes();
                if !lane.push(made, read, budget) {
                    return Err(self.too_much(reach, wanted, bytes, budget));
                }
                // Making rows keeps a thread of the runtime busy, but not for long at a time.
                yield_now().await;
            }
        }
        Ok(Step::Done(()))
    }

    /// The pieces that are asked for, each with the first offset of it that counts. A piece that is missing is an error, never a gap.
    pub(super) fn cut(&self, reach: &Reach, wanted: &[Wanted]) -> Result<Vec<Piece>, TailError> {
        let mut all = Vec::new();
        for each in wanted {
            let lane = self.lanes.get(&each.partition.partition);
            let covered = lane.filter(|lane| lane.start() == each.from && lane.next() >= each.next);
            let Some(chunks) = covered.and_then(Lane::covered) else {
                return Err(hole(reach, each, each.from));
            };
            let (partition, from) = (each.partition.partition, each.from);
            all.extend(chunks.into_iter().map(|chunk| Piece { chunk, partition, from }));
        }
        Ok(all)
    }

    /// There is no memory for so many bytes more.
    fn too_much(&self, reach: &Reach, wanted: &[Wanted], more: usize, budget: &Budget) -> TailError {
        let oldest = self.lanes.values().filter_map(Lane::oldest).filter_map(|chunk| chunk.received());
        let since: Option<Micros> = oldest.map(|(first, _)| first).min();
        let held = self.lanes.values().map(Lane::bytes).sum::<usize>();
        TailError::TooMuch {
            table: reach.table.clone(),
            messages: waiting(wanted),
            since,
            needs: held + more,
            limit: budget.limit(),
            others: budget.held().saturating_sub(held),
        }
    }
}

fn offsets_from(first: Offset) -> impl Iterator<Item = Offset> {
    (first.0..).map(Offset)
}

/// How many messages are asked for.
pub(super) fn waiting(wanted: &[Wanted]) -> i64 {
    wanted.iter().map(|each| each.next.0 - each.from.0).sum()
}

/// A record before the one at which reading begins.
#[derive(Debug, Clone)]
enum Before {
    /// It was read here.
    Read(Mark),
    /// It was committed, and its commit says what it looked like.
    Committed(Mark),
}

#[derive(Debug)]
enum Opened {
    Reader(Box<dyn LogReader>),
    /// The record that was read here is another one by now.
    Another,
    Trimmed,
}

/// What the records looked like that were committed last, where reading begins right behind them.
async fn committed_marks(
    reach: &Reach,
    closed: &[(&Wanted, Offset, Option<Mark>)],
    seen: Option<&Seen>,
    decisions: &Decisions,
) -> Result<Step<BTreeMap<Partition, Before>>, TailError> {
    let unread = closed.iter().filter(|(each, _, read)| read.is_none() && each.committed.is_some());
    let partitions: BTreeSet<Partition> = unread.map(|(each, ..)| each.partition.partition).collect();
    let (Some(seen), false) = (seen, partitions.is_empty()) else {
        return Ok(Step::Done(BTreeMap::new()));
    };
    let Some(last) = decisions.last(seen, &reach.topic, &partitions).await? else {
        return Ok(Step::Moved(None));
    };
    let marks = last.into_iter().filter_map(|(partition, decision)| {
        let mark = decision.marks.get(&partition)?.clone();
        Some((partition, Before::Committed(mark)))
    });
    Ok(Step::Done(marks.collect()))
}

/// A reader that gives the record at `next` first. Where the log still has the record before that, it is read, too, and must be the one that it was.
async fn open(
    reach: &Reach,
    wanted: &Wanted,
    next: Offset,
    before: Option<Before>,
) -> Result<Opened, TailError> {
    let expected = match &before {
        Some(Before::Read(mark) | Before::Committed(mark)) => Some(mark),
        None => None,
    };
    let expected = expected.filter(|mark| mark.offset.next() == next && mark.offset >= wanted.first);
    let from = expected.map_or(next, |mark| mark.offset);
    let mut reader = match reach.reader(&wanted.partition, from).await {
        Ok(reader) => reader,
        Err(error) => return trimmed_open(error),
    };
    let Some(expected) = expected else { return Ok(Opened::Reader(reader)) };
    let first = match reach.first(&wanted.partition, from, reader.as_mut()).await {
        Ok(first) => first,
        Err(error) => return trimmed_open(error),
    };
    if first.is_some_and(|stored| fingerprint(&stored.record) == expected.fingerprint) {
        return Ok(Opened::Reader(reader));
    }
    match before {
        Some(Before::Read(_)) => Ok(Opened::Another),
        _ => Err(TailError::OtherRecord {
            table: reach.table.clone(),
            partition: wanted.partition.clone(),
            committed: expected.offset,
        }),
    }
}

fn trimmed_open(error: TailError) -> Result<Opened, TailError> {
    match error {
        TailError::Log { source: LogError::Trimmed { .. }, .. } => Ok(Opened::Trimmed),
        error => Err(error),
    }
}

fn trimmed<T>(error: TailError) -> Result<Step<T>, TailError> {
    match error {
        TailError::Log { source: LogError::Trimmed { .. }, .. } => Ok(Step::Moved(None)),
        error => Err(error),
    }
}

fn hole(reach: &Reach, wanted: &Wanted, from: Offset) -> TailError {
    let (table, partition) = (reach.table.clone(), wanted.partition.clone());
    TailError::Hole { table, partition, from, next: wanted.next }
}
