//! `system.quarantine`: how many messages could not become readings, by stream and reason, those among them that wait in the log.

use super::definition::Kind::{Count, Instant, Text};
use super::definition::{Ask, Column, Contents, Definition, column};
use super::question::Question;
use super::surroundings::Surroundings;
use datafusion::error::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_model::name::QUARANTINE;
use std::collections::BTreeMap;

const COLUMNS: [Column; 5] = [
    column("stream", Text, "the stream; null where no stream claims the topic"),
    column("reason", Text, "the code of the reason"),
    column("messages", Count, "how many messages"),
    column("first_received", Instant, "when the first of them came"),
    column("last_received", Instant, "when the last of them came"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "quarantine", columns: &COLUMNS, keys: 2, contents: Contents::Question(ask as Ask) };

const COUNTED: &str = "select stream, reason, count(*) as messages, min(received_at) as first_received, max(received_at) as last_received \
    from quarantine group by stream, reason";

fn ask(surroundings: &Surroundings) -> BoxFuture<'_, Result<Question>> {
    async move {
        let Some(table) = surroundings.tables.table(QUARANTINE).await? else {
            return Ok(Question::default());
        };
        let has = |name: &&str| table.schema().field_with_name(name).is_ok();
        // A table of somebody else that has this name is not counted.
        if !["stream", "reason", "received_at"].iter().all(has) {
            return Ok(Question::default());
        }
        let tables = BTreeMap::from([(QUARANTINE.to_owned(), table)]);
        Ok(Question { parts: vec![COUNTED.to_owned()], tables })
    }
    .boxed()
}
