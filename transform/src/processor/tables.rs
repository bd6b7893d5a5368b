//! The tables of a report and its plan, kept between looks: to look at what has not changed costs two small requests a table, and to open it many.

use super::Report;
use super::error::ReportError;
use arrow::datatypes::SchemaRef;
use millstream_lake::{Bucket, Snapshot, Table, TableDefinition};
use millstream_query::{ReportPlan, SourceName};
use std::collections::BTreeMap;

/// Tables that were opened. After a failure they are dropped and opened anew.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tables {
    sources: BTreeMap<SourceName, Table>,
    shown: Option<Table>,
    planned: Option<Planned>,
    /// Whether the rows of the report were seen to be of the very definition that is kept here.
    pub(crate) are_ours: bool,
}

/// A plan, and the sources as they were when it was made: their columns, and by which of them they are split.
#[derive(Debug, Clone)]
struct Planned {
    over: Vec<(SchemaRef, Vec<String>)>,
    plan: ReportPlan,
}

impl Tables {
    /// A table that the report reads; `None` while it does not exist.
    pub(crate) async fn source(
        &mut self,
        bucket: &Bucket,
        source: &SourceName,
    ) -> Result<Option<Table>, ReportError> {
        if let Some(table) = self.sources.get(source) {
            return Ok(Some(table.clone()));
        }
        let opened = Table::open(bucket, &source.name).await?;
        if let Some(table) = &opened {
            self.sources.insert(source.clone(), table.clone());
        }
        Ok(opened)
    }

    /// The plan of the report over these versions of its sources: the one from before, as long as their columns are the same.
    pub(crate) async fn plan(
        &mut self,
        report: &Report,
        sources: &[&Snapshot],
    ) -> Result<ReportPlan, ReportError> {
        let shape = |source: &&Snapshot| (source.schema(), source.partition_by().to_vec());
        let over: Vec<_> = sources.iter().map(shape).collect();
        if let Some(planned) = self.planned.as_ref().filter(|planned| planned.over == over) {
            return Ok(planned.plan.clone());
        }
        let plan = ReportPlan::analyse(&report.sql, sources, report.partition_by.as_deref()).await?;
        self.planned = Some(Planned { over, plan: plan.clone() });
        Ok(plan)
    }

    /// The report's own table, which is made where there is none.
    pub(crate) async fn shown(
        &mut self,
        bucket: &Bucket,
        name: &str,
        definition: &TableDefinition,
    ) -> Result<Table, ReportError> {
        if let Some(table) = &self.shown {
            return Ok(table.clone());
        }
        let table = Table::open_or_create(bucket, name, definition).await?;
        self.shown = Some(table.clone());
        Ok(table)
    }
}
