//! `[pool.NAME.zones]`: what it means, and what is wrong with it.

use super::{LISTENER, POOL, PROVISIONED, check, check_pool, good};
use crate::base::{Share, ZoneId};
use crate::model::{ZoneMode, Zones};

fn zones(text: &str) -> Zones {
    good(text).config.pools[0].zones.clone()
}

#[test]
fn a_pool_says_which_zones_go_first() {
    assert_eq!(zones(&format!("{LISTENER}{POOL}")), Zones::default());
    let text = format!(
        "{LISTENER}{PROVISIONED}[pool.web.zones]\nmode = \"priority\"\nlevels = [\"b\", [\"a\"]]\n\
         panic_below = \"0%\"\noverprovisioning = 2\n"
    );
    let expected = Zones {
        mode: ZoneMode::Priority,
        levels: vec![vec!["b".into()], vec!["a".into()]],
        panic_below: Share(0.0),
        overprovisioning: 2.0,
        ..Zones::default()
    };
    assert_eq!(zones(&text), expected);
    let text = format!(
        "node.zone = \"east\"\ndefaults.zones = {{ mode = \"local-first\", spill_at = \"60%\" }}\n\
         {LISTENER}{POOL}"
    );
    let local = zones(&text);
    assert_eq!((local.mode, local.home), (ZoneMode::LocalFirst, Some(ZoneId::new("east"))));
    assert_eq!(local.spill_at, Share(0.6));
}

#[test]
fn what_does_not_fit_together_is_a_fault() {
    for (lines, expected) in [
        (
            "zones.mode = \"local-first\"",
            "7:14: pool.web.zones.mode: \"local-first\" needs the zone that this node stands in; add zone",
        ),
        ("zones.mode = \"priority\"", "7:14: pool.web.zones.mode: \"priority\" needs levels"),
        (
            "zones.mode = \"local\"",
            "7:14: pool.web.zones.mode: \"local\" is not one of \"spread\", \"local-first\", \"priority\"",
        ),
        ("zones.spill_at = \"0%\"", "7:18: pool.web.zones.spill_at: must be more than \"0%\""),
        ("zones.spill_at = 80", "7:18: pool.web.zones.spill_at: 80 has no unit"),
        (
            "zones.overprovisioning = 0.9",
            "7:26: pool.web.zones.overprovisioning: must be at least 1",
        ),
        (
            "zones = { mode = \"priority\", levels = [[\"defualt\"]] }",
            "7:40: pool.web.zones.levels: the pool has no instances in a zone \"defualt\"; did you mean \"default\"?",
        ),
        (
            "zones = { mode = \"priority\", levels = [[\"default\"], \"default\"] }",
            "7:53: pool.web.zones.levels: the zone \"default\" is there twice",
        ),
        (
            "zones = { mode = \"priority\", levels = [[]] }",
            "7:40: pool.web.zones.levels[1]: is a level without zones",
        ),
        (
            "zones = { mode = \"priority\", levels = [3] }",
            "7:40: pool.web.zones.levels[1]: must be a list of zones, not a number",
        ),
    ] {
        check_pool(lines, &[expected]);
    }
    // Levels of all pools may name zones that one of them has not.
    let text = format!(
        "defaults.zones = {{ mode = \"priority\", levels = [[\"a\"], [\"z\"]] }}\n{LISTENER}{POOL}"
    );
    check(&text, &[]);
}
