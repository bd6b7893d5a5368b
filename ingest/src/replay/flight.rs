//! The messages of one client that are not acknowledged yet: its own list, which outlives every connection. Pure: no I/O, no clock.

use crate::replay::message::Message;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;
use tokio::time::Instant;

/// Messages on their way, in the order in which they were first published.
///
/// On a new connection all of them are sent again, in that order, before anything new: so the first deliveries keep their order whatever is cut.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    open: BTreeMap<u64, Open>,
    by_id: HashMap<NonZeroU16, u64>,
    /// Orders below were sent on this connection, orders from here on were not.
    cursor: u64,
    /// How many of the open ones were sent on this connection.
    sent_here: usize,
    next_order: u64,
    last_id: u16,
}

/// One message on its way.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) message: Message,
    pub(crate) first_sent: Instant,
    id: NonZeroU16,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// PUBLISH was sent; waits for PUBACK or PUBREC. `again`: the broker may know this packet id, so it is told that this is a duplicate.
    Published { again: bool },
    /// PUBREL was sent; waits for PUBCOMP.
    Released,
}

/// What is to be sent again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resend<'f> {
    /// The message.
    Publish { id: NonZeroU16, dup: bool, message: &'f Message },
    /// Only its release (QoS 2): the broker has the message.
    Release { id: NonZeroU16 },
}

impl Flight {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Messages that this connection has sent and that are not acknowledged: what the receive maximum counts.
    pub(crate) fn sent_here(&self) -> usize {
        self.sent_here
    }

    /// Whether something of an earlier connection is still to be sent again.
    pub(crate) fn has_resend(&self) -> bool {
        self.sent_here < self.open.len()
    }

    /// A new connection: everything open has to be sent again. If the broker has lost the session, all of it as new messages, even what it had received:
    /// whether it kept a message that was not released, nobody knows.
    pub(crate) fn begin(&mut self, session_present: bool) {
        self.cursor = 0;
        self.sent_here = 0;
        for open in self.open.values_mut() {
            match (&mut open.stage, session_present) {
                (Stage::Published { again }, _) => *again = session_present,
                (stage, false) => *stage = Stage::Published { again: false },
                (Stage::Released, true) => {}
            }
        }
    }

    /// The next one to send again; it counts as sent.
    pub(crate) fn next_resend(&mut self) -> Option<Resend<'_>> {
        let (order, open) = self.open.range(self.cursor..).next()?;
        self.cursor = order + 1;
        self.sent_here += 1;
        Some(match open.stage {
            Stage::Published { again } => Resend::Publish { id: open.id, dup: again, message: &open.message },
            Stage::Released => Resend::Release { id: open.id },
        })
    }

    /// Takes a new message, which is sent at once, and gives it a packet id. There must be nothing left to send again, and fewer than 65,535 open.
    pub(crate) fn insert(&mut self, message: Message, now: Instant) -> NonZeroU16 {
        let id = self.free_id();
        let order = self.next_order;
        self.next_order += 1;
        self.cursor = self.next_order;
        self.sent_here += 1;
        self.by_id.insert(id, order);
        self.open
            .insert(order, Open { message, first_sent: now, id, stage: Stage::Published { again: false } });
        id
    }

    /// PUBREC: the broker has the message and is to be told to release it. False if nobody waits for that, which is to be released all the same.
    pub(crate) fn received(&mut self, id: NonZeroU16) -> bool {
        match self.by_id.get(&id).and_then(|order| self.open.get_mut(order)) {
            Some(open) => {
                open.stage = Stage::Released;
                true
            }
            None => false,
        }
    }

    /// PUBACK, PUBCOMP or a refusal: the message is off the list. `None` if it was not on it.
    pub(crate) fn remove(&mut self, id: NonZeroU16) -> Option<Open> {
        let order = self.by_id.remove(&id)?;
        let open = self.open.remove(&order)?;
        self.sent_here -= usize::from(order < self.cursor);
        Some(open)
    }

    /// Packet ids go round, so that a late answer to an old one does not meet a new message.
    fn free_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id).filter(|id| !self.by_id.contains_key(id)) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::bad_line::Place;
    use bytes::Bytes;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn message(number: u64) -> Message {
        let place = Place { file: Arc::new(PathBuf::from("a")), line: number };
        Message { topic: "t".into(), payload: Bytes::from(number.to_string()), place }
    }

    fn id(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    fn with(numbers: std::ops::RangeInclusive<u64>) -> Flight {
        let mut flight = Flight::default();
        numbers.for_each(|number| {
            flight.insert(message(number), Instant::now());
        });
        flight
    }

    /// `line`, `line!` for a duplicate, `(id)` for a release.
    fn resent(flight: &mut Flight) -> Vec<String> {
        let mut resent = Vec::new();
        while let Some(next) = flight.next_resend() {
            resent.push(match next {
                Resend::Publish { dup, message, .. } => {
                    format!("{}{}", message.place.line, if dup { "!" } else { "" })
                }
                Resend::Release { id } => format!("({id})"),
            });
        }
        resent
    }

    #[test]
    fn what_is_open_is_sent_again_in_order() {
        let mut flight = with(1..=4);
        assert!(!flight.has_resend());
        flight.remove(id(2));
        flight.received(id(3));
        flight.begin(true);
        assert_eq!((flight.sent_here(), flight.has_resend()), (0, true));
        assert_eq!(resent(&mut flight), ["1!", "(3)", "4!"]);
        assert_eq!((flight.sent_here(), flight.has_resend()), (3, false));
    }

    #[test]
    fn a_lost_session_makes_everything_new_again() {
        let mut flight = with(1..=3);
        flight.received(id(2));
        flight.begin(false);
        assert_eq!(resent(&mut flight), ["1", "2", "3"]);
        flight.begin(true);
        assert_eq!(resent(&mut flight), ["1!", "2!", "3!"]);
    }

    #[test]
    fn an_answer_to_what_was_not_sent_again_yet_counts() {
        let mut flight = with(1..=3);
        flight.begin(true);
        assert!(flight.next_resend().is_some());
        assert_eq!(flight.remove(id(3)).unwrap().message, message(3));
        assert_eq!(flight.sent_here(), 1);
        assert_eq!(resent(&mut flight), ["2!"]);
        assert!(flight.remove(id(1)).is_some() && flight.remove(id(1)).is_none());
        assert!(!flight.received(id(9)));
        assert_eq!(flight.sent_here(), 1);
    }

    #[test]
    fn packet_ids_go_round_and_skip_those_in_use() {
        let mut flight = with(1..=1);
        for _ in 0..65_534 {
            let next = flight.insert(message(2), Instant::now());
            flight.remove(next);
        }
        assert_eq!(flight.insert(message(3), Instant::now()), id(2));
    }
}
