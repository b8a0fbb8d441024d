//! Words of a command: as systemd cuts `ExecStart=`, and as a shell cuts a script.
//!
//! Neither runs anything. What would take a shell to know (`$(…)`, backticks) stays as it is written.

use std::collections::{BTreeMap, BTreeSet};

/// Variables that are set, and those that were asked for in vain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// By name.
    pub set: BTreeMap<String, String>,
    /// Names that nothing sets.
    pub missing: BTreeSet<String>,
}

impl Variables {
    fn value(&mut self, name: &str) -> String {
        match self.set.get(name) {
            Some(value) => value.clone(),
            None => {
                self.missing.insert(name.to_owned());
                String::new()
            }
        }
    }
}

/// Cuts a line of `ExecStart=`: quotes hold words together, `${X}` stands for its value, and a word `$X` for the words of it.
pub fn of_unit(line: &str, variables: &mut Variables) -> Vec<String> {
    let mut words = Vec::new();
    for word in quoted_words(line) {
        match word.strip_prefix('$').filter(|name| is_name(name)) {
            Some(name) => words.extend(quoted_words(&variables.value(name))),
            None => words.push(braced(&word, variables)),
        }
    }
    words
}

/// Words between white space, without their quotes and backslashes.
pub fn quoted_words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', Some('"') | None) => word.get_or_insert_default().extend(rest.next()),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `${X}` in the middle of a word.
fn braced(word: &str, variables: &mut Variables) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, behind)) = rest.split_once("${") {
        match behind.split_once('}') {
            Some((name, behind)) if is_name(name) => {
                text.push_str(before);
                text.push_str(&variables.value(name));
                rest = behind;
            }
            _ => {
                text.push_str(before);
                text.push_str("${");
                rest = behind;
            }
        }
    }
    text + rest
}

/// Whether it is the name of a variable.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Cuts a script into its commands. Assignments at the front of one are left in it; a command of nothing else, or with
/// `export`, sets the variable for what follows.
pub fn of_script(script: &str, variables: &mut Variables) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut reader = Reader { rest: script, words: Vec::new(), word: None };
    loop {
        let more = reader.command(variables);
        let words = std::mem::take(&mut reader.words);
        for (name, value) in assigned(&words) {
            variables.set.insert(name.to_owned(), value.to_owned());
        }
        if !words.is_empty() {
            commands.push(words);
        }
        if !more {
            return commands;
        }
    }
}

/// `NAME=value` cut in two.
pub fn assignment(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').filter(|(name, _)| is_name(name))
}

/// What a command of assignments alone sets for those behind it.
pub fn assigned(command: &[String]) -> Vec<(&str, &str)> {
    let words = match command.split_first() {
        Some((first, words)) if first == "export" => words,
        _ => command,
    };
    let pairs: Option<Vec<_>> = words.iter().map(|word| assignment(word)).collect();
    pairs.unwrap_or_default()
}

struct Reader<'a> {
    rest: &'a str,
    words: Vec<String>,
    word: Option<String>,
}

impl Reader<'_> {
    /// Reads to the end of one command; false at the end of the script.
    fn command(&mut self, variables: &mut Variables) -> bool {
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(c) => self.word.get_or_insert_default().push(c),
                },
                '\'' => {
                    self.word.get_or_insert_default();
                    while let Some(c) = self.next().filter(|c| *c != '\'') {
                        self.word.get_or_insert_default().push(c);
                    }
                }
                '"' => self.double_quoted(variables),
                '#' if self.word.is_none() => {
                    self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
                }
                '&' if self.word.as_deref().is_some_and(|word| word.ends_with('>')) => {
                    self.word.get_or_insert_default().push(c);
                }
                '\n' | ';' | '&' | '|' | '(' | ')' => {
                    self.words.extend(self.word.take());
                    return true;
                }
                '$' => {
                    // Neither the value of an assignment nor what only a shell could know is cut into words.
                    let whole = self.rest.starts_with('(') || self.in_assignment();
                    let value = self.variable(variables);
                    if whole {
                        self.word.get_or_insert_default().push_str(&value);
                    } else {
                        self.cut(&value);
                    }
                }
                c if c.is_whitespace() => self.words.extend(self.word.take()),
                c => self.word.get_or_insert_default().push(c),
            }
        }
        self.words.extend(self.word.take());
        false
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn double_quoted(&mut self, variables: &mut Variables) {
        self.word.get_or_insert_default();
        while let Some(c) = self.next().filter(|c| *c != '"') {
            match c {
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(c @ ('$' | '"' | '\\' | '`')) => self.word.get_or_insert_default().push(c),
                    Some(c) => self.word.get_or_insert_default().extend(['\\', c]),
                },
                '$' => {
                    let value = self.variable(variables);
                    self.word.get_or_insert_default().push_str(&value);
                }
                c => self.word.get_or_insert_default().push(c),
            }
        }
    }

    fn in_assignment(&self) -> bool {
        let is = |word: &str| assignment(word).is_some();
        self.word.as_deref().is_some_and(is) && self.words.iter().all(|word| word == "export" || is(word))
    }

    /// Words of a value that stands outside of quotes.
    fn cut(&mut self, value: &str) {
        for c in value.chars() {
            if c.is_whitespace() {
                self.words.extend(self.word.take());
            } else {
                self.word.get_or_insert_default().push(c);
            }
        }
    }

    /// What stands behind a `$`: `X`, `{X}`, `{X:-default}`; all else as it is written.
    fn variable(&mut self, variables: &mut Variables) -> String {
        if let Some(inside) =
            self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(inside, _)| inside)
        {
            self.rest = &self.rest[inside.len() + 2..];
            let (name, default) = match inside.split_once(":-").or_else(|| inside.split_once('-')) {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            return match (is_name(name), default) {
                (true, Some(default)) if variables.set.get(name).is_none_or(String::is_empty) => default.to_owned(),
                (true, _) => variables.value(name),
                (false, _) => format!("${{{inside}}}"),
            };
        }
        if self.rest.starts_with('(') {
            let end = self.rest.find(')').map_or(self.rest.len(), |end| end + 1);
            let inside = &self.rest[..end];
            self.rest = &self.rest[end..];
            return format!("${inside}");
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let name = &self.rest[..end];
        if !is_name(name) {
            return "$".to_owned();
        }
        self.rest = &self.rest[end..];
        variables.value(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let pairs = [("OPTS", "--time-limit=300 -c 8"), ("NODES", "w1 w2"), ("BIN", "/srv/my venv/bin/celery")];
        let set = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Variables { set: set.into_iter().collect(), missing: BTreeSet::new() }
    }

    #[test]
    fn a_unit_cuts_only_words_that_are_a_variable() {
        let mut known = variables();
        let words = of_unit("${BIN} -A 'my app' \"a\\\"b\" $OPTS x${NODES}y $NONE $5 a\\ b", &mut known);
        let expected =
            ["/srv/my venv/bin/celery", "-A", "my app", "a\"b", "--time-limit=300", "-c", "8", "xw1 w2y", "$5", "a b"];
        assert_eq!(words, expected);
        assert_eq!(known.missing.into_iter().collect::<Vec<_>>(), ["NONE"]);
        assert_eq!(of_unit("a ''", &mut variables()), ["a", ""]);
    }

    #[test]
    fn a_script_is_cut_as_a_shell_does_it() {
        let mut known = variables();
        let script = "cd /srv/shop && export A=1 # why\nB=$NODES; exec \"$BIN\" worker $OPTS -n \"$B-$A\" '$A' \\\n ${C:-d} a$(x y)";
        let commands = of_script(script, &mut known);
        assert_eq!(commands[0], ["cd", "/srv/shop"]);
        let celery = commands.last().unwrap();
        let expected =
            ["exec", "/srv/my venv/bin/celery", "worker", "--time-limit=300", "-c", "8", "-n", "w1 w2-1", "$A", "d"];
        assert_eq!(&celery[..10], expected);
        assert_eq!(celery[10], "a$(x y)");
        assert_eq!((known.set["A"].as_str(), known.set["B"].as_str()), ("1", "w1 w2"));
        assert!(known.missing.is_empty());
    }

    #[test]
    fn an_assignment_before_a_command_counts_for_it_alone() {
        let mut known = Variables::default();
        let commands = of_script("A=1 celery worker $A", &mut known);
        assert_eq!(commands, [["A=1", "celery", "worker"]]);
        assert_eq!(known.missing.iter().collect::<Vec<_>>(), ["A"]);
    }
}
