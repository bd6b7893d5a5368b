//! Who may ask.

use super::refusal::Refusal;
use axum::http::{HeaderMap, StatusCode, header, uri};
use axum::response::{IntoResponse, Response};
use millstream_model::secret::Secret;
use std::hint::black_box;
use std::net::Ipv4Addr;

/// Compares what a client shows with the token, if there is one.
#[derive(Debug)]
pub struct Authority {
    token: Option<Secret>,
}

impl Authority {
    /// With `None` whoever can connect may ask, pages in a browser excepted.
    #[must_use]
    pub fn new(token: Option<Secret>) -> Self {
        Self { token }
    }

    /// The answer to who may not ask; `None` to who may.
    #[must_use]
    pub fn turns_away(&self, headers: &HeaderMap) -> Option<Response> {
        self.check(headers).err().map(IntoResponse::into_response)
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.token {
            Some(token) if bearer(headers).is_some_and(|shown| same(shown, token.expose().as_bytes())) => {
                Ok(())
            }
            Some(_) => Err(unknown()),
            // Without a token the address we listen on is all that keeps strangers out, and any page that a user of this machine opens could send requests to it.
            None if headers.contains_key(header::ORIGIN) => {
                Err(foreign("a page in a browser may ask only where a token is set"))
            }
            None if !is_this_machine(headers) => Err(foreign(
                "without a token this machine is asked by its address or as localhost, and by no other name",
            )),
            None => Ok(()),
        }
    }
}

/// Whether the one who asks knows us by an address, or as the machine that it is on itself. A name in somebody else's hands can be made to lead here, and then a page of
/// theirs is taken by a browser for one of ours.
fn is_this_machine(headers: &HeaderMap) -> bool {
    let Some(named) = headers.get(header::HOST) else { return true };
    let Ok(named) = uri::Authority::try_from(named.as_bytes()) else { return false };
    let is_address = named.host().starts_with('[') || named.host().parse::<Ipv4Addr>().is_ok();
    is_address || named.host().eq_ignore_ascii_case("localhost")
}

fn foreign(why: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "unauthorized", why)
        .hint("set one, http.token_file in the configuration of the server")
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

    /// A page whose name was made to lead to this machine says that name, also where its browser sends no `Origin`.
    #[test]
    fn without_a_token_only_who_knows_this_machine_as_such_may_ask() {
        let (open, closed) = (Authority::new(None), Authority::new(Some(Secret::new("t".to_owned()))));
        let check = |host: &str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            assert_eq!(open.check(&headers).is_ok(), expected, "{host}");
            let token = [(header::AUTHORIZATION, "Bearer t".parse().unwrap())];
            assert!(
                closed
                    .check(
                        &headers
                            .into_iter()
                            .filter_map(|(name, value)| Some((name?, value)))
                            .chain(token)
                            .collect()
                    )
                    .is_ok()
            );
        };
        for host in ["localhost", "LocalHost:8474", "127.0.0.1:8474", "10.1.2.3", "[::1]:8474"] {
            check(host, true);
        }
        for host in
            ["evil.example:8474", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3", "", "a b"]
        {
            check(host, false);
        }
        assert!(open.check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let authority = Authority::new(Some(Secret::new(String::new())));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer ".parse().unwrap());
        assert!(authority.check(&headers).is_err());
    }
}
