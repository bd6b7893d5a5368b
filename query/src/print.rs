//! Answers as text. Rows are written as they come: no format but the box keeps more than one batch, and the box keeps what it shows.

mod cell;
mod delimited;
mod footer;
mod grid;
mod json;
mod zone;

pub use footer::Footer;

use crate::answer::Answer;
use crate::error::QueryError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use thiserror::Error;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table drawn with lines, for people.
    Box,
    /// RFC 4180 with a header and line feeds; null is an empty field, empty text is `""`.
    Csv,
    /// An array of objects.
    Json,
    /// An object a line.
    Ndjson,
    /// A table in Markdown.
    Markdown,
}

impl Format {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 5] = [Self::Box, Self::Csv, Self::Json, Self::Ndjson, Self::Markdown];

    /// The name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Markdown => "markdown",
        }
    }
}

/// Not the name of a format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no format; there are box, csv, json, ndjson and markdown")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// How much a box shows. The other formats always write everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Columns of the terminal; `None` when it is none: then lines are as long as they are.
    pub width: Option<u16>,
    /// Most rows that are drawn.
    pub rows_max: usize,
}

impl Default for Layout {
    /// No terminal, and 1,000 rows: more is not read but scrolled past.
    fn default() -> Self {
        Self { width: None, rows_max: 1_000 }
    }
}

/// Why an answer could not be written.
#[derive(Debug, Error)]
pub enum PrintError {
    /// The query failed while it ran.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The output failed. A closed pipe is no error: writing ends there.
    #[error("write the answer")]
    Output(#[from] io::Error),
}

/// Writes rows in one format.
pub(crate) trait Rows {
    fn begin(&mut self, schema: &SchemaRef, out: &mut dyn Write) -> io::Result<()>;
    fn write(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()>;
    fn end(&mut self, rows: u64, out: &mut dyn Write) -> io::Result<()>;
}

/// What writes rows in a format.
pub(crate) fn rows(format: Format, layout: Layout) -> Box<dyn Rows + Send> {
    match format {
        Format::Box => Box::new(grid::Grid::new(layout)),
        Format::Csv => Box::new(delimited::Csv),
        Format::Json => Box::new(json::Json::array()),
        Format::Ndjson => Box::new(json::Json::lines()),
        Format::Markdown => Box::new(delimited::Markdown),
    }
}

/// Writes rows as they come, from wherever they come.
pub struct Printer<'o> {
    rows: Box<dyn Rows + Send>,
    schema: SchemaRef,
    out: &'o mut (dyn Write + Send),
    begun: bool,
    count: u64,
}

impl<'o> Printer<'o> {
    /// Nothing is written before the first rows, or the end: what fails until then leaves no beginning of an answer behind.
    pub fn new(format: Format, layout: Layout, schema: SchemaRef, out: &'o mut (dyn Write + Send)) -> Self {
        Self { rows: rows(format, layout), schema, out, begun: false, count: 0 }
    }

    /// Writes some rows.
    ///
    /// # Errors
    /// If the output fails, or a value cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.begin()?;
        self.count += batch.num_rows() as u64;
        self.rows.write(batch, self.out)
    }

    /// Writes what stands behind all rows.
    ///
    /// # Errors
    /// If the output fails.
    pub fn end(&mut self) -> io::Result<()> {
        self.begin()?;
        self.rows.end(self.count, self.out)?;
        self.out.flush()
    }

    /// How many rows there were so far, and in a box those that are left out.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn begin(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            self.rows.begin(&self.schema, self.out)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Printer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Writes an answer and says what it cost.
///
/// # Errors
/// When the query fails on the way (what was written until then stays) or the output does.
pub async fn print(
    mut answer: Answer,
    format: Format,
    layout: Layout,
    out: &mut (dyn Write + Send),
) -> Result<Footer, PrintError> {
    let mut printer = Printer::new(format, layout, answer.schema(), out);
    match write_all(&mut answer, &mut printer).await {
        Err(PrintError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        outcome => outcome?,
    }
    Ok(Footer::new(printer.count(), answer.elapsed(), answer.metrics()))
}

async fn write_all(answer: &mut Answer, printer: &mut Printer<'_>) -> Result<(), PrintError> {
    while let Some(batch) = answer.next().await? {
        printer.write(&batch)?;
    }
    printer.end()?;
    Ok(())
}
