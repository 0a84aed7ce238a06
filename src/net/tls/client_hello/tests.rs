use std::sync::Arc;

use proptest::prelude::*;

use super::*;

macro_rules! corpus {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/fuzz/corpus/client_hello/", $name))
    };
}

fn asked(input: &[u8]) -> Option<String> {
    let hello = parse(input).expect("good").expect("whole");
    hello.server_name.map(String::from)
}

/// Lengths ahead of their bytes.
fn vector(bytes: usize, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    [&len[4 - bytes..], body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, body)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &vector(2, &[&[0][..], &vector(2, name)].concat()))
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[]),
        &vector(2, &[0x13, 1]),
        &vector(1, &[0]),
        extensions,
    ]
    .concat();
    [&[CLIENT_HELLO][..], &vector(3, &body)].concat()
}

/// A message in records of so many bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|chunk| [&[HANDSHAKE, 3, 1][..], &vector(2, chunk)].concat())
        .collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(&vector(2, &extensions.concat())), RECORD_MAX)
}

#[test]
fn those_of_real_clients() {
    for (input, name) in [
        (&corpus!("openssl")[..], Some("api.example.org")),
        (corpus!("openssl_no_name"), None),
        (corpus!("split"), Some("api.example.org")),
        (corpus!("curl"), Some("www.example.net")),
        (corpus!("curl_ip"), None),
        (corpus!("python"), Some("example.com")),
        (corpus!("python_tls12"), Some("xn--bcher-kva.example")),
        (corpus!("python_no_name"), None),
    ] {
        assert_eq!(asked(input).as_deref(), name);
        for cut in 0..input.len() {
            assert_eq!(parse(&input[..cut]), Ok(None), "cut at {cut}");
        }
        let more = [input, &[20, 3, 3, 0, 1, 1]].concat();
        assert_eq!(asked(&more).as_deref(), name, "what follows in other records is not ours");
    }
}

#[test]
fn names() {
    let long = vec!["a".repeat(63); 4].join(".");
    let fits = &long[..253];
    for (name, read) in [
        ("example.com", Ok(Some("example.com"))),
        ("EXAMPLE.com.", Ok(Some("example.com"))),
        ("_dmarc.x-1.example", Ok(Some("_dmarc.x-1.example"))),
        ("localhost", Ok(Some("localhost"))),
        (fits, Ok(Some(fits))),
        ("192.0.2.1", Ok(None)),
        ("2001:db8::1", Ok(None)),
        ("", Err(())),
        (".", Err(())),
        ("a..b", Err(())),
        (".a", Err(())),
        ("a..", Err(())),
        ("a b", Err(())),
        ("a/b", Err(())),
        ("bücher.example", Err(())),
        ("a\0.example", Err(())),
        (&"a".repeat(64), Err(())),
        (&long, Err(())),
    ] {
        let found = parse(&hello(&[server_name(name.as_bytes())]));
        let found = found.map(|hello| hello.expect("whole").server_name).map_err(|_| ());
        assert_eq!(found, read.map(|name| name.map(Into::into)), "{name:?}");
    }
}

#[test]
fn hellos_that_are_refused() {
    let name = || server_name(b"a.example");
    let two = vector(2, &[[0].as_slice(), &vector(2, b"a"), &[0], &vector(2, b"b")].concat());
    let other_kind = vector(2, &[[1].as_slice(), &vector(2, b"a")].concat());
    let mut loose = name();
    loose.push(0);
    let mut old = hello(&[name()]);
    old[9] = 2;
    let good = message(&vector(2, &name()));
    let mut longer = good.clone();
    longer.push(0);
    let mut huge = good.clone();
    huge[1] = 1;
    let mut finished = good;
    finished[0] = 20;
    for (input, problem) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), "this is not TLS"),
        (b"\x16\x02".to_vec(), "this is not TLS"),
        (b"\x80\x2e\x01\x03\x01".to_vec(), "this is not TLS"),
        (vec![HANDSHAKE, 3, 1, 0, 0], "a record is empty or too long"),
        (vec![HANDSHAKE, 3, 1, 0x40, 1], "a record is empty or too long"),
        (records(&finished, 100), "it does not begin with a hello"),
        (records(&huge, 100), "the hello is too long"),
        (records(&longer, RECORD_MAX), "something follows the hello"),
        (hello(&[name(), name()]), "it asks for a name twice"),
        (hello(&[extension(0, &two)]), "a length in it is wrong"),
        (hello(&[extension(0, &other_kind)]), "it asks for something that is no host"),
        (hello(&[extension(0, &vector(2, &[]))]), "a length in it is wrong"),
        (hello(&[extension(0, &[])]), "a length in it is wrong"),
        (hello(&[loose]), "a length in it is wrong"),
        (records(&message(&[0]), 100), "a length in it is wrong"),
        (old, "an unknown version"),
    ] {
        assert_eq!(parse(&input), Err(HelloError(problem)), "{}", input.escape_ascii());
    }
    let far = records(&message(&vector(2, &extension(21, &[0; 16_000]))), 3);
    assert_eq!(parse(&far[..HELLO_MAX - 1]), Ok(None));
    assert_eq!(parse(&far[..HELLO_MAX]), Err(HelloError("the hello is too long")));
}

#[test]
fn without_extensions_no_name_is_asked_for() {
    assert_eq!(asked(&records(&message(&[]), 100)), None);
    assert_eq!(asked(&records(&message(&[0, 0]), 100)), None);
    assert_eq!(asked(&hello(&[extension(10, b"xyz"), extension(11, &[])])), None);
}

/// What rustls reads in the same bytes.
fn rustls_reads(input: &[u8]) -> Option<Option<String>> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = input;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).ok()?;
    }
    let accepted = acceptor.accept().ok()??;
    Some(accepted.client_hello().server_name().map(str::to_owned))
}

#[test]
fn rustls_reads_the_same() {
    for input in [&corpus!("openssl")[..], corpus!("curl"), corpus!("python"), corpus!("split")] {
        let ours = asked(input);
        let theirs = rustls_reads(input).expect("read").map(|name| name.to_ascii_lowercase());
        assert_eq!(ours, theirs);
    }
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "rust.example".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut wire = Vec::new();
    client.write_tls(&mut wire).expect("written");
    assert_eq!(asked(&wire).as_deref(), Some("rust.example"));
}

proptest! {
    #[test]
    fn a_hello_is_read_the_same_in_whatever_records(
        name in "[a-z0-9]{1,20}(\\.[a-z0-9-]{1,20}){0,4}",
        padding in 0usize..3_000,
        size in 1usize..5_000,
    ) {
        prop_assume!(name.parse::<IpAddr>().is_err());
        let extensions = [extension(21, &vec![0; padding]), server_name(name.as_bytes())].concat();
        let input = records(&message(&vector(2, &extensions)), size);
        if input.len() < HELLO_MAX {
            prop_assert_eq!(asked(&input), Some(name));
        }
    }

    #[test]
    fn whatever_is_changed_in_one_the_verdict_on_less_of_it_holds(
        at in 0usize..339,
        byte in any::<u8>(),
        cut in 0usize..339,
    ) {
        let mut input = corpus!("openssl").to_vec();
        input[at] = byte;
        let (whole, less) = (parse(&input), parse(&input[..cut]));
        if less != Ok(None) {
            prop_assert_eq!(&less, &whole);
        }
        // Who ends the connection's TLS does not see another name in what is taken here.
        if let (Ok(Some(hello)), Some(theirs)) = (whole, rustls_reads(&input)) {
            let ours = hello.server_name.map(String::from);
            let theirs = theirs.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            prop_assert_eq!(ours, theirs);
        }
    }
}
