//! A step of a plan that hands on what its input gives, and looks at each batch on the way.

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// Who looks.
pub(crate) trait Onlooker: fmt::Debug + Send + Sync + 'static {
    /// The step's name in a plan.
    const NAME: &'static str;

    /// For the same plan over other inputs, or once more over the same.
    fn anew(&self) -> Self;

    /// Looks at the batches of one partition, one after the other: gives each back, whole or in pieces, or ends the query.
    fn look(
        &self,
        context: &TaskContext,
    ) -> impl FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send + 'static;
}

/// The step.
#[derive(Debug)]
pub(crate) struct Passing<T> {
    pub(crate) input: Arc<dyn ExecutionPlan>,
    /// Those of what it was put above: the same, and so nothing is worked out anew for what lies above it.
    properties: Arc<PlanProperties>,
    onlooker: T,
}

impl<T: Onlooker> Passing<T> {
    /// Above a step.
    pub(crate) fn above(input: Arc<dyn ExecutionPlan>, onlooker: T) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, properties, onlooker }
    }

    /// The same above a step that stands for another, whose properties it has.
    pub(crate) fn with_properties(self, properties: Arc<PlanProperties>) -> Self {
        Self { properties, ..self }
    }
}

impl<T: Onlooker> ExecutionPlan for Passing<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::above(input, self.onlooker.anew())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut look = self.onlooker.look(&context);
        let input = self.input.execute(partition, context)?;
        let passed = input.flat_map(move |batch| {
            stream::iter(match batch.and_then(&mut look) {
                Ok(batches) => batches.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), passed)))
    }
}

impl<T: Onlooker> DisplayAs for Passing<T> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }
}
