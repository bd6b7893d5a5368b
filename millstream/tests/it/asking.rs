//! `millstream sql` and who answers it: a server or the tables themselves, with nothing to tell them apart by; and servers that are none, or not this one.

use crate::http::{http, sample};
use crate::mqtt::{Device, Version};
use crate::program::{Home, NOBODY, Running, Up, eventually, run};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use tokio_rustls::TlsAcceptor;

/// A file closes when the program ends, and not before; what a question may take is little.
const CONFIG: &str = r#"
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_after = "1h", close_idle = "1h" }

[sql]
memory = "64MiB"
spill = "1MiB"
time = "1m"
scan = "4KiB"
"#;

/// Gives rows for longer than any test lasts.
const TALKATIVE: &str = "select value, repeat('x', 100) as text from generate_series(1, 1000000000)";

/// Works for minutes without a row.
const SILENT: &str = "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b where md5((a.value + b.value)::varchar) = ''";

fn publish(up: &Up, device: &str, payloads: &[&str]) {
    let mut client = Device::connect(up.address(), Version::V5, device);
    payloads.iter().for_each(|payload| client.publish(&format!("devices/{device}/telemetry"), payload));
}

/// A directory with a few readings in files, on which nothing runs.
fn with_readings(config: &str) -> Home {
    let home = Home::with(config);
    let up = home.up();
    publish(&up, "d1", &[r#"{"temp":21.5,"label":"a,b"}"#, r#"{"temp":-3,"label":"zu \"heiß\"\n"}"#]);
    publish(&up, "d2", &[r#"{"temp":0.1}"#, r#"{"label":""}"#]);
    up.drain();
    home
}

/// Without what depends on the clock, and not on who answers: each `90 ms`, `1.5 s` and `1 min 30 s`.
fn without_times(text: &str) -> String {
    let is_number = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_unit = |word: &str| ["ms", "s", "min"].contains(&word.trim_end_matches([',', ';']));
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let is_time = |index: usize| {
            let follows = words.get(index + 1).is_some_and(|next| is_unit(next));
            words.get(index).is_some_and(|word| is_number(word)) && follows
        };
        let kept = (0..words.len()).filter(|index| !is_time(*index) && (*index == 0 || !is_time(index - 1)));
        kept.filter_map(|index| words.get(index).copied()).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_time_is_left_out_whatever_its_unit() {
    for time in ["7 ms", "1.1 s", "2 min 3 s"] {
        let text = format!("1 row in {time}\n3 rows, complete to {time}, 5 s of 7");
        assert_eq!(without_times(&text), "1 row in\n3 rows, complete to of 7");
    }
}

/// How many questions a server was asked.
fn asked(up: &Up) -> f64 {
    sample(http(up), "millstream_sql_received_requests_total").unwrap()
}

const GOOD: &[&str] = &[
    "select device_id, temp, label from telemetry order by device_id, temp",
    "select * exclude (_received_at, ts, date) from telemetry order by device_id, temp",
    "select count(*) as n, min(temp), max(label), avg(temp) from telemetry",
    "select temp from telemetry where date = '2020-01-01'",
    "select 1 as one where false",
    "select null as nothing, [1, null, 3] as list, {a: 1, b: 'x'} as struct, x'00ff' as bytes, 1.50::decimal(5, 2) as price, interval '90 minutes' as span",
    "select timestamp '2026-11-21 12:00:00.25' as ts, date '2026-11-21' as day, arrow_cast('a', 'Dictionary(Int32, Utf8)') as word, 'ü' as \"Ü\"",
    "select value from generate_series(1, 20000)",
    "select 1 as one; select 2 as two;\n\n-- the end\n",
    "explain select 1",
    "show tables",
    "describe telemetry",
    "",
];

/// Wrong, failing at once or midway, or too much.
const BAD: &[&str] = &[
    "select tmp from telemetry",
    "select 1 as one;\nselect temp\n  from télémetri",
    "select 'ü', averge(temp)\nfrom telemetry",
    "select device_id, sum(temp) from telemetry",
    "select sum(device_id) from telemetry",
    "select temp frm telemetry where",
    "select temp from telemetry t, telemetry u",
    "drop table telemetry",
    "copy telemetry to 'out.csv'",
    "set datafusion.execution.batch_size = 1",
    "select * from telemetry tablesample (10 percent)",
    "select * from 'out.csv'",
    "select 1 / (temp - temp) from telemetry where _offset / (_offset - _offset) > 1",
    "select 1 / (value - 50000) as x from generate_series(1, 100000)",
    "select cast(label as double) from telemetry",
    "select value % 1000003 as k, repeat('x', 100) as pad from generate_series(1, 1000000) order by k",
    "select value from generate_series(1, 100000000000)",
    "select * from telemetry a, telemetry b, telemetry c, telemetry d, telemetry e",
];

#[test]
fn the_answer_is_the_same_whoever_gives_it() {
    let home = with_readings(CONFIG);
    let up = home.up();
    let check = |statement: &str, format: &str, code: i32| {
        let ask = |way: &[&str]| {
            home.run(&[&["sql", "--no-tail", "--format", format, "-c", statement], way].concat())
        };
        let (there, here) = (ask(&[]), ask(&["--local"]));
        let begin: String = statement.chars().take(100).collect();
        // How many rows were given before something went wrong depends on who was faster.
        let is_same = if code == 0 {
            there.out == here.out
        } else {
            there.out.starts_with(&here.out) || here.out.starts_with(&there.out)
        };
        assert!(is_same, "{format}: {begin}\n{}\n{}", there.err, here.err);
        assert_eq!(without_times(&there.err), without_times(&here.err), "{format}: {begin}");
        assert_eq!((there.code(), here.code()), (Some(code), Some(code)), "{format}: {begin}\n{}", here.err);
    };
    let before = asked(&up);
    let wide = format!("select {}", (0..300).map(|n| format!("{n} as c{n}")).collect::<Vec<_>>().join(", "));
    for statement in GOOD.iter().chain([&wide.as_str()]) {
        for format in ["box", "csv", "json", "ndjson", "markdown"] {
            check(statement, format, 0);
        }
    }
    for statement in BAD {
        check(statement, "csv", 1);
    }
    check(&format!("select '{}' as x", "x".repeat(120_000)), "csv", 0);
    assert!(asked(&up) - before > (GOOD.len() * 5 + BAD.len() - 2) as f64, "the server was asked");
}

#[test]
fn a_server_that_was_killed_is_passed_over() {
    let home = with_readings(CONFIG);
    let up = home.up();
    publish(&up, "d3", &[r#"{"temp":7}"#]);
    up.kill();
    assert!(home.data().join("server").exists(), "a kill leaves it behind");
    let answer = home.run(&["sql", "-c", "select min(temp) as n from telemetry"]).good();
    assert!(answer.out.contains("-3.0") && !answer.err.contains("server"), "{}", answer.err);
    // One that ends takes it away.
    home.up().drain();
    assert!(!home.data().join("server").exists());
}

/// Writes down that the server of a directory is at an address, as a run that is no more would have.
fn misdirect(home: &Home, address: SocketAddr) {
    let up = home.up();
    let text = std::fs::read_to_string(home.data().join("server")).unwrap();
    let right = http(&up).to_string();
    up.kill();
    assert!(text.contains(&right), "{text}");
    std::fs::write(home.data().join("server"), text.replace(&right, &address.to_string())).unwrap();
}

/// Another program: says the same to everyone, and tells what it heard.
fn stranger(says: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; 64 << 10];
        let mut length = stream.read(&mut heard).unwrap();
        stream.write_all(says.as_bytes()).unwrap();
        // It goes on listening until the other side has gone.
        while let Ok(more @ 1..) = stream.read(&mut heard[length..]) {
            length += more;
        }
        String::from_utf8_lossy(&heard[..length]).into_owned()
    });
    (address, heard)
}

#[test]
fn who_is_not_the_server_is_shown_neither_token_nor_question() {
    let home = with_readings(CONFIG);
    let ask = || {
        let mut command =
            home.command(["sql", "--format", "csv", "-c", "select count(*) as n from telemetry"]);
        run(command.env("MILLSTREAM_TOKEN", "open-sesame"), b"").good()
    };
    for says in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"server\":\"x\"",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "220 mail.example.com ESMTP\r\n",
        // It says nothing at all, and does not go.
        "",
    ] {
        let (address, heard) = stranger(says);
        misdirect(&home, address);
        assert_eq!(ask().out, "n\n4\n", "{says}");
        let heard = heard.join().unwrap();
        assert!(heard.starts_with("GET /v1/server HTTP/1.1\r\n"), "{heard}");
        assert!(!heard.contains("open-sesame") && !heard.contains("select"), "{heard}");
    }
    // Another Millstream, whose answer would be another.
    let other = with_readings(CONFIG);
    let up = other.up();
    publish(&up, "d9", &["{}"]);
    misdirect(&home, http(&up));
    assert_eq!(ask().out, "n\n4\n");
    assert_eq!(asked(&up), 0.0);
}

#[test]
fn a_server_over_other_tables_is_not_asked() {
    let home = with_readings(CONFIG);
    let up = home.up();
    let elsewhere = home.path("elsewhere");
    let count = ["sql", "--no-tail", "--format", "csv", "-c", "select count(*) as n from telemetry"];
    let mut command = home.command(count);
    let message = run(command.env("MILLSTREAM__LAKE__INGESTION", &elsewhere), b"").refused();
    assert!(message.contains("no table is named telemetry"), "{message}");
    assert_eq!(asked(&up), 0.0);
    assert_eq!(home.run(&count).good().out, "n\n4\n");
    assert_eq!(asked(&up), 1.0);
}

#[test]
fn a_server_wants_its_token() {
    let home = with_readings(CONFIG);
    let mut command = home.command(["up"]);
    command.env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0").env("MILLSTREAM__HTTP__TOKEN", "open-sesame");
    let up = Up::start(&mut command);
    let url = format!("http://{}/", http(&up));
    let file = home.file("token", "open-sesame\n");
    let ask = |token: Option<&str>, more: &[&str]| {
        let mut command = home.command([&["sql", "--format", "csv", "-c", "select 1 as one"], more].concat());
        run(command.envs(token.map(|token| ("MILLSTREAM_TOKEN", token))), b"")
    };
    for more in [&[][..], &["--server", &url]] {
        assert_eq!(ask(Some("open-sesame"), more).good().out, "one\n1\n");
        let message = ask(None, more).refused();
        assert!(message.contains("wants a token") && message.contains("--token-file"), "{message}");
        let message = ask(Some("sesame"), more).refused();
        assert!(message.contains("does not take the token") && !message.contains("sesame"), "{message}");
        let more = [more, &["--token-file", file.to_str().unwrap()]].concat();
        assert_eq!(ask(Some("sesame"), &more).good().out, "one\n1\n");
    }
    // Who may read the files need not ask anyone.
    assert_eq!(ask(None, &["--local"]).good().out, "one\n1\n");
}

#[test]
fn a_server_that_cannot_answer_is_told_from_one_that_does() {
    let home = Home::new();
    let check = |url: &str, expected: &[&str]| {
        let message = home.run(&["sql", "--server", url, "-c", "select 1"]).refused();
        for part in expected {
            assert!(message.contains(part), "{url}: no {part:?} in {message}");
        }
    };
    check("127.0.0.1:8474", &["is no URL", "write it like http://"]);
    check("ftp://127.0.0.1", &["names no server", "write it like http://"]);
    check("http://u:secret@127.0.0.1", &["credentials", "--token-file"]);
    check("http://127.0.0.1?tail=off", &["no `?`"]);
    check(&format!("http://{NOBODY}"), &["failed to ask the server", NOBODY, "refused"]);
    let says = |says: &'static str, expected: &[&str]| {
        let (address, _) = stranger(says);
        check(&format!("http://{address}"), expected);
    };
    says("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", &["answers no SQL", "`serve`"]);
    says("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n", &["is no Millstream"]);
    says("HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\noh\n", &["is no Millstream", "500"]);
    says("220 mail.example.com ESMTP\r\n", &["failed to ask the server"]);
    let arrow = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.apache.arrow.stream\r\ncontent-length: 4\r\n\r\noh\n\n";
    says(arrow, &["broke off"]);
    assert!(!home.data().exists(), "asking makes nothing");
}

/// A proxy that speaks TLS to its clients; it lives as long as the test's process.
fn tls_proxy(home: &Home, to: SocketAddr) -> SocketAddr {
    let pem = |name: &str| home.data().join("identity").join(name);
    let chain = CertificateDer::pem_file_iter(pem("server.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(pem("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // Who does not trust the certificate goes.
                let Ok(mut client) = acceptor.accept(client).await else { continue };
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            }
        });
    });
    address
}

#[test]
fn a_server_is_asked_through_tls() {
    let home = with_readings(CONFIG);
    home.run(&["init"]).good();
    let up = home.up();
    let url = format!("https://localhost:{}", tls_proxy(&home, http(&up)).port());
    let ca = home.data().join("identity/ca.pem");
    let ask = |more: &[&str]| {
        let ask = ["sql", "--format", "csv", "--server", &url, "-c", "select count(*) as n from telemetry"];
        home.run(&[&ask[..], more].concat())
    };
    assert_eq!(ask(&["--ca", ca.to_str().unwrap()]).good().out, "n\n4\n");
    assert_eq!(asked(&up), 1.0);
    let message = ask(&[]).refused();
    assert!(message.contains("failed to ask the server") && message.contains("certificate"), "{message}");
}

/// Asks in the background, and waits until the query runs.
fn ask_in_background(home: &Home, up: &Up, sql: &str) -> Running {
    let mut command = home.command(["sql", "--format", "csv", "-c", sql]);
    let child = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    eventually("the query runs", || (running(up) == 1.0).then_some(()));
    child
}

fn running(up: &Up) -> f64 {
    sample(http(up), "millstream_sql_running_requests").unwrap()
}

#[test]
fn a_query_ends_at_the_server_when_who_asked_has_gone() {
    let home = with_readings(CONFIG);
    let up = home.up();
    for sql in [SILENT, TALKATIVE] {
        let mut child = ask_in_background(&home, &up, sql);
        // As Ctrl-C, which whoever runs the tests in the background may have switched off.
        child.signal("TERM");
        child.wait();
        eventually("the query has ended", || (running(&up) == 0.0).then_some(()));
    }
    // As `| head` does.
    let mut child = ask_in_background(&home, &up, TALKATIVE);
    let mut out = child.child.stdout.take().unwrap();
    out.read_exact(&mut [0; 100]).unwrap();
    drop(out);
    assert_eq!(child.wait().code(), Some(0), "a closed pipe is no failure");
    eventually("the query has ended", || (running(&up) == 0.0).then_some(()));
}

#[test]
fn an_answer_of_any_size_takes_little_memory() {
    let home = with_readings(&CONFIG.replace("time = \"1m\"", "time = \"5m\""));
    let up = home.up();
    let mut child = ask_in_background(&home, &up, TALKATIVE);
    let mut out = child.child.stdout.take().unwrap();
    // 200 MB go through it.
    let mut piece = vec![0; 1 << 20];
    for _ in 0..200 {
        out.read_exact(&mut piece).unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 150 << 10, "{peak} KiB");
    child.kill();
    eventually("the query has ended", || (running(&up) == 0.0).then_some(()));
}

#[test]
fn what_a_killed_process_has_spilled_is_removed() {
    let home = with_readings("[sql]\nmemory = \"64MiB\"\n");
    let spilled = || -> Vec<std::path::PathBuf> {
        let Ok(entries) = std::fs::read_dir(home.data().join("spill")) else { return Vec::new() };
        let mut found: Vec<_> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        found.sort();
        found
    };
    // A few hundred bytes lie there whatever is asked; a file means that it sorts.
    let files = |dir: &std::path::Path| walk(dir) > 1;
    let sort =
        "select value % 1000003 as k, repeat('x', 200) as pad from generate_series(1, 100000000) order by k";
    let mut command = home.command(["sql", "--local", "-c", sort]);
    let mut child = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("it spills", || spilled().iter().any(|dir| files(dir)).then_some(()));
    child.kill();
    assert_eq!(spilled().len(), 1, "a kill leaves it behind");
    // Who comes next removes it, and its own at its end; who is alive keeps his.
    let up = home.up();
    let alive = spilled();
    assert!(!alive.is_empty() && !alive.iter().any(|dir| files(dir)), "{alive:?}");
    home.run(&["sql", "--local", "-c", "select 1"]).good();
    assert_eq!(spilled(), alive);
    up.drain();
    assert!(spilled().is_empty());
}

/// Files below a directory.
fn walk(dir: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}
