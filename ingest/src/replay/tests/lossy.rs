//! Whatever connections are cut whenever: everything is acknowledged in the end, and first deliveries keep their order.

use super::broker::{Cut, Script, seen};
use super::{Case, count, in_memory, payloads, text};
use crate::replay::{Clients, MqttVersion, Qos};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;
use std::collections::HashSet;

const MESSAGES: usize = 40;

#[derive(Debug, Clone)]
struct Lossy {
    cuts: Vec<Cut>,
    version: MqttVersion,
    qos: Qos,
    clients: u16,
    in_flight: u16,
    receive_max: u16,
}

fn lossy() -> impl Strategy<Value = Lossy> {
    let cut = (0..12_usize, 0..12_usize, any::<bool>()).prop_map(|(packets, answered, keeps_session)| Cut {
        packets,
        answered,
        keeps_session,
    });
    let cuts = proptest::collection::vec(cut, 0..8);
    (cuts, any::<bool>(), any::<bool>(), 1..4_u16, 1..12_u16, 1..6_u16).prop_map(
        |(cuts, is_v5, is_qos_2, clients, in_flight, receive_max)| Lossy {
            cuts,
            version: if is_v5 { MqttVersion::V5 } else { MqttVersion::V311 },
            qos: if is_qos_2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce },
            clients,
            in_flight,
            receive_max,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_acknowledged_and_first_deliveries_keep_their_order(lossy in lossy()) {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(check(lossy))?;
    }
}

async fn check(lossy: Lossy) -> Result<(), TestCaseError> {
    let mut script = Script::new(lossy.version);
    script.cuts = lossy.cuts.iter().copied().collect();
    script.connack.receive_max = count(lossy.receive_max);
    let dial = in_memory(script);
    let mut case = Case::new(MESSAGES, lossy.version, lossy.qos);
    case.settings.connection.clients = Clients::Count(count(lossy.clients));
    case.settings.connection.in_flight = count(lossy.in_flight);
    case.settings.connection.reconnect.first_attempts = 100;
    // A broker that waits for more packets than may be in flight is mute until this time-out; the clock is not the real one.
    case.settings.connection.reconnect.give_up_after = case.settings.connection.ack_timeout * 100;
    let (ended, told) = case.run_over(dial.clone()).await;
    let (summary, seen) =
        (ended.map_err(|error| TestCaseError::fail(format!("{error:?}")))?, seen(&dial.shared));
    prop_assert!(summary.is_complete(), "{}", summary);
    prop_assert_eq!(summary.acknowledged, u64::try_from(MESSAGES).unwrap());
    prop_assert_eq!(told.len(), MESSAGES);
    prop_assert_eq!(
        told.into_iter().collect::<HashSet<_>>(),
        payloads(MESSAGES).into_iter().collect::<HashSet<_>>()
    );
    let mut first = HashSet::new();
    for device in 0..3 {
        let topic = format!("d/{device}");
        let own = seen.delivered.iter().filter(|d| d.topic == topic && first.insert(d.payload.clone()));
        let expected: Vec<_> = payloads(MESSAGES).into_iter().skip(device).step_by(3).collect();
        prop_assert_eq!(own.map(|d| text(&d.payload)).collect::<Vec<_>>(), expected);
    }
    let granted = if lossy.version == MqttVersion::V5 {
        lossy.in_flight.min(lossy.receive_max)
    } else {
        lossy.in_flight
    };
    prop_assert!(seen.open_max <= usize::from(granted));
    if lossy.qos == Qos::ExactlyOnce && lossy.cuts.iter().all(|cut| cut.keeps_session) {
        prop_assert_eq!(seen.delivered.len(), MESSAGES);
    }
    Ok(())
}
