//! `[workers] concurrency` and `shrink_after`.

use super::{good, good_with, keys, said};
use fairstalk::config::Concurrency;
use std::time::Duration;

#[test]
fn a_number_or_two_bounds() {
    let slots = |value: &str| good(&format!("[workers]\nconcurrency = {value}")).workers.concurrency;
    assert_eq!(slots("7"), Concurrency { min: 7, max: 7 });
    assert_eq!(slots("{ min = 2, max = 10 }"), Concurrency { min: 2, max: 10 });
    assert_eq!(slots("{ min = 3, max = 3 }"), Concurrency { min: 3, max: 3 });
    let variable = |text: &str| good_with("", &[("FAIRSTALK_WORKERS__CONCURRENCY", text)]).workers.concurrency;
    assert_eq!(variable(" { min = 1, max = 256 }"), Concurrency { min: 1, max: 256 });
    assert_eq!(good("").workers.shrink_after, Duration::from_secs(30));
    assert_eq!(good("[workers]\nshrink_after = \"200ms\"").workers.shrink_after, Duration::from_millis(200));
}

#[test]
fn bad_bounds_are_told() {
    let remedy = "write a number from 1 to 256, \"auto\", or { min = 2, max = 10 }";
    for (value, reason) in [
        ("{ min = 5, max = 4 }", "has a min above its max"),
        ("{ min = 0, max = 4 }", "has a min that is not between 1 and 256"),
        ("{ min = 1, max = 257 }", "has a max that is not between 1 and 256"),
        ("{ min = 1, max = \"many\" }", "has a max that is not a whole number"),
        ("{ max = 4 }", "has no min"),
        ("{ min = 1, max = 4, step = 2 }", "has \"step\", which means nothing here"),
        ("0", "is not between 1 and 256"),
        ("[1, 2]", "is not a whole number"),
    ] {
        let text = format!("[workers]\nconcurrency = {value}");
        let problems = said(&text);
        assert_eq!(keys(&text), ["workers.concurrency"]);
        assert!(problems.contains(&format!("problem: {reason}\n")), "{problems}");
        assert!(problems.contains(remedy) || value.contains("min = 5"), "{problems}");
    }
    for value in ["\"50ms\"", "\"2d\"", "30"] {
        assert_eq!(keys(&format!("[workers]\nshrink_after = {value}")), ["workers.shrink_after"], "{value}");
    }
}
