//! Clauses that the parser takes and the engine drops in silence: whoever writes `group by device_id with rollup` would get an answer, to another question. Each of them is
//! refused, with its place and with the way to say it.
//!
//! What the engine refuses itself (TOP, FETCH, LATERAL VIEW, MATCH_RECOGNIZE and others) is left to it. The parser's structs of queries, selects, tables and calls are taken apart to the last field, so that a
//! clause that a later version knows is judged here before it compiles.

mod call;
mod source;

use crate::error::{Place, QueryError, QueryErrorKind};
use datafusion::sql::parser::Statement as Parsed;
use sqlparser::ast::{
    ConnectByKind, Cte, Expr, Function, FunctionArg, GroupByExpr, GroupByWithModifier, Join,
    NamedWindowDefinition, NamedWindowExpr, OrderByOptions, PipeOperator, Query, Select, SelectItem, SetExpr,
    SetOperator, Spanned, TableAlias, TableFactor, Visit, Visitor, WindowType, With, visit_expressions,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Whether a clause is refused.
type Judged = ControlFlow<Box<QueryError>>;

/// Judges all clauses of a statement.
pub(super) fn check(parsed: &Parsed, sql: &str) -> Result<(), QueryError> {
    match parsed {
        Parsed::Statement(ast) => match ast.visit(&mut Clauses { sql, windows: HashSet::new() }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(refusal) => Err(*refusal),
        },
        Parsed::Explain(explain) => check(&explain.statement, sql),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => Ok(()),
    }
}

struct Clauses<'a> {
    sql: &'a str,
    /// Where windows are named in a list of SELECT: there the engine looks them up.
    windows: HashSet<Location>,
}

impl Visitor for Clauses<'_> {
    type Break = Box<QueryError>;

    fn pre_visit_query(&mut self, query: &Query) -> Judged {
        let Query {
            with,
            body: _,
            order_by: _,
            limit_clause: _,
            fetch: _,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if let Some(lock) = locks.first() {
            let kind = lock.lock_type.to_string();
            return self
                .refuse(&format!("FOR {kind}"), self.words(&["for", &kind]))
                .because("a question locks nothing: leave it out");
        }
        if let Some(clause) = for_clause {
            let text = clause.to_string();
            let words: Vec<&str> = text.split([' ', ',', '(']).take(2).collect();
            return self.refuse(&words.join(" "), self.words(&words)).because(FORM);
        }
        if let Some(settings) = settings {
            let place = settings.first().and_then(|setting| Place::of_span(setting.key.span));
            return self.refuse("SETTINGS", place).because("a question sets nothing: leave it out");
        }
        if format_clause.is_some() {
            return self.refuse("FORMAT", self.words(&["format"])).because(FORM);
        }
        self.with(with.as_ref())?;
        pipe_operators.iter().try_for_each(|operator| self.pipe(operator))
    }

    fn pre_visit_select(&mut self, select: &Select) -> Judged {
        let Select {
            select_token,
            optimizer_hints: _,
            distinct: _,
            select_modifiers,
            top: _,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views: _,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by: _,
            distribute_by: _,
            sort_by: _,
            having: _,
            named_window,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        let begin = Place::of_span(select_token.0.span);
        if let Some(into) = into {
            let message = "SELECT INTO is not allowed: SQL only reads here";
            let error = QueryError::new(QueryErrorKind::Forbidden, message);
            return broken(error.at(Place::of_span(into.name.span()), "would be made"));
        }
        if let Some(modifiers) = select_modifiers.as_ref().filter(|modifiers| modifiers.is_any_set()) {
            return self.refuse(modifiers.to_string().trim(), begin).because("leave it out");
        }
        if exclude.is_some() {
            return self.refuse("EXCLUDE behind a column", self.words(&["exclude"])).because("* exclude (…)");
        }
        if let Some(mode) = value_table_mode {
            return self.refuse(&mode.to_string(), begin).because("make one: select struct(…)");
        }
        if let Some(condition) = prewhere {
            return self.refuse("PREWHERE", Place::of_span(condition.span())).because("where …");
        }
        connect_by.iter().try_for_each(|clause| self.hierarchy(clause))?;
        from.iter().flat_map(|table| &table.joins).try_for_each(|join| self.join(join))?;
        self.grouping(group_by)?;
        named_window.iter().try_for_each(|window| self.named_window(window))?;
        self.windows_named_in(projection);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Judged {
        let place = Place::of_span(factor.span());
        match factor {
            TableFactor::Table { .. } => self.table(factor, place),
            TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
                if sample.is_some() {
                    return self.refuse("TABLESAMPLE", place).because(SAMPLE);
                }
                self.alias(alias.as_ref())
            }
            TableFactor::Function { lateral: _, name: _, args, with_ordinality, alias } => {
                if args.iter().any(|arg| !matches!(arg, FunctionArg::Unnamed(_))) {
                    return self.refuse("a named argument of a function in FROM", place).because(IN_ORDER);
                }
                self.ordinality(*with_ordinality)?;
                self.alias(alias.as_ref())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                table_with_joins.joins.iter().try_for_each(|join| self.join(join))?;
                self.alias(alias.as_ref())
            }
            // The engine refuses the others.
            TableFactor::UNNEST {
                alias,
                array_exprs: _,
                with_offset: _,
                with_offset_alias: _,
                with_ordinality: _,
            } => self.alias(alias.as_ref()),
            // These the engine refuses.
            TableFactor::TableFunction { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Judged {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Trim { trim_where: _, trim_what: _, expr: _, trim_characters: Some(texts) } => {
                match texts.get(1) {
                    None => ControlFlow::Continue(()),
                    Some(second) => self
                        .refuse("a second text to trim", Place::of_span(second.span()))
                        .because("one text with all of the characters: trim(…, 'ab')"),
                }
            }
            // The engine takes the pattern for a regular expression that may match anywhere.
            Expr::SimilarTo { .. } => self
                .refuse("SIMILAR TO", self.words(&["similar", "to"]))
                .because("like …, or a regular expression: ~ '^(a|b)$'"),
            _ => ControlFlow::Continue(()),
        }
    }
}

const SAMPLE: &str = "filter instead, for example `where random() < 0.01`";
const FORM: &str = "the form of an answer is chosen with --format, or by Accept";
const IN_ORDER: &str = "give the arguments in their order, without names";

/// The parts of a query.
impl Clauses<'_> {
    fn with(&self, with: Option<&With>) -> Judged {
        let Some(With { with_token: _, recursive, cte_tables }) = with else {
            return ControlFlow::Continue(());
        };
        cte_tables.iter().try_for_each(|defined| {
            let Cte { alias, query, from, materialized: _, closing_paren_token: _ } = defined;
            if let Some(from) = from {
                return self
                    .refuse("FROM behind a WITH query", Place::of_span(from.span))
                    .because("leave it out");
            }
            self.alias(Some(alias))?;
            if *recursive { self.recursion(query, alias) } else { ControlFlow::Continue(()) }
        })
    }

    /// Of a recursive query the engine takes the two sides of its UNION.
    fn recursion(&self, query: &Query, alias: &TableAlias) -> Judged {
        if !matches!(*query.body, SetExpr::SetOperation { op: SetOperator::Union, .. }) {
            return ControlFlow::Continue(());
        }
        let around = [
            (query.with.is_some(), "WITH"),
            (query.order_by.is_some(), "ORDER BY"),
            (query.limit_clause.is_some(), "LIMIT"),
            (query.fetch.is_some(), "FETCH"),
            (!query.pipe_operators.is_empty(), "|>"),
        ];
        match around.into_iter().find(|(present, _)| *present) {
            None => ControlFlow::Continue(()),
            Some((_, clause)) => self
                .refuse(&format!("{clause} around a recursive UNION"), Place::of_span(alias.name.span))
                .because("put it behind: with recursive n as (… union all …) select … from n limit 10"),
        }
    }

    fn pipe(&self, operator: &PipeOperator) -> Judged {
        match operator {
            PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
                let ordered = full_table_exprs
                    .iter()
                    .chain(group_by_expr)
                    .find(|item| item.order_by != OrderByOptions::default());
                match ordered {
                    None => ControlFlow::Continue(()),
                    Some(item) => self
                        .refuse("an order within AGGREGATE", Place::of_span(item.expr.expr.span()))
                        .because("|> order by …"),
                }
            }
            PipeOperator::Join(join) => self.join(join),
            _ => ControlFlow::Continue(()),
        }
    }

    fn hierarchy(&self, clause: &ConnectByKind) -> Judged {
        let (name, token) = match clause {
            ConnectByKind::ConnectBy { connect_token, nocycle: _, relationships: _ } => {
                ("CONNECT BY", connect_token)
            }
            ConnectByKind::StartWith { start_token, condition: _ } => ("START WITH", start_token),
        };
        self.refuse(name, Place::of_span(token.0.span)).because("with recursive … as (… union all …)")
    }

    fn join(&self, join: &Join) -> Judged {
        let Join { relation, global, join_operator: _ } = join;
        match global {
            false => ControlFlow::Continue(()),
            true => self.refuse("GLOBAL", Place::of_span(relation.span())).because("leave it out"),
        }
    }

    fn grouping(&self, group_by: &GroupByExpr) -> Judged {
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = group_by;
        let (clause, place, hint) = match modifiers.first() {
            None => return ControlFlow::Continue(()),
            Some(GroupByWithModifier::Rollup) => {
                ("WITH ROLLUP", self.words(&["with", "rollup"]), "group by rollup (…)")
            }
            Some(GroupByWithModifier::Cube) => {
                ("WITH CUBE", self.words(&["with", "cube"]), "group by cube (…)")
            }
            Some(GroupByWithModifier::Totals) => {
                ("WITH TOTALS", self.words(&["with", "totals"]), "group by grouping sets ((…), ())")
            }
            Some(GroupByWithModifier::GroupingSets(_)) => (
                "GROUPING SETS behind expressions",
                self.words(&["grouping", "sets"]),
                "group by grouping sets ((…), (…))",
            ),
        };
        self.refuse(clause, place).because(hint)
    }

    fn named_window(&self, window: &NamedWindowDefinition) -> Judged {
        match window {
            NamedWindowDefinition(_, NamedWindowExpr::WindowSpec(spec)) => self.window(spec),
            // Of this the engine says that it is not defined.
            NamedWindowDefinition(_, NamedWindowExpr::NamedWindow(_)) => ControlFlow::Continue(()),
        }
    }

    fn windows_named_in(&mut self, projection: &[SelectItem]) {
        for item in projection {
            let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ }) = item else {
                continue;
            };
            _ = visit_expressions(expr, |expr| {
                if let Expr::Function(Function { over: Some(WindowType::NamedWindow(name)), .. }) = expr {
                    self.windows.insert(name.span.start);
                }
                ControlFlow::<()>::Continue(())
            });
        }
    }
}

/// How a refusal is put together.
impl Clauses<'_> {
    fn refuse(&self, clause: &str, place: Option<Place>) -> Refusal {
        let error = QueryError::new(QueryErrorKind::Forbidden, format!("{clause} is not supported"));
        Refusal(error.at(place, "would be ignored"))
    }

    /// Where these words stand one behind the other first.
    fn words(&self, wanted: &[&str]) -> Option<Place> {
        let tokens = Tokenizer::new(&GenericDialect {}, self.sql).tokenize_with_location().ok()?;
        let tokens: Vec<_> =
            tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        let found = tokens.windows(wanted.len()).find(|found| found.iter().zip(wanted).all(is_word))?;
        let (first, last) = (found.first()?, found.last()?);
        Place::of_span(Span::new(first.span.start, last.span.end))
    }
}

fn is_word((token, wanted): (&TokenWithSpan, &&str)) -> bool {
    match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    }
}

struct Refusal(QueryError);

impl Refusal {
    fn because(self, hint: &str) -> Judged {
        broken(self.0.hint(hint))
    }
}

fn broken(error: QueryError) -> Judged {
    ControlFlow::Break(Box::new(error))
}

#[cfg(test)]
mod tests;
