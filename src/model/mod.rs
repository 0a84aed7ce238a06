//! The nouns that rooms share: values, and the few hot counters that outlive a snapshot.
//!
//! Nothing here decides. `fleet`, `proxy` and `scaling` never import each other; what one has to
//! tell another is a type of this room, and `daemon` carries it across.
//!
//! Three truths about an instance are kept apart and never folded into one: what probes say
//! ([`Health`]), what an operator says ([`Admin`]), and where it is between birth and death
//! ([`Life`]). [`Standing::verdict`] is the only function of the three that traffic depends on.

pub mod affinity;
pub mod census;
pub mod cost;
pub mod demand;
pub mod instance;
pub mod listener;
pub mod machine;
pub mod outlier;
pub mod pool;
pub mod queue;
pub mod rewrite;
pub mod route;
pub mod rule;
pub mod said;
pub mod scaling;
pub mod schedule;
pub mod sight;
pub mod socket;
pub mod standing;
pub mod tls;
pub mod zones;

pub use affinity::{Affinity, HashKey, Sticky};
pub use census::{Census, InstanceRow, PoolRow};
pub use cost::Cost;
pub use demand::{Totals, Window};
pub use instance::{FULL, Instance, Slot, Vitals};
pub use listener::{
    ConnectMethod, ForwardedStyle, Listener, ListenerLimits, ListenerTimeouts, Page, Protocol,
    ProxyHeader,
};
pub use machine::{Machine, MachineState};
pub use outlier::Outlier;
pub use pool::{
    AgentCheck, Balance, GrpcCheck, Health as HealthSettings, HealthCheck, HttpCheck, KeepAlive,
    Limit, Pool, PoolTimeouts, ProcessSettings, Provisioning, ProxyVersion, Retry, StaticInstance,
    StopPolicy, UpstreamSettings, UpstreamVersion,
};
pub use queue::{Order, Priority, Queue};
pub use rewrite::{FieldEdits, Part, Rewrite, Template, TemplateError, Variable};
pub use route::{Action, HostPattern, Redirect, Respond, Route};
pub use rule::Rule;
pub use said::{Said, SizeOverride};
pub use scaling::{
    Prediction, RateTarget, Resizing, Roll, ScaleIn, ScaleOut, Scaling, ScalingMode, SizeClass,
    Standby, ZoneBalance, ZoneRedundancy,
};
pub use schedule::{Schedule, When};
pub use sight::{AgentReport, Sight};
pub use socket::SocketOptions;
pub use standing::{Admin, Health, Life, Standing};
pub use tls::{CertificateFiles, ClientAuth, ListenerTls, PoolTls, TlsIdentity, TlsVersion};
pub use zones::{Evacuation, Tier, TrafficPlan, ZoneMode, ZoneRow, ZoneState, Zones};
