//! Readings of a fleet of 20 trucks, as newline-delimited JSON.

use crate::program::{Home, package};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// 311,228 readings that the IoT generator of timescale/tsbs made (scale 20, 72 hours, a reading each 30 seconds, seed 123; MIT): too large for the project.
const FILE: &str = "shared/data/tsbs_iot/iot_scale20_72h_30s_seed123.ndjson.gz";

/// Lines of the file.
pub(crate) const LINES: usize = 311_228;

/// The file, gzipped. It lies above the checkout; where it does not, a file of the same shape is made.
pub(crate) fn fleet(home: &Home) -> PathBuf {
    let package = package().canonicalize().unwrap();
    if let Some(file) = package.ancestors().map(|folder| folder.join(FILE)).find(|file| file.exists()) {
        return file;
    }
    writeln!(std::io::stderr(), "{FILE} is in no folder above the checkout: made-up readings take its place")
        .unwrap();
    make(home)
}

/// As that generator makes them: two kinds of readings in turn, some late, some fields null, one name in a thousand missing.
fn make(home: &Home) -> PathBuf {
    let mut random = fastrand::Rng::with_seed(123);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    for line in 0..LINES {
        let truck = line / 2 % 20;
        let late = if random.u8(..) < 2 { random.usize(1..600) } else { 0 };
        let seconds = (line / 40 * 30).saturating_sub(late);
        let time =
            chrono::DateTime::from_timestamp(1_451_606_400 + i64::try_from(seconds).unwrap(), 0).unwrap();
        let mut maybe = |value: Value| if random.u8(..) < 6 { Value::Null } else { value };
        // Of the whole 315, as in the file.
        let name = if line % 988 == 100 { Value::Null } else { json!(format!("truck_{truck}")) };
        let tags =
            json!({ "name": name, "fleet": maybe(json!("South")), "driver": "Trish", "fuel_capacity": 150 });
        let (measurement, fields) = if line % 2 == 0 {
            let velocity = maybe(json!(line * 7 % 101));
            (
                "readings",
                json!({ "velocity": velocity, "latitude": maybe(json!(52.31854)), "heading": 221, "grade": 0 }),
            )
        } else {
            (
                "diagnostics",
                json!({ "fuel_state": maybe(json!(0.1 * (line % 11) as f64)), "current_load": 0, "status": 1 }),
            )
        };
        let reading =
            json!({ "ts": time.to_rfc3339(), "measurement": measurement, "tags": tags, "fields": fields });
        writeln!(gzip, "{reading}").unwrap();
    }
    home.file("fleet.ndjson.gz", gzip.finish().unwrap())
}
