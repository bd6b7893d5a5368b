//! What the surroundings of the process say about S3: the variables `AWS_*`, and where the shared files lie.

use super::profile::{self, Profile};
use object_store::aws::AmazonS3ConfigKey;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The surroundings, as they were when a bucket was opened.
#[derive(Clone)]
pub(super) struct Environment {
    /// The variables `AWS_*` that are not empty.
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::new(variables, std::env::home_dir())
    }

    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>, home: Option<PathBuf>) -> Self {
        let ours = |(name, value): &(String, String)| name.starts_with("AWS_") && !value.is_empty();
        Self { variables: variables.into_iter().filter(ours).collect(), home }
    }

    /// What `object_store` understands of it.
    pub(super) fn s3_keys(&self) -> impl Iterator<Item = (AmazonS3ConfigKey, &str)> {
        self.variables.iter().filter_map(|(name, value)| {
            let key = name.to_ascii_lowercase().parse().ok()?;
            Some((key, value.as_str()))
        })
    }

    /// Whether the shared files are to be asked for credentials: what the environment itself says goes before them.
    pub(super) fn consults_profile(&self) -> bool {
        const SAYS_MORE: [&str; 5] = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ];
        !SAYS_MORE.iter().any(|name| self.variables.contains_key(*name))
    }

    pub(super) fn profile_name(&self) -> &str {
        self.named_profile().unwrap_or("default")
    }

    /// The profile that somebody asked for by name: it must be there, or other credentials than were meant would be used.
    pub(super) fn named_profile(&self) -> Option<&str> {
        self.variables.get("AWS_PROFILE").map(String::as_str)
    }

    /// The profile of the shared files; an empty one where there are none.
    ///
    /// # Errors
    /// The file that is there and cannot be read.
    pub(super) fn profile(&self) -> Result<Profile, (PathBuf, io::Error)> {
        let credentials = self.shared_file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let config = self.shared_file("AWS_CONFIG_FILE", "config")?;
        Ok(profile::read(&credentials, &config, self.profile_name()))
    }

    fn shared_file(&self, variable: &str, name: &str) -> Result<String, (PathBuf, io::Error)> {
        let own = self.variables.get(variable).map(PathBuf::from);
        let usual = || self.home.as_deref().map(|home: &Path| home.join(".aws").join(name));
        let Some(path) = own.or_else(usual) else { return Ok(String::new()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err((path, error)),
        }
    }
}
