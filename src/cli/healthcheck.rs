//! `tidegate healthcheck`: for who knows only "well" (0) and "not well" (1), as containers do.

use crate::cli::args::AdminArgs;
use crate::cli::client::Client;
use crate::cli::{Exit, Failure};

pub(super) fn run(args: &AdminArgs) -> Result<(), Failure> {
    Client::find(args)
        .and_then(|client| client.get("/healthz"))
        .map(drop)
        .map_err(|failure| Failure::new(Exit::Input, failure.message))
}
