//! What was sent, and what every answer must therefore say.
//!
//! Whoever appends writes down what the log has acknowledged; whoever asks is judged by it. It knows nothing of tables, logs and queries: an answer comes as the
//! places of its rows, and is right if it has, of each partition, exactly the rows of all offsets up to some end, and that end is not before anything that was
//! acknowledged, or seen by anybody, before the question.

use super::world::Fate;
use millstream_model::name::{Offset, Partition};
use millstream_model::record::Position;
use millstream_model::time::Micros;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long it may take until what an answer has is written down by whoever sent it.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// So many wrong offsets are told in full.
const TOLD_MAX: usize = 8;

/// A message that the log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) fate: Fate,
    /// When it was received, by which its rows are recognised.
    pub(crate) received_at: Micros,
}

/// Of each partition the offset before which all must be seen.
pub(crate) type Ends = BTreeMap<Partition, i64>;

/// The rows of an answer by the offset they came from: number of the reading in its message, and when the message was received.
pub(crate) type Found = BTreeMap<(Partition, Offset), Vec<(i32, Micros)>>;

/// Which of the two tables that share a log topic out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Readings,
    Quarantine,
}

impl Side {
    /// The rows that a message has on this side.
    fn rows(self, sent: Sent) -> Vec<(i32, Micros)> {
        let count = match (self, sent.fate) {
            (Self::Readings, Fate::Readings(count)) => count,
            (Self::Quarantine, Fate::Quarantined) => 1,
            _ => 0,
        };
        (0..count).map(|index| (index, sent.received_at)).collect()
    }
}

/// Everything that was sent to one log topic.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pages: watch::Sender<BTreeMap<Partition, Page>>,
}

#[derive(Debug, Default)]
struct Page {
    sent: BTreeMap<i64, Sent>,
    /// Everything before it was acknowledged, or seen.
    end: i64,
}

impl Page {
    /// Whether everything before an offset is written down.
    fn reaches(&self, end: i64) -> bool {
        let written = i64::try_from(self.sent.len()).unwrap_or(i64::MAX);
        written >= end && (written == end || (0..end).all(|offset| self.sent.contains_key(&offset)))
    }
}

impl Book {
    /// The log has acknowledged a message.
    pub(crate) fn write(&self, position: Position, sent: Sent) {
        self.pages.send_modify(|pages| {
            let page = pages.entry(position.partition).or_default();
            page.sent.insert(position.offset.0, sent);
            page.end = page.end.max(position.offset.next().0);
        });
    }

    /// What a question that begins now must see.
    pub(crate) fn ends(&self) -> Ends {
        self.pages.borrow().iter().map(|(partition, page)| (*partition, page.end)).collect()
    }

    /// An answer was seen to reach so far: no later question may see less.
    pub(crate) fn raise(&self, ends: &Ends) {
        self.pages.send_modify(|pages| {
            for (partition, end) in ends {
                let page = pages.entry(*partition).or_default();
                page.end = page.end.max(*end);
            }
        });
    }

    /// How many rows all that was sent up to these ends has.
    pub(crate) fn count(&self, side: Side, ends: &Ends) -> usize {
        let pages = self.pages.borrow();
        let of = |(partition, end): (&Partition, &i64)| {
            let sent = pages.get(partition).map(|page| page.sent.range(..*end));
            sent.into_iter().flatten().map(|(_, sent)| side.rows(*sent).len()).sum::<usize>()
        };
        ends.iter().map(of).sum()
    }

    /// All rows of a partition before an offset.
    pub(crate) fn all(&self, side: Side, partition: Partition, before: i64) -> Found {
        let pages = self.pages.borrow();
        let sent = pages.get(&partition).map(|page| page.sent.range(..before));
        let rows =
            sent.into_iter().flatten().map(|(offset, sent)| ((partition, Offset(*offset)), side.rows(*sent)));
        rows.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    /// As [`Book::judge`], for an answer that has of each partition only how many rows there are, and the last one's offset.
    pub(crate) async fn judge_counts(
        &self,
        side: Side,
        from: &Ends,
        counts: &BTreeMap<Partition, (usize, Offset)>,
    ) -> Result<Ends, String> {
        let mut ends = from.clone();
        for (partition, (_, last)) in counts {
            let end = ends.entry(*partition).or_default();
            *end = (*end).max(last.next().0);
        }
        self.written(&ends).await?;
        for (partition, end) in &ends {
            let expected = self.count(side, &Ends::from([(*partition, *end)]));
            let found = counts.get(partition).map_or(0, |(rows, _)| *rows);
            if found != expected {
                return Err(format!(
                    "{found} rows of partition {partition} up to {end}, and {expected} were sent; {from:?}"
                ));
            }
        }
        Ok(ends)
    }

    /// How far the answer reaches, if it is right; else what is wrong with it.
    pub(crate) async fn judge(&self, side: Side, from: &Ends, found: &Found) -> Result<Ends, String> {
        let mut ends = from.clone();
        for (partition, offset) in found.keys() {
            let end = ends.entry(*partition).or_default();
            *end = (*end).max(offset.next().0);
        }
        self.written(&ends).await?;
        let wrong = self.wrong(side, &ends, found);
        if wrong.is_empty() {
            return Ok(ends);
        }
        let told = wrong.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; ");
        Err(format!(
            "{} offsets are wrong among the {side:?} of an answer that had to reach {from:?}: {told}",
            wrong.len()
        ))
    }

    /// Waits until everything before these ends is written down: what was durable may be seen before its sender hears of it.
    async fn written(&self, ends: &Ends) -> Result<(), String> {
        let all = |pages: &BTreeMap<Partition, Page>| {
            ends.iter().all(|(partition, end)| {
                *end == 0 || pages.get(partition).is_some_and(|page| page.reaches(*end))
            })
        };
        let mut seen = self.pages.subscribe();
        match timeout(WRITTEN_WITHIN, seen.wait_for(all)).await {
            Ok(_) => Ok(()),
            Err(_elapsed) => Err(format!("nobody sent all that an answer up to {ends:?} had")),
        }
    }

    fn wrong(&self, side: Side, ends: &Ends, found: &Found) -> Vec<String> {
        let pages = self.pages.borrow();
        let mut wrong = Vec::new();
        for (partition, end) in ends {
            let sent = pages.get(partition).map(|page| page.sent.range(..*end));
            for (offset, sent) in sent.into_iter().flatten() {
                let expected = side.rows(*sent);
                let mut rows = found.get(&(*partition, Offset(*offset))).cloned().unwrap_or_default();
                rows.sort_unstable();
                if rows != expected {
                    wrong.push(format!(
                        "{partition}:{offset} should be {:?}, rows {expected:?}, and has {rows:?}",
                        sent.fate
                    ));
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Partition = Partition(0);

    /// A book of one partition: a reading, a quarantined message, one of two readings, a dropped one.
    fn book() -> Book {
        let book = Book::default();
        let fates = [Fate::Readings(1), Fate::Quarantined, Fate::Readings(2), Fate::Dropped];
        for (offset, fate) in (0..).zip(fates) {
            let position = Position { partition: ALL, offset: Offset(offset) };
            book.write(position, Sent { fate, received_at: Micros(offset) });
        }
        book
    }

    fn found(rows: &[(i64, i32)]) -> Found {
        let mut found = Found::new();
        for (offset, index) in rows {
            found.entry((ALL, Offset(*offset))).or_default().push((*index, Micros(*offset)));
        }
        found
    }

    #[tokio::test]
    async fn an_answer_is_right_if_it_is_whole_up_to_an_end_that_is_late_enough() {
        let book = book();
        let judge = async |from: i64, rows: &[(i64, i32)]| {
            book.judge(Side::Readings, &Ends::from([(ALL, from)]), &found(rows)).await
        };
        assert_eq!(judge(1, &[(0, 0)]).await, Ok(Ends::from([(ALL, 1)])));
        assert_eq!(judge(1, &[(2, 1), (0, 0), (2, 0)]).await, Ok(Ends::from([(ALL, 3)])));
        assert_eq!(judge(2, &[(0, 0)]).await, Ok(Ends::from([(ALL, 2)])));
        // Nothing of what had to be seen, half a message, one twice, and one that skips another.
        for rows in [&[][..], &[(0, 0), (2, 0)], &[(0, 0), (0, 0)], &[(2, 0), (2, 1)]] {
            assert!(judge(1, rows).await.is_err(), "{rows:?}");
        }
        let quarantine = book.judge(Side::Quarantine, &book.ends(), &found(&[(1, 0)])).await;
        assert_eq!(quarantine, Ok(Ends::from([(ALL, 4)])));
        assert!(book.judge(Side::Quarantine, &book.ends(), &found(&[(1, 0), (2, 0)])).await.is_err());
        // The right places with another message's content.
        let other = Found::from([((ALL, Offset(0)), vec![(0, Micros(7))])]);
        assert!(book.judge(Side::Readings, &Ends::new(), &other).await.is_err());
    }
}
