use crate::{Service, Services, alive, script::Outcome, services};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn shared_services_answer_and_are_the_same_for_everybody() {
    let Some(services) = services("shared_services_answer_and_are_the_same_for_everybody") else { return };
    assert!(std::ptr::eq(services, crate::services("again").unwrap()));
    for address in [&services.kafka, &services.mqtt, services.s3_endpoint.trim_start_matches("http://")] {
        TcpStream::connect(address).unwrap();
    }
    let name = services.bucket(&services.unique("some-bucket"));
    assert!(name.len() <= 63, "{name}");
    services.notify(&services.bucket(&name));
}

#[test]
fn a_service_of_ones_own_is_killed_stopped_and_started_again_on_its_port() {
    let test = "a_service_of_ones_own_is_killed_stopped_and_started_again_on_its_port";
    let Some(own) = Services::own(test, &[Service::Mosquitto]) else { return };
    let (first, address) = (own.pid(Service::Mosquitto), own.mqtt.clone());

    own.stop(Service::Mosquitto);
    assert_eq!(ping(&address), None);
    own.cont(Service::Mosquitto);
    assert_eq!(ping(&address), Some(0xD0));

    own.kill_9(Service::Mosquitto);
    assert_eq!(TcpStream::connect(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    own.start_again();
    assert_eq!(ping(&address), Some(0xD0));
    let second = own.pid(Service::Mosquitto);
    assert_ne!(first, second);

    let directory = own.directory.clone();
    drop(own);
    assert!(!alive(second) && !directory.exists());
}

#[test]
fn what_is_missing_leaves_a_test_out_only_where_there_is_no_ci() {
    let missing = || Outcome::<()>::Missing("java is not installed".into()).available("a test");
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        std::panic::catch_unwind(missing).unwrap_err();
    } else {
        assert_eq!(missing(), None);
    }
    std::panic::catch_unwind(|| Outcome::<()>::Broken("port taken".into()).available("a test")).unwrap_err();
}

/// The first byte of the answer to a ping, after a connect that is accepted; nothing, if there is none within a second.
fn ping(address: &str) -> Option<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // CONNECT of MQTT 3.1.1 with client id `p`, clean session; then PINGREQ.
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'p', 0xC0, 0]).unwrap();
    let mut answers = [0; 6];
    stream.read_exact(&mut answers).ok()?;
    Some(answers[4])
}
