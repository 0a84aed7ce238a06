//! `tidegate reload`: the daemon reads its config again, or says why it stays with the old one.

use serde::Deserialize;

use crate::cli::args::AdminArgs;
use crate::cli::client::Client;
use crate::cli::{Exit, Failure, print};

#[derive(Deserialize)]
struct Reloaded {
    summary: String,
}

pub(super) fn run(args: &AdminArgs) -> Result<(), Failure> {
    let body = Client::find(args)?.post("/api/v1/reload")?;
    let Reloaded { summary } = serde_json::from_slice(&body).map_err(|why| {
        Failure::new(Exit::Failed, format!("the daemon's answer cannot be read: {why}"))
    })?;
    print(&format!("reloaded: {summary}\n"))
}
