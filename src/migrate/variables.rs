//! Files of variables: an `EnvironmentFile=` of systemd, and `/etc/default/celeryd`, which a shell reads.

use super::words::{self, Variables};
use std::collections::BTreeMap;

/// Variables of an `EnvironmentFile=`, as systemd.exec(5) has it: no expansion, quotes around a value or none.
pub fn environment_file(text: &str) -> BTreeMap<String, String> {
    let text = text.replace("\\\n", "");
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim().trim_start_matches("export ").trim();
        words::is_name(name).then(|| (name.to_owned(), unquoted(value.trim())))
    };
    lines.filter_map(pair).collect()
}

fn unquoted(value: &str) -> String {
    match value.chars().next() {
        Some('"' | '\'') => words::quoted_words(value).join(" "),
        _ => value.replace('\\', ""),
    }
}

/// What a file of variables for the init script `celeryd` says.
#[derive(Debug, Default)]
pub struct Defaults {
    /// All variables.
    pub variables: Variables,
    /// Names of those that are exported, so that the application sees them.
    pub exported: Vec<String>,
    /// Lines that are not assignments.
    pub other: Vec<String>,
}

/// Reads `/etc/default/celeryd` and its like, on from variables that are known.
pub fn defaults(text: &str) -> Defaults {
    let mut found = Defaults::default();
    for command in words::of_script(text, &mut found.variables) {
        let names = words::assigned(&command).into_iter().map(|(name, _)| name.to_owned());
        let names: Vec<String> = names.collect();
        match (command[0] == "export", names.is_empty()) {
            (true, false) => found.exported.extend(names),
            // `export A B` of what was set before.
            (true, true) if command[1..].iter().all(|name| words::is_name(name)) => {
                found.exported.extend_from_slice(&command[1..]);
            }
            (_, true) => found.other.push(command.join(" ")),
            (false, false) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_takes_values_as_they_are() {
        let text = "# a comment\nA=1 2\nB = \"x y\"\nC='$A'\nexport D=4\nE=a\\\nb\nnonsense\n;F=1\n";
        let read = environment_file(text);
        let expected = [("A", "1 2"), ("B", "x y"), ("C", "$A"), ("D", "4"), ("E", "ab")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect());
    }

    #[test]
    fn a_file_for_the_init_script_is_a_script() {
        let found = defaults(
            "CELERYD_NODES=\"w1 w2\"\nexport DJANGO_SETTINGS_MODULE=\"shop.settings\"\nROOT=/srv\n\
             CELERYD_CHDIR=\"$ROOT/shop\" # where\nexport ROOT\nulimit -n 4096\n",
        );
        assert_eq!(found.variables.set["CELERYD_CHDIR"], "/srv/shop");
        assert_eq!(found.exported, ["DJANGO_SETTINGS_MODULE", "ROOT"]);
        assert_eq!(found.other, ["ulimit -n 4096"]);
    }
}
