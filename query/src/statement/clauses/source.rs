//! What stands behind FROM: tables, functions that give rows, and their names.

use super::{Clauses, Judged, SAMPLE};
use crate::error::Place;
use sqlparser::ast::{Spanned, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs};
use std::ops::ControlFlow;

impl Clauses<'_> {
    pub(super) fn table(&self, factor: &TableFactor, place: Option<Place>) -> Judged {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let settings = matches!(args, Some(TableFunctionArgs { args: _, settings: Some(_) }));
        let latest = "a question reads what there is now: filter by time";
        let judged = [
            (sample.is_some(), "TABLESAMPLE", SAMPLE),
            (version.is_some(), "reading a table as of a time", latest),
            (!partitions.is_empty(), "PARTITION", "filter instead: where date = …"),
            (json_path.is_some(), "a path behind a table", "unnest(…) makes rows of a list"),
            (!with_hints.is_empty(), "WITH (…) behind a table", "leave it out"),
            (!index_hints.is_empty(), "INDEX (…) behind a table", "leave it out"),
            (settings, "SETTINGS", "a question sets nothing: leave it out"),
        ];
        if let Some((_, clause, hint)) = judged.into_iter().find(|(present, ..)| *present) {
            return self.refuse(clause, place.or_else(|| Place::of_span(name.span()))).because(hint);
        }
        self.ordinality(*with_ordinality)?;
        self.alias(alias.as_ref())
    }

    pub(super) fn ordinality(&self, asked: bool) -> Judged {
        match asked {
            false => ControlFlow::Continue(()),
            true => self
                .refuse("WITH ORDINALITY", self.words(&["with", "ordinality"]))
                .because("number the rows: row_number() over (order by …)"),
        }
    }

    pub(super) fn alias(&self, alias: Option<&TableAlias>) -> Judged {
        let Some(TableAlias { explicit: _, name: _, columns, at }) = alias else {
            return ControlFlow::Continue(());
        };
        if let Some(at) = at {
            return self.refuse("AT", Place::of_span(at.span)).because("row_number() over (order by …)");
        }
        let typed = columns.iter().find_map(|column| {
            let TableAliasColumnDef { name, data_type } = column;
            data_type.as_ref().map(|_| name)
        });
        match typed {
            None => ControlFlow::Continue(()),
            Some(name) => self
                .refuse("a type in a list of columns", Place::of_span(name.span))
                .because("cast the column where it is selected"),
        }
    }
}
