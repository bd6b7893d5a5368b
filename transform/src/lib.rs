//! Log to lake, and lake to reports.
//!
//! [`firehose`] makes the messages of the log rows of Delta tables, each offset exactly once; [`processor`] keeps reports equal to their SQL over a
//! version of their source. Both stand on the promises of `log`, `readings` and `lake`, and add one: whatever is killed, whenever, nothing is lost,
//! doubled or decided twice.

mod backoff;
pub mod firehose;
pub mod janitor;
mod patience;
pub mod processor;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
