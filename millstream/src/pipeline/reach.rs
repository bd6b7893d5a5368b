//! Whether the log and the buckets answer: asked again and again in the background, so that any number of probes costs nothing and hangs on nothing.

use super::log::LogHandle;
use millstream_lake::Bucket;
use millstream_model::name::LogTopic;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// From one answer to the next question.
const PAUSE: Duration = Duration::from_secs(2);

/// The same where a bucket answered: its owner pays for each question.
const PAUSE_PAID: Duration = Duration::from_secs(10);

/// A question that is not answered in this time is told as a trouble; it goes on waiting for its answer, which the log and the store bound.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// The log, for the end of a topic, if it is there.
    Log(LogHandle, LogTopic),
    /// A bucket, for what is at its top: a name for each table, however many files they have.
    Bucket(&'static str, Bucket),
}

impl Target {
    async fn ask(&self) -> anyhow::Result<()> {
        match self {
            Self::Log(log, topic) => {
                if let Some(first) = log.existing(topic).await?.unwrap_or_default().first() {
                    log.shared().bounds(first).await?;
                }
            }
            Self::Bucket(_, bucket) => {
                bucket.store().list_with_delimiter(None).await?;
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        match self {
            Self::Log(..) => "the log".to_owned(),
            Self::Bucket(name, bucket) => format!("the {name} bucket {}", bucket.url()),
        }
    }
}

/// How it stands with an answer.
#[derive(Debug, Clone, Default)]
struct Answer {
    /// When the question was asked that waits for its answer.
    asked: Option<Instant>,
    /// What the last one was; none before the first.
    last: Option<Result<(), String>>,
}

/// Looks at whether something answers.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    target: Target,
    answer: watch::Sender<Answer>,
}

impl Reach {
    pub(super) fn new(target: Target) -> Self {
        Self { target, answer: watch::Sender::default() }
    }

    /// Asks until the token is cancelled.
    pub(super) async fn keep_asking(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let asking = async {
            loop {
                self.answer.send_modify(|answer| answer.asked = Some(Instant::now()));
                let last = self.target.ask().await.map_err(|error| crate::telemetry::chain(&error));
                let is_paid = last.is_ok() && matches!(self.target, Target::Bucket(..));
                self.answer.send_replace(Answer { asked: None, last: Some(last) });
                tokio::time::sleep(if is_paid { PAUSE_PAID } else { PAUSE }).await;
            }
        };
        tokio::select! {
            () = asking => {}
            () = shutdown.cancelled() => {}
        }
        Ok(())
    }

    /// Why it cannot be reached, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        let name = self.target.name();
        match &*self.answer.borrow() {
            Answer { asked: Some(asked), .. } if asked.elapsed() > PATIENCE => {
                Some(format!("{name} has not answered for {} s", asked.elapsed().as_secs()))
            }
            Answer { last: Some(Err(error)), .. } => Some(format!("{name} cannot be reached: {error}")),
            Answer { last: None, .. } => Some(format!("{name} was not reached yet")),
            Answer { last: Some(Ok(())), .. } => None,
        }
    }
}
