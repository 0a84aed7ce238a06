//! `tidegate protect`: an operator keeps an instance from scale-in.

use crate::admin::route::encode;
use crate::cli::args::InstanceArgs;
use crate::cli::client::Client;
use crate::cli::{Failure, print};

pub(super) fn run(args: &InstanceArgs) -> Result<(), Failure> {
    let (pool, instance) = (&args.pool, &args.instance);
    let verb = if args.undo { "unprotect" } else { "protect" };
    let path = format!("/api/v1/pools/{}/instances/{}/{verb}", encode(pool), encode(instance));
    Client::find(&args.admin)?.post(&path)?;
    print(&if args.undo {
        format!("{pool}: {instance} may be taken when the pool shrinks\n")
    } else {
        format!("{pool}: {instance} stays when the pool shrinks\n")
    })
}
