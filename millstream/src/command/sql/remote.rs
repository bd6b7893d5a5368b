//! A server as the one that answers: `POST /v1/sql` over HTTP/1.1, rows as an Arrow stream, what they cost behind the last one.
//!
//! One connection for each statement, and it belongs to the answer: whoever drops the answer, or ends the program, closes it, and the server ends the query. Rows
//! are read as they are asked for, so a slow reader makes a slow query and not a large process. How long an answer may take, the server bounds.

mod answer;
mod link;

pub(super) use answer::Answer;

use super::failure::Failure;
use crate::directory::Found;
use crate::http::identity;
use anyhow::{Context, anyhow, bail, ensure};
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use link::Link;
use millstream_model::secret::Secret;
use millstream_query::server::PATH;
use millstream_query::{QueryError, TailUse};
use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// How long a server of this machine may take to say who it is: it has nothing to look up for it, but may be busy.
const IDENTITY_MAX: Duration = Duration::from_secs(5);

/// Most bytes of a refusal that are read.
const REFUSAL_MAX: usize = 256 << 10;

/// The form of rows that is asked for.
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// A server that answers SQL.
#[derive(Debug)]
pub(super) struct Server {
    link: Link,
    /// As a person knows it.
    name: String,
    token: Option<Secret>,
    tail: TailUse,
}

impl Server {
    /// The one at a URL.
    ///
    /// # Errors
    /// If it is no URL of a server, or the file with authorities is of no use.
    pub(super) fn named(
        url: &str,
        ca: Option<&Path>,
        token: Option<Secret>,
        tail: TailUse,
    ) -> anyhow::Result<Self> {
        let hint = "write it like http://127.0.0.1:8474 or https://sql.example.com";
        let parsed = Url::parse(url).with_context(|| format!("{url:?} is no URL; {hint}"))?;
        ensure!(
            ["http", "https"].contains(&parsed.scheme()) && parsed.has_host(),
            "{url:?} names no server; {hint}"
        );
        let has_credentials = !parsed.username().is_empty() || parsed.password().is_some();
        ensure!(
            !has_credentials,
            "credentials do not belong into a URL; give a token, --token-file FILE or MILLSTREAM_TOKEN"
        );
        ensure!(
            parsed.query().is_none() && parsed.fragment().is_none(),
            "the URL of a server has no `?` and no `#`; {hint}"
        );
        Ok(Self {
            link: Link::to(&parsed, ca)?,
            name: parsed.as_str().trim_end_matches('/').to_owned(),
            token,
            tail,
        })
    }

    /// The one that a data directory names, if it is that one which answers there: whoever else may listen on its port by now is shown neither token nor question.
    pub(super) async fn found(found: &Found, token: Option<Secret>, tail: TailUse) -> Option<Self> {
        let server =
            Self { link: Link::on(found.address), name: format!("http://{}", found.address), token, tail };
        match tokio::time::timeout(IDENTITY_MAX, server.identity()).await {
            Ok(Ok(Some(id))) if id == found.id => Some(server),
            _ => None,
        }
    }

    async fn identity(&self) -> anyhow::Result<Option<String>> {
        let request = self.request(Method::GET, identity::PATH).body(Body::empty())?;
        let (response, _connection) = self.link.send(request).await?;
        ensure!(response.status() == StatusCode::OK, "it does not say who it is");
        Ok(identity::read(&answer::all(response.into_body(), identity::ANSWER_MAX).await?))
    }

    /// Begins to answer one statement. It comes back with the first rows, or the end of an answer without any.
    pub(super) async fn ask(&self, sql: &str) -> Result<Answer, Failure> {
        let (response, connection) =
            self.link.send(self.question(sql)?).await.with_context(|| self.unreached())?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        match (response.status(), kind) {
            (StatusCode::OK, Some(ARROW)) => {
                Answer::begin(response.into_body(), connection, self.name.clone()).await
            }
            (StatusCode::OK, _) => Err(anyhow!("what answers at {self} is no Millstream").into()),
            _ => Err(self.refusal(response).await),
        }
    }

    fn question(&self, sql: &str) -> anyhow::Result<Request<Body>> {
        let parameters = if self.tail == TailUse::Off { "?tail=off" } else { "" };
        let mut request = self
            .request(Method::POST, &format!("{PATH}{parameters}"))
            .header(header::ACCEPT, ARROW)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(header::TE, "trailers")
            .header(header::CONNECTION, "TE");
        if let Some(token) = &self.token {
            let mut shown = header::HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .context("the token has characters that no header can have")?;
            shown.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, shown);
        }
        Ok(request.body(Body::from(sql.to_owned()))?)
    }

    fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.link.base()))
            .header(header::HOST, self.link.host())
            .header(header::USER_AGENT, concat!("millstream/", env!("CARGO_PKG_VERSION")))
    }

    fn unreached(&self) -> String {
        format!("failed to ask the server at {self}")
    }

    /// Why there are no rows: something about the question, or about the two of us.
    async fn refusal(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let body = answer::all(response.into_body(), REFUSAL_MAX).await.unwrap_or_default();
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = &answer["error"];
        if let Some(error) = QueryError::from_json(error) {
            return Failure::Query(error);
        }
        self.refused(status, error).map_or_else(Failure::Other, |never| match never {})
    }

    fn refused(&self, status: StatusCode, error: &Value) -> anyhow::Result<std::convert::Infallible> {
        let said = error["message"].as_str();
        match (status, said) {
            (StatusCode::UNAUTHORIZED, _) | (StatusCode::FORBIDDEN, None) => {
                let token = if self.token.is_some() { "does not take the token" } else { "wants a token" };
                bail!(
                    "the server at {self} {token}: give the right one, --token-file FILE or MILLSTREAM_TOKEN"
                )
            }
            (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, None) => {
                bail!("the server at {self} answers no SQL: of Millstream's stages `serve` does, and `up`")
            }
            (_, Some(message)) => {
                let hints = error["hints"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let hints = hints.map(|hint| format!("; {hint}")).collect::<String>();
                bail!("the server at {self} refuses: {message}{hints}")
            }
            (status, None) => bail!("what answers at {self} is no Millstream: it says {status}"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
