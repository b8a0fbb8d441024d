//! Patterns of node names as in Python's `fnmatch` and `re.match`, which kombu uses for a broadcast's `pattern`. Pure.

use regex_lite::Regex;

/// Whether `text` begins as the regular expression says. One that can't be read fits nobody; so does one that looks
/// around or back, which is not known here.
pub fn begins(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})")).is_ok_and(|regex| regex.is_match(text))
}

/// Whether the whole of `text` fits `pattern`: `*`, `?`, `[a-z]`, `[!a]`.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: behind the star, one character further.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(next) = pattern.get(p).and_then(|_| one(&pattern[p..], text[t])) {
            (p, t) = (p + next, t + 1);
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// How many characters of the pattern stand for this one character, if they fit it.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern[0] {
        '?' => Some(1),
        // A bracket that closes nothing, or none at all, stands for itself.
        '[' => match pattern.iter().skip(2).position(|&end| end == ']') {
            Some(end) if pattern[1] != '!' || end > 0 => in_set(&pattern[1..end + 2], c).then_some(end + 3),
            _ => (c == '[').then_some(1),
        },
        other => (other == c).then_some(1),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let (negated, set) = if set[0] == '!' { (true, &set[1..]) } else { (false, set) };
    let mut found = false;
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == '-' {
            found |= (set[at]..=set[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= set[at] == c;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_pythons_fnmatch() {
        let cases = [
            ("worker1@*", "worker1@vm", true),
            ("worker?@vm", "worker1@vm", true),
            ("worker?@vm", "worker12@vm", false),
            ("*@vm*", "a@vm", true),
            ("*b*c", "aXbXbXc", true),
            ("*b*c", "aXbXbX", false),
            ("w[1-3]", "w2", true),
            ("w[!1-3]", "w2", false),
            ("w[!1-3]", "w4", true),
            ("w[1", "w[1", true),
            ("w[]", "w[]", true),
            ("", "", true),
            ("", "a", false),
            ("**", "", true),
            ("ä?", "äö", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
