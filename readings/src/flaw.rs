//! What is wrong with a message that cannot become readings.

use millstream_model::quarantine::Reason;

/// Longest piece of a payload that a detail quotes, in characters: details are read by people, the payload stands beside them.
const QUOTE_MAX: usize = 80;

/// Why a message goes to quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The fixed code.
    pub(crate) reason: Reason,
    /// For a person: what, and where.
    pub(crate) detail: String,
}

impl Flaw {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Of a record that only stands for a message which a repair of the log could not save.
    pub(crate) fn lost() -> Self {
        Self::new(Reason::Empty, "the log was repaired: this message is lost")
    }
}

/// A piece of a payload as a detail quotes it: on one line, and not longer than a person reads.
pub(crate) fn quote(text: &str) -> String {
    let mut short: String =
        text.chars().take(QUOTE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
