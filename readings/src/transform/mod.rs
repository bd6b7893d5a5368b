//! The transform of a stream: SQL over `input`, row by row.
//!
//! It is planned by DataFusion, checked to be nothing but projections and filters that give the same result whenever they are evaluated, and then evaluated as
//! plain expressions over batches: no session, no runtime, no execution plan.

mod context;
mod error;
mod outputs;
mod plan;

pub use error::TransformError;

use crate::schema::{InputSchema, with_reserved};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use millstream_model::column::{fold_column_name, reserved};
use millstream_model::stream::Stream;
use std::collections::HashSet;
use std::sync::Arc;

/// The table over which a transform is written.
const INPUT: &str = "input";

/// A transform, compiled for one [`InputSchema`].
///
/// The reserved columns stay as they are, whatever it selects: it can neither change nor lose them. Its other outputs are the table's own columns.
#[derive(Debug)]
pub struct Transform {
    sql: String,
    steps: Vec<Step>,
    /// Which of the last step's columns is the table's n-th own column.
    outputs: Vec<usize>,
    table_schema: SchemaRef,
    /// Names that it gives to what it computes, at any level, folded.
    computed: HashSet<String>,
}

/// What happens to the rows, from the inside of the query to its outside.
#[derive(Debug)]
enum Step {
    /// Keep the rows for which this is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// Go on with these columns.
    Project { expressions: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
}

impl Transform {
    /// Checks the stream's transform, if it has one: only projection and filter over `input`, nothing that depends on when it is evaluated, names and types that a
    /// table can have. What it names must be declared, captured from the topic, or reserved: a learned column is not there before its first reading.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(stream: &Stream) -> Result<(), TransformError> {
        match &stream.transform {
            Some(sql) => Self::compile(sql, &InputSchema::declared(stream)).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Compiles SQL for what is known of the fields.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn compile(sql: &str, input: &InputSchema) -> Result<Self, TransformError> {
        let input = input.to_arrow();
        let plan = plan::plan(sql, &input)?;
        let computed = plan.computed.iter().map(|name| fold_column_name(name)).collect();
        let steps = plan.compile()?;
        let (outputs, own) = outputs::outputs(&plan.columns)?;
        let transform = Self {
            sql: sql.to_owned(),
            steps,
            outputs,
            table_schema: with_reserved(own.into_iter()),
            computed,
        };
        // A constant that cannot be computed fails with every row: better now.
        transform.apply(&RecordBatch::new_empty(input)).map_err(TransformError::from_datafusion)?;
        Ok(transform)
    }

    /// The same transform for fields that have grown: `select *` has grown with them.
    ///
    /// # Errors
    /// If the new columns do not go with it.
    pub(crate) fn recompile(&self, input: &InputSchema) -> Result<Self, TransformError> {
        Self::compile(&self.sql, input)
    }

    /// Names, folded, that no learned column may have.
    pub(crate) fn computed(&self) -> HashSet<String> {
        self.computed.clone()
    }

    /// The schema of what [`Transform::apply`] gives.
    pub(crate) fn table_schema(&self) -> SchemaRef {
        Arc::clone(&self.table_schema)
    }

    /// Rows of `input`, in the schema it was compiled for, to rows of the table, in their order.
    ///
    /// # Errors
    /// If an expression fails on one of the rows.
    pub(crate) fn apply(&self, input: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let mut rows = input.clone();
        let mut projected: Option<RecordBatch> = None;
        for step in &self.steps {
            let current = projected.as_ref().unwrap_or(&rows);
            match step {
                Step::Filter(condition) => {
                    let keep = condition.evaluate(current)?.into_array(current.num_rows())?;
                    let keep = keep.as_boolean_opt().ok_or_else(|| {
                        DataFusionError::Plan("the condition is not true or false".to_owned())
                    })?;
                    projected = projected.map(|batch| filter_record_batch(&batch, keep)).transpose()?;
                    rows = filter_record_batch(&rows, keep)?;
                }
                Step::Project { expressions, schema } => {
                    let columns = expressions
                        .iter()
                        .map(|expression| expression.evaluate(current)?.into_array(current.num_rows()));
                    projected =
                        Some(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?);
                }
            }
        }
        let current = projected.as_ref().unwrap_or(&rows);
        Ok(self.assemble(&rows, current)?)
    }

    /// The reserved columns of `rows` around the outputs among `current`'s columns.
    fn assemble(&self, rows: &RecordBatch, current: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let leading = reserved::LEADING.len();
        let mut columns: Vec<ArrayRef> = rows.columns()[..leading].to_vec();
        for (place, output) in self.outputs.iter().enumerate() {
            columns.push(to_type(
                current.column(*output),
                self.table_schema.field(leading + place).data_type(),
            )?);
        }
        columns.push(Arc::clone(rows.column(rows.num_columns() - 1)));
        RecordBatch::try_new(self.table_schema(), columns)
    }
}

/// The column in the type that the table has; a value that does not fit it is an error, never a null.
fn to_type(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == kind {
        return Ok(Arc::clone(column));
    }
    cast_with_options(column, kind, &CastOptions { safe: false, ..CastOptions::default() })
}

#[cfg(test)]
mod tests;
