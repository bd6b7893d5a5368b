//! Instants in other zones than UTC, which there are only where a query asks for them by `at time zone`: they become text with the zone's own time and its distance from UTC,
//! wherever they lie, within lists and structs, too. Every other instant is left to the formats, which write it in UTC.

use arrow::array::{Array, ArrayData, ArrayRef, StringArray, UInt64Array, make_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

/// `%.f` leaves out what is zero.
const INSTANT_ELSEWHERE: &str = "%Y-%m-%dT%H:%M:%S%.f%:z";

/// How the zone of UTC is written.
const UTC: [&str; 5] = ["UTC", "+00:00", "Z", "utc", "Etc/UTC"];

/// The column as it is shown.
pub(super) fn shown(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match is_elsewhere(column.data_type()) {
        true => with_text(own(column)?.to_data()).map(make_array),
        false => Ok(Arc::clone(column)),
    }
}

/// The column without values that are not shown: a piece of a column of lists has the values of the whole.
fn own(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) | DataType::Struct(_) => {
            let rows = UInt64Array::from_iter_values((0..).take(column.len()));
            take(column, &rows, None)
        }
        _ => Ok(Arc::clone(column)),
    }
}

/// Whether there are instants in other zones in it.
fn is_elsewhere(kind: &DataType) -> bool {
    match kind {
        DataType::Timestamp(_, Some(zone)) => !UTC.contains(&zone.as_ref()),
        DataType::Dictionary(_, values) => is_elsewhere(values),
        nested => fields_of(nested).iter().any(|field| is_elsewhere(field.data_type())),
    }
}

/// The fields of a nested type, one for each child of its arrays, in their order.
fn fields_of(kind: &DataType) -> Vec<&FieldRef> {
    match kind {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => vec![field],
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::Union(fields, _) => fields.iter().map(|(_, field)| field).collect(),
        DataType::RunEndEncoded(ends, values) => vec![ends, values],
        _ => Vec::new(),
    }
}

/// The same with text for these instants. What lies around them stays as it is.
fn with_text(data: ArrayData) -> Result<ArrayData, ArrowError> {
    if !is_elsewhere(data.data_type()) {
        return Ok(data);
    }
    if let DataType::Timestamp(..) = data.data_type() {
        return text(&make_array(data)).map(StringArray::into_data);
    }
    let children = data.child_data().iter().cloned().map(with_text);
    let children: Vec<ArrayData> = children.collect::<Result<_, _>>()?;
    let kind = of_children(data.data_type(), &children);
    data.into_builder().data_type(kind).child_data(children).build()
}

/// A nested type, of other children.
fn of_children(kind: &DataType, children: &[ArrayData]) -> DataType {
    let fields = fields_of(kind).into_iter().zip(children);
    let fields = fields.map(|(field, child)| {
        Arc::new(field.as_ref().clone().with_data_type(child.data_type().clone())) as FieldRef
    });
    let fields: Vec<FieldRef> = fields.collect();
    match (kind, fields.as_slice()) {
        (DataType::List(_), [field]) => DataType::List(Arc::clone(field)),
        (DataType::LargeList(_), [field]) => DataType::LargeList(Arc::clone(field)),
        (DataType::ListView(_), [field]) => DataType::ListView(Arc::clone(field)),
        (DataType::LargeListView(_), [field]) => DataType::LargeListView(Arc::clone(field)),
        (DataType::FixedSizeList(_, size), [field]) => DataType::FixedSizeList(Arc::clone(field), *size),
        (DataType::Map(_, sorted), [field]) => DataType::Map(Arc::clone(field), *sorted),
        (DataType::Struct(_), _) => DataType::Struct(fields.into()),
        (DataType::Union(former, mode), _) => {
            DataType::Union(former.iter().map(|(id, _)| id).zip(fields).collect(), *mode)
        }
        (DataType::RunEndEncoded(..), [ends, values]) => {
            DataType::RunEndEncoded(Arc::clone(ends), Arc::clone(values))
        }
        (DataType::Dictionary(keys, _), _) => match children.first() {
            Some(values) => DataType::Dictionary(keys.clone(), Box::new(values.data_type().clone())),
            None => kind.clone(),
        },
        _ => kind.clone(),
    }
}

fn text(instants: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options =
        FormatOptions::new().with_display_error(false).with_timestamp_tz_format(Some(INSTANT_ELSEWHERE));
    let formatter = ArrayFormatter::try_new(instants.as_ref(), &options)?;
    let text = |row| instants.is_valid(row).then(|| formatter.value(row).try_to_string()).transpose();
    (0..instants.len()).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, ListArray, TimestampMicrosecondArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    #[test]
    fn of_a_piece_of_lists_only_its_own_values_become_text() {
        let zone: Arc<str> = "Europe/Berlin".into();
        let instants = TimestampMicrosecondArray::from_iter_values((0..100).map(|hour| hour * 3_600_000_000));
        let instants = instants.with_timezone(Arc::clone(&zone));
        let field = Arc::new(Field::new_list_field(instants.data_type().clone(), true));
        let lists = ListArray::new(field, OffsetBuffer::from_lengths([2; 50]), Arc::new(instants), None);
        let piece: ArrayRef = Arc::new(lists.slice(10, 2));
        let shown = shown(&piece).unwrap();
        let shown = shown.as_list::<i32>();
        assert_eq!((shown.len(), shown.values().len()), (2, 4));
        let texts = shown.value(1);
        let texts: Vec<_> = texts.as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["1970-01-01T23:00:00+01:00", "1970-01-02T00:00:00+01:00"]);
    }
}
