//! TLS with curl and openssl as clients, and with nginx as an instance.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::authority::{Authority, Files};
use crate::daemon::{BINARY, Daemon, free_address};
use crate::interop::{LARGE, Stage, client, has_instances, listener, listening, same, start_nginx};
use crate::tools::{Ended, has};

/// An instance that tells what it was asked.
fn whoami() -> (SocketAddr, Ended) {
    let address = free_address();
    let mut command = Command::new(BINARY);
    (address, listening(address, command.args(["whoami", "--listen", &address.to_string()])))
}

/// A daemon with one HTTPS listener, with these of its keys, before an instance that tells what it
/// was asked.
fn front(tls: &str) -> (Daemon, SocketAddr, Ended) {
    let (instance, ended) = whoami();
    let bind = free_address();
    (Daemon::start(&listener("web", bind, instance, tls)), bind, ended)
}

/// Runs a shell and gives all it said, whatever the end.
fn shell(script: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60", "sh", "-c", &format!("exec 2>&1; {script}")]);
    let output = command.stdin(Stdio::null()).output().expect("timeout runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What openssl says of a handshake, and of a request after it.
fn s_client(bind: SocketAddr, more: &str) -> String {
    let request = "GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n";
    shell(&format!("printf '{request}' | openssl s_client -connect {bind} -ign_eof {more}"))
}

/// What openssl says of a handshake alone.
fn handshake(bind: SocketAddr, more: &str) -> String {
    shell(&format!("openssl s_client -connect {bind} {more}"))
}

/// The code and what else `format` asks for, or how curl failed.
fn curl(url: &str, more: &[&str]) -> Result<String, i32> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--noproxy", "*"]).args(more).arg(url);
    let output = command.stderr(Stdio::null()).output().expect("curl runs");
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => Err(code.expect("it was not killed")),
    }
}

#[test]
fn openssl_resumes_sessions_on_any_worker() {
    if !has("openssl", "openssl") {
        return;
    }
    let authority = Authority::new("tests");
    let (daemon, bind, _instance) = front(&authority.issue_local().https());
    for version in ["tls1_2", "tls1_3"] {
        let session = authority.folder().join(version).display().to_string();
        let first = s_client(bind, &format!("-{version} -sess_out {session}"));
        assert!(first.contains("\nNew, TLSv1."), "{first}");
        assert!(first.contains("HTTP/1.1 200 OK"), "{first}");
        // Connections go to one of two workers by their port: ten are hardly all with one.
        for _ in 0..10 {
            let again = s_client(bind, &format!("-{version} -sess_in {session}"));
            assert!(again.contains("\nReused, TLSv1."), "{version}: {again}");
            assert!(again.contains("HTTP/1.1 200 OK"), "{again}");
        }
    }
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn openssl_is_given_the_protocol_that_it_asks_for() {
    if !has("openssl", "openssl") {
        return;
    }
    let authority = Authority::new("tests");
    let (_daemon, bind, _instance) = front(&authority.issue_local().https());
    for version in ["-tls1_2", "-tls1_3"] {
        for (offered, expected) in [
            ("-alpn h2,http/1.1", "ALPN protocol: h2\n"),
            ("-alpn http/1.1,h2", "ALPN protocol: h2\n"),
            ("-alpn http/1.1", "ALPN protocol: http/1.1\n"),
            ("-alpn spdy/1,http/1.1", "ALPN protocol: http/1.1\n"),
            ("", "No ALPN negotiated\n"),
            // RFC 7301 §3.2: nothing in common is an alert.
            ("-alpn smtp", "no application protocol"),
        ] {
            let seen = handshake(bind, &format!("{version} {offered}"));
            assert!(seen.contains(expected), "{offered}: {seen}");
        }
    }
}

#[test]
fn openssl_is_shown_the_certificate_of_the_name_it_asks_for() {
    if !has("openssl", "openssl") {
        return;
    }
    let authority = Authority::new("tests");
    let certificates = [
        authority.issue_local(),
        authority.issue("one", &["a.test", "b.test"]),
        authority.issue("any", &["*.b.test"]),
        authority.issue("exact", &["x.b.test"]),
    ];
    let tables: Vec<String> = certificates.iter().map(Files::table).collect();
    let keys = format!("protocol = \"https\"\ntls.certificates = [{}]", tables.join(", "));
    let (_daemon, bind, _instance) = front(&keys);
    for (name, expected) in [
        ("-servername a.test", "one"),
        ("-servername b.test", "one"),
        ("-servername A.TEST", "one"),
        ("-servername y.b.test", "any"),
        ("-servername x.b.test", "exact"),
        // A wildcard is one label.
        ("-servername z.y.b.test", "local"),
        ("-servername other.test", "local"),
        ("-noservername", "local"),
    ] {
        let verify = format!("-CAfile {} -verify_return_error", authority.ca());
        let seen = handshake(bind, &format!("{verify} {name}"));
        // Newer ones write no spaces there.
        let subject = format!("subject=CN={expected}\n");
        assert!(seen.replace("CN = ", "CN=").contains(&subject), "{name}: {seen}");
        assert!(seen.contains("Verification: OK"), "{name}: {seen}");
    }
}

#[test]
fn openssl_is_given_a_stapled_answer_of_the_authority() {
    if !has("openssl", "openssl") {
        return;
    }
    let authority = Authority::new("tests");
    let files = authority.issue_local();
    let told = shell(&format!(
        "cd {} && serial=$(openssl x509 -in local.pem -noout -serial | cut -d= -f2) && \
         printf 'V\\t491231235959Z\\t\\t%s\\tunknown\\t/CN=local\\n' $serial >index.txt && \
         openssl ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem \
         -cert local.pem -respout local.ocsp -ndays 7",
        authority.folder().display()
    ));
    let answer = authority.folder().join("local.ocsp");
    assert!(answer.exists(), "{told}");
    let with_answer = files.table().replace(" }", &format!(", ocsp = \"{}\" }}", answer.display()));
    let keys = format!("protocol = \"https\"\ntls.certificates = [{with_answer}]");
    let (_daemon, bind, _instance) = front(&keys);
    for version in ["-tls1_2", "-tls1_3"] {
        let seen = handshake(bind, &format!("{version} -status -CAfile {}", authority.ca()));
        assert!(seen.contains("OCSP Response Status: successful (0x0)"), "{seen}");
        assert!(seen.contains("Cert Status: good"), "{seen}");
        // Who does not ask gets none.
        let seen = handshake(bind, version);
        assert!(!seen.contains("OCSP Response Data"), "{seen}");
    }
}

#[test]
fn openssl_is_refused_versions_that_are_too_old() {
    if !has("openssl", "openssl") {
        return;
    }
    let authority = Authority::new("tests");
    let files = authority.issue_local();
    for (keys, refused, taken) in [
        ("", ["-tls1", "-tls1_1"].as_slice(), ["-tls1_2", "-tls1_3"].as_slice()),
        ("tls.min_version = \"1.3\"", &["-tls1_1", "-tls1_2"], &["-tls1_3"]),
    ] {
        let (_daemon, bind, _instance) = front(&format!("{}{keys}", files.https()));
        for version in refused {
            // What it would do if it were asked: by itself openssl offers no TLS 1.1 any more.
            let seen = handshake(bind, &format!("{version} -cipher DEFAULT@SECLEVEL=0"));
            // Which alert it is depends on what rustls misses first in so old a hello.
            assert!(seen.contains("SSL alert number"), "{keys} {version}: {seen}");
            assert!(seen.contains("Cipher is (NONE)"), "{keys} {version}: {seen}");
        }
        for version in taken {
            let seen = s_client(bind, version);
            assert!(seen.contains("HTTP/1.1 200 OK"), "{keys} {version}: {seen}");
        }
    }
}

#[test]
fn curl_trusts_only_the_authority_that_signed() {
    if !has("curl", "curl") {
        return;
    }
    let (authority, other) = (Authority::new("tests"), Authority::new("others"));
    let (_daemon, bind, _instance) = front(&authority.issue_local().https());
    let url = format!("https://{bind}/");
    for version in ["1.2", "1.3"] {
        let only = ["--tls-max", version, "-o", "/dev/null", "-w", "%{http_code}"];
        let with = |ca: &Authority| curl(&url, &[&only[..], &["--cacert", &ca.ca()]].concat());
        assert_eq!(with(&authority), Ok("200".into()));
        // 60: the certificate could not be verified.
        assert_eq!(with(&other), Err(60));
    }
}

#[test]
fn curl_shows_its_certificate_and_instances_learn_whose_it_is() {
    if !has("curl", "curl") {
        return;
    }
    let (authority, other) = (Authority::new("tests"), Authority::new("others"));
    let (alice, stranger) = (authority.issue("alice", &[]), other.issue("alice", &[]));
    let (instance, _ended) = whoami();
    let [required, optional, plain] = [(); 3].map(|()| free_address());
    let asks =
        format!("{}tls.client_ca = \"{}\"\n", authority.issue_local().https(), authority.ca());
    let daemon = Daemon::start(
        &[
            listener("required", required, instance, &asks),
            listener(
                "optional",
                optional,
                instance,
                &format!("{asks}tls.client_auth = \"optional\""),
            ),
            listener("plain", plain, instance, ""),
        ]
        .concat(),
    );
    let forged = ["-H", "X-Client-Subject: CN=mallory", "-H", "x_client_subject: CN=mallory"];
    let ask = |bind: SocketAddr, version: &[&str], shown: Option<&Files>| {
        let ca = authority.ca();
        let files = shown.map(|it| [it.cert.display().to_string(), it.key.display().to_string()]);
        let mut all = [&["--cacert", &ca], &forged[..], version].concat();
        if let Some([cert, key]) = &files {
            all.extend(["--cert", cert, "--key", key]);
        }
        let scheme = if bind == plain { "http" } else { "https" };
        curl(&format!("{scheme}://{bind}/"), &all)
    };
    for version in [
        ["--tls-max", "1.2", "--http1.1"],
        ["--tls-max", "1.3", "--http1.1"],
        ["--tls-max", "1.2", "--http2"],
        ["--tls-max", "1.3", "--http2"],
    ] {
        for bind in [required, optional] {
            let seen = ask(bind, &version, Some(&alice)).expect("let in");
            let subjects: Vec<&str> =
                seen.lines().filter(|line| line.contains("client-subject")).collect();
            assert!(subjects.len() == 1 && subjects[0].contains("alice"), "{version:?}: {seen}");
            assert!(!seen.contains("mallory"), "{version:?}: {seen}");
            ask(bind, &version, Some(&stranger)).expect_err("somebody else's");
        }
        ask(required, &version, None).expect_err("there is none");
        let seen = ask(optional, &version, None).expect("let in");
        assert!(!seen.contains("mallory") && !seen.contains("client-subject"), "{seen}");
        let seen = ask(plain, &version, None).expect("let in");
        assert!(!seen.contains("mallory") && !seen.contains("client-subject"), "{seen}");
    }
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn nginx_as_an_instance_is_verified_and_asks_for_a_certificate() {
    if !has_instances() || !has("curl", "curl") {
        return;
    }
    let (authority, other) = (Authority::new("tests"), Authority::new("others"));
    let server = authority.issue("server", &["app.internal"]);
    let own = authority.issue("tidegate", &[]);
    let instance = free_address();
    let dir = tempfile::tempdir().expect("a folder");
    let locations = format!(
        "ssl_certificate {};\nssl_certificate_key {};\nssl_client_certificate {};\n\
         ssl_verify_client on;\nssl_protocols TLSv1.2 TLSv1.3;\nlocation / {{ return 200 \"$server_protocol $ssl_protocol \
         $ssl_server_name $ssl_client_s_dn\"; }}\n",
        server.cert.display(),
        server.key.display(),
        authority.ca()
    );
    let _nginx = start_nginx(instance, "ssl http2", dir.path(), &locations);
    let (cert, key) = (own.cert.display(), own.key.display());
    let shown = format!("cert = \"{cert}\", key = \"{key}\"");
    let (ca, others) = (authority.ca(), other.ca());
    // What stands in upstream_tls, and what nginx then says of the connection.
    let cases = [
        (format!("ca = \"{ca}\", server_name = \"app.internal\", {shown}"), "TLSv1.3 app.internal"),
        (
            format!("verify = false, server_name = \"app.internal\", {shown}"),
            "TLSv1.3 app.internal",
        ),
        (format!("ca = \"{others}\", server_name = \"app.internal\", {shown}"), ""),
        (format!("ca = \"{ca}\", server_name = \"other.internal\", {shown}"), ""),
        (format!("ca = \"{ca}\", {shown}"), ""),
    ];
    let mut config = String::new();
    let mut asked = Vec::new();
    for (version, protocol) in [("http1", "HTTP/1.1"), ("h2", "HTTP/2.0")] {
        for (number, (tls, expected)) in cases.iter().enumerate() {
            let (name, bind) = (format!("{version}-{number}"), free_address());
            let keys = format!("upstream = \"{version}\"\nupstream_tls = {{ {tls} }}\n");
            let pool = format!("[pool.{name}]\n");
            let text = listener(&name, bind, instance, "").replace(&pool, &format!("{pool}{keys}"));
            config.push_str(&text);
            asked.push((name, bind, protocol, *expected));
        }
    }
    let daemon = Daemon::start(&config);
    for (name, bind, protocol, expected) in asked {
        let told = ["-w", "\n%{http_code}"];
        let seen = curl(&format!("http://{bind}/"), &told).expect("an answer");
        if expected.is_empty() {
            assert!(seen.ends_with("\n502"), "{name}: {seen}");
            let failed = daemon.metric("tidegate_failures_total", &format!("pool=\"{name}\""));
            assert_eq!(failed, 1.0, "{name}");
        } else {
            assert_eq!(seen, format!("{protocol} {expected} CN=tidegate\n200"), "{name}");
        }
    }
    let log = fs::read_to_string(dir.path().join("error.log")).unwrap_or_default();
    assert!(!log.contains("[crit]") && !log.contains("[alert]"), "{log}");
}

#[test]
fn curl_over_every_version_of_tls() {
    if !has_instances() || !has("curl", "curl") {
        return;
    }
    let authority = Authority::new("tests");
    let stage = Stage::set_behind(&authority.issue_local().https());
    let [small, large, down] = ["small", "large", "down"].map(|name| stage.file(name));
    let ca = authority.ca();
    for (name, bind) in stage.whole() {
        let url = |path: &str| format!("https://{bind}{path}");
        let sum = client("sha256sum", &[&large]).0;
        let expected = format!("\"length\":{},\"sha256\":\"{}\"", LARGE, &sum[..64]);
        for tls in ["1.2", "1.3"] {
            for (http, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
                let what = format!("{name}, TLS {tls}, HTTP/{version}");
                let curl = |more: &[&str]| {
                    let all = ["-sS", "--cacert", &ca, "--tls-max", tls, http];
                    client("curl", &[&all[..], more].concat()).0
                };
                for (path, original) in
                    [("/small", &small), ("/large", &large), ("/chunked", &large)]
                {
                    let told = ["-w", "%{http_code} %{http_version} %{num_connects}\n"];
                    let urls = ["-o", &down, &url("/small"), "-o", &down, &url(path)];
                    let told = curl(&[&told[..], &urls].concat());
                    assert_eq!(
                        told,
                        format!("200 {version} 1\n200 {version} 0\n"),
                        "{what}: {path}"
                    );
                    assert!(same(&down, original), "{what}: {path}");
                }
                let head = curl(&["-I", &url("/small")]).to_ascii_lowercase();
                assert!(head.starts_with(&format!("http/{version} 200")), "{what}: {head}");
                assert!(head.contains("content-length: 1000\r\n"), "{what}: {head}");
                let data = format!("@{large}");
                // curl asks before it sends more than a mebibyte in HTTP/1.1.
                let seen = curl(&["--data-binary", &data, &url("/echo")]);
                assert!(seen.contains(&expected), "{what}: {seen}");
                let quiet =
                    ["--no-progress-meter", "-Z", "--parallel-max", "20", "-o", "/dev/null"];
                let many = url("/small?n=[1-300]");
                let codes = curl(&[&quiet[..], &["-w", "%{http_code}\n", &many]].concat());
                assert_eq!(codes, "200\n".repeat(300), "{what}");
            }
        }
    }
    stage.assert_clean();
}
