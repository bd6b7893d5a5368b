//! The error as a person reads it on a terminal.

use super::QueryError;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::error::Error;

pub(super) fn render(error: &QueryError, sql: &str, color: bool) -> String {
    let parts = &error.0;
    let mut group = match parts.place {
        Some(place) if !sql.is_empty() => {
            let label = (!parts.label.is_empty()).then_some(parts.label.as_str());
            let spot = AnnotationKind::Primary.span(place.range_in(sql)).label(label);
            let marks = parts.marks.iter();
            let marks = marks.map(|(place, label)| {
                AnnotationKind::Context.span(place.range_in(sql)).label(label.as_str())
            });
            Level::ERROR
                .primary_title(parts.message.as_str())
                .element(Snippet::source(sql).annotation(spot).annotations(marks))
        }
        _ => annotate_snippets::Group::with_title(Level::ERROR.primary_title(parts.message.as_str())),
    };
    for cause in causes(error) {
        group = group.element(Level::NOTE.message(format!("caused by: {cause}")));
    }
    for hint in &parts.hints {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

fn causes(error: &QueryError) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}
