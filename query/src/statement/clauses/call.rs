//! Calls of functions: what stands within and behind their brackets.

use super::{Clauses, Judged};
use crate::error::Place;
use crate::statement::{normal_ident, normal_name};
use datafusion::execution::SessionStateDefaults;
use sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident,
    Spanned, WindowSpec, WindowType,
};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// Aggregates that take DISTINCT, and reckon without it.
const DISTINCT_DROPPED: [&str; 15] = [
    "approx_percentile_cont",
    "corr",
    "covar",
    "covar_pop",
    "covar_samp",
    "nth_value",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
];

/// Functions of one row, by all of their names: what stands behind the brackets of their calls is dropped.
static OF_A_ROW: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut names: HashSet<String> = HashSet::from(["unnest".to_owned(), "unnest_outer".to_owned()]);
    for function in SessionStateDefaults::default_scalar_functions() {
        names.insert(function.name().to_owned());
        names.extend(function.aliases().iter().cloned());
    }
    for function in SessionStateDefaults::default_higher_order_functions() {
        names.insert(function.name().to_owned());
        names.extend(function.aliases().iter().cloned());
    }
    names
});

/// Functions that there are only with OVER, or that are others with it.
static OF_A_WINDOW: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_window_functions();
    functions.iter().map(|function| function.name().to_owned()).collect()
});

impl Clauses<'_> {
    pub(super) fn function(&self, function: &Function) -> Judged {
        let Function {
            name,
            uses_odbc_syntax: _,
            parameters,
            args,
            filter,
            null_treatment,
            over,
            within_group,
        } = function;
        let place = Place::of_span(name.span());
        if *parameters != FunctionArguments::None {
            return self.refuse("a second list of arguments", place).because("give all of them in one");
        }
        let list = match args {
            FunctionArguments::None => None,
            FunctionArguments::List(list) => Some(list),
            FunctionArguments::Subquery(_) => {
                return self.refuse("a query for arguments", place).because(
                    "put brackets around it, or for an array of its rows write (select array_agg(x) from …)",
                );
            }
        };
        match over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec)?,
            Some(WindowType::NamedWindow(name)) => self.window_name(name)?,
            None => {}
        }
        let called = normal_name(name).join(".");
        let distinct = list.is_some_and(is_distinct);
        let within = list.map(|list| list.clauses.as_slice()).unwrap_or_default();
        if OF_A_ROW.contains(&called) {
            let behind = [
                (over.is_some(), "OVER"),
                (filter.is_some(), "FILTER"),
                (!within_group.is_empty(), "WITHIN GROUP"),
                (null_treatment.is_some() || within.iter().any(treats_nulls), "a treatment of nulls"),
                (within.iter().any(orders), "ORDER BY"),
                (distinct, "DISTINCT"),
            ];
            if let Some((_, clause)) = behind.into_iter().find(|(present, _)| *present) {
                return self
                    .refuse(&format!("{clause} in a call of {called}"), place)
                    .because(&format!("{called} is a function of one row"));
            }
        }
        let of_a_window = over.is_some() && OF_A_WINDOW.contains(&called);
        if filter.is_some() && of_a_window {
            return self
                .refuse(&format!("FILTER in a call of {called} with OVER"), place)
                .because("filter the rows first, or make what is not wanted null: case when … then … end");
        }
        let dropped = DISTINCT_DROPPED.contains(&called.as_str()) || of_a_window;
        match distinct && dropped {
            false => ControlFlow::Continue(()),
            true => self
                .refuse(&format!("DISTINCT in a call of {called}"), place)
                .because("make the rows distinct first: from (select distinct … from …)"),
        }
    }

    pub(super) fn window(&self, spec: &WindowSpec) -> Judged {
        let WindowSpec { window_name, partition_by: _, order_by: _, window_frame: _ } = spec;
        match window_name {
            None => ControlFlow::Continue(()),
            Some(name) => self
                .refuse("a window that is named within brackets", Place::of_span(name.span))
                .because(&format!("over {name}, without brackets; or write all of it there")),
        }
    }

    /// Elsewhere the engine forgets that there is a window, and takes the function for an aggregate.
    pub(super) fn window_name(&self, name: &Ident) -> Judged {
        match self.windows.contains(&name.span.start) {
            true => ControlFlow::Continue(()),
            false => self
                .refuse("a named window outside of the list of SELECT", Place::of_span(name.span))
                .because(&format!("write {} out: over (partition by … order by …)", normal_ident(name))),
        }
    }
}

fn is_distinct(list: &FunctionArgumentList) -> bool {
    let FunctionArgumentList { duplicate_treatment, args: _, clauses: _ } = list;
    *duplicate_treatment == Some(DuplicateTreatment::Distinct)
}

fn treats_nulls(clause: &FunctionArgumentClause) -> bool {
    matches!(clause, FunctionArgumentClause::IgnoreOrRespectNulls(_))
}

fn orders(clause: &FunctionArgumentClause) -> bool {
    matches!(clause, FunctionArgumentClause::OrderBy(_))
}
