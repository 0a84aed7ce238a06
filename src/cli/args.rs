//! The grammar of the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::simulate::SimulateArgs;
use crate::cli::whoami::WhoamiArgs;
use crate::net::http::Peer;

/// A load balancer for scale sets: it balances the traffic of a pool, and adds and drains its
/// machines by the request rate that it sees.
#[derive(PartialEq, Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Without a command it runs the daemon.\n\
        Exit codes: 0 done, 1 wrong input, 2 wrong usage, 3 daemon not reachable, 4 failed."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub run: ConfigArgs,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

#[derive(PartialEq, Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the daemon
    Run(ConfigArgs),
    /// Find all faults of the config, without running anything
    Check(CheckArgs),
    /// Show who is there, and why (not) eligible for traffic
    Status(StatusArgs),
    /// Show where new requests of a pool go, and why
    Explain(ExplainArgs),
    /// Send an instance no new traffic; what runs on it may finish
    Drain(InstanceArgs),
    /// Move the traffic of a zone elsewhere, and back
    Zone(ZoneArgs),
    /// Set the size of a pool by hand, or leave it to its demand again
    Scale(ScaleArgs),
    /// Keep an instance when the pool shrinks
    Protect(InstanceArgs),
    /// Make the daemon read its config again
    Reload(AdminArgs),
    /// Exit 0 if the daemon lives, else 1 (for a container's health check)
    Healthcheck(AdminArgs),
    /// Replay traffic against the scaling of a pool, beside other scalers
    Simulate(Box<SimulateArgs>),
    /// A tiny instance to try things with
    Whoami(WhoamiArgs),
}

#[derive(PartialEq, Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// The config [default: config/tidegate.toml, then /etc/tidegate/tidegate.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(PartialEq, Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print every effective value and where it comes from
    #[arg(long)]
    pub explain: bool,
}

#[derive(PartialEq, Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// As the admin API has it
    #[arg(long)]
    pub json: bool,
}

#[derive(PartialEq, Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The pool
    pub pool: String,
    /// Whose next request, if that is to matter
    #[arg(long, value_name = "IP")]
    pub client: Option<IpAddr>,
    #[command(flatten)]
    pub admin: AdminArgs,
    /// As the admin API has it
    #[arg(long)]
    pub json: bool,
}

#[derive(PartialEq, Debug, clap::Args)]
pub(super) struct InstanceArgs {
    /// The pool
    pub pool: String,
    /// The instance, by its id
    pub instance: String,
    /// Take it back
    #[arg(long)]
    pub undo: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(PartialEq, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["size", "auto"]))]
pub(super) struct ScaleArgs {
    /// The pool
    pub pool: String,
    /// How many instances there are to be
    #[arg(value_name = "N")]
    pub size: Option<u32>,
    /// End that after a time such as 30m [default: it stays until --auto]
    #[arg(long = "for", value_name = "TIME", requires = "size", conflicts_with = "auto")]
    pub lasts: Option<String>,
    /// As many as the demand needs
    #[arg(long)]
    pub auto: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(PartialEq, Debug, clap::Args)]
pub(super) struct ZoneArgs {
    #[command(subcommand)]
    pub verb: ZoneVerb,
}

#[derive(PartialEq, Debug, Subcommand)]
pub(super) enum ZoneVerb {
    /// Send a zone no new traffic; what runs there may finish. Refused where the rest of a pool
    /// could not carry it
    Evacuate {
        /// The zone
        zone: String,
        /// End that after a time such as 30m [default: it stays until zone restore]
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<String>,
        /// Even if that leaves pools short (but never with nothing)
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Let an evacuated zone take traffic again
    Restore {
        /// The zone
        zone: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// How to find the daemon.
#[derive(PartialEq, Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// The daemon's admin API, ip:port or unix:PATH [default: what the config says, else
    /// 127.0.0.1:9900]
    #[arg(long, value_name = "ADDR", value_parser = parse_peer)]
    pub admin: Option<Peer>,
    /// A file with the token of the admin API [default: what the config says]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The daemon's config, which says both [default unless --admin is given: config/tidegate.toml,
    /// then /etc/tidegate/tidegate.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

fn parse_peer(text: &str) -> Result<Peer, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err("the path after unix: is missing".into()),
            path => Ok(Peer::Unix(path.into())),
        };
    }
    text.parse::<SocketAddr>()
        .map(Peer::Tcp)
        .map_err(|_| "expected ip:port, such as 127.0.0.1:9900, or unix:PATH".into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    fn admin(peer: Option<Peer>) -> AdminArgs {
        AdminArgs { admin: peer, token_file: None, config: None }
    }

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_a_verb_it_runs() {
        let config = || Some(PathBuf::from("f.toml"));
        let args = parse("tidegate").expect("runs");
        assert_eq!((args.verb, args.run.config), (None, None));
        let args = parse("tidegate --config f.toml").expect("runs");
        assert_eq!((args.verb, args.run.config), (None, config()));
        let args = parse("tidegate run --config f.toml").expect("runs");
        assert_eq!(args.verb, Some(Verb::Run(ConfigArgs { config: config() })));
    }

    #[test]
    fn verbs_have_their_arguments() {
        let tcp = Peer::Tcp(([127, 0, 0, 1], 1).into());
        let unix = Peer::Unix("/run/t.sock".into());
        for (line, expected) in [
            ("reload --admin 127.0.0.1:1", Verb::Reload(admin(Some(tcp)))),
            ("healthcheck", Verb::Healthcheck(admin(None))),
            (
                "status --json --admin unix:/run/t.sock",
                Verb::Status(StatusArgs { admin: admin(Some(unix)), json: true }),
            ),
            (
                "explain web --client ::1",
                Verb::Explain(ExplainArgs {
                    pool: "web".into(),
                    client: Some(Ipv6Addr::LOCALHOST.into()),
                    admin: admin(None),
                    json: false,
                }),
            ),
            (
                "drain web 10.0.0.1:80 --undo",
                Verb::Drain(InstanceArgs {
                    pool: "web".into(),
                    instance: "10.0.0.1:80".into(),
                    undo: true,
                    admin: admin(None),
                }),
            ),
            (
                "scale web 5 --for 30m",
                Verb::Scale(ScaleArgs {
                    pool: "web".into(),
                    size: Some(5),
                    lasts: Some("30m".into()),
                    auto: false,
                    admin: admin(None),
                }),
            ),
            (
                "scale web --auto",
                Verb::Scale(ScaleArgs {
                    pool: "web".into(),
                    size: None,
                    lasts: None,
                    auto: true,
                    admin: admin(None),
                }),
            ),
            (
                "zone evacuate a --for 30m --force",
                Verb::Zone(ZoneArgs {
                    verb: ZoneVerb::Evacuate {
                        zone: "a".into(),
                        lasts: Some("30m".into()),
                        force: true,
                        admin: admin(None),
                    },
                }),
            ),
            (
                "zone restore a",
                Verb::Zone(ZoneArgs {
                    verb: ZoneVerb::Restore { zone: "a".into(), admin: admin(None) },
                }),
            ),
            (
                "check --explain",
                Verb::Check(CheckArgs { config: ConfigArgs { config: None }, explain: true }),
            ),
        ] {
            let args = parse(&format!("tidegate {line}")).expect(line);
            assert_eq!(args.verb, Some(expected), "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "tidegate dance",
            "tidegate explain",
            "tidegate explain web --client nobody",
            "tidegate drain web",
            "tidegate protect web",
            "tidegate scale web",
            "tidegate scale web many",
            "tidegate scale web 5 --auto",
            "tidegate scale web --auto --for 5m",
            "tidegate zone a",
            "tidegate zone evacuate",
            "tidegate zone restore a --force",
            "tidegate status --admin localhost",
            "tidegate status --admin unix:",
            "tidegate --config a status",
            "tidegate top",
        ] {
            assert!(parse(line).is_err_and(|why| why.use_stderr()), "{line}");
        }
    }
}
