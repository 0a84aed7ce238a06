//! `tidegate check`: all faults of the config at once, or what it comes to.

use std::fmt::Write;
use std::path::Path;

use crate::cli::args::CheckArgs;
use crate::cli::{Failure, config_file, print};
use crate::config::{Config, Loaded};

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let path = config_file::find(args.config.config.as_deref())?;
    let loaded = config_file::load(&path)?;
    print(&if args.explain { explain(&loaded) } else { summary(&path, &loaded.config) })
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

    fn loaded(text: &str) -> Loaded {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, text).expect("written");
        config_file::load(&path).expect("no faults")
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
