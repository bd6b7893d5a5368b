use super::*;
use crate::identity::password::tests::cheap;
use millstream_model::time::Micros;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const NOW: Micros = Micros(1_700_000_000_000_000);

fn fingerprint(digit: char) -> Fingerprint {
    digit.to_string().repeat(64).parse().unwrap()
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn read(path: &Path) -> Credentials {
    Credentials::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_broken_file_is_refused_with_the_line_and_without_its_content() {
    let check = |text: &str, line: Option<usize>, detail: &str| {
        let bad = Credentials::parse(text).unwrap_err();
        assert_eq!(bad.line, line, "{text}: {bad}");
        assert!(bad.detail.contains(detail), "{text}: {bad}");
        assert!(!bad.to_string().contains("secret"), "{bad}");
    };
    check("\n[device.d1\n", Some(2), "");
    check("[device.d1]\npasswort = \"secret\"\n", Some(2), "unknown field `passwort`");
    check("[device.d1]\n\npassword = \"secret\"\n", Some(3), "argon2id");
    check("[device.d1]\ntopics = [\"a\", \"b/${secre}\"]\n", Some(2), "no placeholder");
    check("[device.d1]\nclient_id = \"a*b\"\n", Some(2), "left open");
    check("[[device.d1.certificate]]\nfingerprint = \"12\"\n", Some(2), "64 hexadecimal digits");
    check("[[device.d1.certificate]]\nnot_after = \"x\"\n", Some(1), "fingerprint");
    check("[device.\"a/b\"]\n", Some(1), "name");
    let twice = "1".repeat(64);
    let twice = format!(
        "[[device.a.certificate]]\nfingerprint=\"{twice}\"\n[[device.b.certificate]]\nfingerprint=\"{twice}\"\n"
    );
    check(&twice, None, "that of a and of b");
}

#[test]
fn what_is_written_is_read_again_and_for_the_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    let hash = cheap("right");
    let mut register = Register::open(&path).unwrap();
    assert!(register.credentials().is_empty());
    register.add_password(&name("d1"), &hash, NOW).unwrap();
    register.add_certificate(&name("aa:bb"), fingerprint('1'), NOW, NOW).unwrap();
    register.add_certificate(&name("aa:bb"), fingerprint('2'), NOW, NOW).unwrap();
    let (topics, client_ids) = (["plant/${device}/#".parse().unwrap()], "aa-*".parse().unwrap());
    register.allow(&name("aa:bb"), &topics, Some(&client_ids), NOW);
    register.save().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What an administrator allowed the group of the program stays, and the world gets nothing.
    for (before, after) in [(0o640, 0o640), (0o664, 0o660), (0o400, 0o600)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(before)).unwrap();
        Register::open(&path).unwrap().save().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, after);
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("# Who may connect"));
    let credentials = read(&path);
    let (_, d1) = credentials.device("d1").unwrap();
    assert_eq!((&d1.password, d1.added.as_deref()), (&Some(hash), Some("2023-11-14T22:13:20Z")));
    let (owner, device) = credentials.owner(&fingerprint('2')).unwrap();
    assert_eq!((owner.as_str(), device.certificates.len()), ("aa:bb", 2));
    assert_eq!((device.topics.as_deref(), &device.client_id), (Some(&topics[..]), &Some(client_ids)));
    assert!(!device.revoked.is_revoked() && credentials.any_hash().is_some());
}

#[test]
fn a_revoked_device_stays_in_the_file_and_takes_no_new_credential_until_it_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    std::fs::write(
        &path,
        "# mine\n[device]\nd1 = { client_id = \"x\" } # inline\n[device.d2]\nrevoked = true\n",
    )
    .unwrap();
    let mut register = Register::open(&path).unwrap();
    assert!(register.revoke("d1", NOW).unwrap());
    assert!(!register.revoke("d2", NOW).unwrap());
    assert!(matches!(register.revoke("d3", NOW), Err(RegisterError::Unknown(name)) if name == "d3"));
    register.save().unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("# mine\n"));
    let (credentials, mut register) = (read(&path), Register::open(&path).unwrap());
    for device in ["d1", "d2"] {
        assert!(credentials.device(device).unwrap().1.revoked.is_revoked(), "{device}");
        let refused = register.add_password(&name(device), &cheap("x"), NOW);
        assert!(matches!(refused, Err(RegisterError::Revoked(_))), "{refused:?}");
        let refused = register.add_certificate(&name(device), fingerprint('1'), NOW, NOW);
        assert!(matches!(refused, Err(RegisterError::Revoked(_))), "{refused:?}");
    }
    register.forget(&name("d1"), NOW);
    register.add_password(&name("d1"), &cheap("x"), NOW).unwrap();
    register.save().unwrap();
    let credentials = read(&path);
    let (_, d1) = credentials.device("d1").unwrap();
    assert!(d1.password.is_some() && d1.client_id.is_none() && !d1.revoked.is_revoked());
    assert!(matches!(
        Register::open(&path).unwrap().check_password(&name("d1")),
        Err(RegisterError::HasPassword(_))
    ));
}

#[test]
fn a_certificate_is_of_one_device_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    let mut register = Register::open(&path).unwrap();
    register.add_certificate(&name("d1"), fingerprint('1'), NOW, NOW).unwrap();
    register.save().unwrap();
    let mut register = Register::open(&path).unwrap();
    let refused = register.add_certificate(&name("d2"), fingerprint('1'), NOW, NOW);
    assert!(matches!(refused, Err(RegisterError::KnownAs(owner)) if owner.as_str() == "d1"));
}

#[test]
fn the_certificates_of_a_device_that_is_made_anew_stay_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    let mut register = Register::open(&path).unwrap();
    register.add_certificate(&name("d1"), fingerprint('1'), NOW, NOW).unwrap();
    register.save().unwrap();
    let mut register = Register::open(&path).unwrap();
    register.revoke("d1", NOW).unwrap();
    register.save().unwrap();
    let mut register = Register::open(&path).unwrap();
    register.forget(&name("d1"), NOW);
    register.add_certificate(&name("d1"), fingerprint('2'), NOW, NOW).unwrap();
    register.save().unwrap();
    let credentials = read(&path);
    let (_, d1) = credentials.device("d1").unwrap();
    let certificates: Vec<_> = d1.certificates.iter().map(|known| known.revoked.is_revoked()).collect();
    assert_eq!((d1.revoked.is_revoked(), certificates), (false, vec![true, false]));
}
