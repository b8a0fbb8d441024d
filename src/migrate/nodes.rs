//! The nodes of `celery multi`, each with the options that are for it.

use super::Error;
use super::command::{Command, Given};
use super::options::{Fate, Key};

/// Which nodes a configuration stands for: all that are alike, or one.
#[derive(Debug, PartialEq)]
pub struct Node {
    /// Its name, as in `celery worker -n`; `%i` in it where there are several.
    pub name: Option<String>,
    /// How many.
    pub count: u32,
    /// Its options.
    pub given: Vec<Given>,
}

/// The node with this name, else all of them if they are alike.
///
/// # Errors
/// [`Error::Nodes`] if they are not alike and none is named, [`Error::NoNode`] if there is none of this name.
pub fn choose(command: &Command, named: Option<&str>) -> Result<Node, Error> {
    let all = resolve(command);
    if let Some(named) = named {
        let found = all.iter().find(|node| node.0 == named || node.0.split('@').next() == Some(named));
        let names = || all.iter().map(|node| node.0.clone()).collect();
        let (name, given) = found.ok_or_else(|| Error::NoNode { named: named.to_owned(), names: names() })?;
        return Ok(Node { name: Some(name.clone()), count: 1, given: given.clone() });
    }
    let Some((first, given)) = all.first() else {
        return Ok(Node { name: None, count: 1, given: command.given.clone() });
    };
    let values =
        |given: &[Given]| given.iter().map(|given| (given.known.names[0], given.value.clone())).collect::<Vec<_>>();
    if all.iter().any(|(_, other)| values(other) != values(given)) {
        return Err(Error::Nodes(all.into_iter().map(|(name, _)| name).collect()));
    }
    let name = if all.len() == 1 { Some(first.clone()) } else { numbered(&all) };
    Ok(Node { name, count: u32::try_from(all.len()).unwrap_or(u32::MAX), given: given.clone() })
}

/// Every node's name and options.
fn resolve(command: &Command) -> Vec<(String, Vec<Given>)> {
    let value =
        |key| command.given.iter().rfind(|given| given.known.fate == Fate::Taken(key)).map(|given| given.value.clone());
    let host = value(Key::Suffix).or_else(|| value(Key::Hostname)).unwrap_or_else(|| "%h".to_owned());
    let count = match command.nodes.as_slice() {
        [number] => number.parse::<u32>().ok(),
        _ => None,
    };
    let (prefix, names) = match count {
        Some(count) => (
            value(Key::RangePrefix).unwrap_or_else(|| "celery".to_owned()),
            (1..=count.min(1000)).map(|n| n.to_string()).collect(),
        ),
        None => (value(Key::Prefix).unwrap_or_default(), command.nodes.clone()),
    };
    let is_naming = |given: &Given| {
        [Key::Prefix, Key::Suffix, Key::RangePrefix, Key::Hostname]
            .into_iter()
            .any(|key| given.known.fate == Fate::Taken(key))
    };
    let node = |(at, short): (usize, &String)| {
        let own = |given: &&Given| {
            given
                .nodes
                .as_deref()
                .is_none_or(|nodes| nodes.split(',').any(|one| is_for(one, at + 1, short, count.is_some())))
        };
        // Options of its own come last, because the last one counts.
        let (mut given, special): (Vec<Given>, Vec<Given>) = command
            .given
            .iter()
            .filter(own)
            .filter(|given| !is_naming(given))
            .cloned()
            .partition(|given| given.nodes.is_none());
        given.retain(|common| !special.iter().any(|special| special.known == common.known));
        given.extend(special);
        let name = if short.contains('@') { short.clone() } else { format!("{prefix}{short}@{host}") };
        (name, given)
    };
    names.iter().enumerate().map(node).collect()
}

/// Whether `one` of `-c:w1,3` or, where nodes are only counted, `-c:1-3` is this node.
fn is_for(one: &str, index: usize, name: &str, counted: bool) -> bool {
    let range = one.split_once('-').filter(|_| counted);
    let range = range.and_then(|(from, to)| Some(from.parse().ok()?..=to.parse().ok()?));
    range.is_some_and(|range| range.contains(&index)) || one == name || one.parse() == Ok(index)
}

/// One pattern for all names, if they are numbered from 1 on.
fn numbered(all: &[(String, Vec<Given>)]) -> Option<String> {
    let (first, host) = all.first()?.0.split_once('@')?;
    let pattern = format!("{}%i@{host}", first.strip_suffix('1')?);
    let fits = |(at, (name, _)): (usize, &(String, _))| *name == pattern.replace("%i", &(at + 1).to_string());
    all.iter().enumerate().all(fits).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::command;

    fn of(line: &str, named: Option<&str>) -> Result<Node, Error> {
        choose(&command::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap(), named)
    }

    #[test]
    fn nodes_that_are_alike_are_one_configuration() {
        let node = of("multi start 3 -A shop -c 4", None).unwrap();
        assert_eq!((node.name.as_deref(), node.count, node.given.len()), (Some("celery%i@%h"), 3, 2));
        let node = of("multi start w1 w2 -c:w1 4 -c:2 4 -n x.org", None).unwrap();
        assert_eq!((node.name.as_deref(), node.count), (Some("w%i@x.org"), 2));
        assert_eq!(of("multi start mail pdf -c 4", None).unwrap().name, None);
        assert_eq!(of("multi start mail -c 4", None).unwrap().name.as_deref(), Some("mail@%h"));
        assert_eq!(of("worker -n a@b", None).unwrap().given.len(), 1);
    }

    #[test]
    fn nodes_that_differ_are_chosen_by_name() {
        let line = "multi start mail pdf@h -Q:mail a -Q:pdf@h b -c 2 -c:1-2 8";
        assert!(matches!(of(line, None), Err(Error::Nodes(names)) if names == ["mail@%h", "pdf@h"]));
        let node = of(line, Some("pdf")).unwrap();
        assert_eq!(node.name.as_deref(), Some("pdf@h"));
        assert_eq!(node.given.iter().map(|given| given.value.as_str()).collect::<Vec<_>>(), ["2", "b"]);
        assert!(matches!(of(line, Some("x")), Err(Error::NoNode { .. })));
        let third = of("multi start 4 -c 2 -c:2-3 8", Some("celery3")).unwrap();
        assert_eq!(third.given.iter().map(|given| given.value.as_str()).collect::<Vec<_>>(), ["8"]);
    }
}
