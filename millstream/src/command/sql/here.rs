//! This process as the one that answers: it opens the tables itself, and the log, for what waits in it.

use crate::command::quoted;
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::directory::{Directory, Spill};
use crate::pipeline::open_kafka;
use anyhow::{Context, bail, ensure};
use millstream_log::Log;
use millstream_log::embedded::Onlooker;
use millstream_log::kafka::KafkaLog;
use millstream_query::{Answer, Ask, QueryError, Session, TailUse};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long Kafka may take until it is open: a busy one takes seconds, and who does not want to wait can ask files without it.
const KAFKA_MAX: Duration = Duration::from_secs(15);

/// A session over a data directory.
#[derive(Debug)]
pub(super) struct Here {
    session: Session,
    ask: Ask,
    log: OpenLog,
    _spill: Option<Spill>,
}

impl Here {
    /// Opens what there is. Nothing is made but a place to spill to.
    ///
    /// # Errors
    /// If there is no data directory although something should lie in it, or a bucket or the log cannot be opened: an answer from files alone would have less than
    /// one before, and is given to those only who ask for it.
    pub(super) async fn open(
        directory: &Directory,
        settings: &Settings,
        tail: TailUse,
    ) -> anyhow::Result<Self> {
        // With the log on Kafka and the buckets in a store, nothing lies in it.
        if directory.holds_data(settings) {
            check_directory(directory.path())?;
        }
        let mut lakehouse = directory.lakehouse(settings)?;
        let tail = if settings.sql.tail { tail } else { TailUse::Off };
        let log = match tail {
            TailUse::Follow => OpenLog::open(directory, settings).await.context(
                "the log cannot be asked for what is in no file yet; --no-tail asks committed files alone",
            )?,
            TailUse::Off => OpenLog::None,
        };
        if let Some(log) = log.shared() {
            lakehouse = lakehouse.with_log(log);
        }
        let (spill, spill_bytes) = directory.spill(settings);
        let limits = settings.sql.limits(spill.as_ref().map(|spill| spill.path().to_owned()), spill_bytes);
        let session = Session::open(&lakehouse, limits).await.context("failed to start a session")?;
        Ok(Self { session, ask: Ask { tail }, log, _spill: spill })
    }

    pub(super) async fn ask(&self, sql: &str) -> Result<Answer, QueryError> {
        self.session.ask(sql, self.ask).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// If Kafka cannot be closed.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        drop(self.session);
        match self.log {
            OpenLog::Kafka(log) => log.close().await.context("failed to close the log"),
            OpenLog::Embedded(_) | OpenLog::None => Ok(()),
        }
    }
}

/// Where what waits can be read.
#[derive(Debug)]
enum OpenLog {
    /// Nowhere: nothing was ever written, or it is not asked for.
    None,
    /// Beside whoever owns it, if anybody does.
    Embedded(Onlooker),
    Kafka(KafkaLog),
}

impl OpenLog {
    async fn open(directory: &Directory, settings: &Settings) -> anyhow::Result<Self> {
        let kafka = match &settings.log {
            LogChoice::Kafka(kafka) => kafka,
            LogChoice::Embedded(_) if !directory.log().is_dir() => return Ok(Self::None),
            LogChoice::Embedded(_) => {
                let opened = Onlooker::open(&directory.log());
                return opened.map(Self::Embedded).context("failed to look into the log");
            }
        };
        let opened = tokio::time::timeout(KAFKA_MAX, open_kafka(kafka)).await;
        opened
            .unwrap_or_else(|_| {
                bail!("Kafka at {} gave no answer in {} s", kafka.brokers(), KAFKA_MAX.as_secs())
            })
            .map(Self::Kafka)
    }

    fn shared(&self) -> Option<Arc<dyn Log>> {
        match self {
            Self::None => None,
            Self::Embedded(log) => Some(Arc::new(log.clone())),
            Self::Kafka(log) => Some(Arc::new(log.clone())),
        }
    }
}

fn check_directory(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(!path.exists() || path.is_dir(), "{shown} is not a directory; name a data directory with --data");
    let up = quoted(path);
    ensure!(
        path.is_dir(),
        "there is no data directory {shown}; name it with --data, or make it with `millstream up --data {up}`"
    );
    Ok(())
}
