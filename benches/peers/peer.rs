//! Who is measured: where the programs are, and what they are.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of those that are measured beside each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// This project.
    Tidegate,
    /// HAProxy, to which ratios are taken.
    Haproxy,
    /// nginx.
    Nginx,
    /// Envoy.
    Envoy,
    /// The relay that looks at nothing.
    Floor,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Tidegate, Self::Haproxy, Self::Nginx, Self::Envoy, Self::Floor];
    /// The one that ratios are taken to.
    pub const REFERENCE: Self = Self::Haproxy;

    /// As the command line and the results have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Floor => "floor",
        }
    }

    /// The peer of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Its program: what the environment names, or what is on the path.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(self) -> Result<PathBuf, String> {
        let name = self.name();
        let variable = format!("{}_BIN", name.to_uppercase());
        if let Some(named) = std::env::var_os(&variable) {
            let named = PathBuf::from(named);
            let found = is_program(&named);
            return found
                .then_some(named)
                .ok_or_else(|| format!("what {variable} names is not a program"));
        }
        match self {
            Self::Tidegate => Ok(env!("CARGO_BIN_EXE_tidegate").into()),
            Self::Floor => std::env::current_exe().map_err(|error| error.to_string()),
            Self::Haproxy | Self::Nginx | Self::Envoy => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                // Daemons live where the path of ordinary users may not lead.
                let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
                let mut programs = folders.map(|folder| folder.join(name));
                programs
                    .find(|program| is_program(program))
                    .ok_or_else(|| format!("not on the path, and {variable} is not set"))
            }
        }
    }

    /// What it says about itself: the first word that is a version.
    pub fn version(self, program: &Path) -> String {
        let option = match self {
            Self::Floor => return env!("CARGO_PKG_VERSION").to_owned(),
            Self::Haproxy | Self::Nginx => "-v",
            Self::Tidegate | Self::Envoy => "--version",
        };
        let words = says(program, option);
        // Envoy names its path first, which may lead through the version of something else, and
        // a commit before the version.
        let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let line = line.rsplit("version").next().unwrap_or_default().replace('/', " ");
        let is_version =
            |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        line.split_whitespace().find(is_version).unwrap_or("unknown").to_owned()
    }
}

/// What a program answers to an option, on either of its outputs.
pub fn says(program: &Path, option: &str) -> String {
    let Ok(output) = Command::new(program).arg(option).output() else { return String::new() };
    let [out, err] = [output.stdout, output.stderr];
    String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
