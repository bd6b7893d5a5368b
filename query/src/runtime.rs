//! What DataFusion is set to: bounded memory, bounded spill, no way to write, and places kept for error messages.

use crate::error::QueryError;
use crate::limits::Limits;
use crate::{functions, generators, planning};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::prelude::SessionConfig;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// The one catalog of a session.
pub(crate) const CATALOG: &str = "millstream";
/// The schema of the streams' tables: where a plain name is looked up first.
pub(crate) const INGESTION: &str = "ingestion";
/// The schema of the reports' tables.
pub(crate) const REPORTING: &str = "reporting";

/// The schema of what Millstream knows of its own tables.
pub(crate) const SYSTEM: &str = "system";

/// Consumers of memory that the message about an exhausted limit names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN;

/// Bytes of Parquet footers that are kept between queries: a footer is about 10 KiB, so that is some thousand files.
const FOOTER_CACHE_BYTES: usize = 50 << 20;

/// Bytes of memory for each partition of a query that runs beside others: a sort keeps 10 MiB for merging in each, and fails without; so much more lets it work.
const PARTITION_BYTES_MIN: usize = 32 << 20;

/// The state that every query starts from; it knows no tables yet.
pub(crate) fn blank_state(limits: &Limits) -> Result<SessionState, QueryError> {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, INGESTION)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let parts = limits.parallelism.unwrap_or_else(|| partitions(limits.memory_bytes, cores()));
    config = config.with_target_partitions(parts.max(1));
    config.options_mut().sql_parser.collect_spans = true;
    let runtime = bounded_runtime(limits).map_err(|error| QueryError::from_datafusion(error, ""))?;
    // Who is asked first, plans.
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(functions::BoundedLiterals)];
    planners.extend(SessionStateDefaults::default_expr_planners());
    let mut state = planning::watched(SessionStateBuilder::new())
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_expr_planners(planners)
        .with_analyzer_rule(Arc::new(functions::BoundedFunctions))
        .with_optimizer_rule(Arc::new(functions::BoundedDigests))
        .with_optimizer_rule(Arc::new(functions::BoundedPatterns))
        .build();
    generators::bound(&mut state, limits.generated_rows);
    functions::bound(&mut state).map_err(|error| QueryError::from_datafusion(error, ""))?;
    Ok(state)
}

/// How many threads are of use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// In how many parts a query runs.
fn partitions(memory_bytes: usize, cores: usize) -> usize {
    cores.min(memory_bytes / PARTITION_BYTES_MIN).max(1)
}

fn bounded_runtime(limits: &Limits) -> datafusion::error::Result<Arc<RuntimeEnv>> {
    let spill = match &limits.spill_dir {
        Some(directory) => DiskManagerMode::Directories(vec![directory.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let disk =
        DiskManagerBuilder::default().with_mode(spill).with_max_temp_directory_size(limits.spill_bytes);
    let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory_bytes), CONSUMERS_NAMED);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
        .build_arc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_query_has_memory_to_sort_in() {
        for (memory_mib, cores, expected) in
            [(64, 1, 1), (64, 2, 2), (64, 7, 2), (1024, 7, 7), (1024, 64, 32), (4, 7, 1)]
        {
            assert_eq!(partitions(memory_mib << 20, cores), expected, "{memory_mib} MiB, {cores} cores");
        }
    }
}
