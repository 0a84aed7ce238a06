use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

const START: Ms = Ms(5_000);

fn frame(kind: u8, flags: u8, stream: u32, len: u32) -> Frame {
    Frame { kind, flags, stream, len }
}

/// Sends the frame until it is too much; after how many, and for what.
fn flood(flood: &mut Flood, frame: Frame, now: Ms, most: u32) -> Option<(u32, FloodKind)> {
    (1..=most).find_map(|n| flood.received(frame, now).err().map(|kind| (n, kind)))
}

#[test]
fn each_kind_has_its_limit_in_a_second() {
    for (sent, kind, limit) in [
        (frame(kind::RST_STREAM, 0, 1, 4), FloodKind::Reset, 100),
        (frame(kind::PING, 0, 0, 8), FloodKind::Ping, 100),
        (frame(kind::SETTINGS, 0, 0, 0), FloodKind::Settings, 50),
        (frame(kind::DATA, 0, 1, 0), FloodKind::EmptyData, 100),
        (frame(kind::WINDOW_UPDATE, 0, 0, 4), FloodKind::ConnectionWindow, 100),
        (frame(kind::WINDOW_UPDATE, 0, 1, 4), FloodKind::StreamWindow, 100),
        (frame(kind::CONTINUATION, 0, 1, 9), FloodKind::Continuation, 20),
        (frame(2, 0, 1, 5), FloodKind::Glitch, 100),
        (frame(200, 0, 1, 5), FloodKind::Glitch, 100),
        (frame(kind::PING, 1, 0, 8), FloodKind::Glitch, 100),
        (frame(kind::SETTINGS, 1, 0, 0), FloodKind::Glitch, 100),
    ] {
        let mut counts = Flood::default();
        assert_eq!(flood(&mut counts, sent, START, 1_000), Some((limit + 1, kind)), "{sent:?}");
        let mut counts = Flood::default();
        for second in 0..5 {
            let now = START + WINDOW * second;
            let most = if kind == FloodKind::Continuation { 4 } else { limit };
            assert_eq!(flood(&mut counts, sent, now, most), None, "{sent:?} in second {second}");
        }
    }
}

#[test]
fn what_carries_something_is_no_flood() {
    let mut counts = Flood::default();
    for sent in
        [frame(kind::DATA, 1, 1, 0), frame(kind::DATA, 0, 1, 1), frame(kind::HEADERS, 5, 1, 9)]
    {
        assert_eq!(flood(&mut counts, sent, START, 100_000), None, "{sent:?}");
    }
}

#[test]
fn continuations_are_counted_by_head() {
    let mut counts = Flood::default();
    for _ in 0..50 {
        assert_eq!(counts.received(frame(kind::HEADERS, 0, 1, 9), START), Ok(()));
        assert_eq!(flood(&mut counts, frame(kind::CONTINUATION, 0, 1, 9), START, 20), None);
    }
}

#[test]
fn what_we_send_earns_what_a_client_answers_it_with() {
    let mut counts = Flood::default();
    // A download at full speed, whose acknowledgements come long after the data.
    for _ in 0..5_000 {
        counts.sent(frame(kind::DATA, 0, 1, 16_384));
    }
    for second in 0..10 {
        let now = START + WINDOW * second;
        for stream in [0, 1] {
            let update = frame(kind::WINDOW_UPDATE, 0, stream, 4);
            assert_eq!(flood(&mut counts, update, now, 1_000), None);
        }
        assert_eq!(flood(&mut counts, frame(kind::PING, 0, 0, 8), now, 500), None);
    }
    assert!(flood(&mut counts, frame(kind::PING, 0, 0, 8), START + WINDOW * 20, 200).is_some());
    // Answers that the client has seen the head of, and wants no more of.
    let mut counts = Flood::default();
    for _ in 0..5_000 {
        counts.sent(frame(kind::HEADERS, 4, 1, 30));
        assert_eq!(counts.received(frame(kind::RST_STREAM, 0, 1, 4), START), Ok(()));
    }
}

#[test]
fn resets_are_bounded_for_ever() {
    let mut counts = Flood::default();
    for n in 0..RESETS_MAX {
        let now = START + WINDOW * (n / 50);
        assert_eq!(counts.received(frame(kind::RST_STREAM, 0, 1, 4), now), Ok(()), "{n}");
    }
    let now = START + WINDOW * RESETS_MAX;
    assert_eq!(counts.received(frame(kind::RST_STREAM, 0, 1, 4), now), Err(FloodKind::Reset));
}

#[test]
fn who_resets_what_is_not_answered_must_take_as_many_answers() {
    let mut counts = Flood::default();
    for _ in 0..1_000 {
        assert_eq!(counts.reset_unanswered(), Ok(()));
        counts.answered();
    }
    for _ in 0..50 {
        assert_eq!(counts.reset_unanswered(), Ok(()));
    }
    assert_eq!(counts.reset_unanswered(), Err(FloodKind::AbusiveReset));
}

proptest! {
    /// However the bytes arrive, the frames are those that were written.
    #[test]
    fn frames_are_found_however_the_bytes_arrive(
        frames in proptest::collection::vec((any::<u8>(), any::<u8>(), 0u32..1 << 31, 0u32..300), 0..40),
        cuts in proptest::collection::vec(1usize..40, 1..20),
        client in any::<bool>(),
        reserved in any::<bool>(),
    ) {
        let frames: Vec<Frame> =
            frames.into_iter().map(|(kind, flags, stream, len)| frame(kind, flags, stream, len)).collect();
        let mut wire = vec![0xff; if client { PREFACE_LEN as usize } else { 0 }];
        for frame in &frames {
            wire.extend_from_slice(&frame.len.to_be_bytes()[1..]);
            wire.extend_from_slice(&[frame.kind, frame.flags]);
            wire.extend_from_slice(&(frame.stream | u32::from(reserved) << 31).to_be_bytes());
            wire.resize(wire.len() + frame.len as usize, 0xff);
        }
        let mut walker = if client { Frames::of_client() } else { Frames::default() };
        let (mut found, mut rest) = (Vec::new(), &wire[..]);
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(cut.min(rest.len()));
            let walked = walker.walk(now, |frame| {
                found.push(frame);
                Ok::<(), Infallible>(())
            });
            prop_assert!(walked.is_ok());
            rest = later;
        }
        prop_assert_eq!(found, frames);
    }
}
