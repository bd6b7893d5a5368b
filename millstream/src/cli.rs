//! The command line. What it says is the program's first documentation.

use clap::{Args, Parser, Subcommand, ValueEnum};
use millstream_ingest::identity::authority::DEVICE_DAYS;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

/// Readings from devices over MQTT become rows that anyone can query with SQL.
///
/// Devices publish; each acknowledged message is in a table exactly once, or in quarantine with its bytes and the reason.
/// Everything lies in open files (Delta tables of Parquet) in one directory.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, propagate_version = true, max_term_width = 110, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
A first run:
  millstream demo
Your own, each in a terminal:
  millstream up
  mosquitto_pub -t devices/d1/telemetry -m '{\"temp\":21.5}'
  millstream sql -c 'select * from telemetry'

Exit codes: 0 done, 1 failed (standard error says why; `doctor` says it on standard output), 2 wrong usage, 130 stopped by a signal.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it all at once: replay a year of real weather over MQTT, and report on it.
    Demo(Demo),
    /// Run everything in one process until SIGTERM or Ctrl-C, then drain and end.
    Up(Up),
    /// Run one stage: take messages from devices and brokers to the log. As many processes as you like; the log is Kafka then.
    Collect(Stage),
    /// Run one stage: carry messages from the log to tables. As many processes as you like.
    Firehose(Up),
    /// Run one stage: keep the reports. As many processes as you like.
    Process(Stage),
    /// Run one stage: answer SQL over HTTP. As many processes as you like.
    Serve(Stage),
    /// Ask with SQL: the server that runs on the data directory, or, where none does, the tables themselves.
    Sql(Sql),
    /// Publish readings from CSV or NDJSON files to an MQTT broker.
    Replay(Box<Replay>),
    /// List the tables, or print what makes them known to another engine.
    Tables(Tables),
    /// See how far the reports are, bring them up to date, or compute them anew. Safe beside everything that runs.
    #[command(subcommand)]
    Report(Report),
    /// Look after the tables now: merge small files, retire what was kept long enough, remove what nobody needs. Safe beside everything that runs.
    Maintain(Maintain),
    /// Check a configuration file, and say line and key of what is wrong.
    Check(Check),
    /// Look at everything that Millstream needs, and say what is missing: the directory, the log, each right on the buckets, the store's notices.
    Doctor(Doctor),
    /// Print the default configuration, every key with a comment.
    Config,
    /// Make an own authority and a server certificate, for TLS. What is there stays as it is.
    Init(Init),
    /// Make, list and take back the credentials of devices.
    #[command(subcommand)]
    Device(Device),
    /// Look after the embedded log.
    #[command(subcommand)]
    Log(Log),
}

/// A path that can be part of a URL: clap refuses what is not UTF-8 for a parser of text.
fn utf8_path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

/// Where everything lies.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = "./millstream-data", env = "MILLSTREAM_DATA", value_parser = utf8_path)]
    pub(crate) data: PathBuf,
    /// The configuration; without it `millstream.toml` in the data directory, or the defaults.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where to keep it; a new temporary directory by default. A second run on the same directory doubles nothing.
    #[arg(long, value_name = "DIR", value_parser = utf8_path)]
    pub(crate) data: Option<PathBuf>,
    /// Leave the readings in 2013, instead of shifting them by whole hours so that they end now.
    #[arg(long)]
    pub(crate) as_recorded: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Go on although the log has lost messages of this stream that were in no table yet; the gap is written into the table. For one run, by hand: it counts in the
    /// first two minutes, and must not stay in a service's command line. May be given several times.
    #[arg(long, value_name = "STREAM")]
    pub(crate) accept_gap: Vec<String>,
}

/// One stage of `up`, in a process of its own.
#[derive(Debug, Args)]
pub(crate) struct Stage {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Tables {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print statements for this engine instead.
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(crate) ddl: Option<Engine>,
}

/// An engine that reads Delta tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Amazon Athena, over AWS Glue's catalog.
    Athena,
    /// DuckDB with its extensions delta and, for S3, httpfs.
    Duckdb,
    /// Apache Spark with Delta Lake.
    Spark,
    /// Trino with its Delta Lake connector.
    Trino,
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    #[command(flatten)]
    pub(crate) place: Place,
    /// What to ask; several statements are separated by `;`. Without -c and -f it is read from standard input.
    #[arg(short = 'c', long = "command", value_name = "SQL", conflicts_with = "file")]
    pub(crate) command: Option<String>,
    /// A file with what to ask.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How the answer looks.
    #[arg(long, value_enum, default_value_t = Format::Box)]
    pub(crate) format: Format,
    /// Ask committed files only, without what is acknowledged and not in files yet.
    #[arg(long)]
    pub(crate) no_tail: bool,
    /// Ask this server, by http:// or https://, instead of the one that runs on the data directory.
    #[arg(long, value_name = "URL", env = "MILLSTREAM_SERVER", help_heading = "Who answers")]
    pub(crate) server: Option<String>,
    /// Open the tables here, even if a server runs on the data directory.
    #[arg(long, conflicts_with = "server", help_heading = "Who answers")]
    pub(crate) local: bool,
    /// A file with the token that the server wants, instead of the one in MILLSTREAM_TOKEN or in the configuration, http.token.
    #[arg(long, value_name = "FILE", help_heading = "Who answers")]
    pub(crate) token_file: Option<PathBuf>,
    /// Check the server's certificate by these authorities (PEM), not by the system's.
    #[arg(long, value_name = "FILE", requires = "server", help_heading = "Who answers")]
    pub(crate) ca: Option<PathBuf>,
}

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table with lines, for people.
    Box,
    /// RFC 4180, with a header.
    Csv,
    /// An array of objects.
    Json,
    /// An object a line.
    Ndjson,
    /// A table for a document.
    Markdown,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Report {
    /// List the reports: what each shows, how it is kept, and why it fails.
    List(ReportList),
    /// Bring reports up to date now, and before them those that they read.
    Run(ReportRun),
    /// Compute reports anew, whatever they show, but for dates that were retired in their source. What counts as complete is looked up anew, too.
    Rebuild(ReportRun),
}

#[derive(Debug, Args)]
pub(crate) struct ReportList {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportRun {
    /// The reports; all by default.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Maintain {
    /// The tables, as in `telemetry` or `reporting.hourly`; all by default.
    #[arg(value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) place: Place,
    /// How long to wait for the store's notice of a trial.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) notice_wait: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Repair a damaged log, keeping a copy of what is cut. Millstream must not be running on it.
    Repair {
        /// The data directory.
        #[arg(long, value_name = "DIR", default_value = "./millstream-data", env = "MILLSTREAM_DATA", value_parser = utf8_path)]
        data: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The data directory; the files are made in `identity` in it.
    #[arg(long, value_name = "DIR", default_value = "./millstream-data", env = "MILLSTREAM_DATA", value_parser = utf8_path)]
    pub(crate) data: PathBuf,
    /// A further name or address under which devices reach this machine. May be given several times.
    #[arg(long, value_name = "HOST")]
    pub(crate) name: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// Make a device known: by a password that is made and shown once, or by a certificate.
    Add(DeviceAdd),
    /// List who is known.
    List(DeviceList),
    /// Take back all credentials of a device, and disconnect it.
    Revoke(DeviceRevoke),
}

#[derive(Debug, Args)]
pub(crate) struct DeviceAdd {
    /// The device's name: its user, and the client id under which it connects.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Make a password. So it is if nothing else is said.
    #[arg(long, conflicts_with_all = ["password_file", "certificate", "known_certificate"])]
    pub(crate) password: bool,
    /// Take the password from a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate", "known_certificate"])]
    pub(crate) password_file: Option<PathBuf>,
    /// Make a certificate, signed by the authority of `millstream init`.
    #[arg(long, conflicts_with = "known_certificate")]
    pub(crate) certificate: bool,
    /// How long that is valid.
    #[arg(long, value_name = "DAYS", requires = "certificate", default_value_t = DEVICE_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
    /// Where its files are written.
    #[arg(long, value_name = "DIR", requires = "certificate", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Know the device by this certificate, whoever has made it (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) known_certificate: Option<PathBuf>,
    /// What it may publish to, as in 'plant/${device}/#', instead of what the configuration says. May be given several times.
    #[arg(long, value_name = "RULE")]
    pub(crate) topic: Vec<String>,
    /// The client id under which it connects, if not its name; a `*` at the end leaves that open.
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// Make it anew, even if it is there or revoked: what it had counts no more.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceList {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceRevoke {
    /// The device's name.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// CSV (with a header) or NDJSON files, plain or gzip.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The broker; `mqtts://` in front of it speaks TLS.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", help_heading = "Broker")]
    pub(crate) broker: String,
    /// MQTT version.
    #[arg(long, value_enum, default_value_t = Mqtt::V5, help_heading = "Broker")]
    pub(crate) mqtt: Mqtt,
    /// User name.
    #[arg(long, value_name = "NAME", help_heading = "Broker")]
    pub(crate) user: Option<String>,
    /// File with the password.
    #[arg(long, value_name = "FILE", requires = "user", help_heading = "Broker")]
    pub(crate) password_file: Option<PathBuf>,
    /// Speak TLS.
    #[arg(long, help_heading = "Broker")]
    pub(crate) tls: bool,
    /// Check the broker's certificate by these authorities (PEM), not by the system's. Speaks TLS, as do the next two.
    #[arg(long, value_name = "FILE", help_heading = "Broker")]
    pub(crate) ca: Option<PathBuf>,
    /// Show this certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Broker")]
    pub(crate) certificate: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate", help_heading = "Broker")]
    pub(crate) key: Option<PathBuf>,
    /// Topic of a reading; `{field}` is replaced by the field's value, `{a.b}` by a nested one.
    #[arg(long, value_name = "TEMPLATE", help_heading = "Readings")]
    pub(crate) topic: String,
    /// Field with the event time; `--speed` and `--rebase` need it.
    #[arg(long, value_name = "FIELD", help_heading = "Readings")]
    pub(crate) time_field: Option<String>,
    /// Shift all event times by whole hours so that the newest is now.
    #[arg(long, value_name = "TO", requires = "time_field", help_heading = "Readings")]
    pub(crate) rebase: Option<Rebase>,
    /// What a missing value (`NA` or an empty cell) becomes.
    #[arg(long, value_enum, default_value_t = Missing::Omit, help_heading = "Readings")]
    pub(crate) missing: Missing,
    /// Stop after this many readings.
    #[arg(long, value_name = "N", help_heading = "Readings")]
    pub(crate) limit: Option<u64>,
    /// End with an error at the first line that cannot be a reading, instead of skipping and counting it.
    #[arg(long, help_heading = "Readings")]
    pub(crate) strict: bool,
    /// Messages a second, over all clients; without it as fast as they are acknowledged.
    #[arg(long, value_name = "N", conflicts_with = "speed", help_heading = "Pace")]
    pub(crate) rate: Option<f64>,
    /// Times as fast as the readings were made: 1 is their own time, 3600 an hour a second.
    #[arg(long, value_name = "TIMES", requires = "time_field", help_heading = "Pace")]
    pub(crate) speed: Option<f64>,
    /// Quality of service: 0, 1 or 2.
    #[arg(long, value_name = "QOS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2), help_heading = "Pace")]
    pub(crate) qos: u8,
    /// Connections; messages of one topic stay on one, and in order.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Pace")]
    pub(crate) clients: u16,
    /// Messages that may wait for their acknowledgement, a client.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Pace")]
    pub(crate) in_flight: u16,
    /// Append each acknowledged message to a file, a line of JSON each.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) acknowledged: Option<PathBuf>,
    /// Print the summary as JSON.
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// No progress bar.
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// Protocol of the replay's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mqtt {
    /// MQTT 3.1.1.
    #[value(name = "3.1.1")]
    V3,
    /// MQTT 5.
    #[value(name = "5")]
    V5,
}

/// What event times are shifted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rebase {
    /// The newest reading is at most an hour old.
    Now,
}

/// What a missing value becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Missing {
    /// The field is left out.
    Omit,
    /// The field is null.
    Null,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
