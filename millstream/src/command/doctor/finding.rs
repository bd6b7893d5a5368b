//! What the doctor says: a line for each thing, and below it what to do.

use anyhow::Result;
use std::process::ExitCode;

/// How it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, or may work; somebody should look.
    Warning,
    /// It does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Finding {
    verdict: Verdict,
    subject: String,
    said: String,
    advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, subject: subject.into(), said: said.into(), advice: None }
    }

    pub(super) fn warning(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::ok(subject, said) }
    }

    pub(super) fn failed(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::ok(subject, said) }
    }

    /// What to do about it.
    pub(super) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// A line for it, and one for the advice.
    pub(super) fn render(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        let mut text = format!("{verdict:<8} {}: {}\n", self.subject, indented(&self.said));
        if let Some(advice) = &self.advice {
            text.push_str(&format!("         -> {}\n", indented(advice)));
        }
        text
    }
}

/// Further lines stand below the first.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n         ")
}

/// What was found so far. Each is said as soon as it is known, because the next may take its time.
pub(super) struct Findings {
    say: fn(&str) -> Result<()>,
    warnings: usize,
    failures: usize,
}

impl Findings {
    pub(super) fn new(say: fn(&str) -> Result<()>) -> Self {
        Self { say, warnings: 0, failures: 0 }
    }

    pub(super) fn add(&mut self, finding: Finding) -> Result<()> {
        match finding.verdict {
            Verdict::Ok => {}
            Verdict::Warning => self.warnings += 1,
            Verdict::Failed => self.failures += 1,
        }
        (self.say)(&finding.render())
    }

    /// Says how it all is.
    pub(super) fn conclude(self) -> Result<ExitCode> {
        let conclusion = match (self.failures, self.warnings) {
            (0, 0) => "all is well\n".to_owned(),
            (0, warnings) => format!("all works; {} to look at\n", counted(warnings, "thing")),
            (failures, _) => format!("{} to be done\n", counted(failures, "thing")),
        };
        (self.say)(&conclusion)?;
        Ok(if self.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("one {what}") } else { numbered(count, what) }
}

/// So many of something, in figures.
pub(super) fn numbered(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_advice_another() {
        let check = |finding: Finding, expected: &str| assert_eq!(finding.render(), expected);
        check(Finding::ok("log", "writable"), "ok       log: writable\n");
        check(
            Finding::failed("bucket b", "s3:PutObject is missing").advice("allow it"),
            "failed   bucket b: s3:PutObject is missing\n         -> allow it\n",
        );
        check(Finding::warning("a", "one\ntwo\n"), "warning  a: one\n         two\n");
    }

    #[test]
    fn one_of_a_thing_is_no_plural() {
        let check = |count, expected: [&str; 2]| {
            assert_eq!([numbered(count, "stream"), counted(count, "thing")], expected);
        };
        check(0, ["0 streams", "0 things"]);
        check(1, ["1 stream", "one thing"]);
        check(2, ["2 streams", "2 things"]);
    }
}
