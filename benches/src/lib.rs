//! What the benchmarks beside this folder share: the program as a process, a device, a client for SQL, a store whose clock is set by hand, and the figures that are printed.
//!
//! A benchmark says what it measured and with which settings. It never judges a time: what is fast enough is for the reader, and differs by machine.

mod dated;
mod device;
mod figures;
mod program;
mod sql;

pub use dated::Dated;
pub use device::{Acks, Device};
pub use figures::{Figures, machine, print};
pub use program::Program;
pub use sql::SqlClient;
