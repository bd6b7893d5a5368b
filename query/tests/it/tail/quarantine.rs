//! Quarantine has a tail, too: in every topic, and between the two commits of a flush.

use super::river::{Repeat, River, cost, rows, telemetry};
use millstream_model::name::LogTopic;
use millstream_query::TailUse;

const ALL: &str =
    "select stream, _partition, _offset, reason from quarantine order by stream, _partition, _offset";

#[tokio::test]
async fn what_is_quarantined_is_visible_from_the_log_to_its_files() {
    let mut river = River::new().await;
    let session = river.session().await;
    river.send("d1", &["1", "{", "2", "", "3"]).await;
    let expected = "telemetry,0,1,not_json\ntelemetry,0,3,empty\n";
    assert_eq!(rows(&session, ALL).await, expected);
    for (at_most, repeat) in
        [(1, Repeat::Done), (1, Repeat::Left), (0, Repeat::Done), (1, Repeat::Done), (2, Repeat::Left)]
    {
        if at_most > 0 {
            river.commit_and(at_most, repeat).await;
        }
        assert_eq!(rows(&session, ALL).await, expected, "{at_most} {repeat:?}");
        assert_eq!(rows(&river.session().await, ALL).await, expected, "{at_most} {repeat:?}");
        assert_eq!(rows(&session, "select count(*) from telemetry").await, "3\n");
    }
}

#[tokio::test]
async fn a_decision_that_was_left_half_done_counts_once_done_or_not() {
    let mut river = River::with(telemetry(), 3).await;
    let session = river.session().await;
    let mut expected = 0;
    for round in 0..6 {
        for device in ["d1", "d2", "d3", "d4", "d5"] {
            river.send(device, &["{", "{\"a\": 1}"]).await;
            expected += 1;
        }
        let repeat = if round % 2 == 1 { Repeat::Left } else { Repeat::Done };
        river.commit_and(round, repeat).await;
        let count =
            "select count(*), count(distinct _partition * 1000 + _offset), count(payload) from quarantine";
        let answer = format!("{expected},{expected},{expected}\n");
        assert_eq!(rows(&session, count).await, answer, "round {round}");
        assert_eq!(rows(&river.session().await, count).await, answer, "round {round}");
        let all = "select count(*) from telemetry";
        assert_eq!(rows(&session, all).await, format!("{expected}\n"));
    }
}

#[tokio::test]
async fn what_no_stream_claims_is_visible_at_once() {
    let mut river = River::new().await;
    let session = river.session().await;
    let unrouted = LogTopic::unrouted();
    river.send_to(&unrouted, "d9", &["x", "y"]).await;
    river.send("d1", &["{"]).await;
    let expected = "telemetry,0,0,not_json\n,0,0,no_stream\n,0,1,no_stream\n";
    assert_eq!(rows(&session, ALL).await, expected);
    river.commit_unrouted().await;
    assert_eq!(rows(&session, ALL).await, expected);
    river.commit(1).await;
    assert_eq!(rows(&session, ALL).await, expected);
    let cost = cost(&session, ALL, TailUse::Follow).await.unwrap();
    assert_eq!(cost.tail.map(|tail| tail.rows), Some(0));
    assert_eq!(rows(&session, "select count(*) from quarantine where date = '2026-03-01'").await, "3\n");
}
