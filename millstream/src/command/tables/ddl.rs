//! Statements that make the tables known to other engines. No credential is ever in them.

use super::Entry;
use crate::cli::Engine;
use crate::config::Settings;
use anyhow::ensure;
use std::fmt::Write;
use url::Url;

/// How the object store is reached, for engines that have to be told.
#[derive(Debug, Default)]
pub(super) struct Store {
    endpoint: Option<Url>,
    region: Option<String>,
    path_style: bool,
}

impl Store {
    /// As it is configured, else as the environment says.
    pub(super) fn of(settings: &Settings) -> anyhow::Result<Self> {
        let s3 = settings.lake.s3.place();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = s3
            .endpoint
            .clone()
            .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
            .or_else(|| variable("AWS_ENDPOINT_URL"))
            .or_else(|| variable("AWS_ENDPOINT"));
        Ok(Self {
            endpoint: endpoint.map(|text| Url::parse(&text)).transpose()?,
            region: s3
                .region
                .clone()
                .or_else(|| variable("AWS_REGION"))
                .or_else(|| variable("AWS_DEFAULT_REGION")),
            path_style: s3.path_style.unwrap_or(true),
        })
    }
}

/// The statements for an engine, in the order in which they are to be run.
///
/// # Errors
/// If the engine cannot reach the tables where they are.
pub(super) fn statements(engine: Engine, entries: &[Entry], store: &Store) -> anyhow::Result<String> {
    let mut text = String::new();
    match engine {
        Engine::Duckdb => duckdb(&mut text, entries, store)?,
        Engine::Athena => athena(&mut text, entries)?,
        Engine::Spark => spark(&mut text, entries)?,
        Engine::Trino => trino(&mut text, entries)?,
    }
    Ok(text)
}

fn duckdb(out: &mut String, entries: &[Entry], store: &Store) -> anyhow::Result<()> {
    writeln!(out, "-- DuckDB. Once: install delta;")?;
    writeln!(out, "load delta;")?;
    let mut buckets: Vec<&str> =
        entries.iter().filter(|entry| is_s3(entry)).filter_map(|entry| entry.url.host_str()).collect();
    buckets.dedup();
    if !buckets.is_empty() {
        writeln!(
            out,
            "-- Once: install httpfs; install aws; the latter finds credentials as AWS's own tools do (AWS_* and so on)."
        )?;
        writeln!(out, "load httpfs;\nload aws;")?;
    }
    for bucket in buckets {
        let mut options = vec!["type s3".to_owned(), "provider credential_chain".to_owned()];
        options.push(format!("scope {}", text(&format!("s3://{bucket}"))));
        options.extend(store.region.as_ref().map(|region| format!("region {}", text(region))));
        if let Some(endpoint) = &store.endpoint {
            let host = endpoint.host_str().unwrap_or_default();
            let port = endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
            options.push(format!("endpoint {}", text(&format!("{host}{port}"))));
            options.push(format!("use_ssl {}", endpoint.scheme() == "https"));
            options.push(format!("url_style {}", text(if store.path_style { "path" } else { "vhost" })));
        }
        let name = format!("millstream_{}", bucket.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        writeln!(out, "create or replace secret {name} ({});", options.join(", "))?;
    }
    for schema in schemas(entries) {
        writeln!(out, "create schema if not exists {schema};")?;
    }
    for Entry { schema, name, url, .. } in entries {
        let place = match url.to_file_path() {
            Ok(path) if url.scheme() == "file" => path.to_string_lossy().into_owned(),
            _ => url.to_string(),
        };
        let place = text(place.trim_end_matches('/'));
        writeln!(out, "create or replace view {schema}.{name} as select * from delta_scan({place});")?;
    }
    Ok(())
}

fn athena(out: &mut String, entries: &[Entry]) -> anyhow::Result<()> {
    for entry in entries {
        ensure!(
            is_s3(entry),
            "Athena reads S3 only, and {}.{} is at {}",
            entry.schema,
            entry.name,
            entry.url
        );
    }
    writeln!(out, "-- Athena takes one statement at a time. Columns are read from the tables' own logs.")?;
    for schema in schemas(entries) {
        writeln!(out, "CREATE DATABASE IF NOT EXISTS `{schema}`;")?;
    }
    for Entry { schema, name, url, .. } in entries {
        writeln!(
            out,
            "CREATE EXTERNAL TABLE IF NOT EXISTS `{schema}`.`{name}`\nLOCATION {}\nTBLPROPERTIES ('table_type' = 'DELTA');",
            text(url.as_str())
        )?;
    }
    Ok(())
}

fn spark(out: &mut String, entries: &[Entry]) -> anyhow::Result<()> {
    writeln!(out, "-- Spark with Delta Lake. On EMR and Databricks write s3:// for s3a://.")?;
    for schema in schemas(entries) {
        writeln!(out, "CREATE SCHEMA IF NOT EXISTS {schema};")?;
    }
    for Entry { schema, name, url, .. } in entries {
        let url = url.as_str().trim_end_matches('/');
        let url = url.strip_prefix("s3://").map_or_else(|| url.to_owned(), |rest| format!("s3a://{rest}"));
        writeln!(out, "CREATE TABLE IF NOT EXISTS {schema}.{name} USING DELTA LOCATION {};", text(&url))?;
    }
    Ok(())
}

fn trino(out: &mut String, entries: &[Entry]) -> anyhow::Result<()> {
    writeln!(
        out,
        "-- Trino: a catalog `delta` of the Delta Lake connector, with delta.register-table-procedure.enabled=true."
    )?;
    for schema in schemas(entries) {
        writeln!(out, "CREATE SCHEMA IF NOT EXISTS delta.{schema};")?;
    }
    for Entry { schema, name, url, .. } in entries {
        let location = text(url.as_str().trim_end_matches('/'));
        writeln!(
            out,
            "CALL delta.system.register_table(schema_name => '{schema}', table_name => '{name}', table_location => {location});"
        )?;
    }
    Ok(())
}

/// The schemas that have tables. They and the tables' names are of lower-case letters, digits and `_`, so they need no quotes.
fn schemas(entries: &[Entry]) -> Vec<&'static str> {
    let mut schemas: Vec<&'static str> = entries.iter().map(|entry| entry.schema).collect();
    schemas.dedup();
    schemas
}

fn is_s3(entry: &Entry) -> bool {
    entry.url.scheme() == "s3"
}

/// A text as SQL has it.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(schema: &'static str, name: &str, url: &str) -> Entry {
        let (kind, url) = ("stream", Url::parse(url).unwrap());
        let (name, gaps) = (name.to_owned(), (Vec::new(), 0));
        Entry { schema, name, kind, rows: Some(1), bytes: 1, files: 1, version: 0, url, gaps }
    }

    fn check(engine: Engine, store: &Store, expected: &str) {
        let entries = [
            entry("ingestion", "telemetry", "s3://lake/ingestion/telemetry/"),
            entry("reporting", "daily", "s3://lake/reporting/daily/"),
        ];
        let printed = statements(engine, &entries, store).unwrap();
        let statements: Vec<&str> = printed.lines().filter(|line| !line.starts_with("--")).collect();
        assert_eq!(statements.join("\n"), expected.trim());
    }

    #[test]
    fn each_engine_is_told_in_its_own_words() {
        let aws = Store::default();
        check(
            Engine::Athena,
            &aws,
            "
CREATE DATABASE IF NOT EXISTS `ingestion`;
CREATE DATABASE IF NOT EXISTS `reporting`;
CREATE EXTERNAL TABLE IF NOT EXISTS `ingestion`.`telemetry`
LOCATION 's3://lake/ingestion/telemetry/'
TBLPROPERTIES ('table_type' = 'DELTA');
CREATE EXTERNAL TABLE IF NOT EXISTS `reporting`.`daily`
LOCATION 's3://lake/reporting/daily/'
TBLPROPERTIES ('table_type' = 'DELTA');",
        );
        check(
            Engine::Spark,
            &aws,
            "
CREATE SCHEMA IF NOT EXISTS ingestion;
CREATE SCHEMA IF NOT EXISTS reporting;
CREATE TABLE IF NOT EXISTS ingestion.telemetry USING DELTA LOCATION 's3a://lake/ingestion/telemetry';
CREATE TABLE IF NOT EXISTS reporting.daily USING DELTA LOCATION 's3a://lake/reporting/daily';",
        );
        check(
            Engine::Trino,
            &aws,
            "
CREATE SCHEMA IF NOT EXISTS delta.ingestion;
CREATE SCHEMA IF NOT EXISTS delta.reporting;
CALL delta.system.register_table(schema_name => 'ingestion', table_name => 'telemetry', table_location => 's3://lake/ingestion/telemetry');
CALL delta.system.register_table(schema_name => 'reporting', table_name => 'daily', table_location => 's3://lake/reporting/daily');",
        );
        let minio = Store {
            endpoint: Some(Url::parse("http://127.0.0.1:9000").unwrap()),
            region: Some("us-east-1".to_owned()),
            path_style: true,
        };
        check(
            Engine::Duckdb,
            &minio,
            "
load delta;
load httpfs;
load aws;
create or replace secret millstream_lake (type s3, provider credential_chain, scope 's3://lake', region 'us-east-1', endpoint '127.0.0.1:9000', use_ssl false, url_style 'path');
create schema if not exists ingestion;
create schema if not exists reporting;
create or replace view ingestion.telemetry as select * from delta_scan('s3://lake/ingestion/telemetry');
create or replace view reporting.daily as select * from delta_scan('s3://lake/reporting/daily');",
        );
    }

    #[test]
    fn athena_is_not_told_of_a_directory() {
        let entries = [entry("ingestion", "telemetry", "file:///srv/it's/telemetry/")];
        let error = statements(Engine::Athena, &entries, &Store::default()).unwrap_err();
        assert!(error.to_string().contains("reads S3 only"), "{error}");
        let printed = statements(Engine::Duckdb, &entries, &Store::default()).unwrap();
        assert!(printed.contains("delta_scan('/srv/it''s/telemetry')"), "{printed}");
    }
}
