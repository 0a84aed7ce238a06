//! What a right file means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{PROVISIONED, SMALLEST, good};
use crate::base::{PoolId, Share, ZoneId};
use crate::config::{AccessTo, AdminBind, LogFormat, LogSettings, Origin, Setting, load};
use crate::model::{
    Balance, HealthCheck, HostPattern, HttpCheck, Limit, Order, Pool, Priority, Protocol,
    Provisioning, StopPolicy,
};

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The pool `web` of a text.
fn web(text: &str) -> Pool {
    let config = good(text).config;
    config.pool(&PoolId::new("web")).expect("there is one").as_ref().clone()
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let config = good(SMALLEST).config;
    assert!((1..=256).contains(&config.node.workers));
    assert_eq!(config.node.zone, None);
    assert_eq!(config.node.state_dir, PathBuf::from("/var/lib/tidegate"));
    assert_eq!(config.admin.bind, AdminBind::Tcp(([127, 0, 0, 1], 9900).into()));
    assert_eq!(config.admin.token_file, None);
    let expected =
        LogSettings { level: tracing::Level::INFO, access: AccessTo::Off, format: LogFormat::Text };
    assert_eq!(config.log, expected);
    assert!(config.routes.is_empty());

    let [listener] = config.listeners.as_slice() else { panic!("one listener") };
    assert_eq!(listener.id.as_str(), "0.0.0.0:8080");
    assert_eq!(listener.bind, [([0, 0, 0, 0], 8080).into()]);
    assert_eq!(listener.protocol, Protocol::Http);
    assert_eq!(listener.pool, Some(PoolId::new("web")));
    let t = listener.timeouts;
    assert_eq!((t.head, t.idle, t.body), (secs(10), secs(75), secs(30)));

    let pool = web(SMALLEST);
    assert_eq!(pool.balance, Balance::LeastRequest);
    assert_eq!(pool.max_in_flight, Limit::AtMost(200));
    assert_eq!((pool.queue.max, pool.queue.timeout), (1_000, secs(5)));
    assert_eq!((pool.queue.bytes, pool.queue.order), (16 << 20, Order::Adaptive));
    let t = pool.timeouts;
    assert_eq!(
        (t.connect, t.response, t.idle, t.tunnel),
        (secs(3), secs(30), secs(30), secs(3600))
    );
    assert_eq!((pool.retry.attempts, pool.retry.budget), (2, Share(0.2)));
    assert_eq!(pool.drain_timeout, secs(60));
    assert_eq!(pool.health.check, HealthCheck::Tcp);
    assert_eq!((pool.health.interval, pool.health.timeout), (secs(5), secs(2)));
    assert_eq!((pool.health.rise, pool.health.fall), (2, 3));
    assert_eq!((&pool.scaling, &pool.provisioning), (&None, &None));
    let bare = Pool { instances: pool.instances.clone(), ..Pool::new("web".into()) };
    assert_eq!(pool, bare, "one set of defaults, for files and for tests");
    let [first, second] = pool.instances.as_slice() else { panic!("two instances") };
    assert_eq!(first.id.as_str(), "10.0.1.4:80");
    assert_eq!((first.zone.as_str(), second.zone.as_str()), ("1", "2"));
    assert_eq!(second.weight, 1);
}

#[test]
fn the_shipped_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tidegate.toml");
    let loaded = load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    let config = loaded.config;
    let beside = path.parent().expect("it is in a directory").join("state");
    assert_eq!(config.node.state_dir, beside);
    assert_eq!(config.listeners[0].id.as_str(), "web");
    assert_eq!(config.listeners[0].bind, [([127, 0, 0, 1], 8080).into()]);
    let pool = config.pool(&PoolId::new("web")).expect("there is one");
    assert_eq!(pool.health.check, HealthCheck::Http(HttpCheck::get("/healthz")));
    assert_eq!((pool.health.interval, pool.health.timeout), (secs(2), secs(1)));
    assert_eq!(pool.drain_timeout, secs(30));
    let scaling = pool.scaling.as_ref().expect("it is scaled");
    assert_eq!((scaling.min, scaling.max, scaling.stated_rate()), (3, 12, Some(70.0)));
    assert_eq!((scaling.scale_in.hold, scaling.scale_in.rate), (secs(20), Share(0.5)));
    let Some(Provisioning::Process(process)) = &pool.provisioning else { panic!("provisioned") };
    assert_eq!(process.command.join(" "), "{self} whoami --listen {address} --rate 100");
    assert_eq!(process.zones, ["a", "b", "c"].map(ZoneId::new));
    assert_eq!((process.port, process.stop), (8000, StopPolicy::Terminate));
}

#[test]
fn the_examples_in_the_shipped_file_are_right() {
    let shipped = include_str!("../../../config/tidegate.toml");
    // Every comment of one # and a space before something that looks like TOML is an example.
    let looks_like_toml = |line: &str| {
        line.starts_with('[')
            || line.starts_with(']')
            || line.starts_with("    {")
            || line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '`']))
    };
    let uncommented: Vec<&str> = shipped
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(example) if looks_like_toml(example) => example,
            _ => line,
        })
        .collect();
    let mut text = uncommented.join("\n");
    text.push_str("\n[pool.database]\ninstances = [{ address = \"10.0.0.9:5432\" }]\n");
    let config = good(&text).config;
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].methods, ["GET", "HEAD"]);
    assert_eq!(config.pools.len(), 3);
    assert_eq!(config.pools[0].instances[1].weight, 2);
    assert_eq!(config.pools[0].balance, Balance::RoundRobin);
}

#[test]
fn node_admin_and_log() {
    let text = format!(
        "[node]\nzone = \"z-1\"\nworkers = 3\nstate_dir = \"state\"\n[admin]\nbind = \"unix:a.sock\"\n\
         token_file = \"/etc/token\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n{SMALLEST}"
    );
    let config = good(&text).config;
    assert_eq!(config.node.zone, Some(ZoneId::new("z-1")));
    assert_eq!(config.node.workers, 3);
    // Relative paths start where the file is; absolute ones stay.
    assert_eq!(config.node.state_dir, PathBuf::from("dir/state"));
    assert_eq!(config.admin.bind, AdminBind::Unix("dir/a.sock".into()));
    assert_eq!(config.admin.token_file, Some("/etc/token".into()));
    assert_eq!((config.log.level, config.log.format), (tracing::Level::DEBUG, LogFormat::Json));
    for (value, expected) in [
        ("stdout", AccessTo::Stdout),
        ("off", AccessTo::Off),
        ("logs/access.json", AccessTo::File("dir/logs/access.json".into())),
        ("/var/log/t.log", AccessTo::File("/var/log/t.log".into())),
    ] {
        let text = format!("log = {{ access = \"{value}\", format = \"common\" }}\n{SMALLEST}");
        let log = good(&text).config.log;
        assert_eq!((log.access, log.format), (expected, LogFormat::Common), "{value}");
    }
}

#[test]
fn routes() {
    let config = good(&format!(
        r#"{SMALLEST}
        [[listener]]
        name = "routed"
        bind = ["127.0.0.1:81", "[::1]:81"]
        [[route]]
        listener = "routed"
        host = "*.Example.COM"
        path_prefix = "/v1/"
        method = "GET"
        header = {{ X-Canary = "1" }}
        pool = "web"
        priority = "high"
        [[route]]
        listener = "0.0.0.0:8080"
        host = "API.example.com"
        pool = "web"
        [[route]]
        listener = "routed"
        host = "[::1]"
        method = ["GET", "M-SEARCH"]
        pool = "web"
        [[route]]
        listener = "routed"
        pool = "web"
        "#
    ))
    .config;
    let routes = &config.routes;
    let hosts: Vec<&HostPattern> = routes.iter().map(|route| &route.host).collect();
    assert_eq!(
        hosts,
        [
            &HostPattern::Suffix(".example.com".into()),
            &HostPattern::Exact("api.example.com".into()),
            &HostPattern::Exact("[::1]".into()),
            &HostPattern::Any,
        ]
    );
    assert_eq!(routes[0].path_prefix, "/v1/");
    assert_eq!(routes[0].methods, ["GET"]);
    assert_eq!(routes[0].headers, [("x-canary".to_owned(), "1".to_owned())]);
    assert_eq!((routes[0].priority, routes[1].priority), (Priority::High, Priority::Normal));
    assert_eq!(routes[1].listener.as_str(), "0.0.0.0:8080");
    assert_eq!(routes[1].path_prefix, "/");
    assert_eq!(routes[2].methods, ["GET", "M-SEARCH"]);
    assert!(routes[3].methods.is_empty() && routes[3].headers.is_empty());
    assert_eq!(config.listeners[1].pool, None);
    assert_eq!(config.listeners[1].bind.len(), 2);
}

#[test]
fn addresses_get_the_port_of_their_pool() {
    for (written, meant) in [
        ("10.0.0.1", "10.0.0.1:80"),
        ("10.0.0.1:81", "10.0.0.1:81"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
        ("[::1]:81", "[::1]:81"),
    ] {
        let pool = web(&SMALLEST
            .replace("instances", "port = 80\ninstances")
            .replace("10.0.1.4:80", written));
        assert_eq!(pool.instances[0].address.to_string(), meant);
        assert_eq!(pool.instances[0].id.as_str(), meant);
    }
}

#[test]
fn unusual_values() {
    let pool = web(&format!(
        "{SMALLEST}max_in_flight = \"unlimited\"\nqueue = {{ max = 0, bytes = \"1KiB\", order = \"fifo\" }}\nretry = {{ attempts = 0, budget = \"0%\" }}\n\
         balance = \"random\"\ndrain_timeout = \"1h30m\"\nhealth = {{ type = \"none\" }}\n"
    ));
    assert_eq!(pool.max_in_flight, Limit::Unlimited);
    assert_eq!(pool.queue.max, 0);
    assert_eq!((pool.queue.bytes, pool.queue.order), (1_024, Order::Fifo));
    assert_eq!((pool.retry.attempts, pool.retry.budget), (0, Share(0.0)));
    assert_eq!(pool.balance, Balance::Random);
    assert_eq!(pool.drain_timeout, secs(5_400));
    assert_eq!(pool.health.check, HealthCheck::None);
    let provisioned = PROVISIONED.replace("= 70", "= 0.5\nscale_in.hold = \"0s\"");
    let listener = "[[listener]]\nbind = \"127.0.0.1:80\"\npool = \"web\"\n";
    let scaling = web(&format!("{listener}{provisioned}")).scaling.expect("it is scaled");
    assert_eq!(scaling.stated_rate(), Some(0.5));
    assert_eq!(scaling.scale_in.hold, Duration::ZERO);
}

/// The setting of that key.
fn setting(settings: &[Setting], key: &str) -> (String, Origin) {
    let found: Vec<&Setting> = settings.iter().filter(|setting| setting.key == key).collect();
    let [one] = found.as_slice() else { panic!("{key} is there {} times", found.len()) };
    (one.value.clone(), one.origin)
}

#[test]
fn what_is_inherited_and_from_where() {
    let text = r#"[defaults]
balance = "random"
protocol = "tcp"
pool = "web"
port = 7
max_in_flight = 5
queue.max = 9
timeouts = { idle = "1s", head = "2s", connect = "4s" }
health = { type = "http", path = "/h", interval = "20s" }
scaling = { max = 4, target_requests_per_second = 10 }
[[listener]]
name = "plain"
bind = "127.0.0.1:80"
[[listener]]
name = "own"
bind = "127.0.0.1:81"
protocol = "http"
timeouts.idle = "3s"
pool = "api"
[pool.web]
instances = [{ address = "10.0.0.1" }]
[pool.api]
balance = "round-robin"
timeouts = { idle = "6s" }
queue.timeout = "1s"
health = { path = "/own", timeout = "3s" }
port = 8
provisioner = { kind = "process", command = ["x"], zones = ["a"] }
scaling.max = 6
"#;
    let loaded = good(text);
    let (file, inherited, built_in) =
        (|line| Origin::File { line }, |line| Origin::Defaults { line }, Origin::BuiltIn);
    for (key, value, origin) in [
        ("listener.plain.protocol", "\"tcp\"", inherited(3)),
        ("listener.plain.pool", "\"web\"", inherited(4)),
        ("listener.plain.timeouts.idle", "\"1s\"", inherited(8)),
        ("listener.plain.timeouts.head", "\"2s\"", inherited(8)),
        ("listener.plain.timeouts.body", "\"30s\"", built_in),
        ("listener.own.protocol", "\"http\"", file(17)),
        ("listener.own.timeouts.idle", "\"3s\"", file(18)),
        ("listener.own.timeouts.head", "\"2s\"", inherited(8)),
        ("listener.own.pool", "\"api\"", file(19)),
        ("pool.web.balance", "\"random\"", inherited(2)),
        ("pool.web.port", "7", inherited(5)),
        ("pool.web.max_in_flight", "5", inherited(6)),
        ("pool.web.queue.max", "9", inherited(7)),
        ("pool.web.queue.timeout", "\"5s\"", built_in),
        ("pool.web.timeouts.idle", "\"1s\"", inherited(8)),
        ("pool.web.timeouts.connect", "\"4s\"", inherited(8)),
        ("pool.web.timeouts.response", "\"30s\"", built_in),
        ("pool.web.instances[1].id", "\"10.0.0.1:7\"", built_in),
        ("pool.web.health.type", "\"http\"", inherited(9)),
        ("pool.web.health.path", "\"/h\"", inherited(9)),
        ("pool.api.balance", "\"round-robin\"", file(23)),
        ("pool.api.timeouts.idle", "\"6s\"", file(24)),
        ("pool.api.timeouts.connect", "\"4s\"", inherited(8)),
        ("pool.api.queue.max", "9", inherited(7)),
        ("pool.api.queue.timeout", "\"1s\"", file(25)),
        ("pool.api.health.type", "\"http\"", inherited(9)),
        ("pool.api.health.path", "\"/own\"", file(26)),
        ("pool.api.health.interval", "\"20s\"", inherited(9)),
        ("pool.api.health.timeout", "\"3s\"", file(26)),
        ("pool.api.scaling.max", "6", file(29)),
        ("pool.api.scaling.target_requests_per_second", "10", inherited(10)),
        ("pool.api.scaling.min", "1", built_in),
        ("pool.api.provisioner.command", "[\"x\"]", file(28)),
    ] {
        assert_eq!(setting(&loaded.explanation, key), (value.to_owned(), origin), "{key}");
    }
    // What the explanation says is what the configuration has.
    let config = &loaded.config;
    assert_eq!(config.listeners[0].protocol, Protocol::Tcp);
    assert_eq!(config.listeners[0].timeouts.idle, secs(1));
    let api = config.pool(&PoolId::new("api")).expect("there is one");
    assert_eq!((api.timeouts.idle, api.timeouts.connect), (secs(6), secs(4)));
    assert_eq!(api.scaling.as_ref().map(|scaling| scaling.max), Some(6));
    // Inherited scaling does not make a scaled pool of one that has no provisioner.
    let web = config.pool(&PoolId::new("web")).expect("there is one");
    assert_eq!((&web.scaling, web.queue.max), (&None, 9));
    assert_eq!(web.instances[0].address.to_string(), "10.0.0.1:7");
}

#[test]
fn an_inherited_provisioner_is_every_pools() {
    let text = "[defaults.provisioner]\nkind = \"process\"\ncommand = [\"x\"]\nzones = [\"a\"]\n\
                [defaults.scaling]\nmax = 4\ntarget_requests_per_second = 10\n\
                [[listener]]\nbind = \"127.0.0.1:80\"\npool = \"a\"\n[pool.a]\nport = 1\n[pool.b]\nport = 2\n";
    let config = good(text).config;
    assert!(config.pools.iter().all(|pool| pool.scaling.is_some() && pool.provisioning.is_some()));
}

#[test]
fn a_setting_is_one_aligned_line() {
    let loaded = good(SMALLEST);
    let lines: Vec<String> = loaded.explanation.iter().map(Setting::to_string).collect();
    let column = lines[0].find(" = ").expect("there is one");
    assert!(lines.iter().all(|line| line.find(" = ") == Some(column)), "{lines:#?}");
    let pool = "listener[1].pool                               = \"web\"                  # line 4";
    assert!(lines.iter().any(|line| line == pool), "{lines:#?}");
}
