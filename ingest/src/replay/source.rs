//! Opens a file for reading from front to back: plain or gzip, CSV or NDJSON. Never loads it whole.

use crate::replay::settings::InputFormat;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// One read from the disk, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Longest line, in bytes: no MQTT broker takes more in practice, and a file without line ends must not fill the memory.
pub(crate) const LINE_MAX_BYTES: usize = 16 * 1024 * 1024;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file's text, decompressed, behind a byte order mark if it has one.
pub(crate) type Text = Box<dyn BufRead + Send>;

/// Opens the file and finds out what is in it.
pub(crate) fn open(path: &Path, format: Option<InputFormat>) -> io::Result<(InputFormat, Text)> {
    let mut text = decompress(BufReader::with_capacity(READ_BYTES, File::open(path)?))?;
    let start = text.fill_buf()?;
    let by_content = match start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start).trim_ascii_start().first() {
        Some(b'{' | b'[') => InputFormat::Ndjson,
        _ => InputFormat::Csv,
    };
    if start.starts_with(BYTE_ORDER_MARK) {
        text.consume(BYTE_ORDER_MARK.len());
    }
    Ok((format.or_else(|| by_name(path)).unwrap_or(by_content), text))
}

fn decompress(mut raw: impl BufRead + Send + 'static) -> io::Result<Text> {
    if raw.fill_buf()?.starts_with(GZIP_MAGIC) {
        // A gzip file may be several one behind the other.
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(raw))));
    }
    Ok(Box::new(raw))
}

fn by_name(path: &Path) -> Option<InputFormat> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some(InputFormat::Csv),
        "ndjson" | "jsonl" | "json" => Some(InputFormat::Ndjson),
        _ => None,
    }
}

/// One line without its end, or what is wrong with it.
pub(crate) enum RawLine {
    /// A line, CR and LF cut off.
    Line,
    /// Longer than [`LINE_MAX_BYTES`]; it was skipped.
    TooLong,
    /// The end of the file.
    End,
}

/// Reads the next line into the buffer.
pub(crate) fn read_line(text: &mut Text, line: &mut Vec<u8>) -> io::Result<RawLine> {
    line.clear();
    // One more than a line and its end may take, so that "too long" can be told from "just fits".
    let bound = LINE_MAX_BYTES as u64 + 3;
    if text.by_ref().take(bound).read_until(b'\n', line)? == 0 {
        return Ok(RawLine::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == bound {
        text.skip_until(b'\n')?;
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(if line.len() > LINE_MAX_BYTES { RawLine::TooLong } else { RawLine::Line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compression_is_found_by_content_and_format_by_name_then_content() {
        let directory = tempfile::tempdir().unwrap();
        let check = |name: &str, content: &[u8], expected: InputFormat, expected_text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            let (format, mut text) = open(&path, None).unwrap();
            let mut read = String::new();
            text.read_to_string(&mut read).unwrap();
            assert_eq!((format, read.as_str()), (expected, expected_text), "{name}");
        };
        check("a.csv", b"x\n1\n", InputFormat::Csv, "x\n1\n");
        check("a.csv.gz", &gzip(b"x\n1\n"), InputFormat::Csv, "x\n1\n");
        check("renamed.csv", &gzip(b"x\n1\n"), InputFormat::Csv, "x\n1\n");
        check("plain.csv.gz", b"x\n1\n", InputFormat::Csv, "x\n1\n");
        check("a.JSONL", b"3\n", InputFormat::Ndjson, "3\n");
        check("a", b"\n {\"x\":1}\n", InputFormat::Ndjson, "\n {\"x\":1}\n");
        check("b", &gzip(b"[1]\n"), InputFormat::Ndjson, "[1]\n");
        check("c.txt", b"x,y\n", InputFormat::Csv, "x,y\n");
        check("bom", b"\xef\xbb\xbf{}\n", InputFormat::Ndjson, "{}\n");
        check("empty", b"", InputFormat::Csv, "");
        let two = [gzip(b"x\n1\n"), gzip(b"2\n")].concat();
        check("two.csv.gz", &two, InputFormat::Csv, "x\n1\n2\n");
    }

    #[test]
    fn lines_end_with_lf_or_crlf_or_the_file_and_have_a_longest_length() {
        let long = vec![b'x'; LINE_MAX_BYTES];
        let too_long = vec![b'y'; LINE_MAX_BYTES + 1];
        let content =
            [b"a\r\nb\n\n".as_slice(), &long, b"\r\n", &too_long, b"\n", &too_long, b"yyyy\nc"].concat();
        let mut text: Text = Box::new(io::Cursor::new(content));
        let mut line = Vec::new();
        let mut read = Vec::new();
        loop {
            match read_line(&mut text, &mut line).unwrap() {
                RawLine::Line => read.push(Some(line.len())),
                RawLine::TooLong => read.push(None),
                RawLine::End => break,
            }
        }
        assert_eq!(read, [Some(1), Some(1), Some(0), Some(LINE_MAX_BYTES), None, None, Some(1)]);
    }
}
