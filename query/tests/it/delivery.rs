//! Clients that take their answers slowly.

use crate::client::{read, serve};
use millstream_query::server::Settings;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Gives rows for longer than any test lasts.
const TALKATIVE: &str = "select a.value, repeat('x', 100) as text from generate_series(1, 10000000) a cross join generate_series(1, 10000000) b";

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_does_not_keep_its_query_for_ever() {
    let settings = Settings { delivery: Duration::from_millis(200), ..Settings::default() };
    let server = serve(settings).await;
    let mut client = server.begin(TALKATIVE).await;
    let ended = async {
        // Far slower than rows are made, and never still for as long as a client may be.
        while client.read(&mut [0; 64 << 10]).await.is_ok_and(|bytes| bytes > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), ended).await.unwrap();
    server.until(|counts| counts.running == 0).await;
    let counts = server.counters.read();
    assert_eq!((counts.total, counts.answered, counts.failed), (1, 0, 0));
}

#[tokio::test]
async fn who_gives_up_its_answer_has_not_seen_a_failure() {
    let server = serve(Settings { stall: Duration::from_millis(100), ..Settings::default() }).await;
    let client = server.begin(TALKATIVE).await;
    server.until(|counts| counts.bytes > 0 && counts.running == 0).await;
    let reply = read(client).await;
    assert_eq!((reply.status, reply.whole), (200, false));
    let counts = server.counters.read();
    assert_eq!((counts.total, counts.answered, counts.failed), (1, 0, 0));
}
