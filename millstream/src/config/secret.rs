//! Secrets: where they are configured, and how they stay out of everything that is printed.

use super::problem::Problem;
use super::value::Origin;
use anyhow::{Context, ensure};
use millstream_model::secret::Secret;
use std::path::PathBuf;

/// Largest file of a secret, in bytes: a longer one is another file by mistake.
const FILE_MAX: u64 = 64 << 10;

/// Words that the keys of secrets have; those of files that hold secrets end in `_file`.
const WORDS: [&str; 3] = ["password", "secret", "token"];

/// A secret as it is configured. The file is read only where the secret is needed: who asks with SQL need not be able to read Kafka's password.
#[derive(Debug, Clone)]
pub(crate) enum SecretSource {
    /// It stands in the configuration, which means in the environment, if the person follows the advice.
    Given(Secret),
    /// It is all that is in a file, but for the end of the line.
    File {
        /// The key that names the file.
        key: String,
        /// The file.
        path: PathBuf,
    },
}

impl SecretSource {
    /// The secret.
    ///
    /// # Errors
    /// If its file cannot be read or is no file of a secret.
    pub(crate) fn read(&self) -> anyhow::Result<Secret> {
        let (key, path) = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File { key, path } => (key, path),
        };
        let failed = || format!("failed to read the file {} of `{key}`", path.display());
        let size = std::fs::metadata(path).with_context(failed)?.len();
        ensure!(
            size <= FILE_MAX,
            "the file {} of `{key}` has {size} bytes: that is no secret",
            path.display()
        );
        let text = std::fs::read_to_string(path).with_context(failed)?;
        let text = text.trim_end_matches(['\r', '\n']);
        ensure!(!text.is_empty(), "the file {} of `{key}` is empty", path.display());
        Ok(Secret::new(text.to_owned()))
    }
}

/// The secret at `key`, or in the file at `key` and `_file`; not both.
pub(super) fn check_secret(
    origin: &Origin,
    key: &str,
    given: Option<Secret>,
    file: Option<PathBuf>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<SecretSource> {
    let file_key = format!("{key}_file");
    match (given, file) {
        (Some(_), Some(_)) => {
            problems
                .push(Problem::new(&file_key, format!("`{key}` is given, too")).hint("keep one of the two"));
            None
        }
        (Some(secret), None) if secret.expose().is_empty() => {
            problems.push(Problem::new(key, "a secret cannot be empty"));
            None
        }
        (Some(secret), None) => {
            if !origin.environment.contains(key) {
                let variable = format!("MILLSTREAM__{}", key.to_uppercase().replace('.', "__"));
                let hint = if key.contains('[') {
                    format!("write `{file_key}`")
                } else {
                    format!("write `{file_key}`, or set {variable}")
                };
                warnings.push(
                    Problem::new(key, "a secret stands in the configuration, where everyone can read it who can read the file")
                        .hint(hint),
                );
            }
            Some(SecretSource::Given(secret))
        }
        (None, Some(path)) if path.as_os_str().is_empty() => {
            problems.push(Problem::new(file_key, "the path cannot be empty"));
            None
        }
        (None, Some(path)) => Some(SecretSource::File { path: origin.path(&file_key, &path), key: file_key }),
        (None, None) => None,
    }
}

/// Whether the value of a key is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    !key.ends_with("_file") && WORDS.iter().any(|word| key.contains(word))
}

/// The text with every secret's value covered, each byte by a star, so that places in it stay what they are. It need not be TOML.
pub(super) fn covered(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let secret = line.match_indices('=').find(|(at, _)| {
            let before = line.get(..*at).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
            is_secret(
                before
                    .rsplit(|c: char| !c.is_alphanumeric() && !"_-.".contains(c))
                    .next()
                    .unwrap_or_default(),
            )
        });
        let Some((at, _)) = secret else {
            shown.push_str(line);
            continue;
        };
        let (plain, hidden) = line.split_at(at + 1);
        shown.push_str(plain);
        for c in hidden.chars() {
            match c {
                ' ' | '\n' | '\r' => shown.push(c),
                c => shown.push_str(&"*".repeat(c.len_utf8())),
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_covered_wherever_they_stand() {
        let check = |text: &str, expected: &str| assert_eq!(covered(text), expected);
        check("a = 1\npassword = \"hü\"\nb = 2\n", "a = 1\npassword = *****\nb = 2\n");
        check("password_file = \"p\"\n", "password_file = \"p\"\n");
        check("kafka = { user = \"u\", password = \"p\" }", "kafka = { user = \"u\", password = *** *");
        check("\"sasl.password\" = \"p\"", "\"sasl.password\" = ***");
        check("secret_key=\"p", "secret_key=**");
        check("session_token = ''\n", "session_token = **\n");
    }

    #[test]
    fn a_file_is_a_secret_without_the_end_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let source = SecretSource::File { key: "kafka.password_file".to_owned(), path: path.clone() };
        let missing = format!("{:#}", source.read().unwrap_err());
        assert!(missing.contains("kafka.password_file") && missing.contains("secret"), "{missing}");
        std::fs::write(&path, " open sesame \r\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), " open sesame ");
        std::fs::write(&path, "\n").unwrap();
        assert!(source.read().unwrap_err().to_string().contains("is empty"));
    }
}
