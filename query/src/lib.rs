//! SQL over the lake: `catalog` finds the tables a question names, `session` plans and runs it, `answer` hands over its rows,
//! `limits` bounds them, `pace` keeps wide rows within, `planning` has threads for what never pauses, `deadline` and `interruption` end also what does not pause, `print` writes them, `server` does so over HTTP, `error` says what is wrong
//! with a question and where, `report` computes what the reporting bucket keeps, `system` tells as tables what is known of all the tables.
//!
//! It only reads: nothing here changes a table, a file or a setting.

mod answer;
mod carried;
mod catalog;
mod deadline;
mod definitions;
mod error;
mod functions;
mod generators;
mod handles;
mod holding;
mod interruption;
mod limits;
mod pace;
mod passing;
mod planning;
mod print;
pub mod report;
mod rescue;
mod runtime;
mod scan;
mod schemas;
pub mod server;
mod session;
mod statement;
mod system;
mod tail;

pub use answer::{Answer, ScanMetrics, TailMetrics};
pub use definitions::{Definitions, Unclaimed};
pub use error::{Exceeded, Place, QueryError, QueryErrorKind};
pub use limits::Limits;
pub use print::{Footer, Format, Layout, PrintError, Printer, print};
pub use report::{
    Portion, Recompute, ReportDefinition, ReportNote, ReportPlan, ReportSource, ReportState, SourceKind,
    SourceName, When,
};
pub use session::{Ask, Lakehouse, Session, TailUse};
pub use statement::{Piece, split};
