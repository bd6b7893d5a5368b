//! What a table of many files costs.

use super::*;
use crate::fixture::{append, faulty, file, table};
use std::time::Instant;

#[tokio::test]
#[ignore = "prints times"]
async fn times_of_a_table_of_many_files() {
    for files in [1_000, 10_000] {
        let (_, bucket) = faulty();
        let table = table(&bucket).await;
        let adds = (0..files)
            .map(|number| {
                let mut file = file(&format!("part-{number:036}"));
                for tag in
                    ["flush", "log_topic", "epoch", "closed", "ranges", "messages", "readings", "dropped"]
                {
                    file.tags.insert(format!("millstream.{tag}"), format!("{number:020}"));
                }
                file
            })
            .collect();
        table.commit(Plan { adds, ..append("first", "app", None, 1) }).await.unwrap();
        let time = Instant::now();
        let held = table.snapshot().await.unwrap();
        println!("{files}: look {:?}", time.elapsed());
        let time = Instant::now();
        let copy = (*held).clone();
        println!("{files}: copy {:?}", time.elapsed());
        drop(copy);
        for step in 1..4 {
            let held = table.snapshot().await.unwrap();
            let time = Instant::now();
            table.commit(append(&format!("s{step}"), "app", Some(step), step + 1)).await.unwrap();
            println!("{files}: commit while held {:?}", time.elapsed());
            drop(held);
        }
        let time = Instant::now();
        another(&table).await.snapshot().await.unwrap();
        println!("{files}: open {:?}", time.elapsed());
        table.checkpoint().await.unwrap();
        let time = Instant::now();
        another(&table).await.snapshot().await.unwrap();
        println!("{files}: open behind a checkpoint {:?}", time.elapsed());
        let time = Instant::now();
        table.checkpoint().await.unwrap();
        println!("{files}: checkpoint {:?}", time.elapsed());
    }
}
