//! The kinds of values that say which requests belong together.

use toml::de::DeValue;

use crate::base::Share;
use crate::config::fault::did_you_mean;
use crate::config::http::is_token;
use crate::config::scalar::{Printed, Scalar, Wrong, quoted, share, text, wrong, wrong_but};
use crate::model::HashKey;

/// Above this a ring has no bound to speak of.
const MOST_LOAD: Share = Share(10.0);

/// Below this, keys would hardly ever be where they belong.
const LEAST_LOAD: Share = Share(1.05);

/// What a key may be told apart by, as it is written.
const FORMS: [&str; 5] = ["client-address", "header:NAME", "cookie:NAME", "path", "sni"];

impl Scalar for HashKey {
    const IS_WORD: bool = true;

    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let listed = FORMS.map(quoted).join(", ");
        let text = text(value, &format!("one of {listed}"))?;
        let named = |name: &str| {
            let wrong = || wrong(format!("{text:?}: {name:?} is not a name"));
            is_token(name).then(|| name.to_owned()).ok_or_else(wrong)
        };
        match text.split_once(':') {
            None if text == "client-address" => Ok(Self::ClientAddress),
            None if text == "path" => Ok(Self::Path),
            None if text == "sni" => Ok(Self::Sni),
            Some(("header", name)) => Ok(Self::Header(named(name)?.to_ascii_lowercase())),
            Some(("cookie", name)) => Ok(Self::Cookie(named(name)?)),
            _ => Err(Wrong {
                problem: format!("{text:?} is not one of {listed}"),
                hint: did_you_mean(text, FORMS),
            }),
        }
    }
}

impl Printed for HashKey {
    fn print(&self) -> String {
        match self {
            Self::ClientAddress => quoted("client-address"),
            Self::Header(name) => quoted(format!("header:{name}")),
            Self::Cookie(name) => quoted(format!("cookie:{name}")),
            Self::Path => quoted("path"),
            Self::Sni => quoted("sni"),
        }
    }
}

/// The most that an instance of a ring takes, as a share of the mean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MaxLoad(pub Share);

impl Scalar for MaxLoad {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match share(value, "150%", MOST_LOAD)? {
            load if load < LEAST_LOAD => {
                let problem = format!("must be at least \"{LEAST_LOAD}\"");
                Err(wrong_but(problem, "it is a share of the mean load of all instances"))
            }
            load => Ok(Self(load)),
        }
    }
}

impl Printed for MaxLoad {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// The name of a cookie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CookieName(pub String);

impl Scalar for CookieName {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value, "the name of a cookie")? {
            name if is_token(name) => Ok(Self(name.to_owned())),
            name => Err(wrong(format!("{name:?} is not the name of a cookie"))),
        }
    }
}

impl Printed for CookieName {
    fn print(&self) -> String {
        quoted(&self.0)
    }
}
