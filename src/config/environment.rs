//! The environment as a value, so that a test never changes that of its own process.

use super::keys::{self, SECTIONS, TASKS};
use super::problem::Problem;
use std::collections::BTreeMap;

/// The variables the loader may look at.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What a variable `FAIRSTALK_SECTION__KEY` begins with.
const PREFIX: &str = "FAIRSTALK_";

impl Environment {
    /// The environment of this process: the variables of fairstalk and where systemd put its credentials.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX) || name == "CREDENTIALS_DIRECTORY")
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether any key of this section is set here.
    pub(super) fn mentions(&self, section: &str) -> bool {
        keys::of(section).iter().any(|key| self.get(&keys::variable(section, key)).is_some())
    }

    /// A problem for each variable that looks like a key and is none. Values are not shown: a mistyped
    /// name may hold a password. Names without `__` belong to somebody else.
    pub(super) fn unknown(&self) -> Vec<Problem> {
        let known: Vec<String> = SECTIONS
            .iter()
            .filter(|(section, _)| *section != TASKS)
            .flat_map(|(section, keys)| keys.iter().map(|key| keys::variable(section, key)))
            .collect();
        self.0
            .keys()
            .filter(|name| name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains("__")))
            .filter(|name| !known.contains(name))
            .map(|name| {
                if name.starts_with("FAIRSTALK_TASKS__") {
                    let remedy = "describe the task in the file under [tasks.\"name\"] and unset the variable";
                    return Problem::new(name, "tasks can't be described by environment variables", remedy);
                }
                let remedy = match keys::nearest(name, known.iter().map(String::as_str)) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "unset it; docs/configuration.md lists the variables".to_owned(),
                };
                Problem::new(name, "no key of the configuration belongs to this variable", remedy)
            })
            .collect()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Environment(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
