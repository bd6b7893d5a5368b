//! The shared files of AWS's own tools, `~/.aws/credentials` and `~/.aws/config`: of a profile its keys and its region. A profile that has its credentials by other
//! means (single sign-on, a role, a program) is recognised, so that it can be said.

use millstream_model::secret::Secret;
use object_store::aws::AwsCredential;

/// What a profile says.
#[derive(Default)]
pub(super) struct Profile {
    /// Whether either file has it.
    pub(super) exists: bool,
    pub(super) access_key: Option<Secret>,
    pub(super) secret_key: Option<Secret>,
    pub(super) session_token: Option<Secret>,
    pub(super) region: Option<String>,
    /// The setting by which it has its credentials, where that is not by keys.
    pub(super) other_means: Option<String>,
}

/// Settings that stand for credentials which only AWS's own tools can get.
const OTHER_MEANS: [&str; 5] =
    ["credential_process", "credential_source", "role_arn", "sso_session", "sso_start_url"];

/// The profile `name` of the two files. What the credentials file says goes before what the other one says.
pub(super) fn read(credentials: &str, config: &str, name: &str) -> Profile {
    let in_config = if name == "default" { name.to_owned() } else { format!("profile {name}") };
    let exists = has(credentials, name) || has(config, &in_config);
    let mut profile = Profile { exists, ..Profile::default() };
    let mut other_means = None;
    for (key, value) in section(credentials, name).chain(section(config, &in_config)) {
        match key {
            "aws_access_key_id" => keep(&mut profile.access_key, secret(value)),
            "aws_secret_access_key" => keep(&mut profile.secret_key, secret(value)),
            "aws_session_token" => keep(&mut profile.session_token, secret(value)),
            "region" => keep(&mut profile.region, value.to_owned()),
            key if OTHER_MEANS.contains(&key) => keep(&mut other_means, key.to_owned()),
            _ => {}
        }
    }
    if profile.access_key.is_none() || profile.secret_key.is_none() {
        profile.other_means = other_means;
    }
    profile
}

fn secret(value: &str) -> Secret {
    Secret::new(value.to_owned())
}

fn keep<T>(place: &mut Option<T>, value: T) {
    place.get_or_insert(value);
}

impl Profile {
    /// Its keys, where it has both.
    pub(super) fn credential(&self) -> Option<AwsCredential> {
        Some(AwsCredential {
            key_id: self.access_key.as_ref()?.expose().to_owned(),
            secret_key: self.secret_key.as_ref()?.expose().to_owned(),
            token: self.session_token.as_ref().map(|token| token.expose().to_owned()),
        })
    }
}

/// The name in a line `[name]`.
fn header(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[').and_then(|line| line.split(']').next())
}

/// `[profile  x]` is the same as `[profile x]`.
fn is_named(header: &str, name: &str) -> bool {
    header.split_whitespace().eq(name.split_whitespace())
}

fn has(text: &str, name: &str) -> bool {
    text.lines().filter_map(header).any(|header| is_named(header, name))
}

/// The settings under `[name]`: lines of `key = value`. A line that is indented belongs to the setting above it, and is none of ours.
fn section<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut inside = false;
    text.lines().filter_map(move |line| {
        if let Some(header) = header(line) {
            inside = is_named(header, name);
            return None;
        }
        let setting = inside && !line.starts_with(|c: char| c.is_whitespace() || c == '#' || c == ';');
        let (key, value) = line.split_once('=').filter(|_| setting)?;
        let value = value.trim();
        (!value.is_empty()).then_some((key.trim(), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
# keys of the plant
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=se=cr/et
[backup]
aws_access_key_id = AKIABACKUP
 aws_secret_access_key = indented
aws_secret_access_key = other
aws_session_token = token
";
    const CONFIG: &str = "\
[default]
region = eu-central-1
s3 =
  region = nested
[profile  backup]
region = eu-west-1
[profile human]
sso_session = corp
";

    #[test]
    fn a_profile_is_read_from_both_files() {
        let check = |name: &str, expected: [Option<&str>; 5]| {
            let profile = read(CREDENTIALS, CONFIG, name);
            let secret =
                |secret: &'_ Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
            let found = [
                secret(&profile.access_key),
                secret(&profile.secret_key),
                secret(&profile.session_token),
                profile.region.clone(),
                profile.other_means.clone(),
            ];
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "{name}");
            assert_eq!(profile.exists, name != "nobody", "{name}");
        };
        check("default", [Some("AKIADEFAULT"), Some("se=cr/et"), None, Some("eu-central-1"), None]);
        check("backup", [Some("AKIABACKUP"), Some("other"), Some("token"), Some("eu-west-1"), None]);
        check("human", [None, None, None, None, Some("sso_session")]);
        check("nobody", [None; 5]);
    }
}
