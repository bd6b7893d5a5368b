//! What a caller can do about an error. Every error that crosses a boundary says one of these.

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The same call may succeed later: wait, with a bound, and try again.
    Retry,
    /// Somebody else did it first, or the ground has moved: read the state again and start over from it.
    Reload,
    /// A person must act; trying again changes nothing.
    Stop,
}
