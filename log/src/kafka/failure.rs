//! What an error of librdkafka means to a caller.

use crate::error::LogError;
use crate::kafka::context::{Trouble, Voice};
use crate::kafka::settings::{KafkaSettings, is_secret};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::time::Instant;

/// Who tried what, and since when: what an error has to say beside its code.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    action: String,
    begin: Instant,
    brokers: &'a str,
    voice: &'a Voice,
}

impl<'a> Attempt<'a> {
    /// Begins to try something; the action completes "failed to …".
    pub(crate) fn to(action: impl Into<String>, settings: &'a KafkaSettings, voice: &'a Voice) -> Self {
        Self { action: action.into(), begin: Instant::now(), brokers: &settings.brokers, voice }
    }

    /// It failed.
    pub(crate) fn failed(&self, error: &KafkaError) -> LogError {
        match (error, error.rdkafka_error_code()) {
            (KafkaError::ClientConfig(_, detail, name, _), _) => setting(name, detail),
            (KafkaError::ClientCreation(detail), _) => LogError::Setting {
                setting: "properties".to_owned(),
                detail: format!("do not make a client: {detail}"),
            },
            (_, Some(code)) => self.answered(code),
            (other, None) => LogError::Broker { action: self.action.clone(), detail: other.to_string() },
        }
    }

    /// It failed with this code.
    pub(crate) fn answered(&self, code: Code) -> LogError {
        let action = self.action.clone();
        if is_silence(code) {
            return self.silence(&code.to_string());
        }
        match advice(code) {
            Some(advice) => LogError::Refused { action, detail: code.to_string(), advice },
            None => LogError::Broker { action, detail: code.to_string() },
        }
    }

    /// Nobody answered. Why may have been said beside it.
    pub(crate) fn silence(&self, detail: &str) -> LogError {
        let trouble = self.voice.trouble_since(self.begin);
        let detail = trouble.map_or_else(|| detail.to_owned(), |trouble| trouble.reason);
        LogError::Unreachable { action: self.action.clone(), brokers: self.brokers.to_owned(), detail }
    }

    /// What was said beside it that will not get better by waiting, as far as a program that starts can tell: one that has run for long has seen the same settings
    /// work, and a broker that restarts breaks connections in many ways.
    pub(crate) fn hopeless(&self) -> Option<LogError> {
        let Trouble { code, reason, .. } = self.voice.trouble_since(self.begin)?;
        let advice = advice(code?)?;
        Some(LogError::Refused { action: self.action.clone(), detail: reason, advice })
    }
}

fn setting(name: &str, detail: &str) -> LogError {
    // Librdkafka quotes the value.
    let detail = if is_secret(name) { "has a value that librdkafka does not take" } else { detail };
    LogError::Setting { setting: format!("properties.\"{name}\""), detail: format!("is wrong: {detail}") }
}

fn is_silence(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::Resolve
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
    )
}

/// What a person can do about what will not pass by itself.
fn advice(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => "check user, password and mechanism",
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            "choose a mechanism that the broker offers"
        }
        Code::SSL => {
            "check the authority's certificate, our own, and that this port of the broker speaks TLS"
        }
        Code::TopicAuthorizationFailed => {
            "the user needs Read, Write, Describe, Create, Delete and DescribeConfigs on topics that begin with millstream."
        }
        Code::GroupAuthorizationFailed => "the user needs Read on groups that begin with the configured name",
        Code::ClusterAuthorizationFailed => {
            "the user needs IdempotentWrite, and Create for new topics, on the cluster"
        }
        Code::InvalidReplicationFactor => "there are fewer brokers than copies wanted: lower `replication`",
        Code::InvalidPartitions => "choose another number of partitions",
        Code::PolicyViolation => "the cluster's policy forbids it: make the topic by hand",
        Code::UnsupportedVersion | Code::UnsupportedFeature => {
            "the broker is too old: Kafka 2.1 or newer is needed"
        }
        _ => return None,
    })
}
