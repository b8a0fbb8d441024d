//! What monitors see of workers: their names, and events.

use super::{good, keys, said};

#[test]
fn a_worker_has_a_name_of_its_own() {
    let name = |pattern: &str| good(&format!("[workers]\nname = \"{pattern}\"")).workers.node_name(2, "web1");
    assert_eq!(name("worker%i@%h"), "worker2@web1");
    assert_eq!(name("%%%i%%i@zoë"), "%2%i@zoë");
    let of_host = |host| good("[workers]\nname = \"%i@%n|%d|%h\"").workers.node_name(1, host);
    assert_eq!(of_host("web1.example.org"), "1@web1|example.org|web1.example.org");
    assert_eq!(of_host("web1"), "1@web1||web1");
    for pattern in ["worker@%h", "w%I@%h%i", "w%i@%", "a b%i", "a,%i", ""] {
        assert_eq!(keys(&format!("[workers]\nname = \"{pattern}\"")), ["workers.name"], "{pattern}");
    }
    assert_eq!(good("[workers]\nname = \"one@%h\"\nprocesses = 1").workers.node_name(1, "h"), "one@h");
}

#[test]
fn events_are_the_applications_affair_unless_said_otherwise() {
    let events = |text: &str| good(text).workers.events;
    assert_eq!(events(""), None);
    assert_eq!((events("[workers]\nevents = true"), events("[workers]\nevents = false")), (Some(true), Some(false)));
    assert_eq!(
        said("[workers]\nevents = \"yes\""),
        "1 problem in /etc/fairstalk/fairstalk.toml\n\n  workers.events = \"yes\"\n    problem: is neither true nor false\n    \
         remedy:  write true or false, without quotes"
    );
}
