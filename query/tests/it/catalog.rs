//! What it costs to find a table.

use crate::fixture::{csv, lakehouse};
use millstream_lake::Bucket;
use millstream_lake::faults::FaultyStore;
use millstream_query::{Lakehouse, Limits, Session};
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
