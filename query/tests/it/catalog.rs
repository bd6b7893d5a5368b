//! How a table is found, and what that costs.

use crate::fixture::{csv, lakehouse};
use millstream_lake::Bucket;
use millstream_lake::faults::FaultyStore;
use millstream_query::{Lakehouse, Limits, QueryErrorKind, Session};
use std::sync::Arc;

#[tokio::test]
async fn a_report_named_plainly_costs_one_look_for_a_stream_of_its_name() {
    let Lakehouse { ingestion, reporting, .. } = lakehouse().await;
    let store = Arc::new(FaultyStore::new(ingestion.store()));
    let counted = Bucket::with_store("ingestion", ingestion.url().clone(), Arc::clone(&store) as _);
    let session = Session::open(&Lakehouse::new(counted, reporting), Limits::default()).await.unwrap();
    for _ in 0..2 {
        let before = store.requests();
        assert_eq!(csv(&session, "select readings from daily").await.unwrap(), "readings\n8\n");
        assert_eq!(store.requests() - before, 1);
    }
    assert_eq!(csv(&session, "select count(*) as n from telemetry").await.unwrap(), "n\n24\n");
}

/// As in a report's SQL, where `ingestion.daily` is a stream.
#[tokio::test]
async fn only_a_plain_name_may_be_a_streams_or_a_reports() {
    let session = Session::open(&lakehouse().await, Limits::default()).await.unwrap();
    for name in ["daily", "reporting.daily", "millstream.reporting.daily"] {
        assert_eq!(csv(&session, &format!("select readings from {name}")).await.unwrap(), "readings\n8\n");
    }
    for name in ["ingestion.daily", "millstream.ingestion.daily"] {
        for sql in [
            format!("select readings from {name}"),
            format!("select 1 where exists (select 1 from daily join {name} using (date))"),
            format!("describe {name}"),
        ] {
            let error = csv(&session, &sql).await.unwrap_err();
            assert_eq!(error.kind(), QueryErrorKind::UnknownTable, "{sql}: {error}");
            assert_eq!(error.hints()[0], "did you mean reporting.daily?", "{sql}");
        }
    }
    assert_eq!(csv(&session, "select count(*) as n from ingestion.telemetry").await.unwrap(), "n\n24\n");
}
