//! Which task parameter might say whose task it is.

use std::collections::BTreeMap;

/// Names people give to it, the most usual first.
const NAMES: [&str; 14] = [
    "user_id",
    "tenant_id",
    "account_id",
    "org_id",
    "organization_id",
    "organisation_id",
    "workspace_id",
    "team_id",
    "customer_id",
    "company_id",
    "client_id",
    "shop_id",
    "store_id",
    "merchant_id",
];

/// A proposal; nobody but the operator can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// Name of the parameter.
    pub parameter: &'static str,
    /// Tasks that have it, by name.
    pub tasks: Vec<String>,
}

/// The parameter most tasks have, if any has one of the usual names.
pub fn guess(tasks: &BTreeMap<String, Vec<String>>) -> Option<Guess> {
    let having = |name: &str| -> Vec<String> {
        let has = |parameters: &Vec<String>| parameters.iter().any(|parameter| parameter == name);
        tasks.iter().filter(|(_, parameters)| has(parameters)).map(|(task, _)| task.clone()).collect()
    };
    let mut best: Option<Guess> = None;
    for parameter in NAMES {
        let tasks = having(parameter);
        if tasks.len() > best.as_ref().map_or(0, |best| best.tasks.len()) {
            best = Some(Guess { parameter, tasks });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tasks: &[(&str, &[&str])]) -> Option<(&'static str, usize)> {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let tasks = tasks.iter().map(|(name, parameters)| ((*name).to_owned(), list(parameters))).collect();
        guess(&tasks).map(|guess| (guess.parameter, guess.tasks.len()))
    }

    #[test]
    fn the_parameter_of_most_tasks_is_proposed() {
        assert_eq!(of(&[("a", &["x", "org_id"]), ("b", &["org_id"]), ("c", &["user_id"])]), Some(("org_id", 2)));
        assert_eq!(of(&[("a", &["account_id", "user_id"])]), Some(("user_id", 1)));
        assert_eq!(of(&[("a", &["user"]), ("b", &[])]), None);
    }
}
