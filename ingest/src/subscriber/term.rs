//! How long a broker keeps our session while we are away, by what it says.

use std::fmt;
use std::time::Duration;

/// "For ever", in the seconds of MQTT 5.
const FOR_EVER: u32 = u32::MAX;

/// How long a broker keeps our session, and with it what it could not deliver, after a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTerm {
    /// It has not said: MQTT 3.1.1 has no words for it.
    Unsaid,
    /// As long as was asked for, or longer. A broker that does not say otherwise agrees, as the standard has it; mosquitto 2.0 may drop the session sooner all
    /// the same (`persistent_client_expiration`), and nobody can know.
    Agreed(Seconds),
    /// Not as long: if we are away for longer, what was published meanwhile is lost.
    Shorter {
        /// What was asked for.
        asked: Seconds,
        /// What the broker grants.
        granted: Seconds,
    },
}

impl SessionTerm {
    /// What comes of what was asked for, and of what the broker's CONNACK says about it.
    pub(super) fn of(asked: Seconds, answer: Option<u32>) -> Self {
        match answer.map(Seconds) {
            None => Self::Agreed(asked),
            Some(granted) if granted < asked => Self::Shorter { asked, granted },
            Some(granted) => Self::Agreed(granted),
        }
    }
}

/// A time as MQTT 5 says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub(super) u32);

impl From<Duration> for Seconds {
    /// Without what is less than a second. What is too long is for ever.
    fn from(time: Duration) -> Self {
        Self(u32::try_from(time.as_secs()).unwrap_or(FOR_EVER))
    }
}

impl fmt::Display for Seconds {
    /// In the largest unit that leaves no rest, as the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(24 * 3600, "d"), (3600, "h"), (60, "m")];
        let unit = units.into_iter().find(|(seconds, _)| self.0 > 0 && self.0.is_multiple_of(*seconds));
        match unit {
            _ if self.0 == FOR_EVER => f.write_str("ever"),
            Some((seconds, name)) => write!(f, "{}{name}", self.0 / seconds),
            None => write!(f, "{}s", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_less_than_asked_is_shorter() {
        let check = |asked: u64, answer: Option<u32>, expected: SessionTerm| {
            assert_eq!(SessionTerm::of(Duration::from_secs(asked).into(), answer), expected);
        };
        check(100, None, SessionTerm::Agreed(Seconds(100)));
        check(100, Some(100), SessionTerm::Agreed(Seconds(100)));
        check(100, Some(FOR_EVER), SessionTerm::Agreed(Seconds(FOR_EVER)));
        check(100, Some(99), SessionTerm::Shorter { asked: Seconds(100), granted: Seconds(99) });
        check(100, Some(0), SessionTerm::Shorter { asked: Seconds(100), granted: Seconds(0) });
        let granted = Seconds(FOR_EVER - 1);
        check(u64::MAX, Some(granted.0), SessionTerm::Shorter { asked: Seconds(FOR_EVER), granted });
    }

    #[test]
    fn times_are_said_as_the_configuration_has_them() {
        let check = |seconds: u32, expected: &str| assert_eq!(Seconds(seconds).to_string(), expected);
        check(0, "0s");
        check(90, "90s");
        check(120, "2m");
        check(25 * 3600, "25h");
        check(7 * 24 * 3600, "7d");
        check(FOR_EVER, "ever");
    }
}
