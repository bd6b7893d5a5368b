//! Follows one table and its log topic: each look finds a version of the table and what the log has beyond it.
//!
//! Looks are made one after the other; who waits while one is made that began later than they asked takes what it finds, also if it fails. What was made of the
//! log's records is held from look to look, so that a look makes rows only of what is new. After a while without a look everything is given up.

use super::budget::Budget;
use super::error::{TailError, TailFailure};
use super::held::{Held, Step, Wanted, waiting, wanted};
use super::maker::{Maker, Readings};
use super::reach::Reach;
use super::standing::{Decisions, Seen, Standing};
use super::view::View;
use crate::definitions::Unclaimed;
use crate::handles::Handles;
use chrono::Utc;
use millstream_log::Log;
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::{Start, Stream};
use millstream_model::time::Micros;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// After so long without a look the readers are closed and what is held is given up: a consumer of Kafka and the rows of a minute, for nobody.
const IDLE: Duration = Duration::from_secs(60);

/// So often a look begins anew because the table has moved on meanwhile. Each time a firehose has committed and trimmed, which it does about once a minute.
const LOOKS_MAX: usize = 5;

/// Whose messages the topic has.
#[derive(Debug, Clone)]
enum Duty {
    Stream(Arc<Stream>),
    Unclaimed(Unclaimed),
}

/// Follows one table and its log topic.
#[derive(Debug)]
pub(crate) struct Follower {
    duty: Duty,
    reach: Reach,
    tables: Arc<Handles>,
    budget: Arc<Budget>,
    decisions: Decisions,
    /// How many looks were begun. Raised by whoever holds the state, read by whoever comes to wait for it.
    looks: AtomicU64,
    state: tokio::sync::Mutex<State>,
    /// Gives up what is held when nobody looks; ends with the follower.
    idle: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// The number of the look that was made last, and what it found.
    last: Option<(u64, Result<Arc<View>, TailFailure>)>,
    refused: Option<Refused>,
    used: Option<Instant>,
    /// Whether somebody waits to give it up.
    watched: bool,
}

/// What waited for a table took too much memory.
#[derive(Debug)]
struct Refused {
    standing: Standing,
    /// The bytes that it takes at least.
    needs: usize,
    since: Option<Micros>,
}

impl Follower {
    pub(super) fn of_stream(
        stream: &Arc<Stream>,
        log: &Arc<dyn Log>,
        tables: &Arc<Handles>,
        budget: &Arc<Budget>,
    ) -> Arc<Self> {
        let (name, topic) = (stream.name.to_string(), stream.name.log_topic());
        Self::new(Duty::Stream(Arc::clone(stream)), name, topic, log, tables, budget)
    }

    pub(super) fn of_unclaimed(
        unclaimed: Unclaimed,
        log: &Arc<dyn Log>,
        tables: &Arc<Handles>,
        budget: &Arc<Budget>,
    ) -> Arc<Self> {
        let (name, topic) = (QUARANTINE.to_owned(), LogTopic::unrouted());
        Self::new(Duty::Unclaimed(unclaimed), name, topic, log, tables, budget)
    }

    fn new(
        duty: Duty,
        table: String,
        topic: LogTopic,
        log: &Arc<dyn Log>,
        tables: &Arc<Handles>,
        budget: &Arc<Budget>,
    ) -> Arc<Self> {
        Arc::new(Self {
            duty,
            reach: Reach::new(log, table, topic),
            tables: Arc::clone(tables),
            budget: Arc::clone(budget),
            decisions: Decisions::default(),
            looks: AtomicU64::new(0),
            state: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
        })
    }

    /// The topic that is followed.
    pub(super) fn topic(&self) -> &LogTopic {
        &self.reach.topic
    }

    /// What the table's last commits decided.
    pub(super) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Looks at the table and at what its log topic has beyond it, up to where the log ends after this was called.
    pub(crate) async fn look(self: &Arc<Self>) -> Result<Arc<View>, TailFailure> {
        let begun_before = self.looks.load(Ordering::SeqCst);
        let mut state = self.state.lock().await;
        if let Some((number, found)) = &state.last
            && *number > begun_before
        {
            return found.clone();
        }
        let number = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        // What it holds may be held by nobody else.
        state.last = None;
        self.watch(&mut state);
        let found = self.find(&mut state).await.map(Arc::new).map_err(|error| TailFailure(Arc::new(error)));
        if found.is_err() {
            // What failed is found out anew, but for what was held: it is still so.
            state.held = state.held.take().filter(|_| !found.as_ref().is_err_and(TailFailure::is_too_much));
        }
        state.last = Some((number, found.clone()));
        state.used = Some(Instant::now());
        found
    }

    /// Gives up what it holds from look to look, unless it looks just now: what a query reads stays, and the next look makes the rest again.
    pub(super) fn give_up(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            (state.held, state.last) = (None, None);
        }
    }

    async fn find(&self, state: &mut State) -> Result<View, TailError> {
        let mut before: Option<(Standing, TailError)> = None;
        for _ in 0..LOOKS_MAX {
            let as_of = Micros::from(Utc::now());
            let (looked, partitions) = tokio::join!(self.look_at_table(), self.reach.partitions());
            let ((seen, standing), mut partitions) = (looked?, partitions?);
            if let Some((stood, gone)) = before.take_if(|(stood, _)| *stood == standing) {
                drop(stood);
                return Err(gone);
            }
            if self.check_topic(&standing, &partitions).is_err() {
                // One that was made meanwhile may have been committed, too.
                partitions = self.reach.partitions().await?;
                self.check_topic(&standing, &partitions)?;
            }
            match self.find_once(state, seen, standing.clone(), partitions, as_of).await? {
                Step::Done(view) => return Ok(view),
                Step::Moved(gone) => before = gone.map(|gone| (standing, gone)),
            }
        }
        Err(TailError::Moving { table: self.reach.table.clone(), looks: LOOKS_MAX })
    }

    async fn look_at_table(&self) -> Result<(Option<Seen>, Standing), TailError> {
        let seen = self.tables.look(&self.reach.table).await?;
        let standing = Standing::of(&self.reach.table, &self.reach.topic, seen.as_ref())?;
        Ok((seen, standing))
    }

    /// The table is at this version; the log is looked at after that.
    async fn find_once(
        &self,
        state: &mut State,
        seen: Option<Seen>,
        standing: Standing,
        partitions: Vec<TopicPartition>,
        as_of: Micros,
    ) -> Result<Step<View>, TailError> {
        let bounds = self.reach.bounds(&partitions).await?;
        let wanted = match wanted(&self.reach.table, self.start(), &standing, &bounds)? {
            Step::Done(wanted) => wanted,
            Step::Moved(why) => return Ok(Step::Moved(why)),
        };
        // Perhaps the log begins there only since what was before it has been committed, for the first time, and trimmed.
        let is_doubtful = wanted.iter().any(Wanted::begins_with_a_trimmed_log);
        if is_doubtful && self.look_at_table().await?.1 != standing {
            return Ok(Step::Moved(None));
        }
        if let Some(refused) = state.refused.take().filter(|refused| refused.standing == standing)
            && let Some(error) = self.still_too_much(&refused, waiting(&wanted))
        {
            state.refused = Some(refused);
            return Err(error);
        }
        let held = self.held(state, standing, seen.as_ref())?;
        if let Step::Moved(why) = held.open(&self.reach, &wanted, seen.as_ref(), &self.decisions).await? {
            return Ok(Step::Moved(why));
        }
        match held.fill(&self.reach, &wanted, &self.budget).await {
            Ok(Step::Done(())) => {}
            Ok(Step::Moved(why)) => return Ok(Step::Moved(why)),
            Err(error) => {
                let standing = held.standing.clone();
                state.refused = Refused::by(&error, standing);
                return Err(error);
            }
        }
        let pieces = held.cut(&self.reach, &wanted)?;
        let received = pieces.iter().filter_map(|piece| piece.chunk.received());
        Ok(Step::Done(View {
            newest: received.map(|(_, last)| last).max(),
            table: self.reach.table.clone(),
            standing: held.standing.clone(),
            columns: held.maker.columns(),
            pieces,
            seen,
            as_of,
        }))
    }

    /// What is held, in agreement with this version of the table.
    fn held<'s>(
        &self,
        state: &'s mut State,
        standing: Standing,
        seen: Option<&Seen>,
    ) -> Result<&'s mut Held, TailError> {
        match state.held.take().filter(|held| held.standing.is_about_the_same(&standing)) {
            Some(mut held) => {
                held.follow(standing, seen)?;
                Ok(state.held.insert(held))
            }
            None => {
                let snapshot = seen.map(|(_, snapshot)| &**snapshot);
                let maker = match &self.duty {
                    Duty::Stream(stream) => Maker::Readings(Box::new(Readings::new(stream, snapshot)?)),
                    Duty::Unclaimed(unclaimed) => Maker::Unclaimed(*unclaimed),
                };
                Ok(state.held.insert(Held::new(standing, maker)))
            }
        }
    }

    /// A partition that is committed and that the log does not have is one that lost all it had.
    fn check_topic(&self, standing: &Standing, partitions: &[TopicPartition]) -> Result<(), TailError> {
        let has = |number: Partition| partitions.iter().any(|partition| partition.partition == number);
        match standing.committed.iter().find(|(number, _)| !has(**number)) {
            None => Ok(()),
            Some((number, committed)) => Err(TailError::OtherLog {
                table: self.reach.table.clone(),
                partition: TopicPartition { topic: self.reach.topic.clone(), partition: *number },
                committed: *committed,
                next: Offset::ZERO,
            }),
        }
    }

    fn start(&self) -> Start {
        match &self.duty {
            Duty::Stream(stream) => stream.start,
            Duty::Unclaimed(_) => Start::Refuse,
        }
    }

    /// Why it would be in vain to make rows of all that waits, as it was before; `None` if so much memory is free by now.
    fn still_too_much(&self, refused: &Refused, messages: i64) -> Option<TailError> {
        let (table, limit, others) = (self.reach.table.clone(), self.budget.limit(), self.budget.held());
        let &Refused { needs, since, .. } = refused;
        let free = limit.saturating_sub(others);
        (needs > free).then_some(TailError::TooMuch { table, messages, since, needs, limit, others })
    }

    /// Sees to it that what is held is given up when nobody looks any more.
    fn watch(self: &Arc<Self>, state: &mut State) {
        state.used = Some(Instant::now());
        if state.watched {
            return;
        }
        state.watched = true;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.try_join_next().is_some() {}
        idle.spawn(give_up_when_idle(Arc::downgrade(self)));
    }
}

/// Waits until nobody has looked for a while, and gives up what is held.
async fn give_up_when_idle(follower: Weak<Follower>) {
    let mut at = Instant::now() + IDLE;
    loop {
        sleep_until(at).await;
        let Some(follower) = follower.upgrade() else { return };
        let mut state = follower.state.lock().await;
        match state.used.map(|used| used + IDLE).filter(|due| *due > Instant::now()) {
            Some(due) => at = due,
            None => {
                *state = State::default();
                return;
            }
        }
    }
}

impl Refused {
    fn by(error: &TailError, standing: Standing) -> Option<Self> {
        match *error {
            TailError::TooMuch { needs, since, .. } => Some(Self { standing, needs, since }),
            _ => None,
        }
    }
}

impl TailFailure {
    fn is_too_much(&self) -> bool {
        matches!(*self.0, TailError::TooMuch { .. })
    }

    /// Whether there may be enough memory when nobody else has any.
    pub(super) fn is_for_others(&self) -> bool {
        matches!(*self.0, TailError::TooMuch { needs, limit, others, .. } if others > 0 && needs <= limit)
    }
}
