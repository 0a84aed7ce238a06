//! Certificates from files, and handshakes with them.

use std::path::Path;
use std::sync::Arc;

use rcgen::CertificateParams;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConnection};

use super::fixture::{Authority, Failed, Issued, file, handshake, listener, write};
use super::*;
use crate::model::{CertificateFiles, ClientAuth, ListenerTls, PoolTls, Protocol, TlsIdentity};
use crate::observe::Handshake;

fn pool() -> PoolTls {
    PoolTls {
        ca: None,
        server_name: None,
        certificate: None,
        verify: true,
        min_version: TlsVersion::Tls12,
    }
}

/// A client that trusts the authority in this file, and shows a certificate if it has one.
fn client(ca: &Path, certificate: Option<CertificateFiles>) -> Arc<ClientConfig> {
    let tls = PoolTls { ca: Some(ca.to_owned()), certificate, ..pool() };
    Arc::clone(ClientTls::load(&tls, UpstreamVersion::Http1).expect("loads").config())
}

fn server(tls: &ListenerTls, before: Option<&ServerTls>) -> ServerTls {
    ServerTls::load(Protocol::Https, tls, before).expect("loads")
}

fn identity_of(connection: &ServerConnection) -> TlsIdentity {
    identity::identity(connection.peer_certificates(), connection.server_name())
}

fn faults(tls: &ListenerTls) -> Vec<String> {
    let faults = ServerTls::load(Protocol::Https, tls, None).expect_err("has faults");
    faults.iter().map(ToString::to_string).collect()
}

/// The common name or first DNS name of what the server has shown.
fn shown(connection: &rustls::ClientConnection) -> &[u8] {
    &connection.peer_certificates().expect("shown")[0]
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.cert.as_bytes()).expect("PEM")
}

#[test]
fn clients_are_shown_the_certificate_of_the_name_and_kind_that_they_ask_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("authority");
    let ca = file(dir.path(), "ca.pem", authority.pem());
    let first = authority.host(&["example.com", "www.example.com"]);
    let rsa = authority.host_by(&["example.com"], &rcgen::PKCS_RSA_SHA256);
    let wild = authority.host(&["*.example.com"]);
    let tls = listener(vec![
        write(dir.path(), "first", &first),
        write(dir.path(), "rsa", &rsa),
        write(dir.path(), "wild", &wild),
    ]);
    let server = server(&tls, None);
    let any = client(&ca, None);
    let only_rsa = {
        let mut provider = CryptoProvider::clone(&provider());
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("ECDHE_RSA"));
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM"))
            .expect("fits");
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS12])
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    };
    for (config, name, expected) in [
        (&any, "example.com", &first),
        (&any, "www.example.com", &first),
        (&any, "api.example.com", &wild),
        (&only_rsa, "example.com", &rsa),
    ] {
        let (ours, theirs) = handshake(config, server.config(), name).expect(name);
        assert_eq!(shown(&ours), der(expected).as_ref(), "{name}");
        assert_eq!(identity_of(&theirs), TlsIdentity { subject: None, sni: Some(name.into()) });
    }
    // Whoever asks for another name, or for none, gets the first and may not like it.
    let blind = ClientTls::load(&PoolTls { verify: false, ..pool() }, UpstreamVersion::Http1);
    let blind = blind.expect("loads");
    for name in ["nobody.net", "10.0.0.1"] {
        let (ours, theirs) = handshake(blind.config(), server.config(), name).expect(name);
        assert_eq!(shown(&ours), der(&first).as_ref(), "{name}");
        assert_eq!(identity_of(&theirs).sni.is_some(), name == "nobody.net");
        let failed = handshake(&any, server.config(), name).expect_err("a wrong name");
        assert!(
            matches!(failed, Failed::Client(rustls::Error::InvalidCertificate(_))),
            "{failed:?}"
        );
    }
}

#[test]
fn versions_and_protocols_are_those_of_the_config() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("authority");
    let ca = file(dir.path(), "ca.pem", authority.pem());
    let tls = listener(vec![write(dir.path(), "a", &authority.host(&["a"]))]);
    let modern = ListenerTls { min_version: TlsVersion::Tls13, ..tls.clone() };
    let (both, modern) = (server(&tls, None), server(&modern, None));
    let old = {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS12])
            .expect("versions");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM"))
            .expect("fits");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    };
    let (ours, _) = handshake(&old, both.config(), "a").expect("TLS 1.2");
    assert_eq!(ours.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let Err(Failed::Server(error)) = handshake(&old, modern.config(), "a") else {
        panic!("TLS 1.2")
    };
    assert_eq!(outcome(&error), Handshake::Version);

    let new = client(&ca, None);
    let (ours, theirs) = handshake(&new, both.config(), "a").expect("TLS 1.3");
    assert_eq!(ours.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(theirs.alpn_protocol(), Some(HTTP1));
    let mut wants_other = ClientConfig::clone(&new);
    wants_other.alpn_protocols = vec![b"x".to_vec()];
    let wants_other = Arc::new(wants_other);
    let Err(Failed::Server(error)) = handshake(&wants_other, both.config(), "a") else {
        panic!("x")
    };
    assert_eq!(outcome(&error), Handshake::Protocol);
    let bytes = ServerTls::load(Protocol::Tls, &tls, None).expect("loads");
    let (_, theirs) = handshake(&wants_other, bytes.config(), "a").expect("nobody cares");
    assert_eq!(theirs.alpn_protocol(), None);
}

#[test]
fn sessions_go_on_with_new_certificates_and_not_under_other_terms() {
    let dir = tempfile::tempdir().expect("a directory");
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let ca = file(dir.path(), "ca.pem", authority.pem());
    let others = file(dir.path(), "other.pem", other.pem());
    let files = write(dir.path(), "a", &authority.host(&["a"]));
    let open = listener(vec![files]);
    let asks = |ca: &Path, client_auth| ListenerTls {
        client_ca: Some(ca.to_owned()),
        client_auth,
        ..open.clone()
    };
    let alice = write(dir.path(), "alice", &authority.client("alice"));
    let kind = |config: &Arc<ClientConfig>, server: &ServerTls| {
        let (_, theirs) = handshake(config, server.config(), "a").expect("shakes hands");
        (theirs.handshake_kind().expect("over"), identity_of(&theirs).subject)
    };
    let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
    for version in [&TLS12, &TLS13] {
        let of_version = |certificate: Option<CertificateFiles>| {
            let config = client(&ca, certificate);
            let mut again = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .expect("versions")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(client::Blind(provider())))
                .with_no_client_auth();
            again.client_auth_cert_resolver = Arc::clone(&config.client_auth_cert_resolver);
            Arc::new(again)
        };
        let anybody = of_version(None);
        let first = server(&open, None);
        assert_eq!(kind(&anybody, &first), (full, None));
        assert_eq!(kind(&anybody, &first), (resumed, None));
        write(dir.path(), "a", &authority.host(&["a", "b"]));
        let second = server(&open, Some(&first));
        assert_eq!(kind(&anybody, &second), (resumed, None), "a new certificate, the same keys");
        // Not what was begun without a certificate.
        let required = server(&asks(&ca, ClientAuth::Required), Some(&second));
        let refused = handshake(&anybody, required.config(), "a").expect_err("has none");
        let Failed::Server(error) = refused else { panic!("{refused:?}") };
        assert_eq!(outcome(&error), Handshake::ClientCertificateMissing);

        let subject = Some("CN=alice".into());
        let alice = of_version(Some(alice.clone()));
        assert_eq!(kind(&alice, &required), (full, subject.clone()));
        assert_eq!(kind(&alice, &required), (resumed, subject.clone()), "verified when it began");
        let reloaded = server(&asks(&ca, ClientAuth::Required), Some(&required));
        assert_eq!(kind(&alice, &reloaded), (resumed, subject.clone()));
        let optional = server(&asks(&ca, ClientAuth::Optional), Some(&reloaded));
        assert_eq!(kind(&alice, &optional), (full, subject.clone()), "other terms");
        assert_eq!(kind(&anybody, &optional), (full, None));
        // Another authority: the session does not get in.
        let elsewhere = server(&asks(&others, ClientAuth::Required), Some(&required));
        let alice_refused = handshake(&alice, elsewhere.config(), "a").expect_err("unknown");
        let Failed::Server(error) = alice_refused else { panic!("{alice_refused:?}") };
        assert_eq!(outcome(&error), Handshake::ClientCertificateBad);
        let stranger = of_version(Some(write(dir.path(), "eve", &other.client("alice"))));
        for server in [&required, &optional] {
            let refused = handshake(&stranger, server.config(), "a").expect_err("a stranger");
            let Failed::Server(error) = refused else { panic!("{refused:?}") };
            assert_eq!(outcome(&error), Handshake::ClientCertificateBad);
        }
        let separate = server(&open, None);
        let _ = kind(&anybody, &first);
        assert_eq!(kind(&anybody, &separate), (full, None), "another listener");
        write(dir.path(), "a", &authority.host(&["a"]));
    }
}

#[test]
fn a_staple_is_passed_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("authority");
    let staple = file(dir.path(), "a.ocsp", [0x30, 3, 0x0a, 1, 0]);
    let files = write(dir.path(), "a", &authority.host(&["a"]));
    let tls = listener(vec![CertificateFiles { ocsp: Some(staple), ..files.clone() }]);

    #[derive(Debug)]
    struct Sees(std::sync::Mutex<Vec<u8>>, client::Blind);
    impl rustls::client::danger::ServerCertVerifier for Sees {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            staple: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            *self.0.lock().expect("whole") = staple.to_owned();
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.1.verify_tls12_signature(message, cert, signed)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.1.verify_tls13_signature(message, cert, signed)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.1.supported_verify_schemes()
        }
    }
    let sees = Arc::new(Sees(Default::default(), client::Blind(provider())));
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(TlsVersion::Tls12))
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&sees) as _)
        .with_no_client_auth();
    handshake(&Arc::new(config), server(&tls, None).config(), "a").expect("shakes hands");
    assert_eq!(*sees.0.lock().expect("whole"), [0x30, 3, 0x0a, 1, 0]);

    let text = file(dir.path(), "text.ocsp", "-----BEGIN");
    let tls = listener(vec![CertificateFiles { ocsp: Some(text), ..files }]);
    let [fault] = &faults(&tls)[..] else { panic!("one fault") };
    assert!(fault.starts_with("tls.certificates[1].ocsp: "), "{fault}");
    assert!(fault.contains("text.ocsp is no OCSP response in DER; openssl ocsp"), "{fault}");
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let authority = Authority::new("authority");
    let good = authority.host(&["a"]);
    let files = write(dir, "a", &good);
    let other = write(dir, "b", &authority.host(&["b"]));
    let cut = &good.cert[..good.cert.len() / 2];
    let cut_key = &good.key[..good.key.len() / 2];
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let nobody = authority.sign(CertificateParams::default(), &rcgen::PKCS_ED25519);
    let cert = |path| CertificateFiles { cert: path, ..files.clone() };
    let key = |path| CertificateFiles { key: path, ..files.clone() };
    for (files, expected) in [
        (cert(dir.join("none.pem")), "cert: DIR/none.pem cannot be read: No such file"),
        (cert(dir.to_owned()), "cert: DIR cannot be read: it is not a file"),
        (
            cert(file(dir, "empty.pem", "")),
            "cert: DIR/empty.pem has no certificate in PEM in it; it",
        ),
        (cert(files.key.clone()), "cert: DIR/a.key has no certificate in PEM in it; it has lines"),
        (cert(file(dir, "cut.pem", cut)), "cert: DIR/cut.pem is cut off; it has lines"),
        (
            cert(file(dir, "garbage.pem", garbage)),
            "cert: DIR/garbage.pem has a first certificate that makes no sense",
        ),
        (write(dir, "nobody", &nobody), "cert: DIR/nobody.pem is for no host: it has no DNS name"),
        (key(dir.join("none.key")), "key: DIR/none.key cannot be read: No such file"),
        (key(files.cert.clone()), "key: DIR/a.pem has no private key in PEM in it; it has a line"),
        (key(file(dir, "cut.key", cut_key)), "key: DIR/cut.key is cut off; it has a line"),
        (
            key(file(dir, "locked.key", encrypted)),
            "key: DIR/locked.key is encrypted; decrypt it: openssl pkey",
        ),
        (
            key(other.key.clone()),
            "key: DIR/b.key is not the key of the certificate in DIR/a.pem; the first certificate",
        ),
        (
            key(file(dir, "odd.key", encrypted.replace("ENCRYPTED ", ""))),
            "key: DIR/odd.key cannot be used: ",
        ),
    ] {
        let [fault] = &faults(&listener(vec![other.clone(), files]))[..] else {
            panic!("one fault")
        };
        let told = fault.replace(&dir.display().to_string(), "DIR");
        let expected = format!("tls.certificates[2].{expected}");
        assert!(told.starts_with(&expected), "expected\n{expected}\nfound\n{told}");
    }
    // All at once.
    let mut tls = listener(vec![cert(dir.join("x")), key(dir.join("y"))]);
    tls.client_ca = Some(file(dir, "no-ca.pem", "hello"));
    let told = faults(&tls).join("\n");
    for key in ["tls.certificates[1].cert: ", "tls.certificates[2].key: ", "tls.client_ca: "] {
        assert!(told.contains(key), "{key} in\n{told}");
    }
    tls = listener(vec![files]);
    tls.client_ca = Some(file(dir, "odd-ca.pem", garbage));
    let told = faults(&tls).join("\n");
    assert!(told.contains("odd-ca.pem has a certificate that cannot be used: "), "{told}");
}

#[test]
fn certificates_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("authority");
    let mut params = CertificateParams::new(vec!["a".to_owned()]).expect("names");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let ended = authority.sign(params, &rcgen::PKCS_ECDSA_P256_SHA256);
    let files = write(dir.path(), "a", &ended);
    let it = server(&listener(vec![files.clone()]), None);
    let ends = 1_577_836_800;
    let certificate = Certificate { file: files.cert, ends };
    assert_eq!(it.certificates(), std::slice::from_ref(&certificate), "it is shown nevertheless");
    assert_eq!(certificate.left(ends - 5), Some(std::time::Duration::from_secs(5)));
    assert_eq!((certificate.left(ends), certificate.left(ends + 1)), (None, None));
}

#[test]
fn instances_are_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let ca = file(dir.path(), "ca.pem", authority.pem());
    let others = file(dir.path(), "other.pem", other.pem());
    let cert = write(dir.path(), "a", &authority.host(&["app.internal", "10.0.0.1", "::1"]));
    let tls = ListenerTls { client_ca: Some(ca.clone()), ..listener(vec![cert]) };
    let instance = ServerTls::load(Protocol::Tls, &tls, None).expect("loads");
    let client = write(dir.path(), "client", &authority.client("tidegate"));
    let trusts = PoolTls { ca: Some(ca), certificate: Some(client), ..pool() };
    let named = PoolTls { server_name: Some("app.internal".into()), ..trusts.clone() };
    let load = |tls: &PoolTls| ClientTls::load(tls, UpstreamVersion::H2).expect("loads");
    let reach = |tls: &PoolTls, ip: &str| {
        let tls = load(tls);
        let name = tls.name_for(ip.parse().expect("an address")).to_str().into_owned();
        handshake(tls.config(), instance.config(), &name)
    };
    let (_, theirs) = reach(&trusts, "10.0.0.1").expect("its address");
    assert_eq!(
        identity_of(&theirs),
        TlsIdentity { subject: Some("CN=tidegate".into()), sni: None }
    );
    reach(&trusts, "::ffff:10.0.0.1").expect("the same");
    reach(&trusts, "::1").expect("its other address");
    let (_, theirs) = reach(&named, "10.9.9.9").expect("its name");
    assert_eq!(identity_of(&theirs).sni.as_deref(), Some("app.internal"));
    for (tls, ip) in [
        (&trusts, "10.0.0.2"),
        (&PoolTls { server_name: Some("b".into()), ..trusts.clone() }, "10.0.0.1"),
        (&PoolTls { ca: Some(others.clone()), ..trusts.clone() }, "10.0.0.1"),
        (&PoolTls { ca: None, ..trusts.clone() }, "10.0.0.1"),
    ] {
        let refused = reach(tls, ip).expect_err("not whom it should be");
        assert!(
            matches!(refused, Failed::Client(rustls::Error::InvalidCertificate(_))),
            "{refused:?}"
        );
    }
    let blind = PoolTls { verify: false, ca: None, ..trusts.clone() };
    reach(&blind, "10.0.0.2").expect("whoever it is");
    // Without a certificate of its own.
    let refused = reach(&PoolTls { certificate: None, ..trusts.clone() }, "10.0.0.1");
    assert!(matches!(refused, Err(Failed::Server(_))), "{refused:?}");

    // Sessions are resumed, and protocols asked for where requests go.
    let tls = load(&trusts);
    let kind = |config| {
        let (ours, _) = handshake(config, instance.config(), "10.0.0.1").expect("shakes hands");
        ours.handshake_kind().expect("over")
    };
    assert_eq!(kind(tls.config()), HandshakeKind::Full);
    assert_eq!(kind(tls.config()), HandshakeKind::Resumed);
    assert_eq!(tls.config().alpn_protocols, [HTTP2]);
    assert!(tls.bytes_config().alpn_protocols.is_empty());

    let missing = PoolTls {
        ca: Some(dir.path().join("none.pem")),
        certificate: trusts.certificate.map(|files| CertificateFiles { key: others, ..files }),
        ..pool()
    };
    let faults = ClientTls::load(&missing, UpstreamVersion::Http1).expect_err("has faults");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["upstream_tls.ca", "upstream_tls.key"]);
}
