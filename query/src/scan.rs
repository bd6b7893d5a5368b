//! How much a plan would read, known before anything is read.

use crate::error::{Exceeded, QueryError};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

/// Refuses a plan whose files are larger than allowed.
pub(crate) fn check(plan: &dyn ExecutionPlan, most: Option<u64>) -> Result<(), QueryError> {
    let Some(most) = most else { return Ok(()) };
    let mut scan = Scan::default();
    scan.add(plan);
    if scan.bytes <= most {
        return Ok(());
    }
    let Scan { files, bytes } = scan;
    let message =
        format!("the query would read {bytes} bytes in {files} files, and {most} bytes are what it may read");
    Err(QueryError::limit(Exceeded::Scan, message)
        .hint("ask for less: fewer dates (where date >= …), a device, or a report instead of its source; or raise the limit, sql.scan"))
}

#[derive(Debug, Default)]
struct Scan {
    files: u64,
    bytes: u64,
}

impl Scan {
    fn add(&mut self, plan: &dyn ExecutionPlan) {
        let source = plan.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
        if let Some(config) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
            for file in config.file_groups.iter().flat_map(|group| group.iter()) {
                // Large files are read in ranges by several readers.
                let range = file.range.as_ref().map(|range| (range.start, range.end));
                let (start, end) =
                    range.unwrap_or((0, i64::try_from(file.object_meta.size).unwrap_or(i64::MAX)));
                self.files += u64::from(start == 0);
                self.bytes = self.bytes.saturating_add(u64::try_from(end - start).unwrap_or(0));
            }
        }
        for child in plan.children() {
            self.add(child.as_ref());
        }
    }
}
