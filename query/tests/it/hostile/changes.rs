//! What would change something, or read what is no table, is refused.

use super::{End, Ground, LONG, owned};

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
