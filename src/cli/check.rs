//! `tidegate check`: all faults of the config at once, or what it comes to.

use std::fmt::Write;
use std::path::Path;

use crate::base::clock::wall_seconds;
use crate::cli::args::CheckArgs;
use crate::cli::{Exit, Failure, config_file, print};
use crate::config::{Config, Loaded};
use crate::daemon::certificates::{Certificates, Ending};

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let path = config_file::find(args.config.config.as_deref())?;
    let loaded = config_file::load(&path)?;
    for warning in certificates(&path, &loaded, wall_seconds() as i64)? {
        eprintln!("warning: {warning}");
    }
    print(&if args.explain { explain(&loaded) } else { summary(&path, &loaded.config) })
}

/// Reads the certificates of the config; what will go wrong with them, seen from `now`.
fn certificates(path: &Path, loaded: &Loaded, now: i64) -> Result<Vec<String>, Failure> {
    let certificates = Certificates::read(path, loaded, &Certificates::default())
        .map_err(|faults| Failure::new(Exit::Input, faults.to_string()))?;
    let warning = |ending: &Ending| {
        let (listener, file) = (&ending.listener, ending.certificate.file.display());
        format!("listener {listener}: {file} {}", ending.when())
    };
    Ok(certificates.endings(now).iter().map(warning).collect())
}

fn explain(loaded: &Loaded) -> String {
    loaded.explanation.iter().fold(String::new(), |mut text, setting| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{setting}");
        text
    })
}

fn summary(path: &Path, config: &Config) -> String {
    let fixed = config.pools.iter().map(|pool| pool.instances.len()).sum();
    let scaled = config.pools.iter().filter(|pool| pool.scaling.is_some()).count();
    let parts: Vec<String> = [
        (config.listeners.len(), "listener"),
        (config.routes.len(), "route"),
        (config.pools.len(), "pool"),
        (fixed, "static instance"),
        (scaled, "scaled pool"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
    .collect();
    format!("{}: ok, {}\n", path.display(), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::fixture;

    fn loaded(text: &str) -> Loaded {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, text).expect("written");
        config_file::load(&path).expect("no faults")
    }

    #[test]
    fn certificates_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tidegate.toml");
        let text = "[[listener]]\nbind = \"127.0.0.1:8443\"\npool = \"a\"\nprotocol = \"https\"\n\
             tls.certificates = [{ cert = \"a.pem\", key = \"a.key\" }]\n\
             [pool.a]\ninstances = [{ address = \"10.0.0.1:80\" }]\n\
             [pool.a.upstream_tls]\n\n\nca = \"none.pem\"\n";
        let loaded = crate::config::compile(text, &path, &|_| unreachable!()).expect("right");
        let failure = certificates(&path, &loaded, 0).expect_err("has faults");
        assert_eq!(failure.exit, Exit::Input);
        for (line, key) in [
            (5, "listener[1].tls.certificates[1].cert"),
            (5, "listener[1].tls.certificates[1].key"),
            (11, "pool.a.upstream_tls.ca"),
        ] {
            let start = format!("{}:{line}: {key}: {}/", path.display(), folder.path().display());
            assert!(failure.message.contains(&start), "{start} in\n{}", failure.message);
        }
        assert!(failure.message.ends_with("3 faults"), "{}", failure.message);
        let authority = fixture::Authority::new("authority");
        fixture::write(folder.path(), "a", &authority.host(&["a"]));
        fixture::file(folder.path(), "none.pem", authority.pem());
        assert_eq!(certificates(&path, &loaded, 0), Ok(Vec::new()));
        let warnings = certificates(&path, &loaded, i64::MAX / 2).expect("no faults");
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.starts_with("listener 127.0.0.1:8443: "), "{warning}");
        assert!(warning.contains("a.pem has ended (4096-01-01T00:00:00Z)"), "{warning}");
    }

    #[test]
    fn a_good_config_is_counted() {
        let loaded = loaded(
            "[[listener]]\nbind = \"127.0.0.1:8080\"\npool = \"a\"\n\
             [pool.a]\ninstances = [{ address = \"10.0.0.1:80\" }, { address = \"10.0.0.2:80\" }]\n",
        );
        assert_eq!(
            summary(Path::new("some/f.toml"), &loaded.config),
            "some/f.toml: ok, 1 listener, 1 pool, 2 static instances\n"
        );
        let text = explain(&loaded);
        assert!(text.lines().any(|line| line.starts_with("pool.a.balance")), "{text}");
    }
}
