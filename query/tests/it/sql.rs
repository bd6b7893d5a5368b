//! Each `tests/sql/NAME.sql` gives what stands in `NAME.expected`: its statements one after the other, as CSV.

use crate::fixture::{session, text_of};
use millstream_query::{Format, Layout, split};
use std::fs;
use std::path::Path;

#[tokio::test]
async fn every_sql_file_gives_what_is_expected() {
    let session = session().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut scripts: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    scripts.sort();
    assert!(scripts.len() >= 4, "the scripts are missing");
    for script in scripts {
        let text = fs::read_to_string(&script).unwrap();
        let mut found = String::new();
        for piece in split(&text).unwrap() {
            match session.query(piece.sql).await {
                Ok(answer) => found.push_str(&text_of(answer, Format::Csv, Layout::default()).await),
                Err(error) => found.push_str(&format!("{}\n", error.in_piece(&piece).render(&text, false))),
            }
            found.push('\n');
        }
        let expected = script.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&expected).unwrap(), "{}", script.display());
    }
}
