//! From a file and the environment to settings.

use super::problem::Problem;
use super::raw::RawConfig;
use super::secret::is_secret;
use super::settings::Settings;
use super::value::Origin;
use serde::de::IntoDeserializer;
use std::collections::BTreeMap;
use std::path::Path;
use toml_edit::{Document, DocumentMut, Item, Table, Value};

/// Environment variables that begin so override the file: `MILLSTREAM__GATEWAY__LISTEN` is `gateway.listen`.
pub(crate) const PREFIX: &str = "MILLSTREAM__";

/// Lists of tables that have names.
const LISTS: [&str; 3] = ["subscriber", "stream", "report"];

/// Reads a configuration, whose relative paths begin at a folder.
///
/// # Errors
/// Everything that is wrong with it, as far as it can be told at once.
pub(crate) fn load(
    text: &str,
    folder: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Settings, Vec<Problem>> {
    let file = Document::parse(text.to_owned()).map_err(|error| vec![syntax(&error)])?;
    let mut merged = file.clone().into_mut();
    let mut variables = BTreeMap::new();
    for (variable, value) in environment {
        let key = set(&mut merged, variable, |key| any(key, value)).map_err(|problem| vec![problem])?;
        variables.insert(key, variable.as_str());
    }
    let origin = Origin { folder: folder.to_path_buf(), environment: variables.keys().cloned().collect() };
    // The place of a key in the file says nothing of a value that the environment has set.
    let locate = |mut problem: Problem| match variables.get(&problem.key) {
        Some(variable) => {
            problem.what.push_str(&format!(" (set by {variable} in the environment)"));
            problem
        }
        None => problem.locate(&file),
    };
    let raw = understand(merged, &variables, environment).map_err(|problem| vec![locate(problem)])?;
    match Settings::check(raw, &origin) {
        Ok(mut settings) => {
            settings.warnings = settings.warnings.into_iter().map(locate).collect();
            Ok(settings)
        }
        Err(problems) => Err(problems.into_iter().map(locate).collect()),
    }
}

fn syntax(error: &toml_edit::TomlError) -> Problem {
    let mut problem = Problem::new("", format!("not TOML: {}", error.message()));
    problem.span = error.span();
    problem
}

/// What a variable reads as may not be what is wanted: a user may be called `12345`. Then it is taken as the text that it is.
fn understand(
    mut merged: DocumentMut,
    variables: &BTreeMap<String, &str>,
    environment: &BTreeMap<String, String>,
) -> Result<RawConfig, Problem> {
    loop {
        let problem = match deserialize(merged.clone()) {
            Ok(raw) => return Ok(raw),
            Err(problem) => problem,
        };
        let Some(variable) = variables.get(&problem.key) else { return Err(problem) };
        let Some(value) = environment.get(*variable) else { return Err(problem) };
        let mut other = merged.clone();
        set(&mut other, variable, |_| Value::from(value))?;
        match deserialize(other.clone()) {
            Err(again) if again.key == problem.key => return Err(problem),
            _ => merged = other,
        }
    }
}

fn deserialize(merged: DocumentMut) -> Result<RawConfig, Problem> {
    let deserializer = toml_edit::de::Deserializer::from(merged).into_deserializer();
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        // The path of a failure at the top is ".".
        let key = if key == "." { String::new() } else { key.replace(".[", "[") };
        let message = error.inner().message().to_owned();
        // What is wrong with a secret's type would be told with its value.
        if is_secret(&key) && !message.starts_with("unknown ") {
            return Problem::new(key, "a secret is a text").hint("write it in quotes");
        }
        let problem = Problem::new(key, &message);
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

/// A variable's value, as TOML where it reads as such, else as text; a secret is always a text.
fn any(key: &str, value: &str) -> Value {
    let text = || Value::from(value);
    if is_secret(key) { text() } else { value.parse().unwrap_or_else(|_| text()) }
}

/// Sets `A__B` to a value, and returns its key. In a list of tables, `A__NAME__B` is the one of that name.
fn set(file: &mut DocumentMut, variable: &str, value: impl FnOnce(&str) -> Value) -> Result<String, Problem> {
    let path = variable.strip_prefix(PREFIX).unwrap_or(variable).to_lowercase();
    let mut key = String::new();
    let mut item: &mut Item = file.as_item_mut();
    for part in path.split("__") {
        if let Item::ArrayOfTables(tables) = item {
            let place = tables.iter().position(|table| is_named(table, part));
            let known: Vec<&str> = tables.iter().filter_map(|table| table.get("name")?.as_str()).collect();
            let hint = format!("there are {}", known.join(", "));
            let unknown =
                || Problem::new(variable, format!("`{key}` has none of the name {part:?}")).hint(hint);
            let place = place.ok_or_else(unknown)?;
            key.push_str(&format!("[{place}]"));
            item = item.get_mut(place).ok_or_else(|| Problem::new(variable, "is not there"))?;
            continue;
        }
        if matches!(item, Item::None) && LISTS.contains(&key.as_str()) {
            return Err(Problem::new(variable, format!("the file has no [[{key}]] of the name {part:?}"))
                .hint(format!("write a [[{key}]] with name = {part:?} into the configuration file, or unset the variable")));
        }
        if !matches!(item, Item::None | Item::Table(_) | Item::Value(Value::InlineTable(_))) {
            let problem =
                Problem::new(variable, "an environment variable can set keys of tables, not of lists");
            return Err(problem.hint("set it in the configuration file"));
        }
        if !key.is_empty() {
            key.push('.');
        }
        key.push_str(part);
        item = &mut item[part];
    }
    if LISTS.contains(&key.as_str()) {
        let hint = format!(
            "set a key of one, {variable}__NAME__KEY, or write [[{key}]] into the configuration file"
        );
        return Err(Problem::new(variable, "is a list of tables, not a value").hint(hint));
    }
    *item = Item::Value(value(&key));
    Ok(key)
}

fn is_named(table: &Table, name: &str) -> bool {
    table.get("name").and_then(Item::as_str).is_some_and(|own| own.eq_ignore_ascii_case(name))
}
