//! Where SQL, health and metrics are answered, and to whom.

use super::gateway::check_listen;
use super::problem::Problem;
use super::raw::RawHttp;
use super::secret::{SecretSource, check_secret};
use super::value::Origin;
use std::net::SocketAddr;

/// Where it is answered, unless it is configured.
const LISTEN: &str = "127.0.0.1:8474";

/// The HTTP server.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    /// Its listener.
    pub(crate) listen: Option<SocketAddr>,
    /// Who has this may ask with SQL and read metrics; without one, everyone who reaches the port.
    pub(crate) token: Option<SecretSource>,
}

pub(super) fn check_http(
    raw: RawHttp,
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Http {
    let key = "http.listen";
    let listen = check_listen(key, raw.listen.as_deref().unwrap_or(LISTEN), LISTEN, problems);
    let token = check_secret(origin, "http.token", raw.token, raw.token_file, problems, warnings);
    if let Some(address) = listen.filter(|address| !address.ip().is_loopback()) {
        if token.is_none() {
            problems.push(
                Problem::new(key, format!("everyone who reaches {address} could read every reading"))
                    .hint("name a file with a token, token_file, which clients send as `Authorization: Bearer TOKEN`; or listen on 127.0.0.1"),
            );
        } else {
            warnings.push(
                Problem::new(
                    key,
                    format!("answers and the token cross the network from {address} in plain text"),
                )
                .hint("listen on 127.0.0.1, behind a proxy that speaks TLS"),
            );
        }
    }
    Http { listen, token }
}
