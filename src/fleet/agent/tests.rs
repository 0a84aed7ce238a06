use std::time::Duration;

use super::*;

const CHECK: AgentCheck = AgentCheck { port: 1, interval: Duration::from_secs(3) };

/// An agent that has said these lines, one after the other.
fn after(lines: &[&str]) -> Agent {
    let mut agent = Agent::new(Ms(1_000), Some(CHECK));
    for line in lines {
        let now = agent.due.expect("due");
        let number = agent.start();
        assert_eq!(agent.due, None);
        agent.handle_line(now, CHECK, number, Some(Line::parse(line)));
        assert_eq!(agent.due, Some(now + CHECK.interval));
    }
    agent
}

#[test]
fn lines_are_read_like_haproxy_reads_them() {
    let table = [
        ("75%\n", "up ready 75% maxconn:0"),
        ("weight:12 ready", "up ready weight:12 maxconn:0"),
        ("weight:1000", "up ready weight:256 maxconn:0"),
        ("maxconn:30,up\r\n drain", "up ready 100% maxconn:30"),
        ("DRAIN\t50%\n", "up drain 50% maxconn:0"),
        ("maint", "up maint 100% maxconn:0"),
        ("down #the disk is full, 75%\r\n", "down: the disk is full, 75% ready 100% maxconn:0"),
        ("fail#\n", "fail ready 100% maxconn:0"),
        ("stopped drain", "stopped drain 100% maxconn:0"),
        ("", "up ready 100% maxconn:0"),
        ("\nmaint", "up ready 100% maxconn:0"),
        ("75 %, -3% weight: maxconn:x 1e3% hello % \u{1F600}", "up ready 100% maxconn:0"),
    ];
    for (line, expected) in table {
        assert_eq!(after(&[line]).to_string(), expected, "{line:?}");
    }
}

#[test]
fn only_the_agent_undoes_what_the_agent_did() {
    let table: [(&[&str], &str, Option<&str>); 6] = [
        (&["drain", "75%"], "up drain 75% maxconn:0", Some("its agent says drain")),
        (&["drain", "75%", "ready 100%"], "up ready 100% maxconn:0", None),
        (&["down #x", "ready"], "down: x ready 100% maxconn:0", Some("its agent says down: x")),
        (&["down maint", "up"], "up maint 100% maxconn:0", Some("its agent says maint")),
        (&["0%"], "up ready 0% maxconn:0", Some("its agent says drain")),
        (&["maxconn:9", "maxconn:0 up"], "up ready 100% maxconn:0", None),
    ];
    for (lines, expected, objection) in table {
        let agent = after(lines);
        assert_eq!(agent.to_string(), expected, "{lines:?}");
        assert_eq!(agent.objection().as_deref(), objection, "{lines:?}");
    }
}

#[test]
fn an_agent_that_cannot_be_asked_says_nothing() {
    let mut agent = after(&["drain 50%"]);
    let stale = agent.start();
    let number = agent.start();
    assert!(!agent.handle_line(Ms(9_000), CHECK, stale, Some(Line::parse("ready"))));
    assert!(!agent.handle_line(Ms(9_000), CHECK, number, None));
    assert_eq!((agent.admin(), agent.due), (Admin::Draining, Some(Ms(12_000))));
    let number = agent.start();
    assert!(agent.handle_line(Ms(12_000), CHECK, number, Some(Line::parse("ready"))));
    assert_eq!(Agent::new(Ms(1), None).due, None, "there is none to ask");
}

#[test]
fn weights_are_parts_of_whole_ones() {
    for (line, configured, expected) in [
        ("100%", 3, (3, FULL)),
        ("75%", 1, (1, FULL * 3 / 4)),
        ("50%", 4, (2, FULL)),
        ("50%", 3, (2, FULL * 3 / 4)),
        ("150%", 1, (2, FULL * 3 / 4)),
        ("0%", 7, (1, 0)),
        ("weight:40", 7, (40, FULL)),
        ("4294967295%", 4_294_967_295, (u32::MAX, FULL)),
    ] {
        assert_eq!(after(&[line]).weight_of(configured), expected, "{line} of {configured}");
    }
}
