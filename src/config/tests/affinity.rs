//! Which requests of a pool go to the same instance.

use std::time::Duration;

use super::{LISTENER, POOL, check, check_pool, good};
use crate::base::Share;
use crate::model::{Affinity, Balance, HashKey, Pool, Sticky};

/// The pool that `lines` make.
fn pool(lines: &str) -> Pool {
    good(&format!("{LISTENER}{POOL}{lines}\n")).config.pools[0].as_ref().clone()
}

#[test]
fn what_may_be_written() {
    assert_eq!(pool("").affinity, Affinity::default());
    assert_eq!(pool("").affinity.max_load, Share(1.5));
    for balance in [Balance::PeakEwma, Balance::Maglev, Balance::Ring] {
        assert_eq!(pool(&format!("balance = \"{}\"", balance.word())).balance, balance);
    }
    for (written, key) in [
        ("client-address", HashKey::ClientAddress),
        ("path", HashKey::Path),
        ("header:X-User", HashKey::Header("x-user".into())),
        ("cookie:Id", HashKey::Cookie("Id".into())),
    ] {
        let it = pool(&format!("balance = \"maglev\"\nhash = \"{written}\""));
        assert_eq!(it.affinity.hash, key);
    }
    let it = pool("balance = \"ring\"\nring.max_load = \"125%\"");
    assert_eq!(it.affinity.max_load, Share(1.25));
    let sticky = |cookie: &str, ttl| Some(Sticky { cookie: cookie.into(), ttl });
    assert_eq!(pool("sticky.cookie = \"Home\"").affinity.sticky, sticky("Home", None));
    let it = pool("sticky = { cookie = \"h\", ttl = \"8h\" }");
    assert_eq!(it.affinity.sticky, sticky("h", Some(Duration::from_secs(8 * 3_600))));
    assert_eq!(
        pool("sticky = { cookie = \"h\", ttl = \"session\" }").affinity.sticky,
        sticky("h", None)
    );
    let inherited = good(&format!(
        "[defaults]\nhash = \"path\"\nsticky.cookie = \"h\"\n{LISTENER}{POOL}[pool.x]\n\
         instances = [{{ address = \"10.0.0.1:81\" }}]\nsticky.cookie = \"off\"\n"
    ));
    let pools = &inherited.config.pools;
    assert_eq!(pools[0].affinity.hash, HashKey::Path, "no fault where it has no effect");
    assert_eq!(pools[0].affinity.sticky, sticky("h", None));
    assert_eq!(pools[1].affinity.sticky, None);
}

#[test]
fn faults() {
    for (lines, expected) in [
        (
            "balance = \"ring\"\nhash = \"heder:x\"",
            "8:8: pool.web.hash: \"heder:x\" is not one of \"client-address\", \"header:NAME\", \"cookie:NAME\", \"path\", \"sni\"",
        ),
        (
            "balance = \"ring\"\nhash = \"header:\"",
            "8:8: pool.web.hash: \"header:\": \"\" is not a name",
        ),
        (
            "balance = \"ring\"\nhash = \"cookie:a b\"",
            "8:8: pool.web.hash: \"cookie:a b\": \"a b\" is not a name",
        ),
        (
            "hash = \"path\"",
            "7:8: pool.web.hash: has no effect unless balance is \"maglev\" or \"ring\"",
        ),
        (
            "balance = \"maglev\"\nring.max_load = \"200%\"",
            "8:17: pool.web.ring.max_load: has no effect unless balance is \"ring\"",
        ),
        (
            "balance = \"ring\"\nring.max_load = \"100%\"",
            "8:17: pool.web.ring.max_load: must be at least \"105%\"; it is a share of the mean load",
        ),
        (
            "balance = \"ring\"\nring.max_load = \"1001%\"",
            "8:17: pool.web.ring.max_load: \"1001%\" is more than \"1000%\"",
        ),
        (
            "balance = \"ring\"\nring.max_load = 1.5",
            "8:17: pool.web.ring.max_load: 1.5 has no unit",
        ),
        (
            "sticky.cookie = \"a=b\"",
            "7:17: pool.web.sticky.cookie: \"a=b\" is not the name of a cookie",
        ),
        (
            "sticky.ttl = \"8h\"",
            "7:14: pool.web.sticky.ttl: has no effect unless sticky has a cookie",
        ),
        (
            "sticky = { cookie = \"a\", ttl = \"500d\" }",
            "7:32: pool.web.sticky.ttl: must be at most \"400d\"",
        ),
        ("sticky = \"a\"", "7:10: pool.web.sticky: must be a table, not a string"),
    ] {
        check_pool(lines, &[expected]);
    }
}

#[test]
fn what_reads_no_requests_tells_only_clients_apart() {
    let tcp = LISTENER.replace("pool =", "protocol = \"tcp\"\npool =");
    good(&format!("{tcp}{POOL}balance = \"ring\"\nhash = \"client-address\"\n"));
    let passthrough = LISTENER.replace("pool =", "protocol = \"tls-passthrough\"\npool =");
    good(&format!("{passthrough}{POOL}balance = \"maglev\"\nhash = \"sni\"\n"));
    check(
        &format!("{tcp}{POOL}balance = \"ring\"\nhash = \"sni\"\n"),
        &[
            "9:8: pool.web.hash: is part of TLS, and the tcp listener 127.0.0.1:80, which leads to web, speaks none; write \"client-address\"",
        ],
    );
    check(
        &format!("{tcp}{POOL}balance = \"ring\"\nhash = \"path\"\nsticky.cookie = \"a\"\n"),
        &[
            "9:8: pool.web.hash: is part of a request, and the tcp listener 127.0.0.1:80, which leads to web, reads none; write \"client-address\"",
            "10:17: pool.web.sticky.cookie: comes with a request, and the tcp listener 127.0.0.1:80, which leads to web, reads none; write \"off\" in the pool",
        ],
    );
    check(
        &format!("defaults.sticky.cookie = \"a\"\n{tcp}{POOL}"),
        &["1:26: defaults.sticky.cookie: comes with a request"],
    );
    good(&format!("defaults.sticky.cookie = \"a\"\n{tcp}{POOL}sticky.cookie = \"off\"\n"));
}
