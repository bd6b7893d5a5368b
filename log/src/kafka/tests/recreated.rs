//! A topic that somebody else deletes and makes anew while a log is open.

use super::topics::{Fails, delete, log, make};
use super::{first, found, numbered, read, unique, within};
use crate::api::{Bounds, Log};
use crate::contract::{ALL, append};
use crate::error::LogError;
use millstream_model::name::Offset;
use millstream_services::services;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_topic_is_found_by_whoever_looked_while_there_was_none() {
    let Some(services) = services("the_new_topic_is_found") else { return };
    let (here, there) = (log(services).await, log(services).await);
    let topic = unique(services, "recreated");
    let partition = first(&topic);
    // Librdkafka forgets in the order in which it learned: behind another topic it remembers for a quarter of an hour that this one does not exist.
    here.partitions(&unique(services, "before")).await.unwrap();
    append(&here, &topic, (0..10).map(numbered).collect()).await;
    let mut reader = here.reader(&partition, Offset(10)).await.unwrap();

    delete(&there, &topic).await;
    within(async { while found(async || here.existing(&topic).await).await.is_some() {} }).await;
    let gone = within(here.bounds(&partition)).await.unwrap_err();
    assert!(matches!(gone, LogError::Broker { .. } | LogError::Unreachable { .. }), "{gone:?}");
    make(&there, &topic, 1, &[]).await;
    within(async { while append_fails(&there, &topic, 100).await {} }).await;

    // One call each, which is bounded by itself.
    assert_eq!(here.bounds(&partition).await.unwrap(), Bounds { first: Offset::ZERO, next: Offset(1) });
    assert_eq!(read(&here, &partition, 0, 1).await, ["100"]);
    let ended = within(reader.next(ALL)).await.unwrap_err();
    assert!(matches!(ended, LogError::BeyondEnd { .. } | LogError::Broker { .. }), "{ended:?}");
    assert_eq!(append(&here, &topic, vec![numbered(101)]).await[0].offset, Offset(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_into_the_time_between_fails_and_the_next_one_stands_in_the_new_topic() {
    let Some(services) = services("an_append_into_the_time_between") else { return };
    let (here, there) = (log(services).await, log(services).await);
    let topic = unique(services, "between");
    let partition = first(&topic);
    here.partitions(&unique(services, "before")).await.unwrap();
    append(&here, &topic, vec![numbered(0)]).await;
    delete(&there, &topic).await;
    within(async { while found(async || there.existing(&topic).await).await.is_some() {} }).await;
    let between = here.append(&topic, vec![numbered(1)]).await;
    assert!(between.fails().await);
    make(&there, &topic, 1, &[]).await;
    assert_eq!(here.bounds(&partition).await.unwrap(), Bounds { first: Offset::ZERO, next: Offset::ZERO });
    assert_eq!(append(&here, &topic, vec![numbered(2)]).await[0].offset, Offset::ZERO);
    assert_eq!(read(&here, &partition, 0, 1).await, ["2"]);
}

async fn append_fails(log: &dyn Log, topic: &millstream_model::name::LogTopic, number: usize) -> bool {
    log.append(topic, vec![numbered(number)]).await.fails().await
}

#[tokio::test]
async fn who_only_looks_makes_no_topic() {
    let Some(services) = services("who_only_looks_makes_no_topic") else { return };
    let log = log(services).await;
    let topic = unique(services, "looked");
    for _ in 0..2 {
        assert_eq!(log.existing(&topic).await.unwrap(), None);
    }
    make(&log, &topic, 3, &[]).await;
    let found = within(async {
        loop {
            if let Some(found) = log.existing(&topic).await.unwrap() {
                return found;
            }
        }
    });
    assert_eq!(found.await, super::super::numbered(&topic, 3));
}
