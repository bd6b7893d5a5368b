//! What the tests of this package stand on: a log in memory, a store that stops answering at a chosen call, a world of messages whose fate is
//! known, and the looks at it through SQL that are judged by that.

pub(crate) mod book;
pub(crate) mod compactor;
pub(crate) mod crash;
pub(crate) mod memory_log;
pub(crate) mod skewed;
pub(crate) mod view;
pub(crate) mod world;
