use super::*;

fn check() -> HttpCheck {
    HttpCheck::get("/healthz")
}

fn of_address(check: &HttpCheck, last: bool) -> String {
    let address = "10.0.0.1:80".parse().expect("an address");
    String::from_utf8(request(check, address, last)).expect("text")
}

#[test]
fn requests_say_what_is_configured() {
    assert_eq!(
        of_address(&check(), false),
        "GET /healthz HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: tidegate-probe\r\n\
         Accept: */*\r\n\r\n"
    );
    let check = HttpCheck {
        method: "HEAD".into(),
        host: Some("app.example".into()),
        headers: vec![("x-probe".into(), "1".into()), ("user-agent".into(), "me".into())],
        ..check()
    };
    assert_eq!(
        of_address(&check, true),
        "HEAD /healthz HTTP/1.1\r\nHost: app.example\r\nAccept: */*\r\nx-probe: 1\r\n\
         user-agent: me\r\nConnection: close\r\n\r\n"
    );
}

/// The verdict on an answer that comes whole or stays away, and whether its connection is kept.
fn judged(check: &HttpCheck, answer: &str) -> (Option<Result<(), ProbeError>>, bool) {
    let bytes = answer.as_bytes();
    match head(bytes, check.method == "HEAD") {
        Ok(Some(head)) => {
            let body = head.body(bytes, false);
            (head.judge(check, &body), head.can_follow(&body))
        }
        Ok(None) => (None, false),
        Err(error) => (Some(Err(error)), false),
    }
}

#[test]
fn answers_are_framed_before_their_connection_is_used_again() {
    let ok = Some(Ok(()));
    let table = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ok.clone(), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", ok.clone(), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", ok.clone(), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", ok.clone(), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", ok.clone(), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok", ok.clone(), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", ok.clone(), false),
        ("HTTP/1.1 204 No Content\r\n\r\n", ok.clone(), true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", ok.clone(), true),
        ("HTTP/1.1 200 OK\r\n\r\nok", ok.clone(), false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            ok.clone(),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\na: b\r\n\r\n",
            ok.clone(),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
            ok.clone(),
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay0\r\n\r\n",
            ok.clone(),
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            ok.clone(),
            false,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ok.clone(), false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            ok.clone(),
            false,
        ),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n", ok.clone(), true),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", None, false),
        ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", ok, false),
        ("HTTP/1.1 200 OK\r\nContent-Le", None, false),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Some(Err(ProbeError::Status(503))), true),
        ("hello\r\n", Some(Err(ProbeError::NotHttp)), false),
    ];
    for (answer, verdict, keeps) in table {
        assert_eq!(judged(&check(), answer), (verdict, keeps), "{answer}");
    }
    let head = HttpCheck { method: "HEAD".into(), ..check() };
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n";
    assert_eq!(judged(&head, answer), (Some(Ok(())), true), "it has no body");
}

#[test]
fn statuses_and_bodies_are_judged() {
    let check =
        HttpCheck { status: vec![200..=200, 404..=499], body: Some("all good".into()), ..check() };
    let table = [
        ("200 OK\r\nContent-Length: 12\r\n\r\n\"all good\".\n", Some(Ok(()))),
        ("404 No\r\nContent-Length: 8\r\n\r\nall good", Some(Ok(()))),
        ("201 OK\r\nContent-Length: 8\r\n\r\nall good", Some(Err(ProbeError::Status(201)))),
        ("200 OK\r\nContent-Length: 7\r\n\r\nall bad", Some(Err(ProbeError::Body))),
        ("200 OK\r\nContent-Length: 9\r\n\r\nall goo", None),
        ("200 OK\r\nContent-Length: 90\r\n\r\nall good and", Some(Ok(()))),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n4;x=y\r\ngood\r\n",
            Some(Ok(())),
        ),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n4\r\ngoo", None),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n",
            Some(Err(ProbeError::Body)),
        ),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\nwhat\r\n", Some(Err(ProbeError::Body))),
        ("200 OK\r\n\r\nall good", Some(Ok(()))),
        ("200 OK\r\n\r\nall", None),
    ];
    for (answer, verdict) in table {
        assert_eq!(judged(&check, &format!("HTTP/1.1 {answer}")).0, verdict, "{answer}");
    }
}

#[test]
fn the_end_of_the_connection_ends_a_body_without_a_length() {
    let check = HttpCheck { body: Some("all good".into()), ..check() };
    let bytes = b"HTTP/1.1 200 OK\r\n\r\nall";
    let head = head(bytes, false).expect("HTTP").expect("whole");
    assert_eq!(head.judge(&check, &head.body(bytes, true)), Some(Err(ProbeError::Body)));
}
