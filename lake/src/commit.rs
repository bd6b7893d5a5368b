//! The one step that makes uploaded files rows, moves fences and changes columns.
//!
//! Every attempt is made on the very latest version: the fences are checked there, and the conditional create of the next version proves that nothing came
//! between. The library's own builder retries by itself over commits that it finds harmless, cleans logs and can fail after it has committed; here only its
//! encoding of actions is used. Each commit carries a name of its own, so that an answer which was lost, or lied, is settled by looking at the version that was tried.

use crate::table::{Table, commit_path};
use crate::{LakeError, Operation, Outcome, Plan, Snapshot, schema};
use bytes::Bytes;
use chrono::Utc;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, MetadataExt, StructField, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use millstream_model::fault::Fault;
use object_store::{Error, ObjectStore, PutMode, PutOptions};
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often one plan is tried. Losing to another writer is progress of that one; sixteen losses or failures in a row are a state that a caller should hear of.
const ATTEMPTS_MAX: u32 = 16;

/// The wait after the first failure; it doubles up to `WAIT_MAX`, and is shortened by chance so that writers do not meet again.
const WAIT_MIN: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Where a commit says its own name.
const COMMIT_ID: &str = "millstreamCommit";

/// By what the history of a table knows us.
const CLIENT: &str = concat!("millstream.", env!("CARGO_PKG_VERSION"));

/// What one attempt came to.
enum Attempt {
    Done(Outcome),
    /// Another commit has taken the version.
    Lost,
}

impl Table {
    /// Commits the plan, or says why it must not be.
    ///
    /// Whatever the store answers, the plan is applied at most once, and `Applied` is said if and only if it is part of the table. Transient failures are retried with
    /// growing, random waits.
    ///
    /// # Errors
    /// `Refused` for a plan that contradicts itself or the table; `Exhausted` after the last attempt, when it is not known whether the plan was applied: own the table
    /// anew by its fences. Permanent failures of the store are returned at once.
    pub async fn commit(&self, plan: Plan) -> Result<Outcome, LakeError> {
        plan.check(self.name())?;
        let id = Uuid::new_v4().to_string();
        let began = Instant::now();
        let mut tried = None;
        let mut wait = WAIT_MIN;
        let mut attempts = 0;
        loop {
            attempts += 1;
            // After a failure of the store, too, the version that was tried may turn out to be ours.
            let failure = match self.attempt(&plan, &id, &mut tried).await {
                Ok(Attempt::Done(outcome)) => return Ok(outcome),
                Ok(Attempt::Lost) => None,
                Err(error) if error.fault() == Fault::Retry => Some(Box::new(error)),
                Err(error) => return Err(error),
            };
            tracing::debug!(table = self.name(), attempts, ?failure, "a commit has to be tried again");
            if attempts == ATTEMPTS_MAX {
                let (table, elapsed) = (self.name().to_owned(), began.elapsed());
                return Err(LakeError::Exhausted { table, attempts, elapsed, source: failure });
            }
            tokio::time::sleep(wait.mul_f64(fastrand::f64())).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// `tried` is the version for which a commit was sent without a trustworthy answer.
    async fn attempt(&self, plan: &Plan, id: &str, tried: &mut Option<i64>) -> Result<Attempt, LakeError> {
        let latest = self.snapshot().await?;
        if let Some(version) = *tried
            && version <= latest.version()
        {
            if self.is_ours(version, id).await? {
                return Ok(Attempt::Done(Outcome::Applied { version }));
            }
            *tried = None;
        }
        if let Some(outcome) = plan.refusal(&latest, Utc::now().timestamp_millis())? {
            return Ok(Attempt::Done(outcome));
        }
        let version = latest.version() + 1;
        let bytes = self.encode(plan, id, &latest)?;
        // What is held while the handle goes on to the next version would be copied for it: every file of the table, at every commit.
        drop(latest);
        *tried = Some(version);
        let create = PutOptions::from(PutMode::Create);
        match self.store().put_opts(&commit_path(version), bytes.clone().into(), create).await {
            Ok(put) => {
                if let Err(error) = self.committed(version, &bytes, put).await {
                    tracing::debug!(table = self.name(), version, %error, "a commit has to be read back");
                }
                Ok(Attempt::Done(Outcome::Applied { version }))
            }
            // Said also of our own commit, when the answer to it was lost and the request sent again.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Attempt::Lost),
            Err(source) => {
                let place = format!("table {}", self.name());
                Err(LakeError::Store { action: "commit to", place, source })
            }
        }
    }

    async fn is_ours(&self, version: i64, id: &str) -> Result<bool, LakeError> {
        let actions = self.require_actions(version).await?;
        Ok(actions.iter().any(|action| match action {
            Action::CommitInfo(said) => said.info.get(COMMIT_ID).and_then(Value::as_str) == Some(id),
            _ => false,
        }))
    }

    /// The bytes of the next version.
    fn encode(&self, plan: &Plan, id: &str, latest: &Snapshot) -> Result<Bytes, LakeError> {
        let mut actions = Vec::with_capacity(plan.adds.len() + plan.removes.len() + 1);
        let mut new_columns = Vec::new();
        if plan.changes_metadata() {
            let mut metadata = latest.metadata().clone();
            let failed = |source: deltalake_core::kernel::Error| {
                self.log_failed("change the columns of", source.into())
            };
            if let Some(columns) = &plan.schema {
                let columns = schema::to_delta(self.name(), columns)?;
                let known = latest.schema();
                new_columns = columns
                    .fields()
                    .filter(|field| known.field_with_name(field.name()).is_err())
                    .cloned()
                    .collect();
                metadata = metadata.with_schema(&columns).map_err(failed)?;
            }
            for (key, value) in &plan.properties {
                metadata = metadata.add_config_key(key.clone(), value.clone()).map_err(failed)?;
            }
            actions.push(Action::Metadata(metadata));
        }
        actions.extend(plan.removes.iter().map(|file| Action::Remove(file.to_remove(plan.data_change))));
        actions.extend(plan.adds.iter().map(|file| Action::Add(file.to_add(plan.data_change))));
        let mut info: HashMap<String, Value> = plan.info.clone().into_iter().collect();
        info.insert(COMMIT_ID.to_owned(), id.into());
        info.insert("clientVersion".to_owned(), CLIENT.into());
        info.insert("readVersion".to_owned(), latest.version().into());
        let now = Utc::now().timestamp_millis();
        let txns =
            plan.set.iter().map(|(app, &version)| Transaction::new_with_last_update(app, version, Some(now)));
        let commit = CommitData::new(actions, operation(plan, latest, new_columns), info, txns.collect());
        commit.get_bytes().map_err(|source| self.log_failed("commit to", source.into()))
    }
}

/// What Delta calls it.
fn operation(plan: &Plan, latest: &Snapshot, new_columns: Vec<StructField>) -> DeltaOperation {
    let write = |mode| DeltaOperation::Write {
        mode,
        partition_by: Some(latest.partition_by().to_vec()),
        predicate: None,
    };
    match plan.operation {
        Operation::Append | Operation::Redo => write(SaveMode::Append),
        Operation::Replace => write(SaveMode::Overwrite),
        Operation::Compact | Operation::Lease => DeltaOperation::Optimize { predicate: None, target_size: 0 },
        Operation::Retire => DeltaOperation::Delete { predicate: None },
        Operation::Schema if new_columns.is_empty() => {
            DeltaOperation::SetTableProperties { properties: plan.properties.clone().into_iter().collect() }
        }
        Operation::Schema => DeltaOperation::AddColumn { fields: new_columns },
    }
}

#[cfg(test)]
mod tests;
