//! Where instants come from, so that a test can say what time it is.

use millstream_model::time::Micros;
use std::fmt::Debug;

/// Tells the time of day.
pub trait Clock: Send + Sync + Debug {
    /// Now.
    fn now(&self) -> Micros;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        chrono::Utc::now().into()
    }
}
