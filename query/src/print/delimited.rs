//! A line a row: CSV and Markdown.

use super::Rows;
use super::cell::{Cells, is_number, printable};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::{self, Write};

pub(super) struct Csv;

impl Rows for Csv {
    fn begin(&mut self, schema: &SchemaRef, out: &mut dyn Write) -> io::Result<()> {
        let names: Vec<_> = schema.fields().iter().map(|field| Some(field.name().as_str())).collect();
        out.write_all(csv_line(&names).as_bytes())
    }

    fn write(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        each_line(batch, out, csv_line)
    }

    fn end(&mut self, _: u64, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn csv_line(values: &[Option<&str>]) -> String {
    let mut line = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        match value {
            Some(text) if text.is_empty() || text.contains([',', '"', '\r', '\n']) => {
                line.push('"');
                line.push_str(&text.replace('"', "\"\""));
                line.push('"');
            }
            Some(text) => line.push_str(text),
            None => {}
        }
    }
    // A line with nothing on it is no record to many readers.
    if line.is_empty() {
        line.push_str("\"\"");
    }
    line.push('\n');
    line
}

pub(super) struct Markdown;

impl Rows for Markdown {
    fn begin(&mut self, schema: &SchemaRef, out: &mut dyn Write) -> io::Result<()> {
        let names: Vec<_> = schema.fields().iter().map(|field| Some(field.name().as_str())).collect();
        out.write_all(markdown_line(&names).as_bytes())?;
        let rule = schema
            .fields()
            .iter()
            .map(|field| if is_number(field.data_type()) { " ---: |" } else { " --- |" });
        writeln!(out, "|{}", rule.collect::<String>())
    }

    fn write(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        each_line(batch, out, markdown_line)
    }

    fn end(&mut self, _: u64, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn markdown_line(values: &[Option<&str>]) -> String {
    let mut line = String::from("|");
    for value in values {
        line.push(' ');
        line.push_str(&visible(value.unwrap_or_default()).replace('|', "\\|"));
        line.push_str(" |");
    }
    line.push('\n');
    line
}

/// Control characters as their escapes: what a device sent must not steer a terminal or break a table.
pub(super) fn visible(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn each_line(
    batch: &RecordBatch,
    out: &mut dyn Write,
    line: impl Fn(&[Option<&str>]) -> String,
) -> io::Result<()> {
    let columns = printable(batch)?;
    let cells = Cells::all(&columns)?;
    let mut texts = vec![String::new(); cells.len()];
    let mut present = vec![false; cells.len()];
    for row in 0..batch.num_rows() {
        for (column, cell) in cells.iter().enumerate() {
            present[column] = cell.read(row, &mut texts[column])?;
        }
        let values: Vec<_> =
            texts.iter().zip(&present).map(|(text, present)| present.then_some(text.as_str())).collect();
        out.write_all(line(&values).as_bytes())?;
    }
    Ok(())
}
