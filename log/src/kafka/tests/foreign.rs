//! What somebody else's producer may send, and no library of ours would: a request of Kafka's protocol, byte by byte.

use super::topics::log;
use super::{first, unique, within};
use crate::api::{Log, LogReader};
use crate::contract::ALL;
use bytes::Bytes;
use millstream_model::name::Offset;
use millstream_model::time::Micros;
use millstream_services::services;
use std::io::{Read, Write};
use std::net::TcpStream;

fn short(bytes: &[u8]) -> Vec<u8> {
    [&i16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&i32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A number as records have it; these are small.
fn small(number: usize) -> u8 {
    u8::try_from(number).ok().filter(|number| *number < 64).unwrap() * 2
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&[small(bytes.len())], bytes].concat()
}

/// A batch of one record.
fn batch(key: &[u8], value: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut record = vec![0, 0, 0];
    record.extend([sized(key), sized(value)].concat());
    record.push(small(headers.len()));
    for (name, value) in headers {
        record.extend([sized(name), sized(value)].concat());
    }
    let mut checked = Vec::new();
    // Attributes, the last record's place, the first and the last time.
    checked.extend([0; 2 + 4]);
    checked.extend([1_700_000_000_000_i64.to_be_bytes(); 2].concat());
    // Neither producer id nor epoch nor sequence.
    checked.extend([0xff; 8 + 2 + 4]);
    checked.extend(1_i32.to_be_bytes());
    checked.extend(sized(&record));
    let mut rest = Vec::new();
    // No leader's epoch; the format's number.
    rest.extend([0xff, 0xff, 0xff, 0xff, 2]);
    rest.extend(crc32c::crc32c(&checked).to_be_bytes());
    rest.extend(checked);
    [&0_i64.to_be_bytes()[..], &long(&rest)].concat()
}

/// Produces a batch to partition 0.
fn produce(broker: &str, topic: &str, batch: &[u8]) {
    // Request 0 is Produce; its third version.
    let mut request = vec![0, 0, 0, 3, 0, 0, 0, 7];
    request.extend(short(b"foreign"));
    // No transaction; confirmed by all; in 10 s; one topic, one partition, the first.
    request.extend([0xff, 0xff, 0xff, 0xff]);
    request.extend(10_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(short(topic.as_bytes()));
    request.extend([1_i32.to_be_bytes(), 0_i32.to_be_bytes()].concat());
    request.extend(long(batch));
    let mut connection = TcpStream::connect(broker).unwrap();
    connection.write_all(&long(&request)).unwrap();
    let mut size = [0; 4];
    connection.read_exact(&mut size).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
    connection.read_exact(&mut answer).unwrap();
    // Behind the request's number, the count and name of the topic, and the count and number of the partition.
    let error = &answer[4 + 4 + 2 + topic.len() + 4 + 4..][..2];
    assert_eq!(error, [0, 0], "{answer:?}");
}

#[tokio::test]
async fn a_header_whose_name_is_not_utf8_is_left_out_and_the_rest_is_read() {
    let Some(services) = services("a_header_whose_name_is_not_utf8") else { return };
    let log = log(services).await;
    let topic = unique(services, "latin1");
    let partition = first(&topic);
    log.bounds(&partition).await.unwrap();
    let headers: [(&[u8], &[u8]); 3] =
        [(b"before", b"1"), (b"gr\xfc\xdfe", b"2"), ("grüße".as_bytes(), b"\xff")];
    let batch = batch(b"device", b"value", &headers);
    let (broker, name) = (services.kafka.clone(), topic.to_string());
    tokio::task::spawn_blocking(move || produce(&broker, &name, &batch)).await.unwrap();
    let mut reader: Box<dyn LogReader> = log.reader(&partition, Offset::ZERO).await.unwrap();
    let read = within(reader.next(ALL)).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((&read[0].record.key[..], &read[0].record.value[..]), (&b"device"[..], &b"value"[..]));
    let kept = |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
    assert_eq!(read[0].record.headers, [kept("before", b"1"), kept("grüße", b"\xff")]);
    // It does not say when it came, and the log does.
    assert_eq!(read[0].received_at(), Micros::from_rfc3339("2023-11-14T22:13:20Z"));
}
