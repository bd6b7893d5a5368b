//! Commits a plan that removes files onto whatever the table is by now.
//!
//! Such a plan is made on one version, and between that and its commit others append. It may go on top of them as it is, because whoever else takes files away
//! moves the same transaction, `maint`: while that stands where it stood, and all the files are still there, what was planned about them is still right. Whatever was
//! added meanwhile stays as it is.

use crate::table::Table;
use crate::{DataFile, LakeError, Outcome, Plan, Snapshot};
use std::collections::HashSet;
use std::sync::Arc;

/// How often a plan is put on top of what others have committed: each time somebody else made progress, and whoever loses so often plans anew.
const REBASES_MAX: u32 = 32;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is this version.
    At(i64),
    /// Others have taken away, or changed, what it was about, or were always faster. Nothing was committed.
    Overtaken,
}

/// Commits the plan, which was made on `planned`.
///
/// # Errors
/// As [`Table::commit`].
pub(super) async fn land(table: &Table, planned: &Snapshot, plan: Plan) -> Result<Landed, LakeError> {
    let maintenance = table.maintenance_app();
    let expected = planned.txn(&maintenance);
    let mut plan = plan;
    plan.expect.insert(maintenance.clone(), expected);
    plan.set.insert(maintenance.clone(), expected.unwrap_or_default() + 1);
    for _ in 0..REBASES_MAX {
        let latest = table.snapshot().await?;
        if latest.id() != planned.id()
            || latest.txn(&maintenance) != expected
            || !has_all(&latest, &plan.removes)
        {
            return Ok(Landed::Overtaken);
        }
        plan.on_snapshot = Some(Arc::clone(&latest));
        match table.commit(plan.clone()).await? {
            Outcome::Applied { version } => return Ok(Landed::At(version)),
            Outcome::Moved => {}
            Outcome::Fenced { .. } | Outcome::Stale { .. } => return Ok(Landed::Overtaken),
        }
    }
    Ok(Landed::Overtaken)
}

/// Whether the version has all of these files.
pub(super) fn has_all(snapshot: &Snapshot, files: &[DataFile]) -> bool {
    let there: HashSet<&str> = snapshot.files().iter().map(|file| file.path.as_str()).collect();
    files.iter().all(|file| there.contains(file.path.as_str()))
}
