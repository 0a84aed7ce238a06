//! From files to what connections are made with.

use std::fs;

use super::*;
use crate::config::compile;
use crate::net::tls::fixture::{Authority, file, write};

/// A config with an https listener and a pool that is spoken to by TLS.
fn config(dir: &Path, lines: &str) -> Loaded {
    let text = format!(
        "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:443\"\nprotocol = \"https\"\npool = \"web\"\n\
         tls.certificates = [{{ cert = \"a.pem\", key = \"a.key\" }}, {{ cert = \"b.pem\", key = \"b.key\" }}]\n{lines}\n\
         [pool.web]\ninstances = [{{ address = \"10.0.0.1:80\" }}]\nupstream_tls.ca = \"ca.pem\"\n"
    );
    compile(&text, &dir.join("t.toml"), &|_| unreachable!()).expect("right")
}

fn files(dir: &Path) -> Authority {
    let authority = Authority::new("authority");
    write(dir, "a", &authority.host(&["a"]));
    write(dir, "b", &authority.host(&["b"]));
    file(dir, "ca.pem", authority.pem());
    authority
}

fn reloads(metrics: &Metrics) -> (bool, bool) {
    let text = metrics.render(&Default::default(), &[]).expect("text");
    let counted = |outcome: &str| {
        let zero = format!("tidegate_tls_certificate_reloads_total{{outcome=\"{outcome}\"}} 0");
        !text.lines().any(|line| line == zero)
    };
    (counted("success"), counted("failure"))
}

#[test]
fn what_has_changed_and_rests_is_in_force_and_what_is_no_good_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let authority = files(dir);
    let loaded = config(dir, "");
    let metrics = Metrics::new(1, "test");
    let path = dir.join("t.toml");
    let read = |before: &Certificates| Certificates::read(&path, &loaded, before);
    let mut certificates = read(&Certificates::default()).expect("loads");
    let (listener, pool) = ("l".into(), "web".into());
    let server = |it: &Certificates| it.server(&listener).expect("TLS");
    let client = |it: &Certificates| it.client(&pool).expect("TLS");
    let (first, to_instances) = (server(&certificates), client(&certificates));
    assert!(certificates.server(&"other".into()).is_none());
    assert!(!certificates.look(&loaded.config, &metrics), "nothing has changed");

    // The certificate has come, and its key not yet.
    let new = authority.host(&["a", "new"]);
    fs::write(dir.join("a.pem"), &new.cert).expect("written");
    assert!(!certificates.look(&loaded.config, &metrics));
    fs::write(dir.join("a.key"), &new.key).expect("written");
    assert!(!certificates.look(&loaded.config, &metrics), "it may not be whole");
    assert_eq!(reloads(&metrics), (false, false));
    assert!(certificates.look(&loaded.config, &metrics));
    assert_eq!(reloads(&metrics), (true, false));
    let second = server(&certificates);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&to_instances, &client(&certificates)), "its files are the same");

    // Half of a file that rests: said once, and nothing changes until it does again.
    fs::write(dir.join("b.pem"), &new.cert[..100]).expect("written");
    for _ in 0..4 {
        assert!(!certificates.look(&loaded.config, &metrics));
    }
    assert_eq!(reloads(&metrics), (true, true));
    assert!(Arc::ptr_eq(&second, &server(&certificates)));
    let faults = read(&certificates).expect_err("cut off").to_string();
    let expected = "t.toml:6: listener.l.tls.certificates[2].cert: ";
    assert!(faults.contains(expected) && faults.contains("b.pem is cut off; it has"), "{faults}");
    write(dir, "b", &new);
    assert!(!certificates.look(&loaded.config, &metrics));
    assert!(certificates.look(&loaded.config, &metrics));

    // Authorities of instances too; a file that is gone is no good.
    fs::remove_file(dir.join("ca.pem")).expect("removed");
    for _ in 0..3 {
        assert!(!certificates.look(&loaded.config, &metrics));
    }
    assert!(Arc::ptr_eq(&to_instances, &client(&certificates)));
    file(dir, "ca.pem", Authority::new("another").pem());
    assert!(!certificates.look(&loaded.config, &metrics));
    assert!(certificates.look(&loaded.config, &metrics));
    assert!(!Arc::ptr_eq(&to_instances, &client(&certificates)));
}

#[test]
fn the_log_is_told_once_a_day_of_what_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let authority = files(dir);
    let soon = |day| {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("names");
        params.not_after = rcgen::date_time_ymd(2030, 1, day);
        write(dir, "a", &authority.sign(params, &rcgen::PKCS_ECDSA_P256_SHA256))
    };
    soon(22);
    let loaded = config(dir, "");
    let path = dir.join("t.toml");
    let mut certificates =
        Certificates::read(&path, &loaded, &Certificates::default()).expect("loads");
    let first: i64 = 1_893_456_000;
    let at = |day: i64| first + (day - 1) * DAY;
    assert!(certificates.endings(at(1)).is_empty(), "three weeks are left");
    for (now, when, urgent) in [
        (at(1) + 1, "ends in 20 days (2030-01-22T00:00:00Z)", false),
        (at(19), "ends in 3 days (2030-01-22T00:00:00Z)", false),
        (at(19) + 1, "ends in 2 days (2030-01-22T00:00:00Z)", true),
        (at(20) + 1, "ends in 1 day (2030-01-22T00:00:00Z)", true),
        (at(21) + 1, "ends within a day (2030-01-22T00:00:00Z)", true),
        (at(22), "has ended (2030-01-22T00:00:00Z)", true),
    ] {
        let endings = certificates.endings(now);
        let [ending] = endings.as_slice() else { panic!("one: {endings:?}") };
        assert_eq!((ending.when().as_str(), ending.is_urgent()), (when, urgent));
        assert_eq!(ending.certificate.file, dir.join("a.pem"));
    }
    let told = |it: &Certificates| it.listeners[&ListenerId::new("l")].told;
    assert_eq!(told(&certificates), None);
    certificates.tell_endings(at(5));
    certificates.tell_endings(at(6) - 1);
    assert_eq!(told(&certificates), Some(at(5)));
    certificates.tell_endings(at(6));
    assert_eq!(told(&certificates), Some(at(6)));
    // A reload is no reason to say it again, other certificates are.
    let again = Certificates::read(&path, &loaded, &certificates).expect("loads");
    assert_eq!(told(&again), Some(at(6)));
    soon(23);
    let new = Certificates::read(&path, &loaded, &again).expect("loads");
    assert_eq!(told(&new), None);
}
