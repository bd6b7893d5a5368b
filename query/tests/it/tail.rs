//! What waits in the log is part of the tables: exactly, whatever is committed meanwhile.

mod columns;
mod incremental;
mod limits;
mod quarantine;
pub(crate) mod river;
mod strange;
mod through;
