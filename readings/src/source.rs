//! The fields that are taken for `ts` and `device_id`.

use crate::json::{Kind, Value};

/// Where a field stands: a key of the reading, or a dotted path into nested objects. A key that has the dots itself is preferred.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    name: String,
}

impl Source {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The field's value; a `null` is none.
    pub(crate) fn find<'m>(&self, reading: Value<'m>) -> Option<Value<'m>> {
        let value = reading.member(&self.name).or_else(|| self.follow(reading));
        value.filter(|value| value.kind() != Kind::Null)
    }

    fn follow<'m>(&self, reading: Value<'m>) -> Option<Value<'m>> {
        if !self.name.contains('.') {
            return None;
        }
        self.name.split('.').try_fold(reading, |object, key| {
            if object.kind() == Kind::Object { object.member(key) } else { None }
        })
    }
}
