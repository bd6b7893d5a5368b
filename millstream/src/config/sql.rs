//! What questions may take: memory, disk, time, and each other's turn.

use super::problem::Problem;
use super::raw::RawSql;
use super::value::{Ceiling, Size, Span, at_least_a_second};
use millstream_model::secret::Secret;
use millstream_query::{Limits, TailUse, server};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Handle;

/// With less memory a sort fails instead of spilling: for each of its partitions it keeps 10 MB for merging what it has spilled.
const MEMORY_MIN: u64 = 64 << 20;

/// Less than this holds not even the messages of one large batch.
const TAIL_MEMORY_MIN: u64 = 1 << 20;

/// The bounds of questions, wherever they are answered.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    /// Whether an answer has what is acknowledged and not in files yet.
    pub(crate) tail: bool,
    limits: Limits,
    server: server::Settings,
}

impl Sql {
    /// The bounds of one session, which spills into a directory; without one, into the system's for temporary files.
    pub(crate) fn limits(&self, spill: Option<PathBuf>, spill_bytes: u64) -> Limits {
        Limits { spill_dir: spill, spill_bytes, ..self.limits.clone() }
    }

    /// Most bytes that may lie spilled.
    pub(crate) fn spill_bytes(&self) -> u64 {
        self.limits.spill_bytes
    }

    /// How questions are taken over HTTP.
    pub(crate) fn server(&self, token: Option<Secret>, runtime: Handle) -> server::Settings {
        server::Settings { token, runtime: Some(runtime), ..self.server.clone() }
    }
}

pub(super) fn check_sql(raw: RawSql, problems: &mut Vec<Problem>) -> Sql {
    let (limits, server) = (Limits::default(), server::Settings::default());
    let memory = at_least("sql.memory", raw.memory, MEMORY_MIN, problems);
    let tail_memory = at_least("sql.tail_memory", raw.tail_memory, TAIL_MEMORY_MIN, problems);
    if raw.running == Some(0) {
        problems.push(Problem::new("sql.running", "must be at least 1"));
    }
    if raw.scan.is_some_and(|Ceiling(most)| most == Some(0)) {
        problems
            .push(Problem::new("sql.scan", "no query could read anything").hint("write \"\" for no limit"));
    }
    let mut span = |key: &str, span: Option<Span>, default: Duration| {
        at_least_a_second(key, span, default).unwrap_or_else(|problem| {
            problems.push(problem);
            default
        })
    };
    Sql {
        tail: raw.tail.unwrap_or(true),
        limits: Limits {
            memory_bytes: memory.unwrap_or(limits.memory_bytes),
            spill_bytes: raw.spill.map_or(limits.spill_bytes, |Size(bytes)| bytes),
            time: span("sql.time", raw.time, limits.time),
            tail_bytes: tail_memory.unwrap_or(limits.tail_bytes),
            scan_bytes: raw.scan.map_or(limits.scan_bytes, |Ceiling(most)| most),
            ..limits
        },
        server: server::Settings {
            tail: if raw.tail.unwrap_or(true) { TailUse::Follow } else { TailUse::Off },
            running_max: raw.running.and_then(NonZeroUsize::new).unwrap_or(server.running_max),
            waiting_max: raw.waiting.unwrap_or(server.waiting_max),
            wait: span("sql.wait", raw.wait, server.wait),
            stall: span("sql.stall", raw.stall, server.stall),
            delivery: span("sql.delivery", raw.delivery, server.delivery),
            ..server
        },
    }
}

/// A size that makes sense.
fn at_least(key: &str, size: Option<Size>, least: u64, problems: &mut Vec<Problem>) -> Option<usize> {
    let Size(bytes) = size?;
    if bytes < least {
        problems.push(Problem::new(key, format!("must be at least {} MiB", least >> 20)));
        return None;
    }
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}
