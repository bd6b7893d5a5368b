//! Devices that publish, firehoses that are killed, a compactor, and everybody who asks meanwhile. They pace each other: so many messages a question, so many
//! questions a kill; nobody waits for time to pass.

use crate::firehose::{self, Settings, Status, TrimRule};
use crate::simulation::book::{Book, Ends, Found, Sent, Side};
use crate::simulation::compactor::compact;
use crate::simulation::view::View;
use crate::simulation::world::{Fate, START, message, stream};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use fastrand::Rng;
use millstream_lake::Bucket;
use millstream_log::Log;
use millstream_model::column::{Column, ColumnType};
use millstream_model::name::{LogTopic, Offset, Partition};
use millstream_model::stream::{CloseRule, Misfit, Stream};
use millstream_model::time::Micros;
use millstream_query::TailUse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a life may take before it counts as hung.
const LIFE_WITHIN: Duration = Duration::from_secs(900);

/// So many new columns come in one run at most: each is a commit, and makes every row wider.
const FIELDS_MAX: usize = 24;

/// Every so many messages there is one whose `mood` is a number or a text, as it happens.
const MOODY: i64 = 10;

/// How a life goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// It is over after so many questions, and when everything else has happened at least once.
    pub(super) questions: u64,
    pub(super) askers: usize,
    pub(super) devices: usize,
}

/// The logs that those have who take part: in one process all have the same, in several each its own.
#[derive(Debug, Clone)]
pub(super) struct Logs {
    pub(super) devices: Arc<dyn Log>,
    pub(super) firehoses: Vec<Arc<dyn Log>>,
    pub(super) asked: Arc<dyn Log>,
}

/// What lasts from life to life.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) stream: Arc<Stream>,
    pub(super) ingestion: Bucket,
    /// What was sent to the stream.
    pub(super) book: Book,
    /// What was sent and no stream claims.
    unclaimed: AtomicU64,
    settings: Settings,
    numbers: AtomicI64,
    /// Numbers of messages with a field that no other has, `f<number>`.
    fields: Mutex<Vec<i64>>,
    /// Where committed files were seen to reach, of readings and of quarantine.
    committed: Mutex<[Ends; 2]>,
    /// Questions that were answered.
    pub(super) answered: watch::Sender<u64>,
    pub(super) kills: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) compactions: AtomicU64,
    /// Answers with rows of the tail.
    pub(super) from_tail: AtomicU64,
}

/// A stream with everything that decides about a message.
fn eventful(name: &str) -> Stream {
    let column = |name: &str, kind| Column { name: name.to_owned(), kind, required: false };
    let files =
        CloseRule { after: Duration::from_millis(150), size: 16 * 1024, idle: Duration::from_millis(50) };
    Stream {
        name: name.parse().unwrap(),
        columns: vec![
            column("number", ColumnType::Long),
            column("temp", ColumnType::Double),
            column("skip", ColumnType::Boolean),
        ],
        transform: Some("select *, number * 2 as twice from input where skip is not true".to_owned()),
        on_mismatch: Misfit::Quarantine,
        ..stream(files)
    }
}

/// A message that is not sent yet.
struct Draft {
    number: i64,
    payload: String,
    fate: Fate,
    has_own_field: bool,
}

impl Draft {
    fn new(number: i64, fields: usize, rng: &mut Rng) -> Self {
        let of = |payload: String, fate| Self { number, payload, fate, has_own_field: false };
        let temp = f64::from(rng.i32(-400..400)) / 10.0;
        if number % MOODY == 0 {
            let mood = if rng.bool() { "5" } else { "\"low\"" };
            return of(format!(r#"{{"number":{number},"mood":{mood}}}"#), Fate::Readings(1));
        }
        match rng.u32(0..20) {
            0 if fields < FIELDS_MAX => {
                let payload = format!(r#"{{"number":{number},"f{number}":{number}}}"#);
                Self { has_own_field: true, ..of(payload, Fate::Readings(1)) }
            }
            0..10 => of(format!(r#"{{"number":{number},"temp":{temp}}}"#), Fate::Readings(1)),
            10 | 11 => {
                let one = format!(r#"{{"number":{number},"ok":true}}"#);
                of(format!("[{one},{one},{one}]"), Fate::Readings(3))
            }
            12 | 13 => of(format!(r#"{{"number":{number},"temp":"warm"}}"#), Fate::Quarantined),
            14 => of(format!(r#"{{"number":{number},"#), Fate::Quarantined),
            15 => of(String::new(), Fate::Quarantined),
            16 => of("null".to_owned(), Fate::Quarantined),
            17 => of("[]".to_owned(), Fate::Dropped),
            _ => of(format!(r#"{{"number":{number},"skip":true}}"#), Fate::Dropped),
        }
    }

    /// Every fifth message is of the next day.
    fn seconds(&self) -> i64 {
        self.number + if self.number % 5 == 0 { 86_400 } else { 0 }
    }
}

/// What must be 0 in every answer: the rows that are in none of the dates, those whose mood is nowhere, those that are not what was sent or computed of it. The
/// statement names the table five times: all of them must be the same.
const WRONG: &str = "select (select count(*) from {t}) - (select count(*) from {t} where date <= date '2026-03-01') \
    - (select count(*) from {t} where date > date '2026-03-01') \
    + 1000000 * (select count(*) from {t} where (number % 10 = 0) <> (mood is not null or coalesce(_extra, '') like '%mood%')) \
    + 1000000 * (select count(*) from {t} where twice <> number * 2 or number is null \
        or cast(extract(epoch from _received_at) as bigint) - 1772323200 - number not in (0, 86400))";

impl Load {
    pub(super) fn new(name: &str, ingestion: Bucket) -> Self {
        let stream = Arc::new(eventful(name));
        let settings =
            Settings { trim: TrimRule::AfterCommit, group: name.to_owned(), ..Settings::default() };
        Self {
            stream,
            ingestion,
            book: Book::default(),
            unclaimed: AtomicU64::new(0),
            settings,
            numbers: AtomicI64::new(1),
            fields: Mutex::default(),
            committed: Mutex::default(),
            answered: watch::Sender::default(),
            kills: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            compactions: AtomicU64::new(0),
            from_tail: AtomicU64::new(0),
        }
    }

    fn name(&self) -> &str {
        self.stream.name.as_str()
    }

    /// Lives until there were so many questions, and every kind of disturbance; then kills everything but what devices wait for.
    pub(super) async fn live(self: &Arc<Self>, logs: &Logs, pace: Pace, rng: &mut Rng) {
        self.append(logs.devices.as_ref(), 40, &mut rng.fork()).await;
        let view = View::open(&self.stream, Arc::clone(&logs.asked), &self.ingestion, 2).await;
        let view = Arc::new(view);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let before = self.happened();
        for log in &logs.firehoses {
            tasks.spawn(Arc::clone(self).firehoses(Arc::clone(log), stop.clone(), rng.fork()));
        }
        for _ in 0..pace.devices {
            let view = Arc::clone(&view);
            tasks.spawn(Arc::clone(self).devices(Arc::clone(&logs.devices), view, stop.clone(), rng.fork()));
        }
        tasks.spawn(Arc::clone(self).compactor(stop.clone(), rng.fork()));
        for _ in 0..pace.askers {
            tasks.spawn(Arc::clone(self).asker(Arc::clone(&view), stop.clone(), rng.fork()));
        }
        let enough = *self.answered.borrow() + pace.questions;
        let mut answered = self.answered.subscribe();
        let all = |answered: &u64| {
            let now = self.happened();
            *answered >= enough && now.iter().zip(before).all(|(now, before)| *now > before)
        };
        let ended = tokio::select! {
            ended = timeout(LIFE_WITHIN, answered.wait_for(all)) => Ok(ended.is_ok()),
            ended = tasks.join_next() => Err(ended),
        };
        match ended {
            Ok(in_time) => assert!(in_time, "not all of it happened: {:?} after {before:?}", self.happened()),
            Err(ended) => panic!("it ended too soon: {:?}", ended.unwrap().unwrap_err()),
        }
        stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// What was tested, for whoever reads the test's output.
    pub(super) fn say(&self) {
        let ([kills, commits, compactions], answered) = (self.happened(), *self.answered.borrow());
        let (messages, columns) = (self.numbers.load(Ordering::SeqCst), self.fields.lock().unwrap().len());
        let from_tail = self.from_tail.load(Ordering::SeqCst);
        println!(
            "{answered} questions ({from_tail} of the counts had rows of the tail), {messages} messages, {kills} kills, {commits} commits, \
             {compactions} compactions, {columns} new columns"
        );
    }

    fn happened(&self) -> [u64; 3] {
        [&self.kills, &self.commits, &self.compactions].map(|count| count.load(Ordering::SeqCst))
    }

    async fn append(&self, log: &dyn Log, count: usize, rng: &mut Rng) -> Vec<i64> {
        let drafts: Vec<Draft> = (0..count)
            .map(|_| {
                let number = self.numbers.fetch_add(1, Ordering::SeqCst);
                Draft::new(number, self.fields.lock().unwrap().len(), rng)
            })
            .collect();
        let records = drafts
            .iter()
            .map(|draft| message(&format!("d{}", rng.u32(0..12)), &draft.payload, draft.seconds()));
        let records = records.collect();
        let positions = log.append(&self.stream.name.log_topic(), records).await.unwrap().await.unwrap();
        let mut own = Vec::new();
        for (draft, position) in drafts.iter().zip(positions) {
            let received_at = Micros(START + draft.seconds() * 1_000_000);
            self.book.write(position, Sent { fate: draft.fate, received_at });
            own.extend(draft.has_own_field.then_some(draft.number));
        }
        self.fields.lock().unwrap().extend(&own);
        own
    }

    /// Publishes, and asks for what was new in it as soon as it is acknowledged.
    async fn devices(
        self: Arc<Self>,
        log: Arc<dyn Log>,
        view: Arc<View>,
        stop: CancellationToken,
        mut rng: Rng,
    ) {
        let mut answered = self.answered.subscribe();
        while !stop.is_cancelled() {
            let count = rng.usize(1..12);
            for number in self.append(log.as_ref(), count, &mut rng).await {
                self.own_field(&view, number).await;
            }
            if rng.u32(0..20) == 0 {
                let stray = vec![message("d1", "21.5", 0)];
                log.append(&LogTopic::unrouted(), stray).await.unwrap().await.unwrap();
                self.unclaimed.fetch_add(1, Ordering::SeqCst);
            }
            let next = *answered.borrow() + rng.u64(2..8);
            until(&mut answered, next, &stop).await;
        }
    }

    /// Runs a firehose of the stream and one of what no stream claims, and kills both, again and again.
    async fn firehoses(self: Arc<Self>, log: Arc<dyn Log>, stop: CancellationToken, mut rng: Rng) {
        let mut answered = self.answered.subscribe();
        while !stop.is_cancelled() {
            let (status, mut seen) = watch::channel(Status::default());
            let never = CancellationToken::new();
            let mut running = JoinSet::new();
            let (settings, ingestion) = (self.settings.clone(), self.ingestion.clone());
            running.spawn(firehose::run(
                settings.clone(),
                Arc::clone(&self.stream),
                Arc::clone(&log),
                ingestion.clone(),
                never.clone(),
                status,
            ));
            let (status, _) = watch::channel(Status::default());
            running.spawn(firehose::run_unrouted(settings, Arc::clone(&log), ingestion, never, status));
            let next = *answered.borrow() + rng.u64(5..150);
            tokio::select! {
                () = until(&mut answered, next, &stop) => {}
                ended = running.join_next() => panic!("a firehose gave up: {ended:?}"),
            }
            // Dropping it is kill -9.
            drop(running);
            self.kills.fetch_add(1, Ordering::SeqCst);
            self.commits.fetch_add(seen.borrow_and_update().totals.commits, Ordering::SeqCst);
        }
    }

    async fn compactor(self: Arc<Self>, stop: CancellationToken, mut rng: Rng) {
        let mut answered = self.answered.subscribe();
        while !stop.is_cancelled() {
            let table = if rng.u32(0..3) == 0 { "quarantine" } else { self.name() };
            if compact(&self.ingestion, table).await {
                self.compactions.fetch_add(1, Ordering::SeqCst);
            }
            let next = *answered.borrow() + rng.u64(5..40);
            until(&mut answered, next, &stop).await;
        }
    }

    async fn asker(self: Arc<Self>, view: Arc<View>, stop: CancellationToken, mut rng: Rng) {
        while !stop.is_cancelled() {
            match rng.u32(0..12) {
                0..3 => self.both(&view).await,
                3 | 4 => self.side(&view, Side::Readings).await,
                5 => self.side(&view, Side::Quarantine).await,
                6 => self.counts(&view).await,
                7 => self.rows_from_an_offset(&view, &mut rng).await,
                8 => {
                    let wrong = view.number(&WRONG.replace("{t}", self.name()), TailUse::Follow).await;
                    assert_eq!(wrong.unwrap(), 0, "rows that are in no date, or are not what was sent");
                }
                9 => {
                    let known = self.fields.lock().unwrap().clone();
                    if let Some(number) = rng.choice(known) {
                        self.own_field(&view, number).await;
                    }
                }
                10 => self.strays(&view).await,
                _ => self.committed(&view).await,
            }
            self.answered.send_modify(|answered| *answered += 1);
        }
    }

    async fn both(&self, view: &View) {
        let from = self.book.ends();
        let seen = view.both(TailUse::Follow).await.unwrap();
        self.book.raise(&seen.judge(&self.book, &from).await.unwrap());
    }

    async fn side(&self, view: &View, side: Side) {
        let from = self.book.ends();
        let found = view.rows(side, "true", TailUse::Follow).await.unwrap();
        self.book.raise(&self.book.judge(side, &from, &found).await.unwrap());
    }

    /// What the engine may count without looking at a row.
    async fn counts(&self, view: &View) {
        let from = self.book.ends();
        let table = self.name();
        let all = view.number(&format!("select count(*) from {table}"), TailUse::Follow).await.unwrap();
        let least = self.book.count(Side::Readings, &from);
        assert!(usize::try_from(all).unwrap() >= least, "{all} rows, and {least} were there before");

        let from = self.book.ends();
        let sql = format!("select _partition, count(*), max(_offset) from {table} group by 1");
        let (batches, metrics) = view.ask(&sql, TailUse::Follow).await.unwrap();
        if metrics.tail.is_some_and(|tail| tail.rows > 0) {
            self.from_tail.fetch_add(1, Ordering::SeqCst);
        }
        let mut counts = BTreeMap::new();
        for batch in &batches {
            let partitions = batch.column(0).as_primitive::<Int32Type>();
            let rows = batch.column(1).as_primitive::<Int64Type>();
            let last = batch.column(2).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let counted = (usize::try_from(rows.value(row)).unwrap(), Offset(last.value(row)));
                counts.insert(Partition(partitions.value(row)), counted);
            }
        }
        self.book.raise(&self.book.judge_counts(Side::Readings, &from, &counts).await.unwrap());
    }

    /// A condition that both files and tail have to meet.
    async fn rows_from_an_offset(&self, view: &View, rng: &mut Rng) {
        let from = self.book.ends();
        let Some((partition, end)) = rng.choice(from.clone()) else { return };
        let first = (end - rng.i64(0..60)).max(0);
        let condition = format!("_partition = {partition} and _offset >= {first}");
        let found = view.rows(Side::Readings, &condition, TailUse::Follow).await.unwrap();
        // What lies before it is not asked for: as if it had been found.
        let mut whole: Found = self.book.all(Side::Readings, partition, first);
        whole.extend(found);
        let from = Ends::from([(partition, end)]);
        self.book.raise(&self.book.judge(Side::Readings, &from, &whole).await.unwrap());
    }

    /// A field that one message alone has is a column as soon as the message is acknowledged.
    async fn own_field(&self, view: &View, number: i64) {
        let sql = format!("select count(*) from {} where f{number} = {number}", self.name());
        let rows = view.number(&sql, TailUse::Follow).await;
        assert_eq!(rows.unwrap_or_else(|error| panic!("f{number}: {error}")), 1, "f{number}");
    }

    async fn strays(&self, view: &View) {
        let least = self.unclaimed.load(Ordering::SeqCst);
        let sql = "select count(*) + 1000000 * (count(*) - count(distinct (_partition, _offset))) \
                   from quarantine where reason = 'no_stream'";
        let rows = u64::try_from(view.number(sql, TailUse::Follow).await.unwrap()).unwrap();
        assert!((least..1_000_000).contains(&rows), "{rows} of {least} that no stream claims");
    }

    /// Committed files alone only ever get more, in the order of the log.
    async fn committed(&self, view: &View) {
        for (number, side) in [Side::Readings, Side::Quarantine].into_iter().enumerate() {
            let from = self.committed.lock().unwrap()[number].clone();
            // Before its first commit there is no table.
            let Ok(found) = view.rows(side, "true", TailUse::Off).await else {
                assert!(from.values().all(|end| *end == 0), "{side:?} were there before: {from:?}");
                continue;
            };
            let reached = self.book.judge(side, &from, &found).await.unwrap();
            for (partition, end) in reached {
                let mut all = self.committed.lock().unwrap();
                let known = all[number].entry(partition).or_default();
                *known = (*known).max(end);
            }
        }
    }

    /// When nobody is there any more: what is in the log is the view, and then the tables, and nothing else.
    pub(super) async fn settle(&self, logs: &Logs) {
        let view = View::open(&self.stream, Arc::clone(&logs.asked), &self.ingestion, 2).await;
        assert_eq!(view.flaw(&self.book).await, None, "before the last commit");
        let stopped = CancellationToken::new();
        stopped.cancel();
        let (settings, log, ingestion) =
            (self.settings.clone(), Arc::clone(&logs.firehoses[0]), self.ingestion.clone());
        let (status, _) = watch::channel(Status::default());
        let stream = Arc::clone(&self.stream);
        firehose::run(settings, stream, log, ingestion, stopped, status).await.unwrap();
        assert_eq!(view.flaw(&self.book).await, None, "after the last commit");
        for side in [Side::Readings, Side::Quarantine] {
            let found = view.rows(side, "true", TailUse::Off).await.unwrap();
            let ends = self.book.ends();
            assert_eq!(self.book.judge(side, &ends, &found).await, Ok(ends), "in files");
        }
    }
}

/// Waits for so many answers in all, or for the end.
async fn until(answered: &mut watch::Receiver<u64>, count: u64, stop: &CancellationToken) {
    tokio::select! {
        _ = answered.wait_for(|answered| *answered >= count) => {}
        () = stop.cancelled() => {}
    }
}
