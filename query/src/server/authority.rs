//! Who may ask.

use super::refusal::Refusal;
use axum::http::{HeaderMap, StatusCode, header};
use millstream_model::secret::Secret;
use std::hint::black_box;

/// Compares what a client shows with the token, if there is one.
pub(super) struct Authority {
    token: Option<Secret>,
}

impl Authority {
    pub(super) fn new(token: Option<Secret>) -> Self {
        Self { token }
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.token {
            Some(token) if bearer(headers).is_some_and(|shown| same(shown, token.expose().as_bytes())) => {
                Ok(())
            }
            Some(_) => Err(unknown()),
            // Without a token the address we listen on is all that keeps strangers out, and any page that a user of this machine opens could send requests to it.
            None if headers.contains_key(header::ORIGIN) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "unauthorized",
                "a page in a browser may ask only where a token is set",
            )),
            None => Ok(()),
        }
    }
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "the bearer token is missing or wrong")
        .hint("send it as the header `Authorization: Bearer TOKEN`")
        .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"millstream\"")
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let shown = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = shown.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// In a time that tells nothing but the length: every byte is looked at, whatever the first ones are.
fn same(shown: &[u8], token: &[u8]) -> bool {
    let differing = shown.iter().zip(token).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
    shown.len() == token.len() && !token.is_empty() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let authority = Authority::new(Some(Secret::new("s3cret".to_owned())));
        let check = |shown: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(shown) = shown {
                headers.insert(header::AUTHORIZATION, shown.parse().unwrap());
            }
            assert_eq!(authority.check(&headers).is_ok(), expected, "{shown:?}");
        };
        check(Some("Bearer s3cret"), true);
        check(Some("bearer  s3cret "), true);
        check(Some("Bearer s3cre"), false);
        check(Some("Bearer s3crets"), false);
        check(Some("Bearer S3cret"), false);
        check(Some("Bearer "), false);
        check(Some("Basic s3cret"), false);
        check(Some("s3cret"), false);
        check(None, false);
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let authority = Authority::new(Some(Secret::new(String::new())));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer ".parse().unwrap());
        assert!(authority.check(&headers).is_err());
    }
}
