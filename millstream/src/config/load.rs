//! From a file and the environment to settings.

use super::problem::Problem;
use super::raw::RawConfig;
use super::settings::Settings;
use serde::de::IntoDeserializer;
use std::collections::BTreeMap;
use toml_edit::{Document, DocumentMut, Item, Value};

/// Environment variables that begin so override the file: `MILLSTREAM__GATEWAY__LISTEN` is `gateway.listen`.
pub(crate) const PREFIX: &str = "MILLSTREAM__";

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it, as far as it can be told at once.
pub(crate) fn load(text: &str, environment: &BTreeMap<String, String>) -> Result<Settings, Vec<Problem>> {
    let file = Document::parse(text.to_owned()).map_err(|error| vec![syntax(&error)])?;
    let mut merged = file.clone().into_mut();
    for (variable, value) in environment {
        set(&mut merged, variable, value).map_err(|problem| vec![problem])?;
    }
    let locate = |problem: Problem| problem.locate(&file);
    let raw = deserialize(merged).map_err(|problem| vec![locate(problem)])?;
    Settings::check(raw).map_err(|problems| problems.into_iter().map(locate).collect())
}

fn syntax(error: &toml_edit::TomlError) -> Problem {
    let mut problem = Problem::new("", format!("not TOML: {}", error.message()));
    problem.span = error.span();
    problem
}

fn deserialize(merged: DocumentMut) -> Result<RawConfig, Problem> {
    let deserializer = toml_edit::de::Deserializer::from(merged).into_deserializer();
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        let message = error.inner().message().to_owned();
        // The path of a failure at the top is ".".
        let problem = Problem::new(if key == "." { String::new() } else { key.replace(".[", "[") }, &message);
        match nearest(&message) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        }
    })
}

/// "unknown field `x`, expected one of `a`, `b`": which of them looks like `x`.
fn nearest(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next().filter(|_| message.starts_with("unknown "))?;
    let near = quoted.map(|known| (strsim::jaro_winkler(wrong, known), known));
    near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// Sets `A__B` to a value: as TOML where it reads as such, else as text.
fn set(file: &mut DocumentMut, variable: &str, value: &str) -> Result<(), Problem> {
    let path = variable.strip_prefix(PREFIX).unwrap_or(variable).to_lowercase();
    let mut item: &mut Item = file.as_item_mut();
    for part in path.split("__") {
        item = match item {
            Item::ArrayOfTables(_) | Item::Value(_) => {
                let problem =
                    Problem::new(variable, "an environment variable can set keys of tables, not of lists");
                return Err(problem.hint("set it in the configuration file"));
            }
            table => &mut table[part],
        };
    }
    *item = Item::Value(value.parse::<Value>().unwrap_or_else(|_| Value::from(value)));
    Ok(())
}
