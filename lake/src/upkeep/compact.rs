//! Many small files become few large ones, the rows the same.

use super::choose::{Group, choose};
use super::land::{Landed, has_all, land};
use super::lease::Lease;
use super::merge::merge;
use crate::table::Table;
use crate::{DataFile, LakeError, Operation, Plan, Snapshot};
use chrono::{DateTime, Utc};
use millstream_model::column::reserved;
use millstream_model::fault::Fault;
use std::collections::HashSet;
use tokio_util::sync::CancellationToken;

/// How often all is looked through again after something was merged. Each time there are many times fewer files; what is left after so many, the next upkeep does.
const ROUNDS_MAX: usize = 6;

/// What compaction did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were written.
    pub written: u64,
    /// Files in whose place they are.
    pub merged: u64,
    /// Bytes of the files that were merged.
    pub bytes_read: u64,
    /// Bytes of the files that were written; where nothing was done yet, at most so many.
    pub bytes_written: u64,
    /// Merges that came to nothing, because others had changed those files first.
    pub overtaken: u64,
}

/// Merges what is to be merged by now, for as long as the lease is ours, where there is one. Files that cannot be read are left out: what is beside them does not
/// suffer for it, and the first of them is told as `failure`.
///
/// # Errors
/// As [`merge`] where no file is to blame, and as [`Table::commit`]. What was committed before stays.
pub(super) async fn compact(
    table: &Table,
    target_size: u64,
    now: DateTime<Utc>,
    mut lease: Option<Lease>,
    stop: &CancellationToken,
    mut tell: impl FnMut(Compacted) + Send,
) -> Result<(Compacted, Option<LakeError>), LakeError> {
    let (mut done, mut failure) = (Compacted::default(), None);
    let mut left_out: HashSet<String> = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        let planned = table.snapshot().await?;
        let files = planned.files().iter().filter(|file| !left_out.contains(&file.path));
        let groups = choose(files, planned.partition_by(), target_size, now);
        let before = (done.written, left_out.len());
        for group in groups {
            if let Some(lease) = &mut lease
                && !lease.renew(table).await?
            {
                return Ok((done, failure));
            }
            // Each on what the one before has left: our own commits move the fence, too.
            match one(table, &group, stop, &mut done).await {
                Ok(true) => tell(done),
                Ok(false) => return Ok((done, failure)),
                Err(error) => {
                    let Some(blamed) = blamed(&group, &error) else { return Err(error) };
                    left_out.extend(blamed);
                    failure.get_or_insert(error);
                }
            }
        }
        if (done.written, left_out.len()) == before {
            break;
        }
    }
    Ok((done, failure))
}

/// Merges one group; false if that was stopped.
async fn one(
    table: &Table,
    group: &Group,
    stop: &CancellationToken,
    done: &mut Compacted,
) -> Result<bool, LakeError> {
    if stop.is_cancelled() {
        return Ok(false);
    }
    let planned = table.snapshot().await?;
    if !has_all(&planned, &group.files) {
        done.overtaken += 1;
        return Ok(true);
    }
    let Some(file) = merge(table, &planned, group, stop).await? else { return Ok(false) };
    let (rows, bytes) = (file.rows, file.size);
    let plan = Plan {
        operation: Operation::Compact,
        adds: vec![file],
        removes: group.files.clone(),
        data_change: false,
        ..Plan::default()
    };
    match land(table, &planned, plan).await? {
        Landed::At(version) => {
            done.written += 1;
            done.merged += group.files.len() as u64;
            done.bytes_read += group.bytes();
            done.bytes_written += bytes;
            tracing::debug!(
                table = table.name(),
                version,
                files = group.files.len(),
                rows,
                bytes,
                "compacted"
            );
        }
        // What was written is not seen by anybody; vacuum removes it.
        Landed::Overtaken => done.overtaken += 1,
    }
    Ok(true)
}

/// The files of the group on account of which its merge failed: one of them, all, or none.
fn blamed(group: &Group, error: &LakeError) -> Option<Vec<String>> {
    match error {
        LakeError::Unread { path, .. } if error.fault() == Fault::Stop => Some(vec![path.clone()]),
        LakeError::Rows { .. } | LakeError::Refused { .. } => {
            Some(group.files.iter().map(|file| file.path.clone()).collect())
        }
        _ => None,
    }
}

/// What [`compact`] would do with the files of this version whose date is `kept`, if nobody came between.
pub(super) fn foresee(
    snapshot: &Snapshot,
    target_size: u64,
    now: DateTime<Utc>,
    kept: impl Fn(Option<&str>) -> bool,
) -> Compacted {
    let date = |file: &DataFile| file.partition_values.get(reserved::DATE).cloned().flatten();
    let files = snapshot.files().iter().filter(|file| kept(date(file).as_deref()));
    let mut files: Vec<DataFile> = files.cloned().collect();
    let mut foreseen = Compacted::default();
    for _ in 0..ROUNDS_MAX {
        let groups = choose(&files, snapshot.partition_by(), target_size, now);
        if groups.is_empty() {
            break;
        }
        for group in groups {
            foreseen.written += 1;
            foreseen.merged += group.files.len() as u64;
            foreseen.bytes_read += group.bytes();
            foreseen.bytes_written += group.bytes();
            apply(&mut files, &group);
        }
    }
    foreseen
}

/// The files as they are when a group has become one, of the first one's name, and as large as all of them.
pub(super) fn apply(files: &mut Vec<DataFile>, group: &Group) {
    let gone: HashSet<&str> = group.files.iter().map(|file| file.path.as_str()).collect();
    files.retain(|file| !gone.contains(file.path.as_str()));
    files.extend(group.files.first().map(|first| DataFile { size: group.bytes(), ..first.clone() }));
}
