//! Somebody else's brokers: whether each answers, believes who we are, and shows whom we believe.

use super::Finding;
use crate::config::subscriber::Subscriber;
use millstream_ingest::subscriber::{SessionTerm, probe};

pub(super) async fn check(subscriber: &Subscriber) -> Finding {
    let subject = format!("subscriber {}", subscriber.name());
    let settings = match subscriber.settings() {
        Ok(settings) => settings,
        Err(error) => return Finding::failed(subject, format!("{error:#}")),
    };
    let broker = settings.broker.to_string();
    match probe(settings).await {
        Ok(SessionTerm::Shorter { asked, granted }) => Finding::warning(
            subject,
            format!("{broker} lets us in, and keeps our session for {granted}, not for the {asked} that session_expiry asks for: if we are away for longer, what is published meanwhile is lost"),
        )
        .advice("let the broker keep it longer (RabbitMQ: mqtt.max_session_expiry_interval_seconds), or set session_expiry to what it grants and never be away for that long"),
        Ok(SessionTerm::Agreed(_) | SessionTerm::Unsaid) => {
            Finding::ok(subject, format!("{broker} lets us in"))
        }
        Err(error) => {
            Finding::failed(subject, format!("{broker} cannot be used: {:#}", anyhow::Error::new(error)))
                .advice("compare broker, mqtt, user, password_file and ca with what the broker expects")
        }
    }
}
