//! What an operator wants of a pool's size or of a zone, from the body of a request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::unit::parse_duration;
use crate::model::{Evacuation, SizeOverride};

/// The body of `POST /api/v1/pools/{pool}/scaling`: `{"desired": 5, "for": "30m"}`, where the time
/// may be left out, or `{"auto": true}`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// How many instances there are to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<u32>,
    /// For how long; without it, until it is taken back.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// What was set by hand ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto: bool,
}

/// No override is meant to be set for longer and end by itself.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

impl Wish {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Says what to write.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|why| {
            format!("the body is {{\"desired\": N, \"for\": \"30m\"}} or {{\"auto\": true}}: {why}")
        })
    }

    /// The order at `wall`, in seconds since 1970: a size, or the end of one.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn order(&self, wall: f64) -> Result<Option<SizeOverride>, String> {
        let desired = match (self.auto, self.desired, &self.lasts) {
            (true, None, None) => return Ok(None),
            (false, Some(desired), _) => desired,
            _ => return Err("say either \"desired\", with or without \"for\", or \"auto\"".into()),
        };
        let lasts = self.lasts.as_deref().map(parse_duration).transpose();
        let lasts = lasts.map_err(|why| format!("\"for\" is a duration such as \"30m\": {why}"))?;
        if lasts.is_some_and(|lasts| lasts > LONGEST || lasts < Duration::from_secs(1)) {
            return Err("\"for\" is from 1s to 366d; without it the size stays until auto".into());
        }
        let until = lasts.map(|lasts| (wall + lasts.as_secs_f64()).ceil() as u64);
        Ok(Some(SizeOverride { desired, until }))
    }
}

/// The body of `POST /api/v1/zones/{zone}/evacuate`: `{"for_s": 1800, "force": true}`, where both,
/// or all of it, may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneWish {
    /// For so many seconds; without it, until the zone is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// Even if that leaves pools short.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

impl ZoneWish {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Says what to write.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(body).map_err(|why| {
            format!("the body is {{\"for_s\": 1800, \"force\": true}} or a part of it: {why}")
        })
    }

    /// The order at `wall`, in seconds since 1970.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn evacuation(&self, wall: f64) -> Result<Evacuation, String> {
        if self.for_s.is_some_and(|lasts| !(1..=LONGEST.as_secs()).contains(&lasts)) {
            let most = LONGEST.as_secs();
            return Err(format!(
                "an evacuation lasts from 1 to {most} s (366d), or until restored"
            ));
        }
        Ok(Evacuation { until: self.for_s.map(|lasts| (wall + lasts as f64).ceil() as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(body: &str) -> Result<Option<SizeOverride>, String> {
        Wish::read(body.as_bytes())?.order(1_000.5)
    }

    #[test]
    fn a_size_with_or_without_an_end_or_the_end_of_one() {
        let size = |desired, until| Ok(Some(SizeOverride { desired, until }));
        assert_eq!(order(r#"{"desired": 5}"#), size(5, None));
        assert_eq!(order(r#"{"desired": 5, "for": "1m30s"}"#), size(5, Some(1_091)));
        assert_eq!(order(r#"{"auto": true}"#), Ok(None));
        for body in [
            "",
            "5",
            "{}",
            r#"{"desired": -1}"#,
            r#"{"desired": 5.5}"#,
            r#"{"desired": 5, "auto": true}"#,
            r#"{"auto": true, "for": "1m"}"#,
            r#"{"auto": false}"#,
            r#"{"desired": 5, "for": "soon"}"#,
            r#"{"desired": 5, "for": "0s"}"#,
            r#"{"desired": 5, "for": "367d"}"#,
            r#"{"desired": 5, "untill": 9}"#,
        ] {
            assert!(order(body).is_err(), "{body}");
        }
    }

    #[test]
    fn an_evacuation_with_or_without_an_end() {
        let read = |body: &str| {
            let wish = ZoneWish::read(body.as_bytes())?;
            Ok::<_, String>((wish.evacuation(1_000.5)?.until, wish.force))
        };
        assert_eq!(read(""), Ok((None, false)));
        assert_eq!(read("{}"), Ok((None, false)));
        assert_eq!(read(r#"{"for_s": 60}"#), Ok((Some(1_061), false)));
        assert_eq!(read(r#"{"for_s": 1, "force": true}"#), Ok((Some(1_002), true)));
        for body in ["5", "true", r#"{"for": "5m"}"#, r#"{"for_s": 0}"#, r#"{"for_s": 31622401}"#] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}
