//! What can be a device id.

use crate::flaw::{Flaw, quote};
use crate::json::{Kind, Value};
use millstream_model::quarantine::Reason;
use std::borrow::Cow;

/// Longest device id, in bytes.
const DEVICE_ID_MAX: usize = 256;

/// The id that stands in a field: text, or a number as it is written.
///
/// # Errors
/// `bad_device_id` for anything else.
pub(crate) fn from_field(value: Value<'_>) -> Result<Cow<'_, str>, Flaw> {
    match value.kind() {
        Kind::Text | Kind::Escaped | Kind::Number => Ok(value.text()),
        _ => Err(Flaw::new(
            Reason::BadDeviceId,
            format!("{} is neither text nor a number", quote(value.raw())),
        )),
    }
}

/// The id that is the key of the log's record: from the topic, or the MQTT client's.
///
/// # Errors
/// `bad_device_id` if it is not UTF-8.
pub(crate) fn from_key(key: &[u8]) -> Result<&str, Flaw> {
    std::str::from_utf8(key).map_err(|cause| Flaw::new(Reason::BadDeviceId, format!("not UTF-8: {cause}")))
}

/// Whether a text can be a device id. It never becomes part of a path here, but people build paths of it.
///
/// # Errors
/// `bad_device_id`, and why.
pub(crate) fn check(id: &str) -> Result<(), Flaw> {
    let flaw = if id.is_empty() {
        "it is empty".to_owned()
    } else if id.len() > DEVICE_ID_MAX {
        format!("it has {} bytes, {DEVICE_ID_MAX} are allowed", id.len())
    } else if id.contains("..") {
        format!("{:?} contains `..`", quote(id))
    } else if id.contains('/') {
        format!("{:?} contains `/`", quote(id))
    } else if id.contains(char::is_control) {
        format!("{:?} contains a control character", quote(id))
    } else {
        return Ok(());
    };
    Err(Flaw::new(Reason::BadDeviceId, flaw))
}
