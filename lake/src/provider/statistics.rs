//! What commits say about files, in the engine's words.
//!
//! Counts are exact. Least and greatest values are only bounds (a long text is cut, a double gives way by its last bit), except of partition columns, and of times in
//! files of ours: so the engine leaves out files while it looks for the latest rows, which it does by exact ones alone.

use super::partition;
use crate::DataFile;
use crate::write::is_ours;
use arrow::datatypes::Field;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;

/// Of one file, in the order of the layout.
pub(super) fn of_file(file: &DataFile, layout: &TableSchema, partition_by: &[String]) -> Result<Statistics> {
    let rows = known(file.rows);
    // Who else writes may round times, as some do.
    let is_ours = is_ours(&file.path, partition_by);
    let stored = layout.file_schema().fields().iter().map(|field| Ok(stored_column(file, field, is_ours)));
    let partitioned = layout.table_partition_cols().iter().map(|field| partition_column(file, field, rows));
    Ok(Statistics {
        num_rows: rows,
        total_byte_size: Precision::Inexact(usize::try_from(file.size).unwrap_or(usize::MAX)),
        column_statistics: stored.chain(partitioned).collect::<Result<_>>()?,
    })
}

fn stored_column(file: &DataFile, field: &Field, is_ours: bool) -> ColumnStatistics {
    let stats = file.stats.as_ref();
    let is_exact = is_ours && stats.is_some_and(|stats| stats.is_to_the_microsecond(field.name()));
    let bound = |value: Option<&ScalarValue>| match value {
        Some(value) if is_exact => Precision::Exact(value.clone()),
        Some(value) => Precision::Inexact(value.clone()),
        None => Precision::Absent,
    };
    ColumnStatistics {
        null_count: known(stats.and_then(|stats| stats.nulls(field.name()))),
        min_value: bound(stats.and_then(|stats| stats.min(field.name()))),
        max_value: bound(stats.and_then(|stats| stats.max(field.name()))),
        ..ColumnStatistics::new_unknown()
    }
}

fn partition_column(file: &DataFile, field: &Field, rows: Precision<usize>) -> Result<ColumnStatistics> {
    let value = partition::value(file, field)?;
    let empty = matches!(rows, Precision::Exact(0));
    let null = value.is_null();
    // A file without rows has no value either.
    let bound = if null || empty { Precision::Absent } else { Precision::Exact(value) };
    Ok(ColumnStatistics {
        null_count: if null { rows } else { Precision::Exact(0) },
        min_value: bound.clone(),
        max_value: bound,
        ..ColumnStatistics::new_unknown()
    })
}

fn known(count: Option<u64>) -> Precision<usize> {
    count.and_then(|count| usize::try_from(count).ok()).map_or(Precision::Absent, Precision::Exact)
}

/// Of all the files together.
pub(super) fn of_files(files: &[PartitionedFile], layout: &TableSchema) -> Statistics {
    let nothing = ColumnStatistics { null_count: Precision::Exact(0), ..ColumnStatistics::new_unknown() };
    let none = Statistics {
        num_rows: Precision::Exact(0),
        total_byte_size: Precision::Inexact(0),
        column_statistics: vec![nothing; layout.table_schema().fields().len()],
    };
    let mut each = files.iter().filter_map(|file| file.statistics.as_deref());
    let Some(first) = each.next() else { return none };
    each.fold(first.clone(), |mut all, file| {
        all.num_rows = all.num_rows.add(&file.num_rows);
        all.total_byte_size = all.total_byte_size.add(&file.total_byte_size);
        for (sum, column) in all.column_statistics.iter_mut().zip(&file.column_statistics) {
            sum.null_count = sum.null_count.add(&column.null_count);
            sum.min_value = sum.min_value.min(&column.min_value);
            sum.max_value = sum.max_value.max(&column.max_value);
        }
        all
    })
}
