//! The sharing out of partitions where there is one process: everything is its own, for ever.

use crate::api::{Membership, Share};
use crate::error::LogError;
use async_trait::async_trait;
use millstream_model::name::{Offset, TopicPartition};

/// The only member of its group.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Taken by the first call.
    share: Option<Share>,
}

impl Whole {
    pub(crate) fn of(partitions: Vec<TopicPartition>) -> Self {
        Self { share: Some(Share::new(partitions)) }
    }
}

#[async_trait]
impl Membership for Whole {
    async fn next(&mut self) -> Result<Share, LogError> {
        match self.share.take() {
            Some(share) => Ok(share),
            None => std::future::pending().await,
        }
    }

    /// There is no display of lag but the program's own, which asks the tables.
    fn committed(&mut self, _partition: &TopicPartition, _next: Offset) {}
}
