//! `tidegate scale`: an operator's order of a pool's size, and its end.

use crate::admin::route::encode;
use crate::admin::wish::Wish;
use crate::cli::args::ScaleArgs;
use crate::cli::client::Client;
use crate::cli::{Exit, Failure, print};

pub(super) fn run(args: &ScaleArgs) -> Result<(), Failure> {
    let pool = &args.pool;
    let wish = Wish { desired: args.size, lasts: args.lasts.clone(), auto: args.auto };
    let body = serde_json::to_vec(&wish)
        .map_err(|why| Failure::new(Exit::Failed, format!("cannot write the order: {why}")))?;
    let path = format!("/api/v1/pools/{}/scaling", encode(pool));
    Client::find(&args.admin)?.post_json(&path, body)?;
    print(&match (args.size, &args.lasts) {
        (Some(size), Some(lasts)) => format!("{pool}: {size} instances for {lasts}\n"),
        (Some(size), None) => format!("{pool}: {size} instances until scale {pool} --auto\n"),
        (None, _) => format!("{pool}: as many instances as its demand needs\n"),
    })
}
