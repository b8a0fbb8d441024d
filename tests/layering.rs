//! Holds the sources to their shape: modules use only those above them in `lib.rs`, and files stay short.

#![allow(clippy::unwrap_used, reason = "a test may panic, outside its #[test] functions too")]

use std::path::{Path, PathBuf};

/// Longest file under `src`, in lines.
const LONGEST_SOURCE: usize = 400;
/// Longest file under `tests`.
const LONGEST_TEST: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below a folder with its text, in a fixed order.
fn rust_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// The modules of `lib.rs`, in their order.
fn modules(lib: &str) -> Vec<String> {
    let line = |line: &str| {
        let name = line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')?;
        Some(name.to_owned())
    };
    lib.lines().filter_map(line).collect()
}

/// The first names behind `crate::` in the code of a file, those in braces included, comments excluded.
fn used(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let own = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$');
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            _ if !own => {}
            Some(group) => names.extend(first_names(group)),
            None => names.push(identifier(rest)),
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The names at the top level of a braced group, up to its end.
fn first_names(group: &str) -> Vec<String> {
    let mut names = vec![identifier(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(identifier(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn the_scanner_sees_every_way_to_name_a_module() {
    let text = "use crate::config::Config;\nuse crate::{\n    routing::{a, b},\n    worker,\n};\n\
                /// [`crate::cli`]\nlet x = crate::broker::go(); // crate::celery\n$crate::results";
    assert_eq!(used(text), ["config", "routing", "worker", "broker"]);
    assert_eq!(modules("//! mod no;\npub mod a;\nmod b;\npub use a::B;"), ["a", "b"]);
}

#[test]
fn arrows_point_down_only() {
    let source = root().join("src");
    let order = modules(&std::fs::read_to_string(source.join("lib.rs")).unwrap());
    assert!(order.len() > 5, "lib.rs lists the modules: {order:?}");
    let rank = |name: &str| order.iter().position(|module| module == name);
    let mut upward = Vec::new();
    for (path, text) in rust_files(&source) {
        let below = path.strip_prefix(&source).unwrap();
        let own = below.iter().next().and_then(|name| name.to_str()).unwrap().trim_end_matches(".rs");
        if own == "lib" || own == "main" {
            continue;
        }
        let own_rank = rank(own).unwrap_or_else(|| panic!("{own} is not listed in lib.rs"));
        for name in used(&text) {
            if rank(&name).is_some_and(|rank| rank > own_rank) {
                upward.push(format!("{} uses crate::{name}, which stands below {own} in lib.rs", below.display()));
            }
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for (folder, longest) in [("src", LONGEST_SOURCE), ("tests", LONGEST_TEST)] {
        let files = rust_files(&root().join(folder));
        let mut lengths: Vec<usize> = files.iter().map(|(_, text)| text.lines().count()).collect();
        lengths.sort_unstable();
        let median = lengths[lengths.len() / 2];
        println!("{folder}: {} files, median {median} lines, longest {}", lengths.len(), lengths[lengths.len() - 1]);
        let over = files.iter().filter(|(_, text)| text.lines().count() > longest);
        long.extend(over.map(|(path, text)| format!("{}: {} of {longest}", path.display(), text.lines().count())));
    }
    assert!(long.is_empty(), "too long, in lines:\n{}", long.join("\n"));
}
