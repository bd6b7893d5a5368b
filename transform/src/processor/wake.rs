//! Tells those who read a report that it has a new version: keepers of this process at once, those of others by a notice. Lost, it costs time only: they sweep.

use super::listen::Bell;
use crate::firehose::NoticeRule;
use crate::firehose::notice;
use millstream_lake::Bucket;
use millstream_log::Log;
use std::sync::Arc;

/// Who is told, and how.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// The keepers of this process.
    pub(crate) bells: Vec<Bell>,
    /// Where notices for other processes are written; `None` where the store tells them, or nobody listens.
    pub(crate) notices: Option<Arc<dyn Log>>,
}

impl Wake {
    /// For the keepers that these bells wake, and others where the rule says that notices are written.
    pub(crate) fn new(bells: Vec<Bell>, rule: NoticeRule, log: &Arc<dyn Log>) -> Self {
        let notices = match rule {
            NoticeRule::Firehose => Some(Arc::clone(log)),
            NoticeRule::Store => None,
        };
        Self { bells, notices }
    }

    /// A report has this version now. A report that nobody reads is nobody's business.
    pub(crate) async fn tell(&self, reporting: &Bucket, report: &str, version: i64) {
        let mut is_read = false;
        for bell in self.bells.iter().filter(|bell| bell.hears(report)) {
            is_read = true;
            bell.rings.notify_one();
        }
        if let Some(log) = self.notices.as_ref().filter(|_| is_read) {
            notice::write(log.as_ref(), reporting, report, version).await;
        }
    }
}
