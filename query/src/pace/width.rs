//! How wide rows are: the bytes of their values, whatever else lies in the buffers that they share with others. Nothing here looks at what a value is.

use crate::holding::bytes_of;
use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ByteArrayType, DataType};
use datafusion::common::cast::as_map_array;
use std::sync::Arc;

/// What a row takes of a view, and about what a place in a list or a text takes beside its own bytes.
const PLACE_BYTES: usize = 16;

/// Bytes that no row of the batch exceeds: the widest value of each column together. What is found to be below `enough` in all is not looked at more closely.
pub(super) fn widest(batch: &RecordBatch, enough: usize) -> usize {
    let enough = enough / batch.num_columns().max(1);
    batch.columns().iter().map(|column| widest_value(column, enough)).sum()
}

/// Whether values of this type are all of one size, and not a large one.
pub(super) fn is_narrow(kind: &DataType) -> bool {
    kind.is_primitive() || matches!(kind, DataType::Boolean | DataType::Null)
}

/// The most elements that a list of this column has; none where it holds no lists.
pub(super) fn longest(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::List(_) => longest_span(column.as_list::<i32>().offsets()),
        DataType::LargeList(_) => longest_span(column.as_list::<i64>().offsets()),
        DataType::FixedSizeList(_, size) => usize::try_from(*size).unwrap_or(0),
        DataType::Struct(_) => column.as_struct().columns().iter().map(longest).max().unwrap_or(0),
        _ => 0,
    }
}

fn widest_value(column: &ArrayRef, enough: usize) -> usize {
    match column.data_type() {
        kind if kind.is_primitive() => kind.primitive_width().unwrap_or(PLACE_BYTES),
        DataType::Boolean | DataType::Null => 1,
        DataType::Utf8 => text::<_, i32>(column.as_string::<i32>()),
        DataType::LargeUtf8 => text::<_, i64>(column.as_string::<i64>()),
        DataType::Binary => text::<_, i32>(column.as_binary::<i32>()),
        DataType::LargeBinary => text::<_, i64>(column.as_binary::<i64>()),
        DataType::Utf8View => view(column.as_string_view().lengths()),
        DataType::BinaryView => view(column.as_binary_view().lengths()),
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            list(lists.offsets(), lists.values(), enough)
        }
        DataType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            list(lists.offsets(), lists.values(), enough)
        }
        DataType::Map(..) => match as_map_array(column) {
            Ok(maps) => {
                let entries: ArrayRef = Arc::new(maps.entries().clone());
                list(maps.offsets(), &entries, enough)
            }
            Err(_) => bytes_of(column),
        },
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).unwrap_or(0);
            widest_value(column.as_fixed_size_list().values(), enough / size.max(1)) * size
        }
        DataType::Struct(_) => {
            let columns = column.as_struct().columns();
            columns.iter().map(|column| widest_value(column, enough / columns.len().max(1))).sum()
        }
        DataType::FixedSizeBinary(size) => usize::try_from(*size).unwrap_or(0),
        DataType::Dictionary(..) => widest_value(column.as_any_dictionary().values(), enough) + PLACE_BYTES,
        _ => bytes_of(column),
    }
}

fn text<T: ByteArrayType<Offset = O>, O: OffsetSizeTrait>(column: &GenericByteArray<T>) -> usize {
    longest_span(column.offsets()) + PLACE_BYTES
}

fn view(lengths: impl Iterator<Item = u32>) -> usize {
    lengths.max().unwrap_or(0) as usize + PLACE_BYTES
}

fn longest_span<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> usize {
    offsets.windows(2).map(|pair| (pair[1] - pair[0]).as_usize()).max().unwrap_or(0)
}

/// By what all of the elements take together, if that is little; else by the longest list, if all elements are alike; else by each of the lists.
fn list<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &ArrayRef, enough: usize) -> usize {
    if is_narrow(values.data_type()) {
        return longest_span(offsets) * widest_value(values, 0) + PLACE_BYTES;
    }
    let span = |from: O, to: O| bytes_of(&values.slice(from.as_usize(), (to - from).as_usize()));
    let whole = offsets.first().zip(offsets.last()).map_or(0, |(from, to)| span(*from, *to));
    if whole <= enough {
        return whole;
    }
    offsets.windows(2).map(|pair| span(pair[0], pair[1])).max().unwrap_or(0) + PLACE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, ListArray, StringArray, StringViewArray, StructArray};
    use arrow::datatypes::{Field, Fields, Int64Type};

    #[test]
    fn no_row_is_wider_than_it_is_said_to_be() {
        let check = |column: ArrayRef, expected: usize| {
            let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
            assert_eq!(widest(&batch, 0), expected, "{batch:?}");
        };
        let long = "x".repeat(1000);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(&long)]));
        check(Arc::clone(&numbers), 8);
        check(Arc::clone(&texts), 1016);
        check(texts.slice(0, 2), 17);
        check(Arc::new(StringViewArray::from(vec!["a", &long])), 1016);
        let list = |rows: Vec<Option<Vec<Option<i64>>>>| {
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows)) as ArrayRef
        };
        let lists = list(vec![Some(vec![Some(1); 100]), None, Some(vec![])]);
        assert_eq!(longest(&lists), 100);
        check(lists, 816);
        let fields = Fields::from(vec![
            Field::new("n", numbers.data_type().clone(), true),
            Field::new("t", texts.data_type().clone(), true),
        ]);
        check(Arc::new(StructArray::new(fields, vec![numbers, texts], None)), 1024);
    }
}
