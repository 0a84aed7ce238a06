use proptest::prelude::*;

use super::*;

fn ends(source: &str, destination: &str) -> Option<Ends> {
    let address = |text: &str| text.parse().expect("an address");
    Some(Ends { source: address(source), destination: address(destination) })
}

/// A header of version 2 with this second half.
fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[version_command, family], &len, rest].concat()
}

/// 192.0.2.1:1000 to 198.51.100.2:443, and what follows.
fn tcp4(more: &[u8]) -> Vec<u8> {
    let ends = [192, 0, 2, 1, 198, 51, 100, 2, 0x03, 0xE8, 0x01, 0xBB];
    v2(0x21, 0x11, &[&ends, more].concat())
}

/// The header with a checksum that holds, which `flip` then damages.
fn with_checksum(flip: u8) -> Vec<u8> {
    let mut header = tcp4(&[0x04, 0, 1, 9, TYPE_CRC32C, 0, 4, 0, 0, 0, 0, 0x05, 0, 2, 1, 2]);
    let at = header.len() - 9;
    let sum = crc32c([&header, &[], &[]]).to_be_bytes();
    header[at..at + 4].copy_from_slice(&sum);
    header[at] ^= flip;
    header
}

#[test]
fn the_checksum_is_crc32c() {
    // The check value that every catalogue of CRCs lists, and RFC 3720 B.4.
    assert_eq!(crc32c([b"1234", b"", b"56789"]), 0xE306_9283);
    assert_eq!(crc32c([&[0; 32], b"", b""]), 0x8A91_36AA);
}

#[test]
fn lines_that_are_understood() {
    for (line, expected) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            ends("192.0.2.1:56324", "198.51.100.2:443"),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            ends("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ends("0.0.0.0:0", "0.0.0.0:0")),
        ("PROXY TCP6 2001:DB8::1 ::1 1 80\r\n", ends("[2001:db8::1]:1", "[::1]:80")),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            ends(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 80\r\n", ends("[::ffff:192.0.2.1]:1", "[::1]:80")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever else 65535 x\r\n", None),
    ] {
        let parsed = parse(line.as_bytes());
        assert_eq!(parsed, Ok(Some((Header { ends: expected }, line.len()))), "{line:?}");
        let more = [line.as_bytes(), b"PROXY TCP4 1.1.1.1"].concat();
        assert_eq!(parse(&more), parsed, "what follows is the connection's own");
    }
}

#[test]
fn lines_that_are_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX - 15));
    for line in [
        "GET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rx",
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 00 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n",
        "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 0x1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
        "PROXY TCP6 12345::1 ::1 1 2\r\n",
        "PROXY TCP6 1::2::3 ::1 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY UNKNOWN2\r\n",
        "PROXY unknown\r\n",
        "PROXY UNKNOWN\n\r\n",
        "PROXY TCP4 1.1.1.\u{661} 2.2.2.2 1 2\r\n",
        long.as_str(),
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line:?}");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX - 16));
    assert_eq!(parse(longest.as_bytes()), Ok(Some((Header { ends: None }, LINE_MAX))));
    assert!(parse(b"PROXY TCP4 \xFF.1.1.1 2.2.2.2 1 2\r\n").is_err());
    assert_eq!(parse(&longest.as_bytes()[..LINE_MAX - 1]), Ok(None));
    let cut = [&longest.as_bytes()[..LINE_MAX - 2], b"x\r"].concat();
    assert!(parse(&cut).is_err(), "the line feed would be one byte too late");
}

#[test]
fn binary_headers_that_are_understood() {
    let expected = ends("192.0.2.1:1000", "198.51.100.2:443");
    let tcp6 = [[0; 15].as_slice(), &[1], &[0x20], &[0; 15], &[0, 9, 0, 10]].concat();
    for (name, header, expected) in [
        ("tcp4", tcp4(b""), expected),
        ("tcp6", v2(0x21, 0x21, &tcp6), ends("[::1]:9", "[2000::]:10")),
        (
            "datagrams have a client too",
            {
                let mut header = tcp4(b"");
                header[13] = 0x12;
                header
            },
            expected,
        ),
        ("extensions", tcp4(&[0x02, 0, 2, b'a', b'b', 0xEE, 0, 0]), expected),
        ("checksum", with_checksum(0), expected),
        ("unix", v2(0x21, 0x31, &[7; 216]), None),
        ("unspecified", v2(0x21, 0x00, b"anything"), None),
        ("unspecified transport", v2(0x21, 0x10, b""), None),
        ("local", v2(0x20, 0x00, b""), None),
        ("local, of a family to be ignored", v2(0x20, 0x11, &[1; 5]), None),
        ("the longest", tcp4(&[&[0x04, 0x0F, 0xE1][..], &[0; 4065]].concat()), expected),
    ] {
        let len = header.len();
        assert_eq!(parse(&header), Ok(Some((Header { ends: expected }, len))), "{name}");
        let twice = [header.clone(), header.clone()].concat();
        assert_eq!(parse(&twice), Ok(Some((Header { ends: expected }, len))), "{name}, twice");
    }
}

#[test]
fn binary_headers_that_are_refused() {
    let mut signature = tcp4(b"");
    signature[11] = b' ';
    for (name, header) in [
        ("signature", signature),
        ("version 1", v2(0x11, 0x11, &[0; 12])),
        ("version 3", v2(0x31, 0x11, &[0; 12])),
        ("command", v2(0x22, 0x11, &[0; 12])),
        ("family", v2(0x21, 0x41, &[0; 12])),
        ("transport", v2(0x21, 0x13, &[0; 12])),
        ("short for tcp4", v2(0x21, 0x11, &[0; 11])),
        ("short for tcp6", v2(0x21, 0x21, &[0; 35])),
        ("short for unix", v2(0x21, 0x31, &[0; 215])),
        ("half an extension", tcp4(&[0x04, 0])),
        ("extension over the end", tcp4(&[0x04, 0, 2, 0])),
        ("one byte behind the last extension", tcp4(&[0x04, 0, 1, 0, 0x04])),
        ("extension over the end of a unix address", v2(0x21, 0x31, &[7; 217])),
        ("checksum of another length", tcp4(&[TYPE_CRC32C, 0, 3, 0, 0, 0])),
        ("wrong checksum", with_checksum(1)),
        ("two checksums", {
            let one = [TYPE_CRC32C, 0, 4, 0, 0, 0, 0];
            tcp4(&[one, one].concat())
        }),
        ("too long", tcp4(&[&[0x04, 0x0F, 0xE2][..], &[0; 4066]].concat())),
        ("too long, told at once", [SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat()),
    ] {
        assert!(parse(&header).is_err(), "{name}");
    }
}

#[test]
fn what_is_written() {
    let v1 = |ends| {
        let mut out = Vec::new();
        write(ProxyVersion::V1, ends, &mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(v1(None), "PROXY UNKNOWN\r\n");
    assert_eq!(v1(ends("1.2.3.4:5", "6.7.8.9:10")), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    assert_eq!(v1(ends("[2000::1]:5", "[::1]:10")), "PROXY TCP6 2000::1 ::1 5 10\r\n");
    assert_eq!(v1(ends("1.2.3.4:5", "[::1]:10")), "PROXY TCP6 ::ffff:1.2.3.4 ::1 5 10\r\n");
    assert_eq!(
        v1(ends("[::ffff:1.2.3.4]:5", "6.7.8.9:10")),
        "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n",
        "a mapped address is the address that it maps"
    );
    let mut out = Vec::new();
    write(ProxyVersion::V2, ends("192.0.2.1:1000", "198.51.100.2:443"), &mut out);
    assert_eq!(out, tcp4(b""));
    out.clear();
    write(ProxyVersion::V2, None, &mut out);
    assert_eq!(out, v2(0x20, 0, b""));
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn any_ends() -> impl Strategy<Value = Option<Ends>> {
    let end = || (any_ip(), any::<u16>()).prop_map(SocketAddr::from);
    proptest::option::of(
        (end(), end()).prop_map(|(source, destination)| Ends { source, destination }),
    )
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

proptest! {
    #[test]
    fn what_is_written_reads_back_and_no_byte_of_it_is_spare(
        ends in any_ends(),
        version in prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)],
        payload in any::<[u8; 8]>(),
    ) {
        let mut out = Vec::new();
        write(version, ends, &mut out);
        for seen in 0..out.len() {
            prop_assert_eq!(parse(&out[..seen]), Ok(None));
        }
        let len = out.len();
        prop_assert!(version == ProxyVersion::V2 || len <= LINE_MAX);
        out.extend_from_slice(&payload);
        let (header, read) = parse(&out).expect("valid").expect("whole");
        prop_assert_eq!(read, len);
        let plain = |ends: Ends| (canonical(ends.source), canonical(ends.destination));
        prop_assert_eq!(header.ends.map(plain), ends.map(plain));
    }

    #[test]
    fn no_bytes_panic_and_more_of_them_change_no_verdict(
        start in prop_oneof![
            Just(&b""[..]), Just(LINE_START), Just(SIGNATURE), Just(&b"PROXY TCP4 "[..]),
            Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20"[..]),
            Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x40"[..]),
        ],
        rest in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b" .:0123456789\r\n"[..])], 0..200),
    ) {
        let input = [start, &rest].concat();
        let mut before = Ok(None);
        for seen in 0..=input.len() {
            let now = parse(&input[..seen]);
            if before != Ok(None) {
                prop_assert_eq!(now, before);
            }
            before = now;
        }
    }
}

#[test]
fn whether_it_is_a_header_is_known_as_early_as_can_be() {
    for (input, expected) in [
        (&b""[..], None),
        (b"P", None),
        (b"PROXY", None),
        (b"PROXY ", Some(true)),
        (b"PO", Some(false)),
        (b"PROXZ", Some(false)),
        (b"\r", None),
        (b"\r\n\r\n\0\r\nQUIT", None),
        (b"\r\n\r\n\0\r\nQUIT\n", Some(true)),
        (b"\r\n\r\nG", Some(false)),
        (b"GET / HTTP/1.1\r\n", Some(false)),
    ] {
        assert_eq!(is_header(input), expected, "{input:?}");
    }
}
