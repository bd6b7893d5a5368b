use super::*;
use crate::identity::authority::{Authority, Issued};
use crate::identity::password::tests::{cheap, password};
use crate::identity::tests::{DAY, Fleet, NOW, device_name};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::Ipv4Addr;

/// Where everybody comes from.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn certificate(issued: &Issued) -> Arc<Certificate> {
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    Arc::new(Certificate::read(&[der]).unwrap())
}

fn open(fleet: &Fleet) -> Access {
    Access::open(fleet.settings(), Some(fleet.tls())).unwrap()
}

/// Who somebody is who shows this, at a moment.
async fn who(
    access: &Access,
    client_id: &str,
    certificate: Option<&Arc<Certificate>>,
    user: Option<(&str, &str)>,
    now: Micros,
) -> Result<Option<String>, &'static str> {
    let secret = user.map(|(_, secret)| password(secret));
    let user = user.map(|(user, _)| user);
    let (password, address) = (secret.as_ref(), ADDRESS);
    let shown = Shown { certificate, user, password, client_id, address, is_assigned: false };
    access.identify(&shown, now).await.map(|identity| identity.name()).map_err(|denial| denial.reason())
}

#[tokio::test]
async fn a_user_is_known_by_its_password_and_everybody_else_is_told_the_same() {
    let fleet = Fleet::new();
    let hash = cheap("right");
    fleet.know(&format!(
        "[device.d1]\npassword = '{hash}'\n[device.d2]\npassword = '{hash}'\nrevoked = true\n[device.d3]\n[device.d4]\npassword = '{hash}'\nclient_id = 'plant-*'",
        hash = hash.expose()
    ));
    let access = open(&fleet);
    let check = async |client_id: &str, user: Option<(&str, &str)>, expected: Result<&str, &str>| {
        let found = who(&access, client_id, None, user, NOW).await;
        assert_eq!(found, expected.map(|name| Some(name.to_owned())), "{client_id} {user:?}");
    };
    check("d1", Some(("d1", "right")), Ok("d1")).await;
    check("d1", Some(("d1", "wrong")), Err("wrong_password")).await;
    check("d1", Some(("d1", "right")), Ok("d1")).await;
    check("d2", Some(("d1", "right")), Err("client_identifier_not_its_own")).await;
    check("d2", Some(("d2", "right")), Err("device_revoked")).await;
    check("d2", Some(("d2", "wrong")), Err("wrong_password")).await;
    check("d3", Some(("d3", "right")), Err("unknown_user")).await;
    check("d9", Some(("d9", "right")), Err("unknown_user")).await;
    check("plant-7", Some(("d4", "right")), Ok("d4")).await;
    check("d4", Some(("d4", "right")), Err("client_identifier_not_its_own")).await;
    check("d1", None, Err("no_credential")).await;
    assert_eq!(Denial::UnknownUser.to_string(), Denial::WrongPassword.to_string());
}

#[tokio::test]
async fn a_certificate_is_known_by_its_authority_or_by_its_fingerprint_and_never_by_its_name_alone() {
    let fleet = Fleet::new();
    let (stranger, _) = Authority::create(NOW).unwrap();
    let vouched = certificate(&fleet.issue("d1"));
    let namesake = certificate(&fleet.issue("d1"));
    let foreign = certificate(&stranger.device(&device_name("d1"), 365, NOW).unwrap());
    let aws = [(); 2].map(|()| certificate(&stranger.device(&device_name("AWS"), 365, NOW).unwrap()));
    let revoked = certificate(&fleet.issue("d3"));
    fleet.know(&format!(
        "[[device.a1.certificate]]\nfingerprint = '{}'\n[[device.a2.certificate]]\nfingerprint = '{}'\n[[device.d3.certificate]]\nfingerprint = '{}'\nrevoked = '2023-01-01T00:00:00Z'\n",
        aws[0].fingerprint(), aws[1].fingerprint(), revoked.fingerprint(),
    ));
    let access = open(&fleet);
    let check = async |client_id: &str, certificate, now, expected: Result<&str, &str>| {
        let found = who(&access, client_id, Some(certificate), None, now).await;
        assert_eq!(found, expected.map(|name| Some(name.to_owned())), "{client_id}");
    };
    check("d1", &vouched, NOW, Ok(&format!("certificate {}", vouched.fingerprint().short()))).await;
    check("d1", &namesake, NOW, Ok(&format!("certificate {}", namesake.fingerprint().short()))).await;
    check("d2", &vouched, NOW, Err("client_identifier_not_its_own")).await;
    check("d1", &foreign, NOW, Err("unknown_certificate")).await;
    check("a1", &aws[0], NOW, Ok("a1")).await;
    check("a2", &aws[1], NOW, Ok("a2")).await;
    check("a2", &aws[0], NOW, Err("client_identifier_not_its_own")).await;
    check("d3", &revoked, NOW, Err("certificate_revoked")).await;
    let (later, earlier) = (Micros(NOW.0 + 366 * DAY), Micros(NOW.0 - 2 * DAY));
    for certificate in [&vouched, &aws[0]] {
        let client_id = if Arc::ptr_eq(certificate, &vouched) { "d1" } else { "a1" };
        check(client_id, certificate, later, Err("certificate_expired")).await;
        check(client_id, certificate, earlier, Err("certificate_not_yet_valid")).await;
    }
    check("d1", &foreign, later, Err("unknown_certificate")).await;
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_does_not_hinder_a_right_password() {
    let fleet = Fleet::new();
    let (stranger, _) = Authority::create(NOW).unwrap();
    let foreign = certificate(&stranger.device(&device_name("d1"), 365, NOW).unwrap());
    fleet.know(&format!("[device.d1]\npassword = '{}'", cheap("right").expose()));
    let access = open(&fleet);
    let found = async |user| who(&access, "d1", Some(&foreign), user, NOW).await;
    assert_eq!(found(Some(("d1", "right"))).await, Ok(Some("d1".to_owned())));
    assert_eq!(found(Some(("d1", "wrong"))).await, Err("wrong_password"));
    assert_eq!(found(None).await, Err("unknown_certificate"));
}

#[tokio::test]
async fn a_right_password_does_not_stand_in_for_a_certificate_where_one_is_required() {
    let fleet = Fleet::new();
    let (stranger, _) = Authority::create(NOW).unwrap();
    let own = certificate(&fleet.issue("d2"));
    let foreign = certificate(&stranger.device(&device_name("d1"), 365, NOW).unwrap());
    fleet.know(&format!("[device.d1]\npassword = '{}'", cheap("right").expose()));
    let tls = TlsSettings { client_certificates: ClientCertificates::Required, ..fleet.tls() };
    let access = Access::open(fleet.settings(), Some(tls)).unwrap();
    let right = Some(("d1", "right"));
    assert_eq!(who(&access, "d1", Some(&foreign), right, NOW).await, Err("unknown_certificate"));
    assert!(who(&access, "d2", Some(&own), None, NOW).await.is_ok());
}

#[tokio::test]
async fn anybody_comes_in_only_where_that_is_said_and_only_without_a_wrong_credential() {
    let fleet = Fleet::new();
    let open = |anonymous| Access::open(AccessSettings { anonymous, ..fleet.settings() }, None).unwrap();
    assert_eq!(who(&open(true), "x", None, Some(("any", "thing")), NOW).await, Ok(None));
    assert_eq!(who(&open(false), "x", None, None, NOW).await, Err("no_credential"));
    fleet.know(&format!("[device.d1]\npassword = '{}'", cheap("right").expose()));
    assert_eq!(who(&open(true), "x", None, None, NOW).await, Ok(None));
    assert_eq!(who(&open(true), "x", None, Some(("d1", "wrong")), NOW).await, Err("wrong_password"));
    assert_eq!(who(&open(true), "x", None, Some(("any", "thing")), NOW).await, Err("unknown_user"));
}

#[tokio::test]
async fn a_common_name_counts_only_where_an_authority_vouches_for_it() {
    let fleet = Fleet::new();
    let (stranger, _) = Authority::create(NOW).unwrap();
    let own = certificate(&fleet.issue("d1"));
    let foreign = certificate(&stranger.device(&device_name("d1"), 365, NOW).unwrap());
    fleet.know(&format!(
        "[device.x1]\nclient_id = 'd1'\n[[device.x1.certificate]]\nfingerprint = '{}'\n",
        foreign.fingerprint()
    ));
    let settings = AccessSettings { topics: vec!["cn/${cert_cn}/#".parse().unwrap()], ..fleet.settings() };
    let access = Access::open(settings, Some(fleet.tls())).unwrap();
    let may = async |certificate| {
        let shown = Shown {
            certificate: Some(certificate),
            user: None,
            password: None,
            client_id: "d1",
            address: ADDRESS,
            is_assigned: false,
        };
        access.identify(&shown, NOW).await.unwrap().may_publish("cn/d1/x")
    };
    assert!(may(&own).await);
    assert!(!may(&foreign).await);
}

#[tokio::test]
async fn what_changes_in_the_files_holds_at_once_and_a_broken_file_changes_nothing() {
    let fleet = Fleet::new();
    let entry = |name: &str, hash: &PasswordHash, more: &str| {
        format!("[device.{name}]\npassword = '{}'\n{more}\n", hash.expose())
    };
    let (one, two) = (cheap("one"), cheap("two"));
    fleet.know(&[entry("d1", &one, ""), entry("d2", &two, "")].concat());
    let access = open(&fleet);
    let identify = async |name: &str, secret: &str| {
        let secret = password(secret);
        let shown = Shown {
            certificate: None,
            user: Some(name),
            password: Some(&secret),
            client_id: name,
            address: ADDRESS,
            is_assigned: false,
        };
        access.identify(&shown, NOW).await.unwrap()
    };
    let (d1, d2) = (identify("d1", "one").await, identify("d2", "two").await);
    let stand = || [&d1, &d2].map(|identity| access.stands(identity, NOW).map_err(|denial| denial.reason()));
    assert!(!access.reload(NOW));
    assert_eq!(stand(), [Ok(()), Ok(())]);

    fleet.know("[device.d1]\npassword = 'secret'");
    assert!(access.reload(NOW));
    assert_eq!((stand(), access.devices()), ([Ok(()), Ok(())], 2));
    std::fs::remove_file(fleet.credentials()).unwrap();
    assert!(access.reload(NOW));
    assert_eq!((stand(), access.devices()), ([Ok(()), Ok(())], 2));

    fleet.know(&[entry("d1", &one, "revoked = true"), entry("d2", &two, ""), entry("d3", &two, "")].concat());
    assert!(access.reload(NOW));
    assert_eq!(stand(), [Err("device_revoked"), Ok(())]);
    fleet.know(&[entry("d1", &one, ""), entry("d2", &two, "topics = ['x']")].concat());
    assert!(access.reload(NOW));
    assert_eq!(stand(), [Ok(()), Err("credential_changed")]);
    fleet.know(&[entry("d1", &cheap("one"), ""), entry("d2", &two, "")].concat());
    assert!(access.reload(NOW));
    assert_eq!(stand(), [Err("credential_changed"), Ok(())]);
    fleet.know(&entry("d1", &one, ""));
    assert!(access.reload(NOW));
    assert_eq!(stand(), [Ok(()), Err("credential_changed")]);
}

#[tokio::test]
async fn certificates_stand_until_they_expire_are_revoked_or_their_authority_is_gone() {
    let fleet = Fleet::new();
    let (vouched, known) = (certificate(&fleet.issue("d1")), certificate(&fleet.issue("d2")));
    let knows = |more: &str| {
        fleet.know(&format!("[[device.d2.certificate]]\nfingerprint = '{}'\n{more}", known.fingerprint()));
    };
    knows("");
    let access = open(&fleet);
    let identify = async |client_id, certificate| {
        let shown = Shown {
            certificate: Some(certificate),
            user: None,
            password: None,
            client_id,
            address: ADDRESS,
            is_assigned: false,
        };
        access.identify(&shown, NOW).await.unwrap()
    };
    let (d1, d2) = (identify("d1", &vouched).await, identify("d2", &known).await);
    let stand =
        |now| [&d1, &d2].map(|identity| access.stands(identity, now).map_err(|denial| denial.reason()));
    assert_eq!(stand(NOW), [Ok(()), Ok(())]);
    assert_eq!(stand(Micros(NOW.0 + 366 * DAY)), [Err("certificate_expired"); 2]);
    knows("revoked = true");
    assert!(access.reload(NOW));
    assert_eq!(stand(NOW), [Ok(()), Err("certificate_revoked")]);
    knows("");
    let (_, other) = Authority::create(NOW).unwrap();
    let own = std::fs::read_to_string(fleet.path("ca.pem")).unwrap();
    fleet.replace("ca.pem", &format!("{}{own}", other.certificate));
    assert!(access.reload(NOW));
    assert_eq!(stand(NOW), [Ok(()), Ok(())]);
    fleet.replace("ca.pem", &other.certificate);
    assert!(access.reload(NOW));
    assert_eq!(stand(NOW), [Err("unknown_certificate"), Ok(())]);
}

#[test]
fn the_server_certificate_is_replaced_only_by_one_that_fits_its_key() {
    let fleet = Fleet::new();
    let access = open(&fleet);
    let first = access.server().unwrap();
    let next = fleet.authority.server(&["localhost".to_owned()], NOW).unwrap();
    fleet.replace("server.pem", &next.certificate);
    assert!(access.reload(NOW));
    assert!(Arc::ptr_eq(&first, &access.server().unwrap()));
    fleet.write("server", &next);
    assert!(access.reload(NOW));
    assert!(!Arc::ptr_eq(&first, &access.server().unwrap()));
}

#[test]
fn files_that_are_of_no_use_at_the_start_are_refused() {
    let fleet = Fleet::new();
    let opened =
        || Access::open(fleet.settings(), Some(fleet.tls())).map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(opened(), Ok(()));
    fleet.know("[device.d1]\npassword = 'secret'");
    assert!(opened().unwrap_err().contains("line 2"));
    fleet.know("");
    fleet.replace("server.key", &fleet.issue("d1").key);
    assert!(opened().is_err());
}

#[tokio::test]
async fn the_name_of_a_known_device_is_not_had_by_another_certificate_of_its_authority() {
    let fleet = Fleet::new();
    let (own, old) = (certificate(&fleet.issue("d1")), certificate(&fleet.issue("d1")));
    let knows = |more: &str| {
        fleet.know(&format!(
            "[device.d1]\n{more}[[device.d1.certificate]]\nfingerprint = '{}'\n",
            own.fingerprint()
        ));
    };
    let access = open(&fleet);
    let shown = |certificate| Shown {
        certificate: Some(certificate),
        user: None,
        password: None,
        client_id: "d1",
        address: ADDRESS,
        is_assigned: false,
    };
    let before = access.identify(&shown(&old), NOW).await.unwrap();
    knows("");
    assert!(access.reload(NOW));
    assert_eq!(access.stands(&before, NOW).map_err(|denial| denial.reason()), Err("unknown_certificate"));
    assert_eq!(who(&access, "d1", Some(&own), None, NOW).await, Ok(Some("d1".to_owned())));
    assert_eq!(who(&access, "d1", Some(&old), None, NOW).await, Err("unknown_certificate"));
    knows("revoked = true\n");
    assert!(access.reload(NOW));
    for certificate in [&own, &old] {
        assert_eq!(who(&access, "d1", Some(certificate), None, NOW).await, Err("device_revoked"));
    }
}
