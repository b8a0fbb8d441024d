//! What single tasks and single tenants have of their own.

use super::{good, keys, said};
use fairstalk::config::Mode;

#[test]
fn a_task_may_be_delivered_in_its_own_way() {
    let config = good(
        "[python]\napp = \"app\"\n[delivery]\nmode = \"declared\"\nkeep_failed = true\n[tasks.\"app.pay\"]\ndelivery = \"at-most-once\"\n\
         [tasks.\"app.mail\"]\nkeep_failed = false\n[tasks.ls]\ncommand = [\"ls\"]\ndelivery = \"at-least-once\"",
    );
    let mode = |task| (config.delivery.mode_of(task), config.delivery.keeps_failed(task));
    assert_eq!(mode("app.pay"), (Mode::AtMostOnce, true));
    assert_eq!(mode("app.mail"), (Mode::Declared, false));
    assert_eq!(mode("ls"), (Mode::AtLeastOnce, true));
    assert_eq!(mode("any"), (Mode::Declared, true));
    assert_eq!(config.tasks.keys().collect::<Vec<_>>(), ["ls"], "the others are the application's");
    let text = said(
        "[python]\napp = \"app\"\n[delivery]\nmode = \"at-most-onc\"\n[tasks.x]\ndelivery = 1\nkeep_failed = \"perhaps\"\nenv = {}",
    );
    for part in ["delivery.mode = \"at-most-onc\"", "did you mean \"at-most-once\"?", "tasks.\"x\".delivery = 1"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("tasks.\"x\".keep_failed") && text.contains("is for a command, and none is given"), "{text}");
    assert_eq!(keys("[tasks.x]\nmax_retries = 1"), ["tasks.\"x\".command"]);
}

#[test]
fn memory_limits_are_for_all_or_for_one_task() {
    let config = good(
        r#"
        [workers]
        memory_limit = "1GiB"
        [python]
        app = "imgbackend"
        max_memory_per_runner = "300MiB"
        [tasks."images.render"]
        memory_limit = "2GiB"
        [tasks.convert]
        command = ["convert"]
        memory_limit = "64MiB"
        [tasks.echo]
        command = ["cat"]
    "#,
    );
    let limits = ["images.render", "images.thumbnail", "convert", "echo"].map(|task| config.memory_limit(task));
    assert_eq!(limits, [Some(2 << 30), Some(1 << 30), Some(64 << 20), Some(1 << 30)]);
    assert_eq!(config.tasks.keys().collect::<Vec<_>>(), ["convert", "echo"]);
    assert_eq!(config.python.as_ref().unwrap().max_memory_per_runner, Some(300 << 20));
    assert!(config.limits_memory() && !good("").limits_memory());

    // Without an application there is no task it could be about.
    assert_eq!(keys("[tasks.a]\nmemory_limit = \"2GiB\""), ["tasks.\"a\".command"]);
    let text = r#"
        [workers]
        memory_limit = 512
        [python]
        app = "imgbackend"
        max_memory_per_runner = "1KiB"
        [tasks."images.render"]
        memory_limit = "2 gigs"
    "#;
    let expected = r#"3 problems in /etc/fairstalk/fairstalk.toml

  workers.memory_limit = 512
    problem: is a number without a unit; units are B, KB, MB, GB, KiB, MiB, GiB
    remedy:  write for example "512MiB", in quotes

  python.max_memory_per_runner = "1KiB"
    problem: is not between 1MiB and 1048576GiB
    remedy:  write a value from "1MiB" to "1048576GiB"

  tasks."images.render".memory_limit = "2 gigs"
    problem: "gigs" is not a unit of a size
    remedy:  write a whole number and one of B, KB, MB, GB, KiB, MiB, GiB in quotes, for example "30MiB""#;
    assert_eq!(said(text), expected);
}

#[test]
fn grants_are_by_tenant_or_for_all() {
    let tenancy = good(
        "[tenancy]\nweights = { \"42\" = 4, \"trial-*\" = 0.5 }\nmax_concurrency = 3\n\
         rate_limit = { \"*\" = \"90/m\", \"7\" = 2 }\nreserved_slots = 1\nstagger = true",
    )
    .tenancy;
    assert_eq!(tenancy.weights, [("42".to_owned(), 4.0), ("trial-*".to_owned(), 0.5)].into());
    assert_eq!(tenancy.max_concurrency, [("*".to_owned(), 3)].into());
    assert_eq!(tenancy.rate_limit, [("*".to_owned(), 1.5), ("7".to_owned(), 2.0)].into());
    assert_eq!((tenancy.reserved_slots, tenancy.stagger), (1, true));
    assert!(!good("").tenancy.stagger, "by default no slot idles");
}

#[test]
fn rates_are_of_commands_and_of_the_applications_tasks() {
    let text =
        "[python]\napp = \"a\"\n[tasks.\"a.b\"]\nrate_limit = \"30/m\"\n[tasks.c]\ncommand = [\"cat\"]\nrate_limit = 2";
    let config = good(text);
    assert_eq!(config.rate_limits, [("a.b".to_owned(), 0.5), ("c".to_owned(), 2.0)].into());
    assert_eq!(config.tasks.keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn grants_that_mean_nothing_are_refused() {
    for (key, value) in [
        ("weights", "4"),
        ("weights", "{ a = 0 }"),
        ("weights", "{ a = 1001 }"),
        ("weights", "{ a = \"4\" }"),
        ("max_concurrency", "0"),
        ("max_concurrency", "{ a = -1 }"),
        ("max_concurrency", "1.5"),
        ("rate_limit", "0"),
        ("rate_limit", "\"10/d\""),
        ("rate_limit", "\"ten\""),
        ("rate_limit", "{ a = \"-1/s\" }"),
        ("reserved_slots", "-1"),
        ("stagger", "1"),
        ("stagger", "\"yes\""),
    ] {
        assert_eq!(keys(&format!("[tenancy]\n{key} = {value}")), [format!("tenancy.{key}")], "{value}");
    }
    for value in ["0", "\"10/d\"", "{ a = 1 }", "true"] {
        let text = format!("[python]\napp = \"a\"\n[tasks.\"a.b\"]\nrate_limit = {value}");
        assert_eq!(keys(&text), ["tasks.\"a.b\".rate_limit"], "{value}");
    }
    let text = said("[tenancy]\nrate_limit = { \"7\" = \"0/s\" }");
    assert!(text.contains("the value of \"7\"") && text.contains("pause"), "{text}");
    let text = said("[tenancy]\nstagger = 1");
    assert!(
        text.contains("tenancy.stagger = 1\n    problem: is neither true nor false\n    remedy:  write true"),
        "{text}"
    );
}
