//! `tidegate drain`: an operator's order for one instance.

use crate::admin::route::encode;
use crate::cli::args::InstanceArgs;
use crate::cli::client::Client;
use crate::cli::{Failure, print};

pub(super) fn run(args: &InstanceArgs) -> Result<(), Failure> {
    let (pool, instance) = (&args.pool, &args.instance);
    let verb = if args.undo { "undrain" } else { "drain" };
    let path = format!("/api/v1/pools/{}/instances/{}/{verb}", encode(pool), encode(instance));
    Client::find(&args.admin)?.post(&path)?;
    print(&if args.undo {
        format!("{pool}: {instance} may take traffic again\n")
    } else {
        format!("{pool}: {instance} gets no new traffic; what runs on it may finish\n")
    })
}
