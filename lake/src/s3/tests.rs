use super::*;
use crate::Bucket;
use crate::permissions::Verdict;
use futures::TryStreamExt;
use millstream_model::fault::Fault;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const SECRETS: [&str; 3] = ["AKIAEXAMPLEKEYID", "open+sesame/secret", "temporary-token"];

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text.to_owned()))
}

fn settings() -> S3Settings {
    S3Settings {
        access_key: secret(SECRETS[0]),
        secret_key: secret(SECRETS[1]),
        session_token: secret(SECRETS[2]),
        ..S3Settings::default()
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())), None)
}

/// What a builder for the bucket `b` came to: endpoint, region, key, token.
fn settled(settings: &S3Settings, variables: &[(&str, &str)]) -> Result<[Option<String>; 4], String> {
    let keys = [
        AmazonS3ConfigKey::S3Endpoint,
        AmazonS3ConfigKey::Region,
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::Token,
    ];
    let builder = builder("b", settings, &environment(variables)).map_err(|error| error.to_string())?;
    assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::ConditionalPut).as_deref(), Some("etag"));
    Ok(keys.map(|key| builder.get_config_value(&key)))
}

#[test]
fn settings_go_before_the_environment_and_credentials_come_from_one_place() {
    let check = |settings: &S3Settings, variables: &[(&str, &str)], expected: [Option<&str>; 4]| {
        let found = settled(settings, variables).unwrap();
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{settings:?} {variables:?}");
    };
    let nothing = S3Settings::default();
    check(&nothing, &[], [None; 4]);
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
    check(&nothing, &keys, [None, None, Some("id"), Some("t")]);
    let own = S3Settings { session_token: None, ..settings() };
    check(&own, &keys, [None, None, Some(SECRETS[0]), None]);
    let regions = [("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_REGION", "eu-west-2"), ("AWS_BUCKET", "other")];
    check(&nothing, &regions[..1], [None, Some("eu-west-1"), None, None]);
    check(&nothing, &regions, [None, Some("eu-west-2"), None, None]);
    let region = S3Settings { region: Some("eu-west-3".to_owned()), ..S3Settings::default() };
    check(&region, &regions, [None, Some("eu-west-3"), None, None]);
    let disabled = [("AWS_CONDITIONAL_PUT", "disabled"), ("AWS_SESSION_TOKEN", "")];
    check(&nothing, &disabled, [None; 4]);
}

#[test]
fn an_endpoint_is_a_url_with_tls_unless_allowed_otherwise() {
    let local = "http://127.0.0.1:9000/";
    let check =
        |endpoint: &str, allow: Option<bool>, path_style: Option<bool>, expected: Result<&str, &str>| {
            let settings = S3Settings {
                endpoint: Some(endpoint.to_owned()),
                allow_http: allow,
                path_style,
                ..S3Settings::default()
            };
            match (settled(&settings, &[("AWS_ENDPOINT_URL", "https://ignored")]), expected) {
                (Ok([found, ..]), Ok(expected)) => assert_eq!(found.as_deref(), Some(expected)),
                (Err(found), Err(expected)) => {
                    assert!(found.contains(expected), "{found}");
                    assert!(!found.contains("sesame"), "{found}");
                }
                (found, _) => panic!("{endpoint}: {found:?}"),
            }
            assert!(!format!("{settings:?}").contains("sesame"), "{settings:?}");
        };
    check(local, Some(true), None, Ok("http://127.0.0.1:9000"));
    check("https://s3.example.org", None, None, Ok("https://s3.example.org"));
    check("https://s3.example.org", None, Some(false), Ok("https://b.s3.example.org"));
    check("https://b.s3.example.org", None, Some(false), Ok("https://b.s3.example.org"));
    check(local, None, None, Err("allow_http is not set"));
    check(local, Some(false), None, Err("allow_http is not set"));
    check("127.0.0.1:9000", None, None, Err("127.0.0.1:9000"));
    check("localhost:9000", None, None, Err("must begin with https://"));
    check("https://me:open-sesame@host", None, None, Err("user or password"));
    check("https://me:open/sesame@host", None, None, Err("is no URL"));
    check("https://host?key=sesame", None, None, Err("must end with its path"));
    let of_environment = [("AWS_ENDPOINT_URL", local), ("AWS_ALLOW_HTTP", "true")];
    let found = settled(&S3Settings::default(), &of_environment).unwrap();
    assert_eq!(found[0].as_deref(), Some("http://127.0.0.1:9000"));
}

#[test]
fn half_of_a_pair_of_keys_is_refused() {
    for half in [
        S3Settings { access_key: secret("id"), ..S3Settings::default() },
        S3Settings { secret_key: secret("s"), ..S3Settings::default() },
    ] {
        assert!(settled(&half, &[]).unwrap_err().contains("need each other"));
    }
    assert!(connect_in("b", &S3Settings::default(), &environment(&[("AWS_ACCESS_KEY_ID", "id")])).is_err());
}

#[tokio::test]
async fn keys_of_the_shared_files_are_taken_where_nobody_else_has_any() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(
        home.path().join(".aws/credentials"),
        "[default]\naws_access_key_id = id\naws_secret_access_key = s\n",
    )
    .unwrap();
    std::fs::write(
        home.path().join(".aws/config"),
        "[default]\nregion = eu-west-1\n[profile human]\nsso_session = x\n",
    )
    .unwrap();
    let check = async |variables: &[(&str, &str)], expected: Result<Option<&str>, &str>| {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::new(variables, Some(home.path().to_owned()));
        match (builder("b", &S3Settings::default(), &environment), expected) {
            (Ok(builder), Ok(Some(expected))) => {
                let credential = builder.build().unwrap().credentials().get_credential().await.unwrap();
                assert_eq!(credential.key_id, expected);
            }
            // Others give the keys when they are asked.
            (Ok(builder), Ok(None)) => {
                assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId), None);
                assert!(!format!("{:?}", builder.build().unwrap().credentials()).contains("SharedFiles"));
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, _) => panic!("{:?}", found.map(drop)),
        }
    };
    check(&[], Ok(Some("id"))).await;
    let keys = [("AWS_ACCESS_KEY_ID", "other"), ("AWS_SECRET_ACCESS_KEY", "s")];
    check(&keys, Ok(Some("other"))).await;
    check(&[("AWS_PROFILE", "human")], Err("the profile human has its credentials by sso_session")).await;
    check(&[("AWS_PROFILE", "nobody")], Err("AWS_PROFILE names the profile nobody, which neither")).await;
    check(&[("AWS_PROFILE", "nobody"), keys[0], keys[1]], Ok(Some("other"))).await;
    check(&[("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/at/all")], Ok(None)).await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_rotated_in_the_shared_files_are_taken_up() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("credentials");
    let rotate = |text: &str| std::fs::write(&file, text).unwrap();
    let pair = |id: &str| format!("[default]\naws_access_key_id={id}\naws_secret_access_key=s\n");
    rotate(&pair("first"));
    let shared = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    let builder = builder("b", &S3Settings::default(), &environment(&shared)).unwrap();
    let store = builder.build().unwrap();
    let check = async |seconds: u64, expected: &str| {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(store.credentials().get_credential().await.unwrap().key_id, expected);
    };
    rotate(&pair("second"));
    check(1, "first").await;
    check(60, "second").await;
    // Half of a file, and none at all.
    rotate("[default]\naws_access_key_id=third\n");
    check(60, "second").await;
    std::fs::remove_file(&file).unwrap();
    check(60, "second").await;
    rotate(&pair("fourth"));
    check(60, "fourth").await;
}

/// Answers every request on a connection of its own, until it is dropped.
struct Server {
    address: String,
    answers: Arc<AtomicUsize>,
    _tasks: JoinSet<Infallible>,
}

impl Server {
    async fn answering(status: &'static str, body: String) -> Self {
        Self::answering_in_turn(vec![(status, body)]).await
    }

    /// The last answer is given to all that follow.
    async fn answering_in_turn(turns: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(AtomicUsize::new(0));
        let count = answers.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let turn = count.fetch_add(1, Ordering::Relaxed).min(turns.len() - 1);
                let (status, body) = &turns[turn];
                answer(&mut stream, status, body).await;
            }
        });
        Self { address, answers, _tasks: tasks }
    }
}

async fn answer(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), status: &str, body: &str) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&chunk[..count]),
        }
    }
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    // Whoever asked may be gone.
    stream.write_all(text.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

/// All that can be printed of an error.
fn printed(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!(" {source} {source:?}"));
        cause = source.source();
    }
    text
}

#[tokio::test]
async fn no_credential_is_printed_whatever_is_printed_and_whatever_the_store_repeats() {
    let quoting = format!(
        "<?xml version=\"1.0\"?><Error><Code>InvalidToken</Code><Message>The provided token is malformed.</Message>\
         <Token-0>{}</Token-0><AWSAccessKeyId>{}</AWSAccessKeyId><StringToSign>{}</StringToSign></Error>",
        SECRETS[2], SECRETS[0], SECRETS[1]
    );
    let server = Server::answering("403 Forbidden", quoting).await;
    let settings =
        S3Settings { endpoint: Some(server.address.clone()), allow_http: Some(true), ..settings() };
    let bucket = Bucket::open("s3://readings/plant", &settings).unwrap();
    let store = bucket.store();
    let table = crate::Table::at(&bucket, "t").unwrap();
    let mut texts = vec![format!("{settings:?} {bucket:?} {store:?} {store} {table:?} {:?}", table.log())];
    let key = Path::from("x");
    let errors = [
        store.get(&key).await.unwrap_err(),
        store.put(&key, "x".into()).await.unwrap_err(),
        store.delete(&key).await.unwrap_err(),
        store.put_multipart(&key).await.unwrap_err(),
        store.list(None).try_next().await.unwrap_err(),
        store.list_with_delimiter(None).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        assert!(error.to_string().contains("InvalidToken: The provided token is malformed."), "{error}");
        texts.push(printed(&error));
    }
    let error = table.snapshot().await.unwrap_err();
    assert_eq!(error.fault(), Fault::Stop, "{error:?}");
    texts.push(format!("{error} {error:?}"));
    let error = bucket.probe().await.unwrap_err();
    texts.push(format!("{error} {error:?}"));
    for text in texts {
        assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
    }
}

/// The bucket of whoever answers there.
fn bucket_at(server: &Server) -> Bucket {
    let settings =
        S3Settings { endpoint: Some(server.address.clone()), allow_http: Some(true), ..settings() };
    Bucket::open("s3://readings", &settings).unwrap()
}

fn refusal(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>no</Message></Error>")
}

#[tokio::test]
async fn only_a_denial_by_a_store_that_never_let_us_in_is_for_a_person() {
    const EMPTY: &str = "<ListBucketResult></ListBucketResult>";
    let check = async |status: &'static str, code: &str, first: Fault, later: Fault| {
        let server = Server::answering(status, refusal(code)).await;
        let error = bucket_at(&server).table_names().await.unwrap_err();
        assert_eq!(error.fault(), first, "{code}: {error:?}");
        let turns = vec![("200 OK", EMPTY.to_owned()), (status, refusal(code)), ("200 OK", EMPTY.to_owned())];
        let server = Server::answering_in_turn(turns).await;
        let bucket = bucket_at(&server);
        bucket.table_names().await.unwrap();
        let error = bucket.table_names().await.unwrap_err();
        assert_eq!(error.fault(), later, "{code}: {error:?}");
        bucket.table_names().await.unwrap();
    };
    let (stop, retry) = (Fault::Stop, Fault::Retry);
    check("403 Forbidden", "AccessDenied", stop, retry).await;
    check("403 Forbidden", "InvalidAccessKeyId", stop, retry).await;
    check("403 Forbidden", "SignatureDoesNotMatch", stop, retry).await;
    check("401 Unauthorized", "AccessDenied", stop, retry).await;
    check("403 Forbidden", "RequestTimeTooSkewed", retry, retry).await;
    check("400 Bad Request", "ExpiredToken", retry, retry).await;
    check("403 Forbidden", "ExpiredToken", retry, retry).await;
    check("403 Forbidden", "RequestExpired", retry, retry).await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_not_taken_for_a_missing_right() {
    let check = async |code: &str, is_expected: fn(&Verdict) -> bool| {
        let server = Server::answering("403 Forbidden", refusal(code)).await;
        let trials = bucket_at(&server).permissions().await;
        assert!(trials[..2].iter().all(|trial| is_expected(&trial.verdict)), "{code}: {trials:?}");
        assert!(trials[2..].iter().all(|trial| matches!(trial.verdict, Verdict::Untried)), "{code}");
    };
    check("RequestTimeTooSkewed", |verdict| matches!(verdict, Verdict::Skewed(_))).await;
    check("AccessDenied", |verdict| matches!(verdict, Verdict::Missing(_))).await;
    check("ExpiredToken", |verdict| matches!(verdict, Verdict::Failed(_))).await;
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_not_taken_for_an_empty_one() {
    let document =
        "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
    let server = Server::answering("404 Not Found", document.to_owned()).await;
    let settings =
        S3Settings { endpoint: Some(server.address.clone()), allow_http: Some(true), ..settings() };
    let bucket = Bucket::open("s3://readings", &settings).unwrap();
    let error = bucket.store().get(&Path::from("x")).await.unwrap_err();
    assert!(matches!(error, Error::Generic { .. }), "{error:?}");
    assert!(error.to_string().contains("NoSuchBucket: The specified bucket does not exist"), "{error}");
    assert!(crate::Table::open(&bucket, "t").await.is_err());
}

#[tokio::test]
async fn a_store_that_asks_for_patience_is_asked_again_a_bounded_number_of_times() {
    let document = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let server = Server::answering("503 Slow Down", document.to_owned()).await;
    let settings =
        S3Settings { endpoint: Some(server.address.clone()), allow_http: Some(true), ..settings() };
    let store = Bucket::open("s3://readings", &settings).unwrap().store();
    let error = store.put(&Path::from("x"), "x".into()).await.unwrap_err();
    assert!(error.to_string().contains("SlowDown: Please reduce your request rate."), "{error}");
    assert!(error.to_string().contains("after 5 retries"), "{error}");
    assert_eq!(server.answers.load(Ordering::Relaxed), RETRIES_MAX + 1);
}

#[tokio::test]
async fn a_server_with_a_private_certificate_is_trusted_where_its_authority_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks: JoinSet<Infallible> = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                answer(&mut stream, "200 OK", "<ListBucketResult></ListBucketResult>").await;
            }
        }
    });
    let stranger = S3Settings { endpoint: Some(format!("https://localhost:{port}")), ..settings() };
    let trusting = S3Settings { ca: Some(ca), ..stranger.clone() };
    let list = async |settings: &S3Settings| {
        let store = Bucket::open("s3://readings", settings).unwrap().store();
        store.list_with_delimiter(None).await.map(|listed| listed.objects.len())
    };
    assert_eq!(list(&trusting).await.unwrap(), 0);
    assert!(list(&stranger).await.is_err());
    let missing = S3Settings { ca: Some(dir.path().join("none.pem")), ..stranger };
    assert!(matches!(Bucket::open("s3://readings", &missing), Err(LakeError::File { .. })));
}

#[test]
fn what_stands_before_the_host_is_left_out() {
    let check = |url: &str, expected: &str| assert_eq!(without_user(url), expected);
    check("s3://readings/plant", "s3://readings/plant");
    check("https://me:open@host/x", "https://host/x");
    check("https://me:o/pen@host/x?y", "https://host/x");
    check("me:open@host", "host");
    check("s3:readings", "s3:readings");
}
