//! The file as it was typed: one struct per table, each value with its place.
//!
//! The structs below are the list of all keys. What a key means and what it defaults to is said in
//! [`compile()`](crate::config::compile()).

use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::base::{Cron, Share};
use crate::config::affinity::{CookieName, MaxLoad};
use crate::config::bound::{Bytes, Count, OrAuto, OrLearn, OrOff, OrSession, OrUnlimited, Span};
use crate::config::fault::Place;
use crate::config::health::{BodyText, Host, Statuses};
use crate::config::http::{
    ErrorStatus, FieldName, FieldValue, Fields, Location, MediaType, Method, RedirectStatus,
    RequestIdField, SubjectField,
};
use crate::config::read::{At, Entry, Field, Given, List, Map, State, Table};
use crate::config::scalar::{CheckKind, Period, Positive, ProvisionerKind, Rate, Workers};
use crate::config::scaling::{Growth, Threshold};
use crate::config::text::{Address, Bind, Name, Network, Port, ServerName, Source, UrlPath};
use crate::config::zones::Level;
use crate::config::{AccessTo, AdminBind, LogFormat};
use crate::model::rule::{Change, Metric, Operator, Statistic};
use crate::model::{
    Balance, ClientAuth, ConnectMethod, ForwardedStyle, HashKey, HostPattern, Limit,
    ListenerLimits, Order, Prediction, Priority, Protocol, ProxyHeader, ProxyVersion, Resizing,
    ScalingMode, Standby, StopPolicy, TlsVersion, UpstreamVersion, ZoneBalance, ZoneMode,
    ZoneRedundancy,
};

/// The least and the most bytes of a request head that may be configured.
const HEAD: (u64, u64) = (1024, ListenerLimits::HEAD_MAX as u64);
/// No body is longer than this, which is an exbibyte.
const BODY_MOST: u64 = 1 << 60;
/// Linux refuses to wait longer before it probes a connection, in milliseconds.
const KEEPALIVE_MOST_MS: u64 = 32_767_000;
/// Linux counts this in milliseconds, in 31 bits.
const USER_TIMEOUT_MOST_MS: u64 = i32::MAX as u64;

/// The longest that instances take to their full share: an hour.
const SLOW_START_MOST_MS: u64 = 3_600_000;
/// The longest between two comparisons of instances: an hour.
const INTERVAL_MOST_MS: u64 = 3_600_000;

/// The longest that what recurs may hold: a year.
const FOR_MOST_MS: u64 = 366 * 86_400_000;

/// Browsers keep no cookie longer than 400 days.
const TTL_MOST_MS: u64 = 400 * 86_400_000;

/// The longest that a rule looks back: twelve hours.
const WINDOW_MOST_MS: u64 = 12 * 3_600_000;
/// The longest that a rule keeps others from firing: a week.
const COOLDOWN_MOST_MS: u64 = 7 * 86_400_000;

/// A table and its keys. A key is named like its field unless `= "KEY"` says otherwise.
macro_rules! tables {
    ($($(#[$doc:meta])* $type:ident { $($field:ident $(= $key:literal)?: $kind:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $type {
            $(
                #[doc = concat!("`", stringify!($field), "`.")]
                pub $field: $kind,
            )+
        }

        impl $type {
            /// Reads every key of `table`.
            fn of(table: &Table<'_, '_>) -> Self {
                Self {
                    $($field: Field::read(table, tables!(@key $field $($key)?)),)+
                }
            }
        }

        impl Field for $type {
            fn read(table: &Table<'_, '_>, key: &'static str) -> Self {
                Self::of(&table.child(key))
            }
        }

        impl Field for Among<$type> {
            fn read(table: &Table<'_, '_>, _: &'static str) -> Self {
                Self($type::of(table))
            }
        }

        impl Field for Given<Vec<$type>> {
            fn read(table: &Table<'_, '_>, key: &'static str) -> Self {
                table.children(key).map(|tables| tables.iter().map($type::of).collect())
            }
        }
    )+};
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
}

tables! {
    /// The whole file.
    File {
        node: Node,
        admin: Admin,
        log: Log,
        defaults: Defaults,
        listeners = "listener": Given<Vec<Listener>>,
        routes = "route": Given<Vec<Route>>,
        pools = "pool": Vec<(At<String>, Pool)>,
    }

    /// `[node]`.
    Node {
        zone: Given<Name>,
        workers: Given<Workers>,
        state_dir: Given<PathBuf>,
    }

    /// `[admin]`.
    Admin {
        bind: Given<AdminBind>,
        token_file: Given<PathBuf>,
    }

    /// `[log]`.
    Log {
        level: Given<tracing::Level>,
        access: Given<AccessTo>,
        format: Given<LogFormat>,
    }

    /// `[[listener]]`.
    Listener {
        table: Whole,
        name: Given<Name>,
        bind: Given<List<Bind>>,
        protocol: Given<Protocol>,
        tls: ListenerTls,
        pool: Given<String>,
        timeouts: ListenerTimeouts,
        limits: Limits,
        trusted: Given<List<Network>>,
        proxy_protocol: Given<ProxyHeader>,
        forwarded: Given<ForwardedStyle>,
        request_id: Given<OrOff<RequestIdField>>,
        connect: Given<ConnectMethod>,
        tcp: Tcp,
        errors: Given<Map<ErrorStatus, PathBuf>>,
    }

    /// `tls` of a listener.
    ListenerTls {
        table: Whole,
        certificates: Given<Vec<Certificate>>,
        client_ca: Given<PathBuf>,
        client_auth: Given<ClientAuth>,
        client_subject: Given<SubjectField>,
        min_version: Given<TlsVersion>,
    }

    /// An element of `certificates`.
    Certificate {
        cert: Given<PathBuf>,
        key: Given<PathBuf>,
        ocsp: Given<PathBuf>,
    }

    /// `timeouts` of a listener.
    ListenerTimeouts {
        head: Given<Period>,
        idle: Given<Period>,
        body: Given<Period>,
    }

    /// `limits` of a listener.
    Limits {
        head: Given<Bytes<{ HEAD.0 }, { HEAD.1 }>>,
        fields: Given<Count<1, { ListenerLimits::FIELDS_MAX }>>,
        target: Given<Bytes<1, { HEAD.1 }>>,
        body: Given<OrUnlimited<Bytes<0, BODY_MOST>>>,
        body_rate: Given<OrOff<Bytes<1, BODY_MOST>>>,
        requests: Given<Limit>,
        streams: Given<Count<1, { ListenerLimits::STREAMS_MAX }>>,
        connections: Given<Limit>,
        connections_per_client: Given<Limit>,
    }

    /// `tcp` of a listener or a pool.
    Tcp {
        keepalive: Given<OrOff<Span<1_000, KEEPALIVE_MOST_MS>>>,
        user_timeout: Given<OrOff<Span<1, USER_TIMEOUT_MOST_MS>>>,
    }

    /// `[[route]]`.
    Route {
        listener: Given<String>,
        host: Given<HostPattern>,
        path_prefix: Given<UrlPath>,
        method: Given<List<Method>>,
        header: Given<Fields>,
        pool: Given<String>,
        priority: Given<Priority>,
        redirect: Redirect,
        respond: Respond,
        edits: Among<Edits>,
    }

    /// `redirect` of a route.
    Redirect {
        table: Whole,
        to: Given<Location>,
        status: Given<RedirectStatus>,
    }

    /// `respond` of a route.
    Respond {
        table: Whole,
        status: Given<Count<200, 599>>,
        body: Given<String>,
        file: Given<PathBuf>,
        media_type = "type": Given<MediaType>,
    }

    /// What a route or a pool changes in heads.
    Edits {
        remove_request_header: Given<List<FieldName>>,
        set_request_header: Given<Map<FieldName, List<FieldValue>>>,
        add_request_header: Given<Map<FieldName, List<FieldValue>>>,
        remove_response_header: Given<List<FieldName>>,
        set_response_header: Given<Map<FieldName, List<FieldValue>>>,
        add_response_header: Given<Map<FieldName, List<FieldValue>>>,
    }

    /// `[pool.NAME]`.
    Pool {
        table: Whole,
        balance: Given<Balance>,
        hash: Given<HashKey>,
        ring: Ring,
        sticky: Sticky,
        port: Given<Port>,
        max_in_flight: Given<Limit>,
        queue: Queue,
        timeouts: PoolTimeouts,
        retry: Retry,
        keep_alive: KeepAlive,
        upstream: Given<UpstreamVersion>,
        upstream_tls: UpstreamTls,
        source: Given<Source>,
        tcp: Tcp,
        proxy_protocol: Given<Option<ProxyVersion>>,
        edits: Among<Edits>,
        drain_timeout: Given<Period>,
        instances: Given<Vec<Instance>>,
        zones: PoolZones,
        health: Health,
        outlier: Outlier,
        slow_start: Given<OrOff<Span<1_000, SLOW_START_MOST_MS>>>,
        scaling: Scaling,
        provisioner: Provisioner,
    }

    /// `ring` of a pool.
    Ring {
        max_load: Given<MaxLoad>,
    }

    /// `sticky` of a pool.
    Sticky {
        cookie: Given<OrOff<CookieName>>,
        ttl: Given<OrSession<Span<1_000, TTL_MOST_MS>>>,
    }

    /// `queue` of a pool.
    Queue {
        max: Given<u32>,
        timeout: Given<Period>,
        bytes: Given<Bytes<1, BODY_MOST>>,
        order: Given<Order>,
    }

    /// `timeouts` of a pool.
    PoolTimeouts {
        connect: Given<Period>,
        response: Given<Period>,
        body: Given<Period>,
        idle: Given<Period>,
        tunnel: Given<Period>,
        total: Given<Period>,
    }

    /// `keep_alive` of a pool.
    KeepAlive {
        max: Given<u32>,
        age: Given<Period>,
        requests: Given<Limit>,
    }

    /// `upstream_tls` of a pool.
    UpstreamTls {
        table: Whole,
        ca: Given<PathBuf>,
        server_name: Given<ServerName>,
        cert: Given<PathBuf>,
        key: Given<PathBuf>,
        verify: Given<bool>,
        min_version: Given<TlsVersion>,
    }

    /// `retry` of a pool.
    Retry {
        attempts: Given<u32>,
        budget: Given<Share>,
        per_try: Given<OrOff<Period>>,
    }

    /// An element of `instances`.
    Instance {
        address: Given<Address>,
        id: Given<Name>,
        zone: Given<Name>,
        weight: Given<Positive>,
    }

    /// `[pool.NAME.zones]`.
    PoolZones {
        mode: Given<ZoneMode>,
        spill_at: Given<Share>,
        panic_below: Given<Share>,
        levels: Given<List<Level>>,
        overprovisioning: Given<Rate>,
    }

    /// `[pool.NAME.health]`.
    Health {
        table: Whole,
        kind = "type": Given<CheckKind>,
        method: Given<Method>,
        url_path = "path": Given<UrlPath>,
        host: Given<Host>,
        headers: Given<Fields>,
        status: Given<List<Statuses>>,
        body: Given<BodyText>,
        service: Given<Name>,
        check_port = "port": Given<Port>,
        agent: HealthAgent,
        interval: Given<Period>,
        serving_interval: Given<Period>,
        timeout: Given<Period>,
        rise: Given<Positive>,
        fall: Given<Positive>,
    }

    /// `[pool.NAME.outlier]`.
    Outlier {
        table: Whole,
        failures: Given<OrOff<Positive>>,
        gateway_failures: Given<OrOff<Positive>>,
        success_rate: Given<OrOff<Rate>>,
        latency: Given<OrOff<Rate>>,
        interval: Given<Span<100, INTERVAL_MOST_MS>>,
        min_requests: Given<Positive>,
        min_instances: Given<Count<2, { u32::MAX }>>,
        ejection: Given<Period>,
        max_ejection: Given<Period>,
        max_ejected: Given<Share>,
        min_healthy: Given<Positive>,
    }

    /// `agent` of health.
    HealthAgent {
        table: Whole,
        port: Given<Port>,
        interval: Given<Period>,
    }

    /// `[pool.NAME.scaling]`.
    Scaling {
        table: Whole,
        mode: Given<ScalingMode>,
        min: Given<u32>,
        max: Given<Positive>,
        target_requests_per_second: Given<OrLearn<Rate>>,
        target_in_flight: Given<Rate>,
        target_latency: Given<Period>,
        prediction: Given<Prediction>,
        standby: Given<Standby>,
        zone_redundancy: Given<ZoneRedundancy>,
        zone_balance: Given<ZoneBalance>,
        scale_out: ScaleOut,
        scale_in: ScaleIn,
        lead_time: Given<OrAuto<Period>>,
        max_pending: Given<Limit>,
        size: Given<Name>,
        sizes: Given<Vec<Size>>,
        resize: Given<Resizing>,
        roll: Roll,
        schedules = "schedule": Given<Vec<Schedule>>,
        rules = "rule": Given<Vec<Rule>>,
    }

    /// `scale_out` of scaling.
    ScaleOut {
        rate: Given<Growth>,
    }

    /// `scale_in` of scaling.
    ScaleIn {
        hold: Given<Duration>,
        rate: Given<Share>,
    }

    /// An element of `sizes` of scaling.
    Size {
        name: Given<Name>,
        units: Given<Positive>,
        cost: Given<Rate>,
    }

    /// `roll` of scaling.
    Roll {
        batch: Given<Share>,
        max_unhealthy: Given<Share>,
        pause: Given<Duration>,
    }

    /// `[[pool.NAME.scaling.schedule]]`.
    Schedule {
        table: Whole,
        name: Given<Name>,
        cron: Given<Cron>,
        length = "for": Given<Span<1_000, FOR_MOST_MS>>,
        from: Given<DateTime>,
        until: Given<DateTime>,
        timezone: Given<TimeZone>,
        min: Given<u32>,
        max: Given<Positive>,
        target_requests_per_second: Given<OrLearn<Rate>>,
    }

    /// `[[pool.NAME.scaling.rule]]`.
    Rule {
        metric: Given<Metric>,
        window: Given<Span<1_000, WINDOW_MOST_MS>>,
        statistic: Given<Statistic>,
        operator: Given<Operator>,
        threshold: Given<Threshold>,
        change: Given<Change>,
        cooldown: Given<Span<0, COOLDOWN_MOST_MS>>,
    }

    /// `[pool.NAME.provisioner]`.
    Provisioner {
        table: Whole,
        kind: Given<ProvisionerKind>,
        command: Given<List<String>>,
        zones: Given<List<Name>>,
        stop: Given<StopPolicy>,
    }
}

/// A table as a whole. Stands among the keys of those tables for which it matters.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The path of the table, as faults and explanations name it.
    pub path: String,
    /// Where it starts; for an absent one, where its parent does.
    pub place: Place,
    /// Whether it is in the file.
    pub present: bool,
}

impl Whole {
    /// Where the table is and what it is called, if it is in the file.
    pub fn written(&self) -> Option<(Place, &str)> {
        self.present.then_some((self.place, self.path.as_str()))
    }
}

impl Field for Whole {
    fn read(table: &Table<'_, '_>, _: &'static str) -> Self {
        Self { path: table.path.clone(), place: table.place, present: table.is_present() }
    }
}

/// Keys that stand among others in one table.
#[derive(Clone, Debug)]
pub struct Among<T>(pub T);

/// `[defaults]`: one table, read once for what listeners and once for what pools know of it.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// What every listener inherits.
    pub listener: Listener,
    /// What every pool inherits.
    pub pool: Pool,
}

/// One of `errors`: a status and the file with its body.
pub type ErrorFile = Entry<ErrorStatus, PathBuf>;

/// What `[defaults]` refuses, and what to do instead.
const NOT_INHERITED: [(&str, &str); 11] = [
    ("name", "each has its own"),
    ("bind", "each has its own"),
    ("instances", "each has its own"),
    ("tls", "write it in [[listener]]"),
    (
        "proxy_protocol",
        "listeners read it and pools write it: say which is meant, in [[listener]] or [pool.NAME]",
    ),
    ("remove_request_header", EDITS_HINT),
    ("set_request_header", EDITS_HINT),
    ("add_request_header", EDITS_HINT),
    ("remove_response_header", EDITS_HINT),
    ("set_response_header", EDITS_HINT),
    ("add_response_header", EDITS_HINT),
];

const EDITS_HINT: &str = "write it in [[route]] or [pool.NAME]";

impl File {
    /// Reads the table of the whole file.
    pub fn read(root: &Table<'_, '_>) -> Self {
        Self::of(root)
    }
}

impl Field for Defaults {
    fn read(table: &Table<'_, '_>, key: &'static str) -> Self {
        let table = table.child(key).refusing(&NOT_INHERITED, "cannot be inherited");
        Self {
            listener: Listener::of(&table.read_as("listener")),
            pool: Pool::of(&table.read_as("pool")),
        }
    }
}

impl Field for Vec<(At<String>, Pool)> {
    fn read(table: &Table<'_, '_>, key: &'static str) -> Self {
        table.named(key).into_iter().map(|(name, table)| (name, Pool::of(&table))).collect()
    }
}

impl Listener {
    /// The name that routes know it by: its first address unless it has one. `None` if a fault
    /// hides it.
    pub fn known_as(&self) -> Option<String> {
        match &self.name.state {
            State::Is(name) => Some(name.0.clone()),
            State::Wrong => None,
            State::Absent => self.bind.value()?.0.first().map(|bind| bind.value.0.to_string()),
        }
    }
}
