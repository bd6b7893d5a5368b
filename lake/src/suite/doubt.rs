//! Answers that leave it in doubt whether something was done, given to the real client by a real store: the way between them loses answers, and tells of conflicts.
//!
//! `object_store` sends a conditional create again after a 500, and then hears that the key exists: from its own first try.

use super::Place;
use crate::fixture::{append, applied, commits, names, table};
use crate::{LakeError, Table};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What becomes of a conditional create.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// The store does it, and the client hears of a failure.
    AnswerLost,
    /// The store is not asked, and the client hears that others try the same.
    Conflict,
}
use Mishap::{AnswerLost, Conflict};

/// The way to the store: everything passes as it is, but for conditional creates while there are mishaps, one each.
struct Way {
    address: String,
    mishaps: Arc<Mutex<VecDeque<Mishap>>>,
    _task: JoinSet<Infallible>,
}

impl Way {
    async fn to(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mishaps: Arc<Mutex<VecDeque<Mishap>>> = Arc::default();
        let (server, coming) = (endpoint.trim_start_matches("http://").to_owned(), mishaps.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (server, coming) = (server.clone(), coming.clone());
                passing.spawn(async move { pass(client, &server, &coming).await.unwrap() });
            }
        });
        Self { address, mishaps, _task: task }
    }

    fn meet(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        *self.mishaps.lock().unwrap() = mishaps.into_iter().collect();
    }

    fn left(&self) -> usize {
        self.mishaps.lock().unwrap().len()
    }
}

async fn pass(mut client: TcpStream, server: &str, coming: &Mutex<VecDeque<Mishap>>) -> std::io::Result<()> {
    let (head, body) = request(&mut client).await?;
    let is_create = head.to_ascii_lowercase().contains("if-none-match: *");
    let mishap = if is_create { coming.lock().unwrap().pop_front() } else { None };
    if let Some(Conflict) = mishap {
        return answer(&mut client, "409 Conflict", "ConditionalRequestConflict").await;
    }
    let mut store = TcpStream::connect(server).await?;
    store.write_all(head.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes()).await?;
    store.write_all(&body).await?;
    let mut said = Vec::new();
    store.read_to_end(&mut said).await?;
    match mishap {
        None | Some(Conflict) => client.write_all(&said).await,
        Some(AnswerLost) => answer(&mut client, "500 Internal Server Error", "InternalError").await,
    }
}

/// A request, as it came: its head and its body.
async fn request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.to_ascii_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|length| length.trim().parse::<usize>().unwrap())
    });
    let mut body = bytes.split_off(end);
    while body.len() < length.unwrap_or(0) {
        client.read_buf(&mut body).await?;
    }
    Ok((head, body))
}

async fn answer(client: &mut TcpStream, status: &str, code: &str) -> std::io::Result<()> {
    let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    client.write_all(text.as_bytes()).await
}

async fn doubtful(test: &str) -> Option<(Way, Place)> {
    let services = millstream_services::services(test)?;
    let way = Way::to(&services.s3_endpoint).await;
    let place = Place::store(services, &way.address);
    Some((way, place))
}

const MISHAPS: [&[Mishap]; 5] =
    [&[AnswerLost], &[Conflict], &[AnswerLost, AnswerLost], &[Conflict, AnswerLost], &[Conflict, Conflict]];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_in_doubt_is_made_once_and_said_to_be() {
    let Some((way, place)) = doubtful("a doubtful commit").await else { return };
    let table = table(&place.bucket).await;
    let mut expected = Vec::new();
    for (step, mishaps) in (1..).zip(MISHAPS) {
        way.meet(mishaps.iter().copied());
        let name = format!("f{step}");
        let outcome = table.commit(append(&name, "app", (step > 1).then_some(step - 1), step)).await.unwrap();
        expected.push(name);
        assert_eq!((outcome, way.left()), (applied(step), 0), "{mishaps:?}");
        assert_eq!(names(&table).await, expected, "{mishaps:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_whose_making_is_in_doubt_is_made_once() {
    for mishaps in MISHAPS {
        let Some((way, place)) = doubtful("a doubtful table").await else { return };
        way.meet(mishaps.iter().copied());
        let table: Table = table(&place.bucket).await;
        assert_eq!((table.snapshot().await.unwrap().version(), way.left()), (0, 0), "{mishaps:?}");
        assert_eq!(commits(&place.bucket).await, 1, "{mishaps:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_store_whose_answers_are_lost_is_not_taken_for_a_bad_one() {
    let Some((way, place)) = doubtful("a doubtful probe").await else { return };
    for mishaps in [vec![AnswerLost], vec![AnswerLost; 3], vec![Conflict; 8], vec![Conflict; 3]] {
        way.meet(mishaps);
        place.bucket.probe().await.unwrap();
        assert_eq!(way.left(), 0);
    }
    way.meet(vec![Conflict; 1_000]);
    let error = place.bucket.probe().await.unwrap_err();
    assert!(matches!(error, LakeError::BrokenCreate { won: 0, .. }), "{error}");
}
