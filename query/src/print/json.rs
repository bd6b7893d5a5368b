//! JSON: an array of objects, or an object a line. Every object has every column; null and what JSON has no number for are `null`.

use super::Rows;
use super::cell::{INSTANT, printable, unprintable};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonFormat;
use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

pub(super) struct Json {
    array: bool,
    any: bool,
    names: Vec<String>,
}

impl Json {
    pub(super) fn array() -> Self {
        Self { array: true, any: false, names: Vec::new() }
    }

    pub(super) fn lines() -> Self {
        Self { array: false, any: false, names: Vec::new() }
    }
}

impl Rows for Json {
    fn begin(&mut self, schema: &SchemaRef, out: &mut dyn Write) -> io::Result<()> {
        self.names = distinct(schema.fields().iter().map(|field| field.name().as_str()));
        if self.array { out.write_all(b"[") } else { Ok(()) }
    }

    fn write(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.array && self.any {
            out.write_all(b",")?;
        }
        self.any = true;
        let renamed = renamed(batch, &self.names).map_err(unprintable)?;
        let builder = WriterBuilder::new()
            .with_explicit_nulls(true)
            .with_timestamp_format(INSTANT.to_owned())
            .with_timestamp_tz_format(INSTANT.to_owned());
        if self.array {
            let mut writer = builder.build::<_, InArray>(out);
            writer.write(&renamed).and_then(|()| writer.finish()).map_err(output)
        } else {
            let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(out);
            writer.write(&renamed).and_then(|()| writer.finish()).map_err(output)
        }
    }

    fn end(&mut self, _: u64, out: &mut dyn Write) -> io::Result<()> {
        match (self.array, self.any) {
            (true, true) => out.write_all(b"\n]\n"),
            (true, false) => out.write_all(b"]\n"),
            (false, _) => Ok(()),
        }
    }
}

/// The objects of one batch within an array, each on its own line.
#[derive(Debug, Default)]
struct InArray;

impl JsonFormat for InArray {
    fn start_row<W: Write>(&self, writer: &mut W, is_first_row: bool) -> Result<(), ArrowError> {
        writer.write_all(if is_first_row { b"\n  " } else { b",\n  " })?;
        Ok(())
    }
}

/// The output's own error comes out as itself, so that a closed pipe is known as one.
fn output(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => unprintable(other),
    }
}

fn renamed(batch: &RecordBatch, names: &[String]) -> Result<RecordBatch, ArrowError> {
    let columns = printable(batch)?;
    let fields =
        columns.iter().zip(names).map(|(column, name)| Field::new(name, column.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)
}

/// An object cannot have a name twice: the second `x` is `x_2`.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    names
        .map(|name| {
            let candidates = (2..).map(|number| format!("{name}_{number}"));
            let free = std::iter::once(name.to_owned()).chain(candidates).find(|name| !taken.contains(name));
            let free = free.unwrap_or_default();
            taken.insert(free.clone());
            free
        })
        .collect()
}
