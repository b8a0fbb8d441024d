//! The commented `etc/fairstalk.toml` and `docs/configuration.md` tell every key and its true default.

#![allow(clippy::unwrap_used, reason = "a test may panic, outside its #[test] functions too")]

use fairstalk::config::{self, Config, Environment, SECTIONS, Surroundings};
use std::path::Path;

const SHIPPED: &str = include_str!("../etc/fairstalk.toml");
const TABLE: &str = include_str!("../docs/configuration.md");

fn parse(text: &str) -> Config {
    let surroundings = Surroundings { environment: Environment::default(), cores: 2 };
    config::parse(text, Path::new("/etc/fairstalk/fairstalk.toml"), &surroundings).unwrap_or_else(|p| panic!("{p}"))
}

/// The reference with every key that is commented out put into force: `#key = …`, while `# text` stays a comment.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned() + "\n",
        _ => line.to_owned() + "\n",
    };
    SHIPPED.lines().map(line).collect()
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(parse(SHIPPED), parse(""));
}

#[test]
fn what_is_commented_out_shows_the_defaults() {
    let config = parse(&uncommented());
    let minimal = "[python]\napp = \"imgbackend\"\n[tasks.\"thumbnails.render\"]\ncommand = [\"/usr/local/bin/render-thumbnail\"]";
    assert_eq!(config, parse(minimal));
}

#[test]
fn the_reference_has_every_key() {
    let text = uncommented();
    for (section, keys) in SECTIONS {
        let start = text.find(&format!("\n[{section}")).unwrap_or_else(|| panic!("[{section}] is missing"));
        let body = &text[start + 1..];
        let body = body.find("\n[").map_or(body, |end| &body[..end]);
        for key in *keys {
            let there = body.contains(&format!("\n{key} = ")) || body.contains(&format!("\n# No default: {key} = "));
            assert!(there, "[{section}] {key} is missing in etc/fairstalk.toml");
        }
    }
}

/// The row of a key under the heading of its section.
fn row<'a>(section: &str, key: &str) -> Vec<&'a str> {
    let start = TABLE.find(&format!("\n## `[{section}")).unwrap_or_else(|| panic!("[{section}] is missing"));
    let body = &TABLE[start + 1..];
    let body = body.find("\n## ").map_or(body, |end| &body[..end]);
    let row = body.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
    let row = row.unwrap_or_else(|| panic!("[{section}] {key} is missing in docs/configuration.md"));
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

#[test]
fn the_documentation_has_every_key_with_its_default_and_variable() {
    for (section, keys) in SECTIONS {
        for key in *keys {
            let cells = row(section, key);
            let shown = SHIPPED.lines().find_map(|line| {
                let line = line.strip_prefix('#').unwrap_or(line);
                line.strip_prefix(&format!("{key} = "))
            });
            if *section != "tasks" {
                assert_eq!(cells[2], format!("`{}`", config::variable(section, key)));
            }
            // A default such as "0" belongs to one section only where the key does.
            let owners = SECTIONS.iter().filter(|(_, keys)| keys.contains(key)).count();
            if owners == 1 && !["required", "none"].iter().any(|word| cells[1].starts_with(word)) {
                let default = shown.unwrap_or_else(|| panic!("{key} has no default in etc/fairstalk.toml"));
                assert!(cells[1].contains(&format!("`{default}`")), "[{section}] {key}: {} is not {default}", cells[1]);
            }
        }
    }
}

#[test]
fn the_documentation_has_no_other_key() {
    let rows = TABLE.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, SECTIONS.iter().map(|(_, keys)| keys.len()).sum::<usize>());
}
