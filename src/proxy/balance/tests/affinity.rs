//! Keys and cookies.

use std::time::Duration;

use super::super::{Keys, Why, bind, cost_of, of_client, of_connection, of_request, verdict};
use super::*;
use crate::model::{HashKey, Sticky};
use crate::proxy::wire::http1::{HeadLimits, parse_request, parse_response};
use crate::proxy::wire::{Method, RequestHead, ResponseHead};

fn request(lines: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let text = format!("GET /a/b?c HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    parse_request(text.as_bytes(), &HeadLimits::default(), &mut head).expect("valid");
    head
}

fn response(lines: &str) -> ResponseHead {
    let mut head = ResponseHead::default();
    let text = format!("HTTP/1.1 {lines}Content-Length: 0\r\n\r\n");
    parse_response(text.as_bytes(), Method::Get, &mut head).expect("valid");
    head
}

#[test]
fn keys_of_requests() {
    let client = "192.0.2.7".parse().expect("an address");
    let of = |key: &HashKey, lines: &str| of_request(key, &request(lines), Some("a.test"), client);
    let hash = xxhash_rust::xxh3::xxh3_64;
    assert_eq!(of_client(client), hash(&[192, 0, 2, 7]));
    assert_eq!(of_client("::ffff:192.0.2.7".parse().expect("an address")), of_client(client));
    let (header, cookie) = (HashKey::Header("x-user".into()), HashKey::Cookie("id".into()));
    for (key, lines, expected) in [
        (&HashKey::ClientAddress, "X-User: 7\r\n", of_client(client)),
        (&HashKey::Path, "", hash(b"/a/b")),
        (&header, "X-USER: 7\r\nX-User: 8\r\n", hash(b"7")),
        (&header, "X-Users: 7\r\n", of_client(client)),
        (&cookie, "Cookie: a=1; id=7\r\n", hash(b"7")),
        (&cookie, "Cookie: ID=1;x\r\ncookie: xid=2;id = a=b ; id=3\r\n", hash(b"a=b")),
        (&cookie, "Cookie: id\r\n", of_client(client)),
    ] {
        assert_eq!(of(key, lines), expected, "{key:?} {lines:?}");
    }
    assert_eq!(of(&HashKey::Sni, ""), hash(b"a.test"));
    assert_eq!(of_connection(&HashKey::Sni, Some("a.test"), client), hash(b"a.test"));
    assert_eq!(of_connection(&HashKey::Sni, None, client), of_client(client));
    assert_eq!(of_connection(&HashKey::Path, Some("a.test"), client), of_client(client));
}

#[test]
fn a_call_that_failed_at_once_says_what_a_status_would() {
    for (lines, expected) in [
        ("200 OK\r\ngrpc-status: 14\r\n", 503),
        ("200 OK\r\ngrpc-status: 2\r\n", 500),
        ("200 OK\r\ngrpc-status: 8\r\n", 429),
        ("200 OK\r\ngrpc-status: 16\r\n", 200),
        ("404 No\r\ngrpc-status: 14\r\n", 404),
        ("200 OK\r\n", 200),
    ] {
        assert_eq!(verdict(&response(lines)), expected, "{lines:?}");
    }
}

#[test]
fn answers_cost_what_they_take_unless_they_refuse() {
    let ms = Duration::from_millis;
    for (lines, took, expected) in [
        ("200 OK\r\n", ms(7), ms(7)),
        ("404 No\r\nRetry-After: 9\r\n", ms(7), ms(7)),
        ("429 No\r\n", ms(7), ms(5_000)),
        ("500 No\r\n", ms(7_000), ms(7_000)),
        ("503 No\r\nRetry-After: 30\r\n", ms(7), ms(30_000)),
        ("503 No\r\nRetry-After: 0\r\n", ms(7), ms(5_000)),
        ("503 No\r\nRetry-After: 86400\r\n", ms(7), ms(300_000)),
        ("503 No\r\nRetry-After: +30\r\n", ms(7), ms(5_000)),
        ("503 No\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", ms(7), ms(5_000)),
        ("200 OK\r\ngrpc-status: 0\r\n", ms(7), ms(7)),
        ("200 OK\r\ngrpc-status: 5\r\n", ms(7), ms(7)),
        ("200 OK\r\ngrpc-status: 13\r\n", ms(7), ms(5_000)),
        ("200 OK\r\ngrpc-status: 14\r\ngrpc-retry-pushback-ms: 9000\r\n", ms(7), ms(9_000)),
        ("200 OK\r\ngrpc-status: 14\r\ngrpc-retry-pushback-ms: -1\r\n", ms(7), ms(5_000)),
    ] {
        assert_eq!(cost_of(&response(lines), took), expected, "{lines:?}");
    }
}

fn sticky_picker(members: &[Arc<Instance>], memory: &Memory, limit: Limit) -> Picker {
    let mut pool = pool(Balance::LeastRequest, limit);
    pool.affinity.sticky = Some(Sticky { cookie: "s".into(), ttl: None });
    Picker::build(&pool, &TrafficPlan::default(), &all(members), memory)
}

fn memory(keys: &[u8]) -> Memory {
    let memory = Memory::default();
    memory.know_keys(|| Arc::new(Keys::new(keys.iter().map(|byte| [*byte; 32]).collect())));
    memory
}

/// The cookie that binds a client to this instance.
fn cookie(picker: &Picker, instance: &Instance) -> String {
    let mut head = response("200 OK\r\n");
    let token = picker.token(instance).expect("it is admitted");
    bind(&mut head, &Sticky { cookie: "s".into(), ttl: None }, token, false);
    let value = head.fields.value("set-cookie").expect("a cookie");
    let text = String::from_utf8(value.to_vec()).expect("text");
    text.split_once(';').expect("attributes").0.strip_prefix("s=").expect("named").to_owned()
}

#[test]
fn the_cookie_says_no_more_than_it_must() {
    let members = alike(1);
    let it = sticky_picker(&members, &memory(&[1]), Limit::Unlimited);
    let token = it.token(&members[0]).expect("admitted");
    let ttl = Some(Duration::from_secs(3_600));
    for (ttl, secure, expected) in [
        (None, false, " Path=/; HttpOnly; SameSite=Lax"),
        (ttl, false, " Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"),
        (ttl, true, " Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"),
    ] {
        let mut head = response("200 OK\r\n");
        bind(&mut head, &Sticky { cookie: "s".into(), ttl }, token, secure);
        let value = String::from_utf8_lossy(head.fields.value("set-cookie").expect("there"));
        let (name, attributes) = value.split_once(';').expect("attributes");
        assert_eq!(attributes, expected);
        assert_eq!(name.len(), "s=1".len() + 22, "{name}");
    }
}

#[test]
fn a_client_stays_bound_until_its_instance_leaves() {
    let members = alike(5);
    let memory = memory(&[1]);
    let it = sticky_picker(&members, &memory, Limit::AtMost(2));
    let value = cookie(&it, &members[3]);
    let bound = it.bound(value.as_bytes());
    assert_eq!(bound, Some(members[3].vitals.serial));
    let ask = Ask { bound, ..Ask::default() };
    let mut hand = Hand::new(1);
    let one = hand.pick(&it, &ask);
    assert_eq!((one.slot.instance().id.as_str(), one.why), ("i3", Why::Sticky));
    let two = hand.pick(&it, &ask);
    assert_eq!(two.why, Why::Sticky, "however busy it is");
    let elsewhere = hand.pick(&it, &ask);
    assert_eq!(elsewhere.why, Why::Balanced, "full: another serves it");
    drop((one, two, elsewhere));
    members[3].vitals.suspect();
    assert_ne!(hand.name(&it, &ask), "i3");
    members[3].vitals.clear_suspicion();
    let tried = [members[3].vitals.serial];
    assert_ne!(hand.name(&it, &Ask { tried: &tried, ..ask }), "i3");
    let zone = members[3].zone.clone();
    assert_eq!(hand.name(&it, &Ask { avoid: Some(&zone), ..ask }), "i3");
    // Others come and go, the daemon starts again: the same. It leaves: not.
    let others = [alike(3), vec![Arc::clone(&members[3])]].concat();
    let again = sticky_picker(&others, &self::memory(&[1]), Limit::AtMost(2));
    assert_eq!(again.bound(value.as_bytes()), bound);
    let without = sticky_picker(&members[..3], &memory, Limit::AtMost(2));
    assert_eq!(without.bound(value.as_bytes()), None);
}

#[test]
fn foreign_and_forged_cookies_bind_nobody() {
    let members = alike(3);
    let it = sticky_picker(&members, &memory(&[1]), Limit::Unlimited);
    let good = cookie(&it, &members[0]);
    assert!(it.bound(good.as_bytes()).is_some());
    let foreign = cookie(&sticky_picker(&members, &memory(&[2]), Limit::Unlimited), &members[0]);
    let mut flipped = good.clone().into_bytes();
    flipped[5] ^= 1;
    for value in [
        foreign.as_bytes(),
        &flipped,
        b"",
        b"1",
        b"i0",
        &good.as_bytes()[1..],
        &good.as_bytes()[..22],
        format!("2{}", &good[1..]).as_bytes(),
        format!("{good}A").as_bytes(),
        "1".repeat(5_000).as_bytes(),
    ] {
        assert_eq!(it.bound(value), None, "{}", String::from_utf8_lossy(value));
    }
    // A new key goes before the old one, whose cookies are still known.
    let rotated = sticky_picker(&members, &memory(&[7, 1]), Limit::Unlimited);
    assert_eq!(rotated.bound(good.as_bytes()), it.bound(good.as_bytes()));
    assert_ne!(cookie(&rotated, &members[0]), good);
    // Where no clients are bound there are no tokens.
    let plain = picker(Balance::LeastRequest, Limit::Unlimited, &members);
    assert_eq!((plain.bound(good.as_bytes()), plain.token(&members[0])), (None, None));
}
