//! The buckets: what they let us do, whether commits on them are safe, and whether their clock is ours.

use super::Finding;
use crate::config::Settings;
use crate::config::lake::Location;
use crate::directory::Directory;
use chrono::{TimeDelta, Utc};
use millstream_lake::permissions::{Permission, Trial, Verdict};
use millstream_lake::{Bucket, LakeError};
use object_store::ObjectStoreExt;
use object_store::path::Path;

/// Above this the clocks are worth a look; S3 refuses requests from 15 minutes on.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(60);

/// The ingestion bucket, if it is a store and can be used, and what was found.
pub(super) async fn check(settings: &Settings, directory: &Directory) -> (Option<Bucket>, Vec<Finding>) {
    let at = |configured: &Option<Location>, name: &str| {
        configured.clone().unwrap_or_else(|| Location::Directory(directory.path().join(name)))
    };
    let ingestion = at(&settings.lake.ingestion, "ingestion");
    let (usable, mut findings) = one("ingestion", &ingestion, || directory.ingestion(settings)).await;
    let reporting = at(&settings.lake.reporting, "reporting");
    findings.extend(one("reporting", &reporting, || directory.reporting(settings)).await.1);
    (usable.filter(|_| matches!(ingestion, Location::Store(_))), findings)
}

async fn one(
    name: &str,
    location: &Location,
    open: impl FnOnce() -> anyhow::Result<Bucket>,
) -> (Option<Bucket>, Vec<Finding>) {
    let subject = format!("{name} bucket {location}");
    if let Location::Directory(path) = location
        && !path.exists()
    {
        return (None, vec![Finding::ok(subject, "to be made")]);
    }
    let bucket = match open() {
        Ok(bucket) => bucket,
        Err(error) => return (None, vec![Finding::failed(subject, format!("{error:#}"))]),
    };
    let trials = bucket.permissions().await;
    let mut findings: Vec<Finding> = trials.iter().filter_map(|trial| refused(&subject, trial)).collect();
    findings.extend(skewed(&subject, &trials));
    findings.extend(untried(&subject, &trials));
    if !findings.is_empty() {
        return (None, findings);
    }
    findings.push(match bucket.probe().await {
        Ok(()) => {
            Finding::ok(subject.as_str(), "all that is needed is allowed, and of concurrent commits one wins")
        }
        Err(error @ LakeError::BrokenCreate { .. }) => Finding::failed(subject.as_str(), error.to_string())
            .advice("use a store that knows `If-None-Match: *`: commits would be lost on this one"),
        Err(error) => Finding::failed(subject.as_str(), told(error)),
    });
    if matches!(location, Location::Store(_)) {
        findings.extend(clock(&subject, &bucket).await);
    }
    (Some(bucket), findings)
}

fn refused(subject: &str, trial: &Trial) -> Option<Finding> {
    let (action, purpose) = (trial.permission.action(), trial.permission.purpose());
    match &trial.verdict {
        Verdict::Granted | Verdict::Untried | Verdict::Skewed(_) => None,
        Verdict::Missing(error) => Some(
            Finding::failed(subject, format!("{action} is missing, to {purpose} ({})", cause(error)))
                .advice(format!("allow {action} on the bucket and on what is in it")),
        ),
        Verdict::Failed(error) => {
            Some(Finding::failed(subject, format!("cannot {purpose}: {}", cause(error))))
        }
    }
}

/// What to do about clocks that differ.
const SET_CLOCKS: &str = "set the clocks by NTP: from 15 minutes on, S3 refuses every request";

/// That nothing is looked at because of the time of the requests: in one line, for all that was tried.
fn skewed(subject: &str, trials: &[Trial]) -> Option<Finding> {
    trials.iter().find_map(|trial| match &trial.verdict {
        Verdict::Skewed(error) => Some(
            Finding::failed(
                subject,
                format!("its clock and this machine's differ too much: {}", cause(error)),
            )
            .advice(SET_CLOCKS),
        ),
        _ => None,
    })
}

/// What could not be tried, in one line: it is not known to be missing.
fn untried(subject: &str, trials: &[Trial]) -> Option<Finding> {
    let put = trials.iter().find(|trial| trial.permission == Permission::Put);
    let parts = put.is_some_and(|put| matches!(put.verdict, Verdict::Granted));
    let what = if parts { "nothing could be written in parts" } else { "nothing could be written" };
    let mut actions = Vec::new();
    for trial in trials.iter().filter(|trial| matches!(trial.verdict, Verdict::Untried)) {
        let (action, needed) = (trial.permission.action(), Permission::Put.action());
        if action != needed && !actions.contains(&action) {
            actions.push(action);
        }
    }
    let said = format!("not tried, because {what}: {}", actions.join(", "));
    (!actions.is_empty()).then(|| Finding::warning(subject, said))
}

fn told(error: LakeError) -> String {
    format!("failed to {:#}", anyhow::Error::new(error))
}

/// What the store said.
fn cause(error: &LakeError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Says if the store's clock is not ours.
async fn clock(subject: &str, bucket: &Bucket) -> Option<Finding> {
    let (store, key) = (bucket.store(), Path::from("_millstream_probe/clock"));
    let made = async {
        store.put(&key, "x".into()).await?;
        let made = store.head(&key).await?.last_modified;
        store.delete(&key).await?;
        Ok::<_, object_store::Error>(made)
    };
    let skew = (made.await.ok()? - Utc::now()).abs();
    (skew > SKEW_MAX).then(|| {
        Finding::warning(subject, format!("its clock and this machine's differ by {} s", skew.num_seconds()))
            .advice(SET_CLOCKS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(permission: Permission, verdict: fn(LakeError) -> Verdict) -> Trial {
        let source = object_store::Error::Generic { store: "S3", source: "RequestTimeTooSkewed: no".into() };
        let error = LakeError::Store { action: "list", place: "bucket b".to_owned(), source };
        Trial { permission, verdict: verdict(error) }
    }

    fn said(trials: &[Trial]) -> String {
        let refused = trials.iter().filter_map(|trial| refused("b", trial));
        let findings = refused.chain(skewed("b", trials)).chain(untried("b", trials));
        findings.map(|finding| finding.render()).collect()
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let check = |trials: &[Trial], expected: &str| assert_eq!(said(trials), expected);
        check(&[trial(Permission::Put, |_| Verdict::Granted)], "");
        check(
            &[
                trial(Permission::List, Verdict::Skewed),
                trial(Permission::Put, Verdict::Skewed),
                trial(Permission::Get, |_| Verdict::Untried),
            ],
            "failed   b: its clock and this machine's differ too much: Generic S3 error: RequestTimeTooSkewed: no\n         \
             -> set the clocks by NTP: from 15 minutes on, S3 refuses every request\n\
             warning  b: not tried, because nothing could be written: s3:GetObject\n",
        );
        check(
            &[
                trial(Permission::Put, |_| Verdict::Granted),
                trial(Permission::Multipart, Verdict::Missing),
                trial(Permission::Abort, |_| Verdict::Untried),
            ],
            "failed   b: s3:PutObject is missing, to write large files in parts (Generic S3 error: RequestTimeTooSkewed: no)\n         \
             -> allow s3:PutObject on the bucket and on what is in it\n\
             warning  b: not tried, because nothing could be written in parts: s3:AbortMultipartUpload\n",
        );
    }
}
