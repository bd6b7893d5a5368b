//! What DataFusion's SQL planner may know: the table `input`, and the functions.

use super::{INPUT, TransformError};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use std::collections::HashMap;
use std::sync::Arc;

/// Functions that are found here and not allowed later (aggregates, windows) are known so that the refusal can name what they are.
pub(super) struct Context {
    input: SchemaRef,
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    windows: HashMap<String, Arc<WindowUDF>>,
}

impl Context {
    pub(super) fn new(input: SchemaRef) -> Self {
        let scalars = SessionStateDefaults::default_scalar_functions().into_iter();
        let scalars = scalars.flat_map(|function| {
            let names: Vec<_> = std::iter::once(function.name())
                .chain(function.aliases().iter().map(String::as_str))
                .map(str::to_owned)
                .collect();
            names.into_iter().map(move |name| (name, Arc::clone(&function)))
        });
        let aggregates = SessionStateDefaults::default_aggregate_functions().into_iter();
        let windows = SessionStateDefaults::default_window_functions().into_iter();
        Self {
            input,
            options: ConfigOptions::default(),
            planners: SessionStateDefaults::default_expr_planners(),
            scalars: scalars.collect(),
            aggregates: aggregates.map(|function| (function.name().to_owned(), function)).collect(),
            windows: windows.map(|function| (function.name().to_owned(), function)).collect(),
        }
    }
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if name == TableReference::bare(INPUT) {
            return Ok(Arc::new(LogicalTableSource::new(Arc::clone(&self.input))));
        }
        plan_err!("{}", TransformError::OtherTable(name.to_string()))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.windows.keys().cloned().collect()
    }
}
