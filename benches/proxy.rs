//! The pure cores on the request path: a head read and written, a pick, a route.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::base::{Entropy, Ms};
use tidegate::model::{
    Action, Balance, ConnectMethod, FieldEdits, ForwardedStyle, HostPattern, Instance, Listener,
    ListenerLimits, ListenerTimeouts, Pool, Priority, Protocol, ProxyHeader, Rewrite, Route,
    SocketOptions, Template, TrafficPlan,
};
use tidegate::proxy::balance::{Ask, Cursor, Memory, Picker};
use tidegate::proxy::rewrite::{Facts, RequestId, UNCHANGED};
use tidegate::proxy::route::{Destination, RouteTable};
use tidegate::proxy::wire::chunked::{Decoded, Decoder};
use tidegate::proxy::wire::http1::{
    HeadLimits, Onward, parse_request, parse_response, write_request, write_response,
};
use tidegate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead};

const REQUEST: &[u8] = b"GET /shop/basket?item=42 HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,application/xhtml+xml\r\n\
    Accept-Language: en\r\nAccept-Encoding: gzip, br\r\nCookie: session=0123456789abcdef\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nServer: x\r\n\
    Content-Type: text/html; charset=utf-8\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\n";

fn onward() -> Onward<'static> {
    Onward { pool: &UNCHANGED, address: ([127, 0, 0, 1], 80).into(), expect: false }
}

fn listener() -> Listener {
    let second = Duration::from_secs(1);
    Listener {
        id: "front".into(),
        bind: Vec::new(),
        protocol: Protocol::Http,
        tls: None,
        pool: None,
        timeouts: ListenerTimeouts { head: second, idle: second, body: second },
        limits: ListenerLimits::default(),
        trusted: Vec::new(),
        proxy_protocol: ProxyHeader::default(),
        forwarded: ForwardedStyle::default(),
        request_id: Some("x-request-id".to_owned()),
        client_subjects: Arc::default(),
        connect: ConnectMethod::default(),
        socket: SocketOptions::default(),
        errors: Arc::default(),
    }
}

fn facts<'a>(
    head: &'a RequestHead,
    listener: &'a Listener,
    entropy: &mut Entropy,
    route: &'a Rewrite,
) -> Facts<'a> {
    Facts {
        head,
        listener,
        client: "192.0.2.7",
        scheme: "http",
        client_subject: None,
        trusted: false,
        request_id: Some(RequestId::of(head, "x-request-id", entropy)),
        date: [b' '; 29],
        route,
        priority: Priority::Normal,
    }
}

fn heads(c: &mut Criterion) {
    let listener = listener();
    let mut entropy = Entropy::seeded(1);
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let mut out = Vec::with_capacity(8192);
    c.bench_function("request head: read, write", |b| {
        b.iter(|| {
            out.clear();
            parse_request(black_box(REQUEST), &HeadLimits::default(), &mut request).expect("valid");
            let facts = facts(&request, &listener, &mut entropy, &UNCHANGED);
            write_request(&facts, &onward(), &mut out);
        });
    });
    c.bench_function("request head: write", |b| {
        b.iter(|| {
            out.clear();
            let facts = facts(black_box(&request), &listener, &mut entropy, &UNCHANGED);
            write_request(&facts, &onward(), &mut out);
        });
    });
    c.bench_function("response head: read, write", |b| {
        b.iter(|| {
            out.clear();
            parse_response(black_box(RESPONSE), Method::Get, &mut response).expect("valid");
            let facts = facts(&request, &listener, &mut entropy, &UNCHANGED);
            write_response(&response, BodyLength::Exactly(100), true, &facts, &UNCHANGED, &mut out);
        });
    });
    let facts = facts(&request, &listener, &mut entropy, &UNCHANGED);
    c.bench_function("response head: write", |b| {
        b.iter(|| {
            out.clear();
            let (response, body) = (black_box(&response), BodyLength::Exactly(100));
            write_response(response, body, true, &facts, &UNCHANGED, &mut out);
        });
    });
}

/// 100 fields, and twenty edits half of which are about them.
fn edits(c: &mut Criterion) {
    let listener = listener();
    let mut entropy = Entropy::seeded(1);
    let lines: String = (0..99).map(|n| format!("X-Field-{n}: value {n}\r\n")).collect();
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut request = RequestHead::default();
    parse_request(text.as_bytes(), &HeadLimits::default(), &mut request).expect("valid");
    let value = Template::parse("{client} asks for {path}").expect("a template");
    let route = FieldEdits {
        remove: (0..10).map(|n| format!("x-field-{}", n * 20)).collect(),
        set: (0..10).map(|n| (format!("x-set-{n}"), value.clone())).collect(),
        add: Vec::new(),
    };
    let route = Rewrite { request: route, response: FieldEdits::default() };
    let mut out = Vec::with_capacity(8192);
    for (name, route) in [("none", &UNCHANGED), ("20", &route)] {
        let facts = facts(&request, &listener, &mut entropy, route);
        c.bench_function(&format!("request head of 100 fields: write, {name} edited"), |b| {
            b.iter(|| {
                out.clear();
                write_request(black_box(&facts), &onward(), &mut out);
            });
        });
    }
}

fn chunks(c: &mut Criterion) {
    let body = b"400\r\n".iter().chain([b'x'; 1024].iter()).chain(b"\r\n0\r\n\r\n");
    let body: Vec<u8> = body.copied().collect();
    c.bench_function("chunked body of 1 KiB", |b| {
        b.iter(|| {
            let (mut decoder, mut at) = (Decoder::default(), 0);
            while let Ok(Decoded::Data { skip, len }) = decoder.decode(black_box(&body[at..])) {
                at += skip + len;
            }
        });
    });
}

fn picks(c: &mut Criterion) {
    for count in [4u16, 1_000] {
        let mut members: Vec<(Arc<Instance>, bool)> = (0..count)
            .map(|n| {
                let instance = Instance {
                    id: format!("i{n}").as_str().into(),
                    pool: "p".into(),
                    zone: ["a", "b", "c"][usize::from(n) % 3].into(),
                    address: ([127, 0, 0, 1], n).into(),
                    weight: 1,
                    vitals: Arc::default(),
                };
                (Arc::new(instance), true)
            })
            .collect();
        for balance in Balance::ALL {
            let pool = Pool { balance, ..Pool::new("p".into()) };
            let build = |members: &[(Arc<Instance>, bool)], memory: &Memory| {
                Picker::build(&pool, &TrafficPlan::default(), members, memory)
            };
            let memory = Memory::default();
            let picker = build(&members, &memory);
            let (mut cursor, mut entropy) = (Cursor::default(), Entropy::seeded(1));
            let mut hash = 0u64;
            c.bench_function(&format!("pick, {}, {count} instances", balance.word()), |b| {
                b.iter(|| {
                    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let ask = Ask { hash, now: Ms(1_000), ..Ask::default() };
                    picker.pick(&ask, &mut cursor, &mut entropy)
                });
            });
            c.bench_function(&format!("picker, {}, {count} instances: new", balance.word()), |b| {
                b.iter(|| build(&members, &Memory::default()));
            });
            c.bench_function(
                &format!("picker, {}, {count} instances: one flaps", balance.word()),
                |b| {
                    b.iter(|| {
                        members[0].1 ^= true;
                        build(&members, &memory)
                    });
                },
            );
        }
    }
}

fn routes(c: &mut Criterion) {
    let routes: Vec<Route> = (0..100)
        .map(|n| Route {
            listener: "l".into(),
            host: HostPattern::Exact(format!("host{n}.example.com")),
            path_prefix: "/".into(),
            methods: Vec::new(),
            headers: Vec::new(),
            action: Action::Pool("p".into()),
            priority: Priority::Normal,
            rewrite: Default::default(),
        })
        .chain([Route {
            listener: "l".into(),
            host: HostPattern::Suffix(".example.com".into()),
            path_prefix: "/shop/".into(),
            methods: Vec::new(),
            headers: Vec::new(),
            action: Action::Pool("p".into()),
            priority: Priority::Normal,
            rewrite: Default::default(),
        }])
        .collect();
    let table = RouteTable::build(routes.iter().zip((0..).map(Destination::Pool)));
    let mut head = RequestHead::default();
    parse_request(REQUEST, &HeadLimits::default(), &mut head).expect("valid");
    c.bench_function("route by host, 101 routes", |b| b.iter(|| table.find(black_box(&head))));
}

criterion_group!(benches, heads, edits, chunks, picks, routes);
criterion_main!(benches);
