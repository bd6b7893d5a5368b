//! What a replay did, for people and for programs.

use crate::replay::bad_line::{BadLines, Place};
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// What a replay did. Times are serialised as seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Messages that were made of lines.
    pub read: u64,
    /// Messages that were sent at least once, each counted once.
    pub published: u64,
    /// Messages that the broker acknowledged; none at QoS 0.
    pub acknowledged: u64,
    /// Messages that were read and never sent, because the replay ended early.
    pub unpublished: u64,
    /// Messages that were sent and neither acknowledged nor refused, because the replay ended early. The broker may have them or not. 0 at QoS 0.
    pub unacknowledged: u64,
    /// How often a message was sent again.
    pub resent: u64,
    /// Connections that were in use at once.
    pub clients: u64,
    /// How often one of them was made anew.
    pub reconnects: u64,
    /// Messages that the broker answered with a failure (MQTT 5).
    pub refused: Refusals,
    /// Lines that were not published.
    pub bad_lines: BadLines,
    /// By how many hours the event times were shifted, if they were to be.
    pub shift_hours: Option<i64>,
    /// Whether it was cancelled before its end.
    pub cancelled: bool,
    /// From the first message to the last acknowledgement.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Over the whole time.
    pub acknowledged_per_second: f64,
    /// From a message's first sending to its acknowledgement; `None` without any.
    pub latency: Option<Latency>,
}

/// How long acknowledgements took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of them took at most this.
    #[serde(serialize_with = "seconds")]
    pub p50: Duration,
    /// Nine of ten.
    #[serde(serialize_with = "seconds")]
    pub p90: Duration,
    /// 99 of 100.
    #[serde(serialize_with = "seconds")]
    pub p99: Duration,
    /// The longest.
    #[serde(serialize_with = "seconds")]
    pub max: Duration,
}

/// Messages that the broker did not want.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// The first few.
    pub first: Vec<Refusal>,
}

/// A message that the broker did not want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Its line.
    pub place: Place,
    /// Its topic.
    pub topic: String,
    /// The broker's reason.
    pub reason: String,
}

impl Summary {
    /// Whether all messages of all lines arrived, as far as the QoS can tell. Bad lines do not count against it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.cancelled && self.unpublished == 0 && self.unacknowledged == 0 && self.refused.count == 0
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, acknowledged) = (grouped(self.published), grouped(self.acknowledged));
        let (rate, seconds) =
            (grouped(self.acknowledged_per_second.round() as u64), self.elapsed.as_secs_f64());
        write!(
            f,
            "{published} messages published, {acknowledged} acknowledged in {seconds:.1} s ({rate} per second)"
        )?;
        if let Some(Latency { p50, p90, p99, max }) = self.latency {
            write!(f, "\nacknowledged after: half {p50:.1?}, 90 % {p90:.1?}, 99 % {p99:.1?}, all {max:.1?}")?;
        }
        if let Some(hours) = self.shift_hours {
            write!(f, "\nevent times shifted by {hours} hours")?;
        }
        if self.reconnects > 0 || self.resent > 0 {
            write!(
                f,
                "\nreconnected {} times, sent {} messages again",
                grouped(self.reconnects),
                grouped(self.resent)
            )?;
        }
        if self.cancelled || self.unpublished > 0 || self.unacknowledged > 0 {
            let (unacknowledged, unpublished) = (grouped(self.unacknowledged), grouped(self.unpublished));
            write!(
                f,
                "\nended early: {unacknowledged} published and not acknowledged, {unpublished} read and not published"
            )?;
        }
        if self.refused.count > 0 {
            write!(f, "\nthe broker refused {} messages:", grouped(self.refused.count))?;
            for Refusal { place, topic, reason } in &self.refused.first {
                write!(f, "\n  {place}: {topic}: {reason}")?;
            }
        }
        if self.bad_lines.count > 0 {
            write!(f, "\nskipped {} lines that cannot be published:", grouped(self.bad_lines.count))?;
            for line in &self.bad_lines.first {
                write!(f, "\n  {}: {}", line.place, line.reason)?;
            }
        }
        Ok(())
    }
}

/// `26,115`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::bad_line::NamedLine;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::Arc;

    #[test]
    fn thousands_are_grouped() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (26_115, "26,115"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }

    fn summary() -> Summary {
        Summary {
            read: 26_115,
            published: 26_115,
            acknowledged: 26_115,
            unpublished: 0,
            unacknowledged: 0,
            resent: 0,
            clients: 3,
            reconnects: 0,
            refused: Refusals::default(),
            bad_lines: BadLines::default(),
            shift_hours: None,
            cancelled: false,
            elapsed: Duration::from_millis(3200),
            acknowledged_per_second: 8160.9,
            latency: None,
        }
    }

    #[test]
    fn a_plain_success_is_one_line() {
        assert_eq!(
            summary().to_string(),
            "26,115 messages published, 26,115 acknowledged in 3.2 s (8,161 per second)"
        );
        assert!(summary().is_complete());
    }

    #[test]
    fn everything_that_went_wrong_is_said() {
        let place = Place { file: Arc::new(PathBuf::from("a.csv")), line: 7 };
        let refusal = Refusal {
            place: place.clone(),
            topic: "t".to_owned(),
            reason: "NotAuthorized (0x87)".to_owned(),
        };
        let millis = Duration::from_millis;
        let summary = Summary {
            acknowledged: 26_000,
            unpublished: 14,
            unacknowledged: 100,
            resent: 5,
            reconnects: 2,
            refused: Refusals { count: 1, first: vec![refusal] },
            bad_lines: BadLines {
                count: 1,
                reasons: BTreeMap::from([("not_utf8", 1)]),
                first: vec![NamedLine { place, reason: "it is not UTF-8".to_owned() }],
            },
            shift_hours: Some(112_000),
            cancelled: true,
            latency: Some(Latency { p50: millis(1), p90: millis(2), p99: millis(30), max: millis(1500) }),
            ..summary()
        };
        let expected = "26,115 messages published, 26,000 acknowledged in 3.2 s (8,161 per second)\n\
            acknowledged after: half 1.0ms, 90 % 2.0ms, 99 % 30.0ms, all 1.5s\n\
            event times shifted by 112000 hours\n\
            reconnected 2 times, sent 5 messages again\n\
            ended early: 100 published and not acknowledged, 14 read and not published\n\
            the broker refused 1 messages:\n  a.csv:7: t: NotAuthorized (0x87)\n\
            skipped 1 lines that cannot be published:\n  a.csv:7: it is not UTF-8";
        assert_eq!(summary.to_string(), expected);
        assert!(!summary.is_complete());
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["elapsed"], 3.2);
        assert_eq!(json["latency"]["max"], 1.5);
        assert_eq!(json["bad_lines"]["first"][0]["place"]["file"], "a.csv");
    }
}
