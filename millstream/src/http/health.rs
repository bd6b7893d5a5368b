//! Whether the program lives, and whether each of its stages can do its work.

use crate::pipeline::{Observed, Reach};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_transform::firehose::Phase;
use millstream_transform::processor::ReportPhase;
use serde::Serialize;
use std::collections::BTreeMap;

/// That this is answered says that the process lives and its runtime turns. A stage that failed for good ends the process.
pub(super) async fn live() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// 200 where all stages can do their work, else 503; the body names what is in the way.
pub(super) async fn ready(State(observed): State<Observed>) -> Response {
    let readiness = Readiness::of(&observed);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(readiness)).into_response()
}

/// Whether this process can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    /// All stages are.
    pub(super) ready: bool,
    /// Whether it is about to end.
    pub(super) draining: bool,
    /// By stage.
    pub(super) stages: BTreeMap<&'static str, StageReadiness>,
}

/// Whether one stage can do its work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct StageReadiness {
    /// It can.
    pub(super) ready: bool,
    /// What is in the way.
    pub(super) reasons: Vec<String>,
    /// What fails beside it and does not keep the stage from all of its work, such as one report.
    pub(super) troubles: Vec<String>,
}

impl Readiness {
    pub(super) fn of(observed: &Observed) -> Self {
        let draining = observed.is_draining();
        let stages: BTreeMap<_, _> = stages(observed).into_iter().collect();
        let ready = !draining && stages.values().all(|stage| stage.ready);
        Self { ready, draining, stages }
    }
}

/// The stages that run here.
pub(super) fn stages(observed: &Observed) -> Vec<(&'static str, StageReadiness)> {
    let mut stages = Vec::new();
    if observed.gateway.is_some() || !observed.subscribers.is_empty() {
        stages.push(("collect", collect(observed)));
    }
    if !observed.firehoses.is_empty() {
        stages.push(("firehose", firehose(observed)));
    }
    if observed.processor.is_some() {
        stages.push(("process", process(observed)));
    }
    if observed.serves {
        stages.push(("serve", serve(observed)));
    }
    stages
}

impl StageReadiness {
    fn unless(reasons: Vec<String>) -> Self {
        Self { ready: reasons.is_empty(), reasons, troubles: Vec::new() }
    }
}

/// Which of the things outside do not answer.
fn unreached<const N: usize>(reaches: [&Option<Reach>; N]) -> Vec<String> {
    reaches.into_iter().flatten().filter_map(Reach::trouble).collect()
}

/// Without the log there is no tail: a question for it fails and says so, and those for committed files, and for the tables' state, are answered all the same.
fn serve(observed: &Observed) -> StageReadiness {
    let readiness = StageReadiness::unless(unreached([&observed.ingestion, &observed.reporting]));
    StageReadiness { troubles: unreached([&observed.log]), ..readiness }
}

fn firehose(observed: &Observed) -> StageReadiness {
    let mut reasons = unreached([&observed.log, &observed.ingestion]);
    for (stream, status) in &observed.firehoses {
        let status = status.borrow();
        let error = || status.last_error.clone().unwrap_or_default();
        match status.phase {
            Phase::Starting => reasons.push(format!("{stream}: finding out where it stands")),
            Phase::Retrying => reasons.push(format!("{stream}: failed and tries again: {}", error())),
            Phase::Failed => reasons.push(format!("{stream}: failed: {}", error())),
            Phase::Standby | Phase::Running | Phase::Draining | Phase::Drained => {}
        }
    }
    StageReadiness::unless(reasons)
}

/// A report that fails keeps no other from its work, and may do so until a person changes its SQL; so it is told, and the stage is ready all the same.
fn process(observed: &Observed) -> StageReadiness {
    let reasons = unreached([&observed.log, &observed.ingestion, &observed.reporting]);
    let mut readiness = StageReadiness::unless(reasons);
    if let Some(status) = &observed.processor {
        for (name, report) in &status.borrow().reports {
            if report.phase == ReportPhase::Retrying {
                let error = report.last_error.clone().unwrap_or_default();
                readiness.troubles.push(format!("{name}: failed and tries again: {error}"));
            }
        }
    }
    readiness
}

/// A gateway that runs has its listener. A subscriber is ready when it is subscribed.
fn collect(observed: &Observed) -> StageReadiness {
    let mut reasons = unreached([&observed.log]);
    for (name, status) in &observed.subscribers {
        let status = status.borrow();
        if !status.connected {
            let error = status.last_error.clone().unwrap_or_else(|| "connecting".to_owned());
            reasons.push(format!("subscriber {name}: not connected: {error}"));
        }
    }
    StageReadiness::unless(reasons)
}
