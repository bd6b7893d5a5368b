//! The box: for people, so it shows no more than fits and says what it leaves out.

use super::cell::{Cells, is_number, printable};
use super::delimited::visible;
use super::footer::grouped;
use super::{Layout, Rows};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use std::io::{self, Write};

/// Most characters of one value that are drawn: a payload of 64 KiB would push everything else off the screen.
const CELL_MAX: usize = 500;

/// Widest a column becomes where a terminal bounds the line; longer values wrap.
const COLUMN_WIDTH_MAX: u16 = 60;

/// What a column takes besides its content: a line and two blanks.
const COLUMN_EXTRA: u16 = 3;

pub(super) struct Grid {
    layout: Layout,
    table: Table,
    rows: usize,
}

impl Grid {
    pub(super) fn new(layout: Layout) -> Self {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        Self { layout, table, rows: 0 }
    }

    /// Hides what does not fit from the right; says how many columns stay.
    fn fit(&mut self, width: u16) -> usize {
        let widths: Vec<u16> = self
            .table
            .column_max_content_widths()
            .into_iter()
            .map(|width| width.min(COLUMN_WIDTH_MAX))
            .collect();
        let mut used = 1_u16;
        let mut shown = 0;
        for (index, content) in widths.iter().enumerate() {
            used = used.saturating_add(content.saturating_add(COLUMN_EXTRA));
            if used <= width || index == 0 {
                shown += 1;
            }
        }
        for (index, content) in widths.iter().enumerate() {
            let first = width.saturating_sub(COLUMN_EXTRA + 1).max(1);
            let constraint = match index < shown {
                true => {
                    ColumnConstraint::UpperBoundary(Width::Fixed((*content).min(first) + COLUMN_EXTRA - 1))
                }
                false => ColumnConstraint::Hidden,
            };
            if let Some(column) = self.table.column_mut(index) {
                column.set_constraint(constraint);
            }
        }
        self.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        shown
    }
}

impl Rows for Grid {
    fn begin(&mut self, schema: &SchemaRef, _: &mut dyn Write) -> io::Result<()> {
        self.table.set_header(schema.fields().iter().map(|field| visible(field.name())));
        for (index, field) in schema.fields().iter().enumerate() {
            if is_number(field.data_type())
                && let Some(column) = self.table.column_mut(index)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch, _: &mut dyn Write) -> io::Result<()> {
        let wanted = batch.num_rows().min(self.layout.rows_max - self.rows);
        let batch = batch.slice(0, wanted);
        let columns = printable(&batch)?;
        let cells = Cells::all(&columns)?;
        let mut text = String::new();
        for row in 0..wanted {
            let mut line = Vec::with_capacity(cells.len());
            for cell in &cells {
                let shown = if cell.read(row, &mut text)? { shortened(&text) } else { "NULL".to_owned() };
                line.push(Cell::new(shown));
            }
            self.table.add_row(line);
        }
        self.rows += wanted;
        Ok(())
    }

    fn end(&mut self, rows: u64, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.table.column_count();
        if columns == 0 {
            return Ok(());
        }
        let shown = self.layout.width.map_or(columns, |width| self.fit(width));
        for line in self.table.lines() {
            writeln!(out, "{line}")?;
        }
        if rows > self.rows as u64 {
            writeln!(
                out,
                "{} of {} rows are shown; limit the query, or take another format",
                grouped(self.rows as u64),
                grouped(rows)
            )?;
        }
        if shown < columns {
            writeln!(
                out,
                "{shown} of {columns} columns are shown; name those you want, or take another format"
            )?;
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(CELL_MAX) {
        Some((end, _)) => format!("{}…", visible(&text[..end])),
        None => visible(text),
    }
}
