//! A command line of `celery worker` or `celery multi start`, read as click and `celery.apps.multi` read it.

use super::options::{self, Known};
use crate::init::ask::without_passwords;
use std::collections::BTreeMap;

/// What a command line says.
#[derive(Debug, Default)]
pub struct Command {
    /// Nodes of `celery multi`, or how many; empty for `celery worker`.
    pub nodes: Vec<String>,
    /// Its options, in their order.
    pub given: Vec<Given>,
    /// What is none of Celery's options, as it is written.
    pub unknown: Vec<String>,
}

/// An option that is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// Which one.
    pub known: &'static Known,
    /// As it is written, without passwords.
    pub said: String,
    /// Empty for a flag.
    pub value: String,
    /// `-c:w1`: the nodes it is for.
    pub nodes: Option<String>,
}

/// Reads the words behind `celery`. None if it starts no worker.
pub fn read(words: &[String]) -> Option<Command> {
    let mut command = Command::default();
    let mut words = words.iter().map(String::as_str).peekable();
    let mut kind = None;
    while let Some(word) = words.next() {
        match (word, kind) {
            ("--", _) => {
                let rest: Vec<&str> = words.by_ref().collect();
                command.unknown.push(without_passwords(&format!("-- {}", rest.join(" "))));
            }
            ("", _) => {}
            (option, _) if option.starts_with("--") => command.long(option, &mut words),
            (option, _) if option.starts_with('-') && option.len() > 1 => command.short(option, &mut words),
            ("worker", None) => kind = Some("worker"),
            ("multi", None) => {
                kind = Some("multi");
                // What the others do, systemd does.
                words.next_if(|action| ["start", "restart", "show"].contains(action))?;
            }
            (_, None) => return None,
            (name, Some("multi")) => command.nodes.push(name.to_owned()),
            (other, Some(_)) => command.unknown.push(without_passwords(other)),
        }
    }
    kind.map(|_| command)
}

impl Command {
    fn long<'a>(&mut self, word: &'a str, words: &mut impl Peek<'a>) {
        let (written, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let (name, nodes) = for_nodes(written);
        let Some(known) = options::find(name) else {
            let value = if inline.is_none() { words.value() } else { None };
            return self.unknown(word, value);
        };
        let value = if known.valued { inline.or_else(|| words.any()).unwrap_or_default() } else { "" };
        let said = match (known.valued, inline) {
            (true, Some(_)) => format!("{written}={value}"),
            (true, None) => format!("{written} {value}"),
            (false, _) => written.to_owned(),
        };
        self.take(known, said, value, nodes);
    }

    /// `-E`, `-c 8`, `-c8`, `-EB`, `-c:w1 8`.
    fn short<'a>(&mut self, word: &'a str, words: &mut impl Peek<'a>) {
        let mut rest = &word[1..];
        while let Some(letter) = rest.chars().next() {
            let name = format!("-{letter}");
            rest = &rest[letter.len_utf8()..];
            let Some(known) = options::find(&name) else {
                let value = words.value();
                return self.unknown(&format!("{name}{rest}"), value);
            };
            let nodes = rest.strip_prefix(':');
            if !known.valued {
                self.take(known, name, "", nodes.map(str::to_owned));
                if nodes.is_some() {
                    return;
                }
                continue;
            }
            let attached = Some(rest).filter(|rest| !rest.is_empty() && nodes.is_none());
            let value = attached.or_else(|| words.any()).unwrap_or_default();
            let written = nodes.map_or_else(|| name.clone(), |nodes| format!("{name}:{nodes}"));
            return self.take(known, format!("{written} {value}"), value, nodes.map(str::to_owned));
        }
    }

    fn take(&mut self, known: &'static Known, said: String, value: &str, nodes: Option<String>) {
        let said = without_passwords(said.trim_end());
        self.given.push(Given { known, said, value: value.to_owned(), nodes });
    }

    fn unknown(&mut self, word: &str, value: Option<&str>) {
        let value = value.map(|value| format!(" {value}")).unwrap_or_default();
        self.unknown.push(without_passwords(&format!("{word}{value}")));
    }

    /// Options that the environment stands for, where they are not given.
    pub fn add_variables(&mut self, env: &BTreeMap<String, String>) {
        for (name, value) in env {
            let Some(known) = options::of_variable(name) else { continue };
            if !value.is_empty() && !self.given.iter().any(|given| given.known == known) {
                let said = without_passwords(&format!("{name}={value}"));
                self.given.insert(0, Given { known, said, value: value.clone(), nodes: None });
            }
        }
    }
}

/// `--concurrency:w1` is for the node `w1`.
fn for_nodes(written: &str) -> (&str, Option<String>) {
    match written.split_once(':') {
        Some((name, nodes)) => (name, Some(nodes.to_owned())),
        None => (written, None),
    }
}

/// The words that are still to come.
trait Peek<'a> {
    /// The next one.
    fn any(&mut self) -> Option<&'a str>;
    /// The next one, if it can be the value of an option nobody knows.
    fn value(&mut self) -> Option<&'a str>;
}

impl<'a, I: Iterator<Item = &'a str>> Peek<'a> for std::iter::Peekable<I> {
    fn any(&mut self) -> Option<&'a str> {
        self.next()
    }

    fn value(&mut self) -> Option<&'a str> {
        self.next_if(|word| !word.starts_with('-'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Command> {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn said(command: &Command) -> Vec<(&str, &str)> {
        command.given.iter().map(|given| (given.known.names[0], given.value.as_str())).collect()
    }

    #[test]
    fn options_are_read_in_every_way_they_can_be_written() {
        let command = of("-A shop -C worker -Q a,b -c8 --loglevel=info -EB --time-limit 300 -linfo").unwrap();
        let expected = [
            ("-A", "shop"),
            ("-C", ""),
            ("-Q", "a,b"),
            ("-c", "8"),
            ("-l", "info"),
            ("-E", ""),
            ("-B", ""),
            ("--time-limit", "300"),
            ("-l", "info"),
        ];
        assert_eq!(said(&command), expected);
        assert_eq!((command.unknown.len(), command.nodes.len()), (0, 0));
    }

    #[test]
    fn what_is_not_known_is_kept_as_it_is_written() {
        let command = of("-A shop worker --own-option x --other=redis://u:p@h -z1 -c 2 word -- worker.pool=x").unwrap();
        let unknown = ["--own-option x", "--other=redis://…@h", "-z1", "word", "-- worker.pool=x"];
        assert_eq!(command.unknown, unknown);
        assert_eq!(said(&command), [("-A", "shop"), ("-c", "2")]);
    }

    #[test]
    fn nodes_of_multi_may_have_options_of_their_own() {
        let command = of("multi start w1 w2 -A shop -Q:w1 a -c:1,2 3 --loglevel:w2=debug").unwrap();
        assert_eq!(command.nodes, ["w1", "w2"]);
        let nodes: Vec<_> = command.given.iter().map(|given| given.nodes.as_deref()).collect();
        assert_eq!(nodes, [None, Some("w1"), Some("1,2"), Some("w2")]);
        assert_eq!(command.given[1].said, "-Q:w1 a");
    }

    #[test]
    fn other_commands_start_no_worker() {
        for line in ["-A shop beat", "multi stopwait w1", "multi", "-A shop", "flower worker"] {
            assert!(of(line).is_none(), "{line}");
        }
    }

    #[test]
    fn variables_count_where_no_option_is_given() {
        let mut command = of("worker -c 2").unwrap();
        let env = [("CELERY_APP", "shop"), ("CELERY_WORKER_CONCURRENCY", "9"), ("PATH", "/bin")];
        command.add_variables(&env.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect());
        assert_eq!(said(&command), [("-A", "shop"), ("-c", "2")]);
    }
}
