//! What the tests of this package stand on: a log in memory, a store that stops answering at a chosen call, and a world of messages whose fate is known.

pub(crate) mod crash;
pub(crate) mod memory_log;
pub(crate) mod world;
