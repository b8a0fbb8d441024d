//! A systemd unit, as systemd.syntax(7) has it.

use super::words;

/// One `Key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `Service`, `Unit`, …
    pub section: String,
    /// Left of the `=`.
    pub key: String,
    /// Right of it, with continued lines joined.
    pub value: String,
}

/// What a unit and its drop-ins come to, in their order.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// An empty value has already taken away those of its key before it.
    pub entries: Vec<Entry>,
}

/// Whether a text is a unit, and not a file of variables.
pub fn is_unit(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "[Service]")
}

/// Reads it. Several files behind each other, as `systemctl cat` prints them, are one.
pub fn parse(text: &str) -> Unit {
    let mut unit = Unit::default();
    let mut section = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let mut whole = line.to_owned();
        while let Some(start) = whole.strip_suffix('\\') {
            // Comments between continued lines are left out.
            let next = lines.by_ref().map(str::trim).find(|line| !line.starts_with(['#', ';']));
            whole = format!("{start} {}", next.unwrap_or_default());
        }
        let Some((key, value)) = whole.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        if value.is_empty() {
            unit.entries.retain(|entry| entry.section != section || entry.key != key);
        } else {
            let (key, value) = (key.to_owned(), value.to_owned());
            unit.entries.push(Entry { section: section.clone(), key, value });
        }
    }
    unit
}

impl Unit {
    /// All values of a key of `[Service]`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let of_key = move |entry: &&Entry| entry.section == "Service" && entry.key == key;
        self.entries.iter().filter(of_key).map(|entry| entry.value.as_str())
    }

    /// The value of a key that has one: the last.
    pub fn last(&self, key: &str) -> Option<&str> {
        let of_key = |entry: &&Entry| entry.section == "Service" && entry.key == key;
        self.entries.iter().rfind(of_key).map(|entry| entry.value.as_str())
    }

    /// The variables of `Environment=`.
    pub fn environment(&self, instance: Option<&str>) -> Vec<(String, String)> {
        let words = self.all("Environment").flat_map(words::quoted_words);
        let pair =
            |word: String| words::assignment(&word).map(|(name, value)| (name.to_owned(), specified(value, instance)));
        words.filter_map(pair).collect()
    }

    /// Whether a value depends on the instance of a template.
    pub fn is_template(&self) -> bool {
        let used = ["ExecStart", "WorkingDirectory", "Environment", "EnvironmentFile", "User"];
        let instance = |value: &str| ["%i", "%I", "%j"].iter().any(|name| value.replace("%%", "").contains(name));
        used.into_iter().any(|key| self.all(key).any(instance))
    }
}

/// A value with `%%`, and with the name of the instance, written out. Other specifiers stay.
pub fn specified(value: &str, instance: Option<&str>) -> String {
    let mut text = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, if c == '%' { rest.next() } else { None }) {
            ('%', Some('%')) => text.push('%'),
            ('%', Some(c @ ('i' | 'I' | 'j'))) => match instance {
                Some(name) => text.push_str(name),
                None => text.extend(['%', c]),
            },
            (c, next) => text.extend([c].into_iter().chain(next)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_an_empty_value_takes_back() {
        let unit = parse(
            "# /etc/systemd/system/celery.service\n[Unit]\nAfter=a\n[Service]\nExecStart=/bin/celery \\\n# no\n  -A shop \\\n  worker\n\
             Environment=A=1 \"B=x y\"\n# /etc/…/override.conf\n[Service]\nUser=one\nUser=two\nEnvironment='C=%%h-%i'\n\
             Nice=1\nNice=\n",
        );
        assert_eq!(unit.last("ExecStart"), Some("/bin/celery  -A shop  worker"));
        assert_eq!((unit.last("User"), unit.last("Nice"), unit.last("After")), (Some("two"), None, None));
        let pairs =
            [("A", "1"), ("B", "x y"), ("C", "%h-img")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(unit.environment(Some("img")), pairs);
        assert!(unit.is_template());
        assert!(!parse("[Service]\nExecStart=celery -n w1@%%i\n").is_template());
    }

    #[test]
    fn a_unit_is_told_from_a_file_of_variables() {
        assert!(is_unit("[Unit]\n[Service]\nExecStart=x"));
        assert!(!is_unit("CELERYD_NODES=1\n"));
    }
}
