//! The process itself, and whether its stages are ready.

use super::super::health;
use super::family::{Family, label};
use crate::pipeline::Observed;
use std::time::UNIX_EPOCH;

pub(super) fn families(observed: &Observed) -> Vec<Family> {
    let mut started =
        Family::gauge("process_start_time_seconds", "When the process began, in seconds since 1970");
    let since_1970 = observed.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    started.value([], since_1970.as_secs_f64());
    let mut ready =
        Family::gauge("millstream_stage_ready", "Whether a stage can do its work, as /readyz says");
    for (stage, readiness) in health::stages(observed) {
        ready.count([label("stage", stage)], u64::from(readiness.ready));
    }
    vec![
        Family::gauge("millstream_build_info", "The version that runs")
            .with([label("version", env!("CARGO_PKG_VERSION"))], 1),
        started,
        ready,
    ]
}
