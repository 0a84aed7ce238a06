//! Finding and loading the config.

use std::path::{Path, PathBuf};

use crate::cli::{Exit, Failure};
use crate::config::{self, Loaded};

/// Where the config is looked for, in this order.
const PLACES: [&str; 2] = ["config/tidegate.toml", "/etc/tidegate/tidegate.toml"];

/// The file that was given, or the first of the usual places that has one.
pub(super) fn find(given: Option<&Path>) -> Result<PathBuf, Failure> {
    given.map(Path::to_path_buf).or_else(usual).ok_or_else(|| {
        let [first, second] = PLACES;
        Failure::new(
            Exit::Input,
            format!(
                "there is no config: neither {first} nor {second}; give one with --config FILE"
            ),
        )
    })
}

/// The first of the usual places that has a file, or may have one that cannot be seen.
pub(super) fn usual() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.try_exists().unwrap_or(true))
}

/// Loads it; the failure names all faults.
pub(super) fn load(path: &Path) -> Result<Loaded, Failure> {
    config::load(path).map_err(|faults| Failure::new(Exit::Input, faults.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken_even_if_it_is_not_there() {
        let path = Path::new("/nowhere/tidegate.toml");
        assert_eq!(find(Some(path)), Ok(path.to_path_buf()));
        let failure = load(path).expect_err("not there");
        assert_eq!(failure.exit, Exit::Input);
        assert!(failure.message.contains("/nowhere/tidegate.toml"), "{}", failure.message);
    }
}
