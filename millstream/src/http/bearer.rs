//! The token that metrics ask for, where one is configured.

use axum::http::{HeaderMap, header};
use millstream_model::secret::Secret;
use std::hint::black_box;

/// Compares what a client shows with the token, if there is one.
#[derive(Debug)]
pub(super) struct Bearer(Option<Secret>);

impl Bearer {
    pub(super) fn new(token: Option<Secret>) -> Self {
        Self(token)
    }

    /// Whether a client with these headers may see what it asks for.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.0 else { return true };
        let shown = headers.get(header::AUTHORIZATION).and_then(|shown| shown.as_bytes().split_at_checked(7));
        shown.is_some_and(|(scheme, shown)| {
            scheme.eq_ignore_ascii_case(b"Bearer ") && same(shown.trim_ascii(), token.expose().as_bytes())
        })
    }
}

/// In a time that tells nothing but the length.
fn same(shown: &[u8], token: &[u8]) -> bool {
    let differing = shown.iter().zip(token).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
    shown.len() == token.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let check = |token: Option<&str>, shown: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(shown) = shown {
                headers.insert(header::AUTHORIZATION, shown.parse().unwrap());
            }
            let bearer = Bearer::new(token.map(|token| Secret::new(token.to_owned())));
            assert_eq!(bearer.allows(&headers), expected, "{token:?} {shown:?}");
        };
        check(None, None, true);
        check(Some("t"), None, false);
        check(Some("t"), Some("Bearer t"), true);
        check(Some("t"), Some("bearer  t"), true);
        check(Some("t"), Some("Bearer tt"), false);
        check(Some("t"), Some("Basic t"), false);
        check(Some("t"), Some(""), false);
    }
}
