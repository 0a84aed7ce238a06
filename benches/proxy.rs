//! The pure cores on the request path: a head read and written, a pick, a route.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::base::Entropy;
use tidegate::model::{Action, Balance, HostPattern, Instance, Limit, Route};
use tidegate::proxy::balance::{Ask, Picker};
use tidegate::proxy::route::{Destination, RouteTable};
use tidegate::proxy::wire::chunked::{Decoded, Decoder};
use tidegate::proxy::wire::http1::{
    Forwarded, HeadLimits, parse_request, parse_response, write_request, write_response,
};
use tidegate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead, Version};

const REQUEST: &[u8] = b"GET /shop/basket?item=42 HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,application/xhtml+xml\r\n\
    Accept-Language: en\r\nAccept-Encoding: gzip, br\r\nCookie: session=0123456789abcdef\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nServer: x\r\n\
    Content-Type: text/html; charset=utf-8\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\n";

fn heads(c: &mut Criterion) {
    let forwarded = Forwarded { client: "192.0.2.7", scheme: "http" };
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let mut out = Vec::with_capacity(4096);
    c.bench_function("request head: read, write", |b| {
        b.iter(|| {
            out.clear();
            parse_request(black_box(REQUEST), &HeadLimits::default(), &mut request).expect("valid");
            write_request(&request, forwarded, &mut out);
        });
    });
    c.bench_function("response head: read, write", |b| {
        b.iter(|| {
            out.clear();
            parse_response(black_box(RESPONSE), Method::Get, &mut response).expect("valid");
            write_response(&response, BodyLength::Exactly(100), true, Version::Http11, &mut out);
        });
    });
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
        let members: Vec<Arc<Instance>> = (0..count)
            .map(|n| {
                Arc::new(Instance {
                    id: format!("i{n}").as_str().into(),
                    pool: "p".into(),
                    zone: ["a", "b", "c"][usize::from(n) % 3].into(),
                    address: ([127, 0, 0, 1], n).into(),
                    weight: 1,
                    vitals: Arc::default(),
                })
            })
            .collect();
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::Random] {
            let picker = Picker::build(balance, Limit::AtMost(200), &members);
            let (mut cursor, mut entropy) = (0, Entropy::seeded(1));
            c.bench_function(&format!("pick, {}, {count} instances", balance.word()), |b| {
                b.iter(|| picker.pick(&Ask::default(), &mut cursor, &mut entropy));
            });
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
            rewrite: Default::default(),
        })
        .chain([Route {
            listener: "l".into(),
            host: HostPattern::Suffix(".example.com".into()),
            path_prefix: "/shop/".into(),
            methods: Vec::new(),
            headers: Vec::new(),
            action: Action::Pool("p".into()),
            rewrite: Default::default(),
        }])
        .collect();
    let table = RouteTable::build(routes.iter().zip((0..).map(Destination::Pool)));
    let mut head = RequestHead::default();
    parse_request(REQUEST, &HeadLimits::default(), &mut head).expect("valid");
    c.bench_function("route by host, 101 routes", |b| b.iter(|| table.find(black_box(&head))));
}

criterion_group!(benches, heads, picks, routes);
criterion_main!(benches);
