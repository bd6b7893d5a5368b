//! Statements that want something else than an answer, or an answer without end: each comes to its end, nothing but the tables is read, nothing is written, and
//! the session goes on. One file, because it is the lists of these statements.

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
const LONG: Duration = Duration::from_secs(30);

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
    /// With a small answer, or an error that is none of ours: what matters is that it ends.
    Ended,
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
        files.retain(|path, _| !path.contains("/spill/"));
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
        let ended = tokio::time::timeout(Duration::from_secs(120), task.join_next()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it does not end: {begin}")).unwrap();
        let ended = ended.unwrap_or_else(|panic| panic!("{panic}: {begin}"));
        let found = match &ended {
            Ok(text) => {
                assert!(!text.contains(CANARY), "{begin}: {text}");
                End::Answered
            }
            Err(error) => judged(error),
        };
        if expected != End::Ended {
            assert_eq!(found, expected, "{begin}: {ended:?}");
        }
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
        QueryErrorKind::Storage | QueryErrorKind::Internal => End::Ended,
        _ => End::Refused,
    }
}

fn list(dir: &Path, files: &mut BTreeMap<String, (u64, SystemTime)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
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

/// Statements that would change something, or clauses that would be dropped in silence.
const CHANGES: &[&str] = &[
    "create table t as select 1",
    "create table t (a int)",
    "create or replace table telemetry as select 1",
    "create temporary table t as select 1",
    "create view v as select 1",
    "create or replace view telemetry as select 1",
    "create schema s",
    "create database d",
    "create function f(x int) returns int return x",
    "create index i on telemetry (ts)",
    "create external table t stored as csv location '/etc/passwd'",
    "create external table t stored as parquet location 's3://bucket/key'",
    "create unbounded external table t (a int) stored as json location '/dev/zero'",
    "drop table telemetry",
    "drop table if exists telemetry",
    "drop view telemetry",
    "drop schema ingestion cascade",
    "drop function abs",
    "alter table telemetry add column x int",
    "alter table telemetry rename to t",
    "truncate table telemetry",
    "insert into telemetry select * from telemetry",
    "insert overwrite telemetry select * from telemetry",
    "insert into telemetry values (1)",
    "update telemetry set temp = 0",
    "delete from telemetry",
    "merge into telemetry a using telemetry b on a.ts = b.ts when matched then delete",
    "explain analyze delete from telemetry",
    "explain insert into telemetry values (1)",
    "explain explain analyze drop table telemetry",
    "with a as (select 1) insert into telemetry select * from a",
    "select * into t from telemetry",
    "begin",
    "start transaction",
    "commit",
    "rollback",
    "savepoint s",
    "set datafusion.execution.batch_size = 1",
    "set datafusion.runtime.memory_limit = '100G'",
    "set datafusion.runtime.max_temp_directory_size = '100T'",
    "set datafusion.runtime.temp_directory = '/etc'",
    "set datafusion.catalog.location = '/etc'",
    "set time zone = '+09:00'",
    "reset datafusion.execution.batch_size",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "declare c cursor for select 1",
    "use reporting",
    "analyze table telemetry compute statistics",
    "vacuum telemetry",
    "attach database '/etc/passwd' as p",
    "install httpfs",
    "load httpfs",
    "pragma database_list",
    "call f()",
    "kill 1",
    "grant all on telemetry to public",
    "lock table telemetry",
    "flush tables",
    "unload ('select 1') to 's3://bucket/key'",
    "load data inpath '/etc/passwd' into table telemetry",
    "export database '/tmp'",
    "select 1; drop table telemetry",
    "select 1; select 2",
    "select * from telemetry tablesample (10 percent)",
    "select * from telemetry tablesample bernoulli (10)",
    "select * from (select * from telemetry) tablesample system (1)",
    "select * from telemetry for system_time as of '2026-01-01'",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_changed() {
    let ground = Ground::prepare(LONG).await;
    let target = ground.dir.path().join("out").display().to_string();
    let mut statements = owned(CHANGES);
    statements.extend([
        format!("copy telemetry to '{target}.csv'"),
        format!("copy (select * from telemetry) to '{target}' stored as parquet"),
        format!("explain copy telemetry to '{target}.json'"),
        format!("explain analyze copy telemetry to '{target}.json'"),
    ]);
    ground.check_all(&statements, End::Refused).await;
    assert_eq!(std::fs::read_dir(ground.dir.path()).unwrap().count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_is_a_table() {
    let ground = Ground::prepare(LONG).await;
    let dir = ground.dir.path().display().to_string();
    let mut statements = owned(&[
        "select * from '/etc/passwd'",
        "select * from \"/etc/passwd\"",
        "select * from 'file:///etc/passwd'",
        "select * from 's3://bucket/key.parquet'",
        "select * from 'http://127.0.0.1/x.csv'",
        "select * from \"../secret.csv\"",
        "select * from ingestion.\"../reporting\"",
        "select * from \"telemetry/_delta_log\"",
        "select * from \"telemetry/../../secret.csv\"",
        "select * from \"secret.json\"",
        "select * from millstream.ingestion.\"..\"",
        "select * from other.ingestion.telemetry",
        "select * from pg_catalog.pg_tables",
        "select * from sys.tables",
        "select * from read_csv('/etc/passwd')",
        "select * from read_csv_auto('/etc/passwd')",
        "select * from read_parquet('/etc/passwd')",
        "select * from read_json('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from parquet_metadata('/etc/passwd')",
        "select * from parquet_scan('/etc/passwd')",
        "select * from delta_scan('/etc')",
        "select * from glob('/*')",
        "select * from url('http://127.0.0.1/')",
        "select * from file('/etc/passwd')",
        "select pg_read_file('/etc/passwd')",
        "select load_file('/etc/passwd')",
        "select read_blob('/etc/passwd')",
        "select getenv('HOME')",
        "select system('id')",
        "select sleep(100)",
        "select pg_sleep(100)",
    ]);
    statements.extend([
        format!("select * from '{dir}/secret.csv'"),
        format!("select * from \"{dir}/ingestion/secret.json\""),
        format!("select * from \"file://{dir}/secret.csv\""),
        format!("select * from read_csv('{dir}/secret.csv')"),
        format!("describe '{dir}/secret.csv'"),
    ]);
    ground.check_all(&statements, End::Refused).await;
    let harmless = owned(&[
        "show tables",
        "show all",
        "show functions",
        "describe telemetry",
        "select * from information_schema.tables",
        "select * from information_schema.columns",
        "select * from information_schema.df_settings",
        "select * from information_schema.routines limit 10",
        "explain select * from telemetry",
        "explain verbose select * from telemetry",
        "explain analyze select * from telemetry",
        "explain format tree select * from telemetry",
    ]);
    ground.check_all(&harmless, End::Answered).await;
}

/// What waits in the log, and what Millstream tells of itself, are no more than tables that are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_the_tail_nor_the_system_tables_are_a_way_in() {
    let ground = Ground::prepare(LONG).await.with_tail().await;
    let target = ground.dir.path().join("out").display().to_string();
    let mut statements = Vec::new();
    for table in ["machines", "system.streams", "system.files", "system.devices", "ingestion.machines"] {
        let of = |text: &str| text.replace("TABLE", table);
        statements.extend([
            of("insert into TABLE select * from TABLE"),
            of("delete from TABLE"),
            of("update TABLE set date = null"),
            of("drop table TABLE"),
            of("alter table TABLE add column x int"),
            of("truncate table TABLE"),
            of("create or replace table TABLE as select 1"),
            of("create or replace view TABLE as select 1"),
            of("select * into t from TABLE"),
            of("select * from TABLE tablesample (10 percent)"),
            of("select * from TABLE for system_time as of '2026-01-01'"),
            of("explain analyze insert into TABLE select * from TABLE"),
            of(&format!("copy TABLE to '{target}.csv'")),
            of(&format!("copy (select * from TABLE) to '{target}' stored as parquet")),
        ]);
    }
    statements.extend(owned(&[
        "set millstream.tail = false",
        "set tail = off",
        "reset tail",
        "create schema system",
        "drop schema system cascade",
        "select * from system.\"../log\"",
        "select * from system.\"secret.csv\"",
        "select * from \"machines/../../secret.csv\"",
        "select * from \"millstream.machines\"",
        "select * from log.machines",
    ]));
    ground.check_all(&statements, End::Refused).await;
    let harmless = owned(&[
        "select device_id, count(*) from machines group by 1",
        "select * from machines m join telemetry t on m.device_id = t.device_id",
        "select * from quarantine",
        "select * from system.streams",
        "select * from system.partitions",
        "explain analyze select count(*) from machines",
    ]);
    ground.check_all(&harmless, End::Answered).await;
    assert!(!std::fs::exists(format!("{target}.csv")).unwrap());
}

/// What waits counts as often as it is read, and no limit is wider for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_end_in_the_tail_is_stopped() {
    let ground = Ground::prepare(SHORT).await.with_tail().await;
    let many = (0..32).map(|n| format!("machines m{n}")).collect::<Vec<_>>().join(", ");
    let statements = owned(&[
        &format!("select count(*) from {many} where m0._offset + m31._offset < 0"),
        "select max(md5((m.temp + a.value)::varchar)) from machines m cross join generate_series(1, 1000000000) a",
        "with recursive n as (select temp from machines union all select m.temp + n.temp from n cross join machines m) select count(*) from n",
        "select max(md5((a.partition + b.value)::varchar)) from system.partitions a cross join generate_series(1, 1000000000) b",
    ]);
    ground.check_all(&statements, End::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_end_is_stopped() {
    let ground = Ground::prepare(SHORT).await;
    let statements = owned(&[
        "select count(*) from generate_series(1, 100000000) a cross join generate_series(1, 100000000) b where a.value + b.value < 0",
        "select count(*) from telemetry a, telemetry b, telemetry c, telemetry d, telemetry e, telemetry f, telemetry g, telemetry h, telemetry i, telemetry j, telemetry k where a.temp + k.temp < 0",
        "with recursive n as (select 1 as i union all select i + 1 from n) select count(*) from n",
        "with recursive n as (select 1 as i union all select n.i + b.value from n cross join generate_series(1, 10) b) select count(*) from n",
        "with recursive n as (select 'x' as s union all select s || s from n) select max(length(s)) from n",
        "select value from generate_series(1, 100000000) order by random()",
        "select value, count(*) from generate_series(1, 100000000) group by value order by 2",
        "select count(distinct value) from generate_series(1, 100000000)",
        "select string_agg(repeat('x', 1000), '') from generate_series(1, 10000000)",
        "select array_agg(value) from generate_series(1, 100000000)",
        "select sum(value) over (order by value rows between unbounded preceding and unbounded following) from generate_series(1, 100000000)",
        "select a.value from generate_series(1, 100000000) a join generate_series(1, 100000000) b on a.value < b.value where a.value < 0",
        "select count(*) from generate_series(1, 100000000) where sha512(sha512(sha512(value::varchar::bytea)::varchar::bytea)::varchar::bytea) is null",
        "select count(*) from (select unnest(range(1, 16000)) from generate_series(1, 100000000)) s where false or random() < 0",
        "explain analyze select count(*) from generate_series(1, 100000000) a cross join generate_series(1, 100000000) b where a.value + b.value < 0",
        "select repeat('x', 2000000000)",
        "select repeat('x', 9223372036854775807)",
        "select repeat(device_id, 1000000000) from telemetry",
        "select count(*) from (select repeat('x', 100000) || value as s from generate_series(1, 1000000)) t where s like '%y%' or length(s) > 0 group by s",
        "select lpad('x', 2000000000, 'y')",
        "select rpad('x', 2000000000)",
        "select replace(repeat('a', 100000), 'a', repeat('b', 100000))",
        "select range(1, 10000000000)",
        "select generate_series(1, 10000000000, 1)",
        "select generate_series(timestamp '2000-01-01', timestamp '2030-01-01', interval '1 millisecond')",
        "select array_repeat('x', 1000000000)",
        "select array_repeat(array_repeat(1, 10000), 10000)",
        "select array_resize([1], 1000000000, 1)",
        "select unnest(range(1, 100000000000))",
        "select generate_series(date '0001-01-01', date '9999-12-31' - cast(_offset % 2 as int), interval '1 day') from telemetry",
        "select generate_series(date '0001-01-01', date '9999-12-31', interval '1 day')",
        "select range(date '9999-12-31', date '0001-01-01' + cast(_offset % 2 as int), interval '-1 day') from telemetry",
        "select generate_series(timestamp '2026-01-01', timestamp '2026-06-01', interval '1 month -30 days') from telemetry",
        "select generate_series(date '2026-01-01', date '2026-06-01', interval '1 day -1 hour') from telemetry",
        "select array_resize([device_id], 16000, repeat(device_id, 10000)) from telemetry",
        "select concat_ws(repeat(device_id, 10000), 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z') from generate_series(1, 8192), telemetry",
        "select regexp_replace(repeat(device_id, 10000), '', repeat(device_id, 10000), 'g') from telemetry",
        "select lpad(device_id, 1000000000, 'y') from telemetry",
        "select count(*) from (select range(1, 4000 + value % 2) as a from generate_series(1, 4000)) where array_has_all(a, range(1, 4000))",
    ]);
    ground.check_all(&statements, End::Stopped).await;
    let one = "select max(device_id) as s from telemetry";
    let doubled = [
        chain(one, "s || s"),
        chain(one, "concat(s, s)"),
        chain(one, "concat_ws(',', s, s)"),
        chain(one, "replace(s, 'd', 'd1d1')"),
        chain(one, "encode(s::bytea, 'hex')"),
        chain(one, "overlay(s placing s from 1 for 0)"),
        chain("select array_agg(temp) as s from telemetry", "array_concat(s, s)"),
        chain("select 'x' as s", "s || s"),
    ];
    ground.check_all(&doubled, End::Stopped).await;
    let too_many = owned(&[
        "select value from generate_series(1, 9000000000000000000)",
        "select count(*) from range(0, 9000000000000000000, 2)",
        "select count(*) from generate_series(timestamp '1700-01-01', timestamp '2200-01-01', interval '1 nanosecond')",
    ]);
    ground.check_all(&too_many, End::Refused).await;
}

/// A chain of queries, each of the one before.
fn chain(first: &str, step: &str) -> String {
    let steps: Vec<_> = (1..60).map(|i| format!("t{i} as (select {step} as s from t{})", i - 1)).collect();
    format!("with t0 as ({first}), {} select s from t59", steps.join(", "))
}

/// With time for all of it: what ends them is their size, or how much work they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_far_more_than_there_is_is_stopped_before_it_has_it() {
    let ground = Ground::prepare(LONG * 4).await.with_room_to_spill().await;
    let wide = "(select value, repeat('x', 1000) || value as t from generate_series(1, 40000))";
    let commas = ["repeat(',', 100000)"; 12].join(", ");
    let same = vec!["s"; 900].join(", ");
    let mut statements = owned(&[
        "select sum(value) over (rows between unbounded preceding and unbounded following) from generate_series(1, 4000000)",
        "select max(s) from (select avg(value) over (partition by value % 2) as s from generate_series(1, 4000000))",
        "select to_char(to_timestamp(value), repeat('%c', 60000)) from generate_series(1, 8192)",
        "select date_format(to_timestamp(0), repeat('%c', 60000))",
        "select array_to_string(range(1, 16000), repeat('x', 100000))",
        "select array_to_string(array_repeat(cast(null as varchar), 1000), ',', repeat(device_id, 40000)) from telemetry",
        "select array_replace_all(array_repeat('a', 10000), 'a', repeat('b', 100000))",
        "select array_repeat(null, 1000000000)",
        "select array_repeat(cast(null as varchar), 1000000000)",
        "select array_resize(['a'], 1000000000, null)",
        "select max(levenshtein(concat(repeat('a', 30000), value), repeat('b', 100000))) from generate_series(1, 8192)",
        "select max(length(ltrim(concat(repeat('a', 30000), value), repeat('b', 100000) || 'a'))) from generate_series(1, 8192)",
    ]);
    statements.extend([
        format!("select max(length(s)) from (select max(t) over () as s, t from {wide})"),
        format!("select max(s) from (select max(t) over (order by value rows between 10000000 preceding and current row) as s from {wide})"),
        format!("select max(s) from (select lead(t, 10000000) over (order by value) as s from {wide})"),
        format!("select max(s) from (select lag(t, 9223372036854775807) over (order by value) as s from {wide})"),
        format!("select string_to_array(concat(device_id, {commas}), ',') from telemetry"),
        format!("select [{same}] as l from (select repeat(device_id, 30000) as s from telemetry)"),
        format!("select struct({same}) from (select repeat(device_id, 30000) as s from telemetry)"),
        chain("select [1] as s", "s || s"),
        chain("select [_offset] as s from telemetry", "s || s"),
        chain("select [1] as s", "array_concat(s, s)"),
    ]);
    ground.check_all(&statements, End::Stopped).await;
    // As much goes through these, and they hold little of it.
    let passing = [
        "lag(t) ignore nulls over (order by value)",
        "lead(t, 2) over (order by value)",
        "row_number() over (order by value)",
        "max(t) over (order by value rows between 10 preceding and current row)",
        "sum(length(t)) over (order by value)",
    ];
    let passing = passing.map(|function| format!("select max(s) from (select {function} as s from {wide})"));
    ground.check_all(&passing, End::Answered).await;
    let many_fields = [
        chain("select 1 as s", "struct(s, s)"),
        chain("select _offset as s from telemetry", "{a: s, b: s}"),
        chain("select _offset as s from telemetry", "named_struct('a', s, 'b', s)"),
        chain("select _offset as s from telemetry", "map {s: s}"),
        chain("select [_offset] as s from telemetry", "arrays_zip(s, s)"),
    ];
    ground.check_all(&many_fields, End::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_to_plan_is_refused() {
    let ground = Ground::prepare(LONG).await;
    let doubling: Vec<_> =
        (1..60).map(|i| format!("t{i} as (select a.x from t{} a, t{} b)", i - 1, i - 1)).collect();
    let within = |depth: usize| {
        (0..depth).fold("select 1 as x".to_owned(), |sql, _| format!("with a as ({sql}) select x from a"))
    };
    let statements = vec![
        within(45),
        format!("select {} from telemetry", vec!["*"; 20_000].join(",")),
        format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("select {}1", "- ".repeat(50_000)),
        format!("select {}true", "not ".repeat(50_000)),
        format!("select 1{}", " + 1".repeat(50_000)),
        format!("select true{}", " or true".repeat(30_000)),
        format!("select 1{}", "::int".repeat(50_000)),
        format!("select 1{}", " is null".repeat(50_000)),
        format!("select {}1{}", "abs(".repeat(10_000), ")".repeat(10_000)),
        format!("select {}1{}", "case when true then ".repeat(10_000), " end".repeat(10_000)),
        format!("select * from {}telemetry{}", "(select * from ".repeat(10_000), ")".repeat(10_000)),
        format!("select 1 where {}1{}", "exists (select ".repeat(5_000), ")".repeat(5_000)),
        vec!["select 1"; 20_000].join(" union all "),
        format!("select 1 from {}", vec!["telemetry"; 20_000].join(", ")),
        format!("select 1 from telemetry{}", " natural join telemetry".repeat(10_000)),
        format!("with t0 as (select 1 as x), {} select count(*) from t59", doubling.join(", ")),
        format!("select 1 in ({})", vec!["1"; 100_000].join(",")),
        format!("select {}", vec!["1"; 100_000].join(",")),
        vec!["select 1"; 20_000].join(";"),
        format!("select {}1{}", "[".repeat(50_000), "]".repeat(50_000)),
        "/*".repeat(100_000),
        "select '".to_owned() + &"x".repeat(200_000),
        "\0".repeat(1_000),
        "select \u{202e}1 \u{0}".to_owned(),
        all_of_many(98, 250),
    ];
    ground.check_all(&statements, End::Refused).await;
}

/// Every column of so many tables with so many columns each.
fn all_of_many(tables: usize, columns: usize) -> String {
    let columns = (0..columns).map(|n| format!("{n} as c{n}")).collect::<Vec<_>>().join(", ");
    let tables = (0..tables).map(|n| format!("wide t{n}")).collect::<Vec<_>>().join(", ");
    format!("with wide as (select {columns} from telemetry) select * from {tables}")
}

/// Planning never pauses, and of what is few in number it may be much. All of the runtime is one thread here: if that were busy with it, nothing else would move.
#[tokio::test]
async fn what_is_planned_for_longer_than_it_may_take_is_stopped_and_holds_nobody_up() {
    let ground = Ground::prepare(SHORT).await;
    // More than the places for planners.
    let sql = all_of_many(98, 30);
    let mut moved = 0;
    let others = async {
        loop {
            tokio::time::sleep(SHORT / 100).await;
            moved += 1;
        }
    };
    let ended = tokio::select! {
        ended = futures::future::join_all([(); 3].map(|()| ask(&ground.session, &sql))) => ended,
        () = others => unreachable!("it has no end"),
    };
    for ended in ended {
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Resources);
        assert!(error.to_string().contains("takes longer than"), "{error}");
    }
    assert!(moved > 10, "the others moved {moved} times");
    // Those that plan what nobody waits for any more would else be busy for a minute.
    ground.check_that_it_answers_soon(20, &sql).await;
}

/// Questions at the edge of what functions and types can do.
const ODD: &[&str] = &[
    "select regexp_like(repeat('a', 30000), '(a*)*b')",
    "select regexp_like(repeat('a', 30000), '(a|aa)+$b')",
    "select regexp_match('a', '((a{1000}){1000}){1000}')",
    "select regexp_replace(repeat('a', 30000), 'a', repeat('b', 1000), 'g')",
    "select regexp_count(repeat('a', 30000), '')",
    "select device_id like repeat('%a', 10000) from telemetry",
    "select levenshtein(repeat('a', 1000), repeat('b', 1000))",
    "select * from telemetry limit -1",
    "select * from telemetry limit 9223372036854775807 offset 9223372036854775807",
    "select substr('a', -9223372036854775808, 9223372036854775807)",
    "select substr('a', 1, -1)",
    "select left('abc', -9223372036854775808), right('abc', -9223372036854775808)",
    "select chr(-1)",
    "select chr(1114112)",
    "select power(10, 1000), factorial(1000)",
    "select abs(-9223372036854775808)",
    "select -9223372036854775808 / -1",
    "select 9223372036854775807 + 1",
    "select gcd(-9223372036854775808, -1), lcm(9223372036854775807, 9223372036854775806)",
    "select to_timestamp(9223372036854775807)",
    "select to_timestamp_seconds(9223372036854775807)::varchar",
    "select date '9999-12-31' + interval '999999999 years'",
    "select timestamp '2026-01-01' + interval '9999999999999 days'",
    "select date_trunc('century', timestamp '0001-01-01')",
    "select date_bin(interval '1 nanosecond', timestamp '2262-01-01', timestamp '1678-01-01')",
    "select date_part('epoch', to_timestamp_micros(9223372036854775807))",
    "select array_slice([1, 2], -9223372036854775808, 9223372036854775807)",
    "select [1, 2][9223372036854775807]",
    "select nth_value(temp, 9223372036854775807) over (order by ts) from telemetry",
    "select lag(temp, 9223372036854775807) over (order by ts) from telemetry",
    "select lag(temp, -9223372036854775808) over (order by ts) from telemetry",
    "select ntile(9223372036854775807) over (order by ts) from telemetry",
    "select ntile(0) over (order by ts) from telemetry",
    "select sum(temp) over (order by ts range between interval '999999999 days' preceding and current row) from telemetry",
    "select sum(temp) over (order by ts rows between 18446744073709551615 preceding and 18446744073709551615 following) from telemetry",
    "select approx_percentile_cont(temp, 2) from telemetry",
    "select ARROW_CAST('x', ' fixedsizebinary(2000000000)')",
    "select arrow_cast('1', 'Decimal256(99, 3)')",
    "select arrow_cast(1, 'Nonsense((((')",
    "select arrow_cast('x', 'FixedSizeBinary(2000000000)')",
    "select arrow_cast([1], 'FixedSizeList(2000000000, Int64)')",
    "select cast(repeat('9', 100000) as double)",
    "select cast(1e308 as bigint), cast('NaN' as int)",
    "select decode(repeat('z', 10000), 'hex')",
    "select to_char(timestamp '2026-01-01', repeat('%Y', 10000))",
    "select to_timestamp('x', '%Q%!%')",
    "select * from telemetry for update",
    "select * from telemetry a where exists (select 1 from telemetry b where a.ts = b.ts and exists (select 1 from telemetry c where c.ts = a.ts))",
    "select (select temp from telemetry)",
    "with recursive n as (select 1 as i union all select i from n where false) select * from n",
    "with telemetry as (select 1 as n) select * from telemetry",
    "select * from telemetry, lateral (select telemetry.temp) t",
    "select uuid(), random(), now(), version()",
    "select * exclude (ts) from telemetry",
    "select map(range(1, 500), range(1, 500))",
    "select array_sort(array_repeat(1, 10000)), array_distinct(range(1, 10000))",
    "values (1), (2, 3)",
    "select split_part(repeat(',', 100000), ',', 9223372036854775807)",
    "select split_part('a', '', -9223372036854775808)",
    "select overlay('abc' placing 'x' from 9223372036854775807 for 9223372036854775807)",
    "select translate(repeat('a', 100000), 'a', 'b')",
    "select strpos(repeat('a', 100000), repeat('a', 50000) || 'b')",
    "select $1",
    "select * from telemetry where device_id = $1",
    "select bit_length(''), find_in_set('a', repeat('b,', 10000))",
    "select make_date(2147483647, 1, 1)",
    "select make_interval(2147483647, 2147483647)",
    "select 1 << 9223372036854775807, 1 >> -1",
    "select 1.5::decimal(38, 38), 99999999999999999999999999999999999999::decimal(38, 0) * 10",
    "select interval '1' year * 9223372036854775807",
    "select union_extract(1, 'x')",
    "select named_struct('a', named_struct('b', [1])), struct(1)['c0']",
    "select \"telemetry\".\"temp\".\"x\" from telemetry",
    "select round(1.5, 2147483647), trunc(1.5, -2147483648), log(0, 0), ln(-1)",
    "select sum(9223372036854775807) from generate_series(1, 10)",
    "select avg(1e308 * value) from generate_series(1, 100)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_and_odd_comes_to_an_end() {
    let ground = Ground::prepare(LONG).await;
    let columns = |count: usize| (0..count).map(|i| format!("{i} as a{i}")).collect::<Vec<_>>().join(",");
    let cube = |count: usize| (0..count).map(|i| format!("temp + {i}")).collect::<Vec<_>>().join(",");
    let values = (0..20_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let mut statements = vec![
        format!("select temp{} from telemetry", " + temp".repeat(148)),
        format!("select temp from telemetry where temp = 0{}", " or temp + temp = 1".repeat(199)),
        format!("select count(*) from telemetry where _offset in ({values})"),
        format!(
            "select count(*) from telemetry where _offset not in ({values}) and device_id not in ('{}')",
            "x','".repeat(5_000)
        ),
        format!("select {}", columns(1_000)),
        format!("select 1 from telemetry group by cube ({})", cube(8)),
        format!("select 1 from telemetry group by cube ({})", cube(30)),
        vec!["select 1"; 100].join(" union all "),
        vec!["select temp from telemetry"; 60].join(" union "),
        format!("select '{}'", "x".repeat(200_000)),
        format!("select 1 /* {} */", "x".repeat(200_000)),
        format!("select length('{}' || value) from generate_series(1, 8192)", "x".repeat(10_000)),
        format!("select concat({})", vec!["'x'"; 5_000].join(",")),
        format!("select coalesce({})", vec!["null"; 1_000].join(",")),
    ];
    statements.extend(owned(ODD));
    ground.check_all(&statements, End::Ended).await;
}
