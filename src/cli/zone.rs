//! `tidegate zone`: an operator moves the traffic of a zone elsewhere, and back.

use crate::admin::route::encode;
use crate::admin::wish::ZoneWish;
use crate::base::unit::parse_duration;
use crate::cli::args::{ZoneArgs, ZoneVerb};
use crate::cli::client::Client;
use crate::cli::{Exit, Failure, print};

pub(super) fn run(args: &ZoneArgs) -> Result<(), Failure> {
    match &args.verb {
        ZoneVerb::Evacuate { zone, lasts, force, admin } => {
            let seconds = |text: &String| {
                let duration = parse_duration(text).map_err(|why| {
                    Failure::new(Exit::Input, format!("--for is a time such as 30m: {why}"))
                })?;
                Ok(duration.as_secs_f64().ceil() as u64)
            };
            let for_s = lasts.as_ref().map(seconds).transpose()?;
            let wish = ZoneWish { for_s, force: *force };
            let body = serde_json::to_vec(&wish).map_err(|why| {
                Failure::new(Exit::Failed, format!("cannot write the order: {why}"))
            })?;
            let path = format!("/api/v1/zones/{}/evacuate", encode(zone));
            Client::find(admin)?.post_json(&path, body)?;
            let until = lasts.as_ref().map_or_else(
                || format!("until zone restore {zone}"),
                |lasts| format!("for {lasts}"),
            );
            print(&format!("{zone}: gets no new traffic {until}; what runs there may finish\n"))
        }
        ZoneVerb::Restore { zone, admin } => {
            let path = format!("/api/v1/zones/{}/restore", encode(zone));
            Client::find(admin)?.post(&path)?;
            print(&format!("{zone}: may take traffic again\n"))
        }
    }
}
