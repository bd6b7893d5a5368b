//! SQL over the lake: `catalog` finds the tables a question names, `session` plans and runs it, `answer` hands over its rows,
//! `limits` bounds them, `deadline` and `interruption` end also what does not pause, `print` writes them, `server` does so over HTTP, `error` says what is wrong
//! with a question and where, `report` computes what the reporting bucket keeps.
//!
//! It only reads: nothing here changes a table, a file or a setting.

mod answer;
mod catalog;
mod deadline;
mod error;
mod functions;
mod generators;
mod handles;
mod interruption;
mod limits;
mod print;
mod report;
mod rescue;
mod runtime;
mod scan;
mod schemas;
pub mod server;
mod session;
mod statement;

pub use answer::{Answer, ScanMetrics};
pub use error::{Exceeded, Place, QueryError, QueryErrorKind};
pub use limits::Limits;
pub use print::{Footer, Format, Layout, PrintError, print};
pub use report::{Recompute, ReportPlan, ReportSource};
pub use session::{Lakehouse, Session};
pub use statement::{Piece, split};
