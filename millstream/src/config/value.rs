//! Values as people write them: lengths of time, sizes, and where files are.

use super::problem::Problem;
use bytesize::ByteSize;
use serde::de::{Error, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A length of time, written like `60s` or `5m`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time like \"60s\", \"5m\" or \"1h 30m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                let parsed = humantime::parse_duration(text);
                parsed.map(Span).map_err(|error| {
                    E::custom(format!(
                        "{error}; a length of time is written like \"60s\", \"5m\" or \"1h 30m\""
                    ))
                })
            }
        }
        deserializer.deserialize_str(Form)
    }
}

/// A length of time that may be left open, written like `365d`; `""`: none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term(pub(crate) Option<Duration>);

impl<'de> Deserialize<'de> for Term {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Term;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time like \"10m\" or \"365d\", or \"\" for none")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Term, E> {
                if text.is_empty() {
                    return Ok(Term(None));
                }
                let Span(span) = Span::deserialize(text.into_deserializer())?;
                Ok(Term(Some(span)))
            }
        }
        deserializer.deserialize_str(Form)
    }
}

/// A number of bytes, written like `128MiB`, or as a bare number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"128MiB\", or a number of bytes")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|error| {
                    E::custom(format!("{error}; a size is written like \"128MiB\", or as a number of bytes"))
                })
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                let parsed = text.parse::<ByteSize>();
                parsed.map(|size| Size(size.as_u64())).map_err(|error| {
                    E::custom(format!("{error}; a size is written like \"128MiB\", or as a number of bytes"))
                })
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// Most bytes of something, written like a size; `""`: no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceiling(pub(crate) Option<u64>);

impl<'de> Deserialize<'de> for Ceiling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Ceiling;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"128GiB\", a number of bytes, or \"\" for no limit")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Ceiling, E> {
                let Size(bytes) = Size::deserialize(bytes.into_deserializer())?;
                Ok(Ceiling(Some(bytes)))
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Ceiling, E> {
                Ok(Ceiling(Some(bytes)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Ceiling, E> {
                if text.is_empty() {
                    return Ok(Ceiling(None));
                }
                let Size(bytes) = Size::deserialize(text.into_deserializer())?;
                Ok(Ceiling(Some(bytes)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// At least a second, or the default: what is shorter was never meant.
pub(super) fn at_least_a_second(
    key: &str,
    span: Option<Span>,
    default: Duration,
) -> Result<Duration, Problem> {
    match span {
        Some(Span(span)) if span < Duration::from_secs(1) => Err(Problem::new(key, "must be at least 1s")),
        Some(Span(span)) => Ok(span),
        None => Ok(default),
    }
}

/// Where the values of a configuration come from.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// The folder of the configuration file; empty without one.
    pub(crate) folder: PathBuf,
    /// Keys that the environment has set, as in `kafka.ca`.
    pub(crate) environment: BTreeSet<String>,
}

impl Origin {
    /// The path at a key: a relative one begins at the folder of the file in which it stands; at the current folder if it comes from the environment.
    pub(super) fn path(&self, key: &str, path: &Path) -> PathBuf {
        if self.environment.contains(key) { path.to_path_buf() } else { self.folder.join(path) }
    }
}

/// The path at a key, which cannot be empty.
pub(super) fn check_path(
    origin: &Origin,
    key: &str,
    path: Option<&Path>,
    problems: &mut Vec<Problem>,
) -> Option<PathBuf> {
    let path = path?;
    if path.as_os_str().is_empty() {
        problems.push(Problem::new(key, "the path cannot be empty").hint("leave it out, or name a file"));
        return None;
    }
    Some(origin.path(key, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_begins_where_it_stands() {
        let origin =
            Origin { folder: "/etc/millstream".into(), environment: BTreeSet::from(["kafka.ca".to_owned()]) };
        let check = |key: &str, path: &str, expected: &str| {
            assert_eq!(origin.path(key, Path::new(path)), Path::new(expected));
        };
        check("gateway.tls.key", "server.key", "/etc/millstream/server.key");
        check("gateway.tls.key", "/run/secrets/key", "/run/secrets/key");
        check("kafka.ca", "ca.pem", "ca.pem");
        assert_eq!(Origin::default().path("x", Path::new("y")), Path::new("y"));
    }
}
