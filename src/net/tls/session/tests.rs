use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::net::tls::ends::{Material, VERSIONS, localhost, material};

/// Moves what one end has to send to the other, `step` bytes at a time; whether there was any.
fn pass(from: &mut Session, to: &mut Session, step: usize) -> bool {
    let any = !from.outgoing().is_empty();
    while !from.outgoing().is_empty() {
        let len = from.outgoing().len().min(step);
        let room = to.room().expect("room");
        let len = len.min(room.len());
        room[..len].copy_from_slice(&from.outgoing()[..len]);
        from.sent(len, true);
        to.received(len);
        to.look();
        to.rest();
    }
    any
}

/// Lets both say what they have to say.
fn settle(client: &mut Session, server: &mut Session, step: usize) {
    client.look();
    for _ in 0..20 {
        if !pass(client, server, step) & !pass(server, client, step) {
            return;
        }
    }
    panic!("they never come to rest");
}

fn shaken(material: &Material, version: usize, step: usize) -> (Session, Session) {
    let (mut client, mut server) = material.sessions(&[VERSIONS[version]]);
    settle(&mut client, &mut server, step);
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (client, server)
}

fn write(session: &mut Session, bytes: &[u8]) -> usize {
    session.write(&[IoSlice::new(bytes)]).expect("written")
}

/// Reads all there is, in pieces of `step`.
fn read(session: &mut Session, step: usize) -> Vec<u8> {
    let (mut all, mut space) = (Vec::new(), vec![0; step]);
    loop {
        match session.read(&mut space) {
            0 => return all,
            n => all.extend_from_slice(&space[..n]),
        }
    }
}

/// The length of each record of data.
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(len);
        bytes = &rest[len..];
    }
    lengths
}

#[test]
fn what_is_written_is_read_whatever_the_pieces() {
    let material = material();
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n * 7 / 3) as u8).collect();
    for version in [0, 1] {
        for (transport, reads) in [(1, 7), (5, 100_000), (1_400, 1), (usize::MAX, 16_384)] {
            let (mut client, mut server) = shaken(&material, version, transport);
            let (mut sent, mut got) = (0, Vec::new());
            while sent < bytes.len() {
                sent += write(&mut client, &bytes[sent..]);
                // Both ways at once.
                write(&mut server, &bytes[..10]);
                while pass(&mut client, &mut server, transport.max(1_000)) {
                    got.extend(read(&mut server, reads));
                }
                pass(&mut server, &mut client, transport);
            }
            assert!(got == bytes, "{} of {} bytes came", got.len(), bytes.len());
            assert!(!read(&mut client, reads).is_empty());
            client.close();
            client.close();
            settle(&mut client, &mut server, transport);
            assert_eq!(server.ended(), Some(&Ended::Closed));
            server.close();
            settle(&mut client, &mut server, transport);
            assert_eq!(client.ended(), Some(&Ended::Closed));
        }
    }
}

#[test]
fn the_first_records_of_an_answer_are_small_and_batches_grow_while_they_are_taken() {
    let (mut client, mut server) = shaken(&material(), 0, usize::MAX);
    let bytes = vec![7; 1_000_000];
    let overhead = 17;
    let small = FIRST_PLAIN + overhead;
    assert_eq!(write(&mut server, &bytes), BATCH_MAX, "all was taken so far");
    let lengths = records(server.outgoing());
    assert_eq!(lengths[..5], [small, small, small, small, small]);
    assert!(lengths[5..].iter().all(|len| *len <= RECORD_PLAIN + overhead));
    let large = RECORD_PLAIN + overhead;
    assert_eq!(lengths[5], large);
    pass(&mut server, &mut client, usize::MAX);
    write(&mut server, &bytes);
    assert_eq!(records(server.outgoing()), [large; 4], "and then as large as may be");
    server.sent(0, false);
    let len = server.outgoing().len();
    assert_eq!(write(&mut server, &bytes), BATCH_MIN, "a slow client gets less at a time");
    assert!(server.outgoing().len() > len, "behind what waits");
    // A question, and the next answer.
    write(&mut client, b"?");
    pass(&mut client, &mut server, usize::MAX);
    pass(&mut server, &mut client, usize::MAX);
    assert_eq!(read(&mut server, 9), b"?");
    write(&mut server, &bytes);
    assert_eq!(records(server.outgoing())[0], small);
}

#[test]
fn a_head_shares_its_record_with_its_body() {
    let material = material();
    for (sizes, lengths) in [
        (&[100, 50][..], &[150][..]),
        (&[100, 0, 50], &[150]),
        (&[0, 50], &[50]),
        (&[100, 20_000], &[FIRST_PLAIN, FIRST_PLAIN, FIRST_PLAIN, FIRST_PLAIN]),
        (&[FIRST_PLAIN, 10], &[FIRST_PLAIN, 10]),
        (&[0, 0], &[]),
    ] {
        let (mut client, mut server) = shaken(&material, 0, usize::MAX);
        let bytes: Vec<u8> = (0..40_000u32).map(|n| (n / 3) as u8).collect();
        let mut at = 0;
        let pieces: Vec<IoSlice<'_>> = sizes
            .iter()
            .map(|size| {
                at += size;
                IoSlice::new(&bytes[at - size..at])
            })
            .collect();
        let written = server.write(&pieces).expect("written");
        let plain: Vec<usize> = records(server.outgoing()).iter().map(|len| len - 17).collect();
        assert_eq!(plain[..lengths.len()], *lengths, "{sizes:?}");
        pass(&mut server, &mut client, usize::MAX);
        assert_eq!(read(&mut client, 50_000), bytes[..written]);
    }
}

#[test]
fn only_what_there_is_room_for_is_decrypted_and_memory_goes_back() {
    let (mut client, mut server) = shaken(&material(), 0, usize::MAX);
    for _ in 0..4 {
        write(&mut client, &[7; 16_384]);
    }
    let room = server.room().expect("room");
    let sent = client.outgoing().len().min(room.len());
    room[..sent].copy_from_slice(&client.outgoing()[..sent]);
    server.received(sent);
    assert!(server.look() && server.has_data());
    assert_eq!(server.read(&mut [0; 100]), 100);
    assert!(server.held.len() < RECORD_PLAIN, "{} bytes are held", server.held.len());
    assert!(server.incoming().len() > 2 * RECORD_PLAIN, "the others are not decrypted");
    // An answer is encrypted after all that was received is.
    write(&mut server, b"x");
    assert_eq!(read(&mut server, 100_000).len(), 4 * 16_384 - 100);
    assert!(!server.look(), "all was read");
    server.rest();
    assert_eq!((server.incoming.room(0).len(), server.held.room(0).len()), (0, 0));
    assert_eq!(read(&mut server, 9), b"");
    assert_eq!(server.ended(), None);
}

#[test]
fn what_tls_says_to_itself_is_nothing_to_be_read() {
    let material = material();
    let name = localhost();
    let mut server = Session::server(material.server(&[&TLS13])).expect("a server");
    let mut client =
        rustls::ClientConnection::new(material.client(&[&TLS13]), name).expect("a client");
    let to_server = |client: &mut rustls::ClientConnection, server: &mut Session| {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("written");
        }
        if !wire.is_empty() {
            server.room().expect("room")[..wire.len()].copy_from_slice(&wire);
            server.received(wire.len());
        }
    };
    let to_client = |client: &mut rustls::ClientConnection, server: &mut Session| {
        let mut wire = server.outgoing();
        while !wire.is_empty() {
            client.read_tls(&mut wire).expect("read");
            client.process_new_packets().expect("processed");
        }
        server.sent(server.outgoing().len(), true);
    };
    for _ in 0..4 {
        to_server(&mut client, &mut server);
        server.look();
        to_client(&mut client, &mut server);
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    for _ in 0..3 {
        client.refresh_traffic_keys().expect("asked for");
        to_server(&mut client, &mut server);
        assert!(!server.look(), "new keys are not data");
        client.writer().write_all(b"question").expect("written");
        to_server(&mut client, &mut server);
        assert!(server.look());
        assert_eq!(read(&mut server, 3), b"question");
        write(&mut server, b"answer");
        to_client(&mut client, &mut server);
        let mut space = [0; 9];
        assert_eq!(client.reader().read(&mut space).expect("read"), 6);
    }
}

#[test]
fn ends_are_told_apart() {
    let material = material();
    for version in [0, 1] {
        let (mut client, mut server) = shaken(&material, version, usize::MAX);
        write(&mut client, b"abc");
        pass(&mut client, &mut server, usize::MAX);
        server.received(0);
        assert!(server.has_data());
        let mut space = [0; 9];
        assert_eq!(server.ended(), Some(&Ended::Truncated));

        let (mut client, mut server) = shaken(&material, version, usize::MAX);
        write(&mut client, b"abc");
        client.close();
        pass(&mut client, &mut server, usize::MAX);
        assert_eq!(server.read(&mut space), 3);
        assert_eq!(server.ended(), Some(&Ended::Closed));
        server.received(0);
        assert_eq!(server.ended(), Some(&Ended::Closed), "all was said before");
        // It may still be answered.
        write(&mut server, b"abcd");
        pass(&mut server, &mut client, usize::MAX);
        assert_eq!(read(&mut client, 9), b"abcd");

        let (mut client, mut server) = shaken(&material, version, usize::MAX);
        write(&mut client, b"abc");
        let len = client.outgoing().len();
        let room = server.room().expect("room");
        room[..len].copy_from_slice(client.outgoing());
        room[len - 1] ^= 1;
        server.received(len);
        assert!(server.look() && !server.has_data());
        assert_eq!(server.read(&mut space), 0, "nothing of it is believed");
        assert_eq!(server.ended(), Some(&Ended::Broken(Error::DecryptError)));
        assert!(!server.outgoing().is_empty(), "the peer is told");
        server.write(&[IoSlice::new(b"x")]).expect_err("it is over");
        pass(&mut server, &mut client, usize::MAX);
        let alert = rustls::AlertDescription::BadRecordMac;
        assert_eq!(client.ended(), Some(&Ended::Broken(Error::AlertReceived(alert))));
    }
}

#[test]
fn what_is_no_tls_is_refused_with_a_word() {
    let material = material();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", &[0; 99]]
    {
        let (_, mut server) = material.sessions(&VERSIONS);
        server.room().expect("room")[..bytes.len()].copy_from_slice(bytes);
        server.received(bytes.len());
        server.look();
        assert!(matches!(server.ended(), Some(Ended::Broken(_))), "{bytes:?}");
        assert_eq!(server.outgoing()[0], 21, "an alert");
        server.close();
        server.write(&[IoSlice::new(b"x")]).expect_err("no use");
    }
}

#[test]
fn a_message_that_never_ends_is_not_gathered_for_ever() {
    let (_, mut server) = material().sessions(&VERSIONS);
    // A hello of 64 KiB in records of one byte each.
    let mut hello = vec![1, 0, 0xff, 0xff];
    hello.resize(0xffff, 0);
    let mut refused = false;
    for byte in hello {
        let Some(room) = server.room() else {
            refused = true;
            break;
        };
        room[..6].copy_from_slice(&[22, 3, 1, 0, 1, byte]);
        server.received(6);
        server.look();
        refused |= server.ended().is_some();
    }
    assert!(refused, "{} bytes are held", server.incoming().len());
}

#[test]
fn sessions_are_resumed() {
    let material = material();
    for version in [&TLS13, &TLS12] {
        let (client_config, server_config) =
            (material.client(&[version]), material.server(&[version]));
        for resumed in [false, true, true] {
            let mut client =
                Session::client(Arc::clone(&client_config), localhost()).expect("a client");
            let mut server = Session::server(Arc::clone(&server_config)).expect("a server");
            settle(&mut client, &mut server, usize::MAX);
            assert_eq!((client.is_resumed(), server.is_resumed()), (resumed, resumed));
            write(&mut server, b"hello");
            settle(&mut client, &mut server, usize::MAX);
            assert_eq!(read(&mut client, 9), b"hello");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_garbage_makes_a_session_fail_to_end(bytes in proptest::collection::vec(any::<u8>(), 1..4_000), typ in 20u8..24) {
        thread_local! { static MATERIAL: Material = material(); }
        let (_, mut server) = MATERIAL.with(|material| material.sessions(&VERSIONS));
        let len = (bytes.len() as u16).to_be_bytes();
        let wire = [&[typ, 3, 3, len[0], len[1]][..], &bytes].concat();
        server.room().expect("room")[..wire.len()].copy_from_slice(&wire);
        server.received(wire.len());
        server.look();
        server.received(0);
        prop_assert!(server.ended().is_some() && server.is_handshaking());
        prop_assert_eq!(server.read(&mut [0; 9]), 0);
    }
}
