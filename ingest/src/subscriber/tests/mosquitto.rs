//! A real broker.

use super::harness::PATIENCE;
use millstream_services::free_port;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// A mosquitto with a directory of its own. It ends with its owner.
pub(super) struct Mosquitto {
    program: PathBuf,
    child: Child,
    pub(super) port: u16,
    pub(super) dir: TempDir,
}

/// Debian has the broker where only root looks.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

impl Mosquitto {
    /// A broker that takes anybody. `None`, said on standard error, where it is not installed; in CI that is a failure.
    pub(super) fn start() -> Option<Self> {
        Self::with("allow_anonymous true\n", |_| String::new())
    }

    /// A broker with more in its configuration, which may name files in the broker's directory.
    pub(super) fn with(access: &str, more: impl FnOnce(&Path) -> String) -> Option<Self> {
        let found = find("mosquitto").filter(|_| find("mosquitto_pub").is_some());
        let Some(program) = found else {
            assert!(std::env::var_os("CI").is_none(), "mosquitto and mosquitto_pub are missing");
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            // Not by a macro: libtest swallows what those print.
            writeln!(std::io::stderr(), "LEFT OUT: {test} needs mosquitto and mosquitto_pub").unwrap();
            return None;
        };
        let dir = TempDir::new().unwrap();
        let more = more(dir.path());
        let port = free_port();
        // Each change is on disk before the next round of its loop; nothing is dropped because a queue is full; and root stays root, as the directory is ours.
        let config = format!(
            "user root\npersistence true\npersistence_location {}/\nautosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\n\
             listener {port} 127.0.0.1\n{access}{more}",
            dir.path().display()
        );
        fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let child = spawn(&program, dir.path());
        let mut broker = Self { program, child, port, dir };
        broker.ready();
        Some(broker)
    }

    fn ready(&mut self) {
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "mosquitto does not start: {ended:?} {log}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After a kill: on the same port, with what was saved.
    pub(super) fn restart(&mut self) {
        self.child = spawn(&self.program, self.dir.path());
        self.ready();
    }

    /// Publishes as `mosquitto_pub` does with these arguments, and waits until the broker has acknowledged it.
    pub(super) async fn publish(&self, arguments: &[&str], input: &[u8]) {
        let mut command = tokio::process::Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let publishing = async {
            // It may not want any.
            drop(stdin.write_all(input).await);
            drop(stdin);
            child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, publishing).await.expect("it is published");
        assert!(status.success(), "{arguments:?}");
    }

    /// One message of QoS 1 for each of these payloads.
    pub(super) async fn publish_lines(&self, topic: &str, lines: impl IntoIterator<Item = String>) {
        let input: String = lines.into_iter().map(|line| line + "\n").collect();
        self.publish(&["-q", "1", "-t", topic, "-l"], input.as_bytes()).await;
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(program)
        .arg("-c")
        .arg(dir.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
