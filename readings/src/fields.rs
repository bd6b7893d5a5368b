//! The own columns of a stream while a batch is built: found by name, learned, filled, cut back.

use crate::buffer::Buffer;
use crate::json::{Kind, Value};
use crate::schema::{InputSchema, column_type};
use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use millstream_model::column::{Column, ColumnType, check_column_name, fold_column_name, reserved};
use millstream_model::quarantine::Reason;
use std::collections::{HashMap, HashSet};

#[derive(Debug)]
pub(crate) struct Fields {
    schema: InputSchema,
    buffers: Vec<Buffer>,
    by_name: HashMap<String, usize>,
    /// The folded names of all columns: a name that differs only by case is not learned.
    folded: HashSet<String>,
    /// Folded names that are not learned, because the transform gives them to what it computes.
    computed: HashSet<String>,
    /// The columns that the table has already, by their folded names, be they known here or not: a field that becomes one of them has its type.
    table: HashMap<String, TableColumn>,
    /// Which column the n-th field of the reading before belonged to: devices send their fields in the same order again and again.
    guesses: Vec<usize>,
    limit: usize,
}

/// A column of the table.
#[derive(Debug)]
struct TableColumn {
    name: String,
    /// `None` where no field has such a type: only a transform computes it.
    kind: Option<ColumnType>,
}

impl Fields {
    /// `limit` is the most columns there may be; those that are declared may be more.
    pub(crate) fn new(schema: InputSchema, limit: usize, computed: HashSet<String>) -> Self {
        let mut fields = Self {
            schema: schema.clone(),
            buffers: Vec::new(),
            by_name: HashMap::new(),
            folded: HashSet::new(),
            computed,
            table: HashMap::new(),
            guesses: Vec::new(),
            limit,
        };
        for column in schema.columns() {
            fields.index(column);
        }
        fields
    }

    /// From now on no field is learned that would not go with these columns of the table.
    pub(crate) fn go_with(&mut self, table: &Schema) {
        let columns = table.fields().iter().map(|field| {
            let column = TableColumn { name: field.name().clone(), kind: column_type(field.data_type()) };
            (fold_column_name(field.name()), column)
        });
        self.table = columns.collect();
    }

    fn index(&mut self, column: &Column) -> usize {
        let place = self.buffers.len();
        self.buffers.push(Buffer::new(column.kind));
        self.by_name.insert(column.name.clone(), place);
        self.folded.insert(fold_column_name(&column.name));
        place
    }

    pub(crate) fn schema(&self) -> &InputSchema {
        &self.schema
    }

    pub(crate) fn count(&self) -> usize {
        self.buffers.len()
    }

    pub(crate) fn column(&self, place: usize) -> &Column {
        &self.schema.columns()[place]
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The column for the `nth` field of a reading: known, or learned now from the field's value. `None` if it can have none.
    pub(crate) fn find_or_learn(&mut self, nth: usize, name: &str, value: Value<'_>) -> Option<usize> {
        if let Some(&guess) = self.guesses.get(nth)
            && self.schema.columns().get(guess).is_some_and(|column| column.name == name)
        {
            return Some(guess);
        }
        let place = self.find(name).or_else(|| self.learn(name, value))?;
        if nth < self.guesses.len() {
            self.guesses[nth] = place;
        } else if self.guesses.len() <= self.limit {
            // Fields before it that have no column leave a guess that never comes true.
            self.guesses.resize(nth.min(self.limit), usize::MAX);
            self.guesses.push(place);
        }
        Some(place)
    }

    fn learn(&mut self, name: &str, value: Value<'_>) -> Option<usize> {
        if self.count() >= self.limit || check_column_name(name).is_err() || reserved::is_reserved(name) {
            return None;
        }
        let folded = fold_column_name(name);
        if self.folded.contains(&folded) || self.computed.contains(&folded) {
            return None;
        }
        let seen = match value.kind() {
            Kind::Number => ColumnType::Double,
            Kind::True | Kind::False => ColumnType::Boolean,
            Kind::Text | Kind::Escaped | Kind::Array => ColumnType::String,
            Kind::Null | Kind::Object => return None,
        };
        // The table's columns keep their types, whoever filled them before (a transform that is gone): a value of another type does not fit, as anywhere else.
        let kind = match self.table.get(&folded) {
            None => seen,
            Some(column) if column.name == name => column.kind?,
            Some(_) => return None,
        };
        let column = Column { name: name.to_owned(), kind, required: false };
        let place = self.index(&column);
        self.schema.push(column);
        Some(place)
    }

    /// Whether the row has its value in this column, be it null.
    pub(crate) fn is_claimed(&self, place: usize, row: usize) -> bool {
        self.buffers[place].len() > row
    }

    /// Gives a row its value; see [`Buffer::put`].
    ///
    /// # Errors
    /// It does not fit: the row is null.
    pub(crate) fn put(&mut self, place: usize, row: usize, value: Value<'_>) -> Result<usize, Reason> {
        self.buffers[place].put(row, value)
    }

    /// Gives a row plain text; see [`Buffer::put_plain`].
    ///
    /// # Errors
    /// It does not fit: the row is null.
    pub(crate) fn put_plain(&mut self, place: usize, row: usize, text: &str) -> Result<usize, Reason> {
        self.buffers[place].put_plain(row, text)
    }

    /// Cuts back to so many rows and columns: what a message brought is gone.
    pub(crate) fn truncate(&mut self, rows: usize, columns: usize) {
        for column in self.schema.columns().iter().skip(columns) {
            self.by_name.remove(&column.name);
            self.folded.remove(&fold_column_name(&column.name));
        }
        self.schema.truncate(columns);
        self.buffers.truncate(columns);
        for buffer in &mut self.buffers {
            buffer.truncate(rows);
        }
    }

    /// The columns as arrays of so many rows.
    pub(crate) fn finish(&mut self, rows: usize) -> Vec<ArrayRef> {
        self.buffers.iter_mut().map(|buffer| buffer.finish(rows)).collect()
    }
}
