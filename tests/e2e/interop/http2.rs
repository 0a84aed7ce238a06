//! HTTP/2 with curl and h2load as clients, and with nginx as an instance: all combinations of
//! versions, plain and within TLS.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::authority::Authority;
use crate::daemon::{Daemon, eventually, free_address};
use crate::interop::{
    SMALL, client, has_instances, listener, listening, same, script, start_nginx,
};
use crate::tools::{Ended, has};

/// More than any window holds.
const LARGE: usize = 2 * 1024 * 1024;

/// A listener and a pool: how a client reaches the daemon, and that the nginx.
struct Way {
    name: String,
    bind: SocketAddr,
    /// Of the listener.
    secure: bool,
}

/// One nginx for each version, plain and within TLS, and a listener, plain and within TLS, before each.
struct Crossing {
    daemon: Daemon,
    folder: TempDir,
    authority: Authority,
    ways: Vec<Way>,
    _instances: Vec<Ended>,
}

impl Crossing {
    fn set() -> Self {
        let authority = Authority::new("tests");
        let files = authority.issue_local();
        let folder = tempfile::tempdir().expect("a folder");
        let content: Vec<u8> =
            (0..LARGE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(folder.path().join("small"), &content[..SMALL]).expect("written");
        fs::write(folder.path().join("large"), &content).expect("written");
        let node = free_address();
        let mut in_node = Command::new("node");
        in_node.arg(script("server.js")).arg(node.port().to_string()).arg(folder.path());
        let mut instances = vec![listening(node, &mut in_node)];
        // nginx asks node for what it does not serve itself, in HTTP/1.1.
        let locations = format!(
            "ssl_certificate {};\nssl_certificate_key {};\nkeepalive_requests 100000;\n\
             location ~ ^/(echo|chunked)$ {{\nproxy_pass http://{node};\nproxy_http_version 1.1;\n\
             proxy_request_buffering off;\nadd_header x-protocol $server_protocol;\n}}\n\
             add_header x-protocol $server_protocol;\n",
            files.cert.display(),
            files.key.display()
        );
        let ca = authority.ca();
        let tls = format!("upstream_tls = {{ ca = \"{ca}\" }}\n");
        let (mut ways, mut config) = (Vec::new(), String::new());
        for (kind, options, keys) in [
            ("http1", "", String::new()),
            ("h2c", "http2", "upstream = \"h2\"\n".into()),
            ("http1-tls", "ssl", tls.clone()),
            ("h2-tls", "ssl http2", format!("upstream = \"h2\"\n{tls}")),
        ] {
            let instance = free_address();
            let at = folder.path().join(kind);
            fs::create_dir(&at).expect("made");
            for file in ["small", "large"] {
                fs::hard_link(folder.path().join(file), at.join(file)).expect("linked");
            }
            instances.push(start_nginx(instance, options, &at, &locations));
            for (secure, more) in [(false, String::new()), (true, files.https())] {
                let name = format!("{}-to-{kind}", if secure { "tls" } else { "plain" });
                let bind = free_address();
                let pool = format!("[pool.{name}]\n");
                let text = listener(&name, bind, instance, &more);
                config.push_str(&text.replace(&pool, &format!("{pool}{keys}")));
                ways.push(Way { name, bind, secure });
            }
        }
        let daemon = Daemon::start(&config);
        Self { daemon, folder, authority, ways, _instances: instances }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Nothing was refused, nothing failed, nothing is left.
    fn assert_clean(&self) {
        eventually("no connection is left", Duration::from_secs(10), || {
            (self.daemon.metric("tidegate_connections_active", "") == 0.0).then_some(())
        });
        for name in ["tidegate_refused_total", "tidegate_failures_total"] {
            assert_eq!(self.daemon.metric(name, ""), 0.0, "{name}");
        }
    }
}

impl Way {
    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.secure { "https" } else { "http" }, self.bind)
    }

    /// What nginx says the request came in.
    fn protocol(&self) -> &'static str {
        if self.name.contains("-to-h2") { "HTTP/2.0" } else { "HTTP/1.1" }
    }
}

#[test]
fn curl_in_every_version_to_instances_of_every_version() {
    if !has_instances() || !has("curl", "curl") {
        return;
    }
    let crossing = Crossing::set();
    let [small, large, down] = ["small", "large", "down"].map(|name| crossing.file(name));
    let sum = client("sha256sum", &[&large]).0;
    let expected = format!("\"length\":{LARGE},\"sha256\":\"{}\"", &sum[..64]);
    for way in &crossing.ways {
        let with_http2 = if way.secure { "--http2" } else { "--http2-prior-knowledge" };
        for (http, version) in [("--http1.1", "1.1"), (with_http2, "2")] {
            let what = format!("{} in HTTP/{version}", way.name);
            // curl 7.88 cannot use a connection of prior knowledge twice, whoever serves: h2load does.
            let keeps = way.secure || version != "2";
            let curl = |more: &[&str]| {
                let all = ["-sS", "--cacert", &crossing.authority.ca(), http];
                client("curl", &[&all[..], more].concat()).0
            };
            for (path, original) in [("/small", &small), ("/large", &large), ("/chunked", &large)] {
                let told = ["-w", "%{http_code} %{http_version} %{num_connects}\n"];
                let (first, second) = (way.url("/small"), way.url(path));
                let urls = ["-o", &down, &first, "-o", &down, &second];
                let (urls, expected) = if keeps {
                    (&urls[..], format!("200 {version} 1\n200 {version} 0\n"))
                } else {
                    (&urls[3..], format!("200 {version} 1\n"))
                };
                assert_eq!(curl(&[&told[..], urls].concat()), expected, "{what}: {path}");
                assert!(same(&down, original), "{what}: {path}");
            }
            let head = curl(&["-I", &way.url("/small")]).to_ascii_lowercase();
            assert!(head.starts_with(&format!("http/{version} 200")), "{what}: {head}");
            assert!(head.contains("content-length: 1000\r\n"), "{what}: {head}");
            let protocol = way.protocol().to_ascii_lowercase();
            assert!(head.contains(&format!("x-protocol: {protocol}\r\n")), "{what}: {head}");
            let echo = way.url("/echo");
            let seen = curl(&["--data-binary", &format!("@{large}"), &echo]);
            assert!(seen.contains(&expected), "{what}: {seen}");
            // Without a length: curl is fed by a pipe.
            let ca = crossing.authority.ca();
            let piped = format!("cat {large} | curl -sS --cacert {ca} {http} -T - {echo}");
            let seen = client("sh", &["-c", &piped]).0;
            assert!(seen.contains(&expected), "{what}, without a length: {seen}");
            if !keeps {
                continue;
            }
            let quiet = ["--no-progress-meter", "-Z", "--parallel-max", "20", "-o", "/dev/null"];
            let many = way.url("/small?n=[1-200]");
            let codes = curl(&[&quiet[..], &["-w", "%{http_code}\n", &many]].concat());
            assert_eq!(codes, "200\n".repeat(200), "{what}");
        }
    }
    crossing.assert_clean();
}

#[test]
fn curl_that_offers_an_upgrade_to_http_2_is_served_in_http_1_1() {
    if !has_instances() || !has("curl", "curl") {
        return;
    }
    // RFC 9113 does away with the upgrade of RFC 7540; who offers it can do without.
    let crossing = Crossing::set();
    for way in crossing.ways.iter().filter(|way| !way.secure) {
        let told = ["-sS", "--http2", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"];
        let (told, _) = client("curl", &[&told[..], &[&way.url("/small")]].concat());
        assert_eq!(told, "200 1.1", "{}", way.name);
    }
    crossing.assert_clean();
}

#[test]
fn h2load_in_http_2() {
    if !has_instances() || !has("h2load", "nghttp2-client") {
        return;
    }
    let crossing = Crossing::set();
    let small = crossing.file("small");
    for way in &crossing.ways {
        for (path, count, more) in
            [("/small", "3000", [].as_slice()), ("/echo", "1000", &["-d", &small])]
        {
            // Twenty requests at once on each connection.
            let load = ["-t", "1", "-c", "16", "-m", "20", "-n", count];
            let (told, _) = client("h2load", &[&load[..], more, &[&way.url(path)]].concat());
            let protocol = if way.secure { "protocol: h2\n" } else { "protocol: h2c\n" };
            let all = format!("{count} succeeded, 0 failed, 0 errored, 0 timeout");
            for expected in [protocol, &all, &format!("{count} 2xx, 0 3xx, 0 4xx, 0 5xx")] {
                assert!(told.contains(expected), "{} {path}: {told}", way.name);
            }
        }
    }
    crossing.assert_clean();
}

#[test]
fn h2load_with_a_connection_for_each_request() {
    if !has_instances() || !has("h2load", "nghttp2-client") {
        return;
    }
    let crossing = Crossing::set();
    for way in &crossing.ways {
        // As many connections as requests, some at a time.
        let load = ["-t", "1", "-c", "300", "-r", "300", "-n", "300"];
        let (told, _) = client("h2load", &[&load[..], &[&way.url("/small")]].concat());
        let expected = "300 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(told.contains(expected), "{}: {told}", way.name);
    }
    crossing.assert_clean();
}
