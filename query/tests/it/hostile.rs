//! Statements that want something else than an answer, or an answer without end: each comes to its end, nothing but the tables is read, nothing is written, and
//! the session goes on. This is where they are tried; the lists of them are by what they are after.

mod changes;
mod endless;
mod huge;
mod patterns;
mod planned;

use crate::fixture::{FIRST_DAY, append, readings, table, telemetry_schema};
use crate::tail::river::{message, telemetry};
use millstream_lake::Bucket;
use millstream_log::Log;
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use millstream_model::stream::Stream;
use millstream_query::{Definitions, Lakehouse, Limits, QueryError, QueryErrorKind, Session};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

/// What stands in files beside the tables, and must never stand in an answer.
const CANARY: &str = "canary-7f3a";

/// For what is to be stopped.
const SHORT: Duration = Duration::from_secs(1);

/// For what is to come to its own end.
const LONG: Duration = Duration::from_secs(120);

/// How long whatever is over its limit may take to notice.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rows that are read of an answer that never ends.
const ROWS_READ: usize = 1_000_000;

/// How a statement ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Before it begins: it is no question, or names what does not exist.
    Refused,
    /// By a limit, or because a value cannot be.
    Stopped,
    /// With an answer, and a small one.
    Answered,
    /// By a fault of the engine or of the storage: none of them may.
    Failed,
}

struct Ground {
    dir: tempfile::TempDir,
    session: Arc<Session>,
    lakehouse: Lakehouse,
    limits: Limits,
}

impl Ground {
    async fn prepare(time: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lakehouse = Lakehouse::new(
            Bucket::local(&dir.path().join("ingestion")).unwrap(),
            Bucket::local(&dir.path().join("reporting")).unwrap(),
        );
        let telemetry = table(&lakehouse.ingestion, "telemetry", telemetry_schema()).await;
        append(&telemetry, readings(FIRST_DAY, "d1", 20.0)).await;
        append(&telemetry, readings(FIRST_DAY + 1, "d2", 5.0)).await;
        std::fs::write(dir.path().join("secret.csv"), CANARY).unwrap();
        std::fs::write(dir.path().join("ingestion/secret.json"), format!("{{\"a\":\"{CANARY}\"}}")).unwrap();
        std::fs::create_dir(dir.path().join("spill")).unwrap();
        let limits = Limits {
            memory_bytes: 32 << 20,
            spill_bytes: 16 << 20,
            spill_dir: Some(dir.path().join("spill")),
            parallelism: Some(2),
            time,
            ..Limits::default()
        };
        let session = Arc::new(Session::open(&lakehouse, limits.clone()).await.unwrap());
        Self { session, dir, lakehouse, limits }
    }

    /// With more room on the disk than any of its statements needs: what stops them then is the memory.
    async fn with_room_to_spill(self) -> Self {
        let limits = Limits { spill_bytes: 1 << 30, ..self.limits };
        let session = Arc::new(Session::open(&self.lakehouse, limits.clone()).await.unwrap());
        Self { session, limits, ..self }
    }

    /// With a stream `machines` of which everything still waits in the log, in which there is a secret, too, that no table has.
    async fn with_tail(self) -> Self {
        let log = EmbeddedLog::open(&self.dir.path().join("log"), EmbeddedSettings::default()).await.unwrap();
        let stream = Stream { name: "machines".parse().unwrap(), ..telemetry() };
        let topic = stream.name.log_topic();
        let payloads = [r#"{"temp":1.5}"#, r#"{"temp":2}"#, "{oops"];
        let messages = payloads.iter().zip(0..).map(|(payload, sent)| message("d1", payload, sent)).collect();
        log.append(&topic, messages).await.unwrap().await.unwrap();
        let secret = vec![message("d1", CANARY, 0)];
        log.append(&"millstream.secrets".parse().unwrap(), secret).await.unwrap().await.unwrap();
        let definitions = Definitions { streams: vec![Arc::new(stream)], ..Definitions::default() };
        let lakehouse = self.lakehouse.with_definitions(Arc::new(definitions)).with_log(Arc::new(log));
        let session = Arc::new(Session::open(&lakehouse, self.limits.clone()).await.unwrap());
        assert!(ask(&session, "select count(*) as n from machines").await.unwrap().contains("| 2 |"));
        Self { session, lakehouse, ..self }
    }

    /// Every file but those that are spilled, by size and time.
    fn files(&self) -> BTreeMap<String, (u64, SystemTime)> {
        let mut files = BTreeMap::new();
        list(self.dir.path(), &mut files);
        files
    }

    async fn check(&self, sql: &str, expected: End) {
        let begin: String = sql.chars().take(120).collect();
        // Where a statement ends the whole process, this says which.
        println!("{begin}");
        let session = Arc::clone(&self.session);
        let asked = sql.to_owned();
        // On a thread of the runtime, as in the program: so its stack is as large as there, and a planner that does not come back is noticed.
        let mut task = JoinSet::new();
        task.spawn(async move { ask(&session, &asked).await });
        let ended = tokio::time::timeout(self.limits.time + PATIENCE, task.join_next()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it does not end: {begin}")).unwrap();
        let ended = ended.unwrap_or_else(|panic| panic!("{panic}: {begin}"));
        let found = match &ended {
            Ok(text) => {
                assert!(!text.contains(CANARY), "{begin}: {text}");
                End::Answered
            }
            Err(error) => judged(error),
        };
        assert_eq!(found, expected, "{begin}: {ended:?}");
    }

    /// Checks each of them; then that nothing has changed and that questions are still answered.
    async fn check_all(&self, statements: &[String], expected: End) {
        let before = self.files();
        for sql in statements {
            self.check(sql, expected).await;
            self.check_that_it_answers(sql).await;
        }
        assert_eq!(self.files(), before);
    }

    /// A busy machine may need more than one of the short limits for it: what was stopped still works off its last batch.
    async fn check_that_it_answers(&self, after: &str) {
        self.check_that_it_answers_soon(60, after).await;
    }

    async fn check_that_it_answers_soon(&self, attempts: usize, after: &str) {
        let question = "select count(*) as n, sum(_offset) > 0 as read from telemetry";
        for _ in 0..attempts {
            match ask(&self.session, question).await {
                Ok(answer) => return assert!(answer.contains("| 8 | true |"), "{after}: {answer}"),
                Err(error) => assert_eq!(judged(&error), End::Stopped, "{after}: {error}"),
            }
        }
        panic!("it answers no more after {after}");
    }
}

/// The answer as text, or of a long one what was read of it.
async fn ask(session: &Session, sql: &str) -> Result<String, QueryError> {
    let mut answer = session.query(sql).await?;
    let mut text = String::new();
    let mut rows = 0;
    while let Some(batch) = answer.next().await? {
        rows += batch.num_rows();
        assert!(rows <= ROWS_READ, "it goes on and on: {sql}");
        if text.len() < 1 << 20 {
            let head = batch.slice(0, batch.num_rows().min(100));
            text.push_str(&arrow::util::pretty::pretty_format_batches(&[head]).unwrap().to_string());
        }
    }
    Ok(text)
}

fn judged(error: &QueryError) -> End {
    match error.kind() {
        QueryErrorKind::Resources | QueryErrorKind::Value => End::Stopped,
        QueryErrorKind::Storage | QueryErrorKind::Internal => End::Failed,
        _ => End::Refused,
    }
}

fn list(dir: &Path, files: &mut BTreeMap<String, (u64, SystemTime)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // There files come and go.
        if path.ends_with("spill") {
            continue;
        }
        let meta = std::fs::metadata(&path).unwrap();
        match meta.is_dir() {
            true => list(&path, files),
            false => {
                _ = files.insert(path.to_str().unwrap().to_owned(), (meta.len(), meta.modified().unwrap()))
            }
        }
    }
}

fn owned(statements: &[&str]) -> Vec<String> {
    statements.iter().map(ToString::to_string).collect()
}

/// A chain of queries, each of the one before.
fn chain(first: &str, step: &str) -> String {
    let steps: Vec<_> = (1..60).map(|i| format!("t{i} as (select {step} as s from t{})", i - 1)).collect();
    format!("with t0 as ({first}), {} select s from t59", steps.join(", "))
}
