//! TLS that ends at an instance: only the name that the client asks for is read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::files::Files;
use super::instances::Secure;
use crate::daemon::{Daemon, eventually, free_address};

const ASK: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

/// Asks for this name; how many bytes of an answer came.
fn ask(files: &Files, bind: std::net::SocketAddr, name: &str) -> std::io::Result<usize> {
    let mut stream = files.shake_with(TcpStream::connect(bind)?, name, None)?;
    stream.write_all(ASK)?;
    stream.read(&mut [0; 1_000])
}

#[test]
fn connections_go_by_the_name_that_is_asked_for() {
    let files = Files::new();
    let instances = [(); 3].map(|()| Secure::start(&files, "server"));
    let bind = free_address();
    let pool = |name: &str, instance: &Secure| {
        format!(
            "[pool.{name}]\ninstances = [{{ address = \"{}\" }}]\n[pool.{name}.health]\ntype = \"none\"\n",
            instance.address
        )
    };
    let pools: String =
        ["exact", "wild", "rest"].iter().zip(&instances).map(|(name, it)| pool(name, it)).collect();
    let routes = "[[route]]\nlistener = \"web\"\nhost = \"web.test\"\npool = \"exact\"\n\
                  [[route]]\nlistener = \"web\"\nhost = \"*.wild.test\"\npool = \"wild\"\n";
    let listener = format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\nprotocol = \"tls-passthrough\"\n\
         timeouts = {{ head = \"3s\" }}\n"
    );
    let daemon = Daemon::start(&format!("{listener}pool = \"rest\"\n{routes}{pools}"));
    let made = |counts: [usize; 3]| {
        let now = std::array::from_fn(|at| instances[at].connections());
        assert_eq!(now, counts);
    };
    for (name, counts) in [
        ("web.test", [1, 0, 0]),
        ("x.wild.test", [1, 1, 0]),
        // No name is asked for (RFC 6066 §3).
        ("127.0.0.1", [1, 1, 1]),
        ("web.test", [2, 1, 1]),
    ] {
        assert!(ask(&files, bind, name).expect("an answer") > 0, "{name}");
        made(counts);
    }
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);

    // Without a pool of its own the listener refuses what no route takes.
    daemon.reload(|text| text.replace("pool = \"rest\"\n", ""));
    let refused = eventually("the reload is done", Duration::from_secs(10), || {
        ask(&files, bind, "127.0.0.1").err()
    });
    assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
    assert!(daemon.refused("no_route") >= 1.0);
    assert!(ask(&files, bind, "x.wild.test").expect("an answer") > 0);

    // What is no hello, or none in time.
    for (said, reason) in
        [(&b"GET / HTTP/1.1\r\n\r\n"[..], "malformed"), (b"\x16\x03", "head_timeout")]
    {
        let mut stream = TcpStream::connect(bind).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        stream.write_all(said).expect("sent");
        let mut alert = Vec::new();
        stream.read_to_end(&mut alert).expect("an end");
        assert_eq!((alert.len(), alert[0]), (7, 21), "{reason}");
        assert_eq!(daemon.refused(reason), 1.0);
    }
}

#[test]
fn one_name_leads_to_one_instance() {
    let files = Files::new();
    let instances = [(); 3].map(|()| Secure::start(&files, "server"));
    let list: Vec<String> =
        instances.iter().map(|it| format!("{{ address = \"{}\" }}", it.address)).collect();
    let (passing, ending) = (free_address(), free_address());
    let pool = |name: &str, more: &str| {
        format!(
            "[pool.{name}]\nbalance = \"maglev\"\nhash = \"sni\"\ninstances = [{}]\n{more}\
             [pool.{name}.health]\ntype = \"none\"\n",
            list.join(", ")
        )
    };
    let upstream = format!("upstream_tls = {{ ca = \"{}\" }}\n", files.path("ca.pem"));
    let _daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{passing}\"\nprotocol = \"tls-passthrough\"\npool = \"passing\"\n\
         [[listener]]\nbind = \"{ending}\"\nprotocol = \"https\"\npool = \"ending\"\n\
         tls = {{ certificates = [{}] }}\n{}{}",
        files.certificate("server"),
        pool("passing", ""),
        pool("ending", &upstream)
    ));
    for bind in [passing, ending] {
        let mut used = Vec::new();
        // With so many, chance puts all of them with one instance once in ten million times.
        for number in 0..16 {
            let name = format!("n{number}.wild.test");
            let served: Vec<usize> = (0..3)
                .map(|_| {
                    let asked = |it: &Secure| it.requests();
                    let before: Vec<usize> = instances.iter().map(asked).collect();
                    assert!(ask(&files, bind, &name).expect("an answer") > 0);
                    (0..3).find(|at| instances[*at].requests() > before[*at]).expect("one of them")
                })
                .collect();
            assert!(served.iter().all(|at| *at == served[0]), "{name}: {served:?}");
            used.push(served[0]);
        }
        used.sort_unstable();
        used.dedup();
        assert!(used.len() > 1, "different names go to different instances");
    }
}
