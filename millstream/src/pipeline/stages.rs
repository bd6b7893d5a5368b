//! Which stages run in this process.

use crate::config::Settings;
use crate::config::log::LogChoice;
use anyhow::{bail, ensure};
use millstream_model::name::{LIFECYCLE, UNROUTED};
use std::collections::BTreeSet;
use std::fmt;

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Devices to log: gateway and subscribers.
    Collect,
    /// Log to ingestion bucket.
    Firehose,
    /// Ingestion bucket to reporting bucket.
    Process,
    /// Answers to questions.
    Serve,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Collect => "collect",
            Self::Firehose => "firehose",
            Self::Process => "process",
            Self::Serve => "serve",
        })
    }
}

/// The stages of one process.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    roles: &'static [Role],
    /// Streams whose lost messages a person gives up.
    accepted_gaps: BTreeSet<String>,
}

impl Stages {
    /// All of them.
    pub(crate) fn all() -> Self {
        Self::of(&[Role::Collect, Role::Firehose, Role::Process, Role::Serve])
    }

    /// Some of them.
    pub(crate) fn of(roles: &'static [Role]) -> Self {
        Self { roles, accepted_gaps: BTreeSet::new() }
    }

    /// The same, with gaps that a person has accepted, by stream.
    pub(crate) fn accepting(self, streams: impl IntoIterator<Item = String>) -> Self {
        Self { accepted_gaps: streams.into_iter().collect(), ..self }
    }

    /// Whether a stage is one of them.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// As in "collect is up".
    pub(crate) fn is(&self) -> String {
        match self.roles {
            [role] => format!("{role} is"),
            _ => "is".to_owned(),
        }
    }

    /// What is still done before the end.
    pub(crate) fn draining(&self) -> &'static str {
        if self.has(Role::Firehose) {
            "every acknowledged message goes to its table"
        } else if self.has(Role::Collect) {
            "every message that was taken is acknowledged"
        } else if self.has(Role::Process) {
            "the reports are brought up to date"
        } else {
            "what was asked is answered"
        }
    }

    /// Whether a gap of this stream is accepted.
    pub(super) fn accepts_gap(&self, stream: &str) -> bool {
        self.accepted_gaps.contains(stream)
    }

    /// Whether one of them writes to the log, or reads what only its owner may.
    fn own_log(&self) -> bool {
        [Role::Collect, Role::Firehose, Role::Process].iter().any(|role| self.has(*role))
    }

    /// Whether the log is to be opened. For answers Kafka is, where the tail belongs into them; the embedded log is its owner's.
    pub(super) fn need_log(&self, settings: &Settings) -> bool {
        let read_for_answers = matches!(settings.log, LogChoice::Kafka(_)) && settings.sql.tail;
        self.own_log() || (self.has(Role::Serve) && read_for_answers)
    }

    pub(super) fn need_buckets(&self) -> bool {
        [Role::Firehose, Role::Process, Role::Serve].iter().any(|role| self.has(*role))
    }

    /// Whether they can run so.
    ///
    /// # Errors
    /// If not; the message says what would be needed.
    pub(crate) fn check(&self, settings: &Settings) -> anyhow::Result<()> {
        if let ([role], LogChoice::Embedded(_), true) = (self.roles, &settings.log, self.own_log()) {
            bail!(
                "`{role}` alone needs a log that other processes can reach, and the embedded log belongs to one process: \
                 name Kafka's brokers, MILLSTREAM__KAFKA__BROKERS=host:9092, or run all stages in one process with `up`"
            );
        }
        if self.roles == [Role::Collect] {
            ensure!(
                settings.gateway.listens() || !settings.subscribers.is_empty(),
                "there is nothing to collect from: give the gateway an address, gateway.listen, or write a [[subscriber]]"
            );
        }
        for name in &self.accepted_gaps {
            let is_known = [LIFECYCLE, UNROUTED].contains(&name.as_str())
                || settings.streams.iter().any(|stream| stream.name.as_str() == name);
            let known: Vec<&str> = settings.streams.iter().map(|stream| stream.name.as_str()).collect();
            ensure!(
                is_known,
                "--accept-gap {name}: there is no such stream; there are {}, and Millstream's own {LIFECYCLE} and {UNROUTED}",
                known.join(", ")
            );
        }
        Ok(())
    }
}
