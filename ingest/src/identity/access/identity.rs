//! Who a connected client is, for as long as it is connected.

use crate::identity::access::{Denial, Known, check_certificate, check_common_name, vouch};
use crate::identity::certificate::{Authorities, Certificate};
use crate::identity::credentials::Device;
use crate::identity::name::{ClientIds, DeviceName};
use crate::identity::password::PasswordHash;
use crate::identity::rule::{BoundRule, Placeholder, TopicRule};
use millstream_model::time::Micros;
use std::sync::Arc;

/// A client that was let in, and what it may publish to.
#[derive(Debug)]
pub(crate) struct Identity {
    who: Who,
    topics: Topics,
}

#[derive(Debug)]
enum Who {
    /// Anybody.
    Anonymous,
    /// One of the credentials file.
    Device { name: DeviceName, proof: Proof, rules: Rules },
    /// Not in that file, but vouched for by these.
    Vouched { certificate: Arc<Certificate>, authorities: Option<Arc<Authorities>> },
}

/// What a device has shown.
#[derive(Debug)]
pub(super) enum Proof {
    Password(PasswordHash),
    Certificate(Arc<Certificate>),
}

/// What the credentials file said when the device came.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    topics: Option<Vec<TopicRule>>,
    client_id: Option<ClientIds>,
}

#[derive(Debug)]
enum Topics {
    All,
    Bound(Vec<BoundRule>),
}

/// How the owner begins that is a certificate and no device of the list.
const VOUCHED: &str = "certificate:";

/// To whom a session belongs.
///
/// Another one neither takes it over nor ends its connection. What an anonymous client left belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner(Option<Arc<str>>);

impl Owner {
    /// Anybody.
    pub(crate) fn anybody() -> Self {
        Self(None)
    }

    /// As it was stored.
    pub(crate) fn stored(text: &str) -> Self {
        Self(Some(text.into()))
    }

    /// To be stored; `None`: anybody's.
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether this one may have what is the other's.
    pub(crate) fn may_have(&self, others: &Self) -> bool {
        others.0.is_none() || self == others
    }

    /// Whether it is a certificate that is in no list, and known only by who signed it.
    pub(crate) fn is_vouched(&self) -> bool {
        self.0.as_deref().is_some_and(|owner| owner.starts_with(VOUCHED))
    }
}

impl Identity {
    /// Anybody, who may do everything.
    pub(crate) fn anonymous() -> Self {
        Self { who: Who::Anonymous, topics: Topics::All }
    }

    pub(super) fn device(
        name: &DeviceName,
        device: &Device,
        proof: Proof,
        common_name: Option<&str>,
        rules: &[TopicRule],
        client_id: &str,
    ) -> Self {
        let user = matches!(proof, Proof::Password(_)).then_some(name.as_str());
        let topics = bind(rules, |placeholder| match placeholder {
            Placeholder::ClientId => Some(client_id),
            Placeholder::Device => Some(name.as_str()),
            Placeholder::User => user,
            Placeholder::CertCn => common_name,
        });
        Self { who: Who::Device { name: name.clone(), proof, rules: Rules::of(device) }, topics }
    }

    pub(super) fn vouched(
        certificate: &Arc<Certificate>,
        authorities: Option<&Arc<Authorities>>,
        rules: &[TopicRule],
        client_id: &str,
    ) -> Self {
        let topics = bind(rules, |placeholder| match placeholder {
            Placeholder::ClientId => Some(client_id),
            Placeholder::CertCn => certificate.common_name(),
            Placeholder::Device | Placeholder::User => None,
        });
        let certificate = Arc::clone(certificate);
        Self { who: Who::Vouched { certificate, authorities: authorities.cloned() }, topics }
    }

    /// Whether it may publish to this topic.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        match &self.topics {
            Topics::All => true,
            Topics::Bound(rules) => rules.iter().any(|rule| rule.allows(topic)),
        }
    }

    /// To whom its session belongs. All certificates of a device in the credentials file are one owner, so that they can be exchanged; others are each their
    /// own, because their common name may be that of many.
    pub(crate) fn owner(&self) -> Owner {
        Owner(match &self.who {
            Who::Anonymous => None,
            Who::Device { name, .. } => Some(format!("device:{name}").into()),
            Who::Vouched { certificate, .. } => {
                Some(format!("{VOUCHED}{}", certificate.fingerprint()).into())
            }
        })
    }

    /// Who it is, for a person; `None`: nobody knows.
    pub(crate) fn name(&self) -> Option<String> {
        match &self.who {
            Who::Anonymous => None,
            Who::Device { name, .. } => Some(name.to_string()),
            Who::Vouched { certificate, .. } => {
                Some(format!("certificate {}", certificate.fingerprint().short()))
            }
        }
    }

    /// Bytes that it takes, roughly: its proof and its rules, which it has as they were given, too.
    pub(crate) fn size(&self) -> usize {
        let proof = match &self.who {
            Who::Anonymous => 0,
            Who::Device { proof: Proof::Password(hash), .. } => hash.expose().len(),
            Who::Device { proof: Proof::Certificate(certificate), .. } | Who::Vouched { certificate, .. } => {
                certificate.size()
            }
        };
        let rules = match &self.topics {
            Topics::All => 0,
            Topics::Bound(rules) => rules.iter().map(BoundRule::size).sum(),
        };
        size_of::<Self>() + proof + 2 * rules
    }

    /// Whether it would still be let in, by what is known now.
    pub(super) fn check(&self, known: &Known, now: Micros) -> Result<(), Denial> {
        match &self.who {
            Who::Anonymous => Ok(()),
            Who::Device { name, proof, rules } => {
                let (_, device) = known.credentials.device(name.as_str()).ok_or(Denial::Changed)?;
                match proof {
                    Proof::Certificate(certificate) => check_certificate(name, device, certificate, now)?,
                    Proof::Password(_) if device.revoked.is_revoked() => {
                        return Err(Denial::Revoked(name.clone()));
                    }
                    Proof::Password(hash) if device.password.as_ref() != Some(hash) => {
                        return Err(Denial::Changed);
                    }
                    Proof::Password(_) => {}
                }
                if *rules == Rules::of(device) { Ok(()) } else { Err(Denial::Changed) }
            }
            Who::Vouched { certificate, authorities } => {
                if known.credentials.owner(&certificate.fingerprint()).is_some() {
                    return Err(Denial::Changed);
                }
                check_common_name(known, certificate)?;
                // A signature is checked again only where there are other authorities: that costs a hundred times as much.
                if is_same(authorities.as_ref(), known.authorities.as_ref()) {
                    return Ok(certificate.check_time(now)?);
                }
                vouch(known.authorities.as_ref(), certificate, now)
            }
        }
    }
}

impl Rules {
    fn of(device: &Device) -> Self {
        Self { topics: device.topics.clone(), client_id: device.client_id.clone() }
    }
}

fn bind<'a>(rules: &[TopicRule], value: impl Fn(Placeholder) -> Option<&'a str>) -> Topics {
    Topics::Bound(rules.iter().filter_map(|rule| rule.bind(&value)).collect())
}

fn is_same(one: Option<&Arc<Authorities>>, other: Option<&Arc<Authorities>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}
