//! From the names of an application's queues to the keys of `[queues]`.

use std::collections::BTreeSet;

/// How `[queues]` names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `prefix` and `count`.
    Numbered {
        /// What stands before the number.
        prefix: String,
        /// Numbers from 0 to this, exclusive.
        count: usize,
    },
    /// `names`.
    Named(Vec<String>),
}

/// Numbered, if the names are one prefix and all numbers from 0 on, at least two of them.
pub fn shape(names: &[String]) -> Shape {
    numbered(names).unwrap_or_else(|| Shape::Named(names.to_vec()))
}

fn numbered(names: &[String]) -> Option<Shape> {
    let prefix = names.iter().find_map(|name| name.strip_suffix('0'))?;
    let number = |name: &String| {
        let digits = name.strip_prefix(prefix)?;
        let number: usize = digits.parse().ok()?;
        (number.to_string() == digits).then_some(number)
    };
    let numbers: BTreeSet<usize> = names.iter().map(number).collect::<Option<_>>()?;
    let whole = numbers.len() == names.len() && numbers.last() == Some(&(names.len() - 1));
    (whole && names.len() > 1 && !prefix.is_empty())
        .then(|| Shape::Numbered { prefix: prefix.to_owned(), count: names.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Shape {
        shape(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_without_a_gap_are_prefix_and_count() {
        let numbered = |prefix: &str, count| Shape::Numbered { prefix: prefix.to_owned(), count };
        assert_eq!(of(&["q_1", "q_0", "q_2"]), numbered("q_", 3));
        let eleven: Vec<String> = (0..11).map(|number| format!("queue_{number}")).collect();
        assert_eq!(shape(&eleven), numbered("queue_", 11));
    }

    #[test]
    fn all_others_are_names() {
        let cases: [&[&str]; 7] = [
            &["celery"],
            &["q_0"],
            &["q_0", "q_2"],
            &["q_1", "q_2"],
            &["q_0", "q_1", "mail"],
            &["q_0", "q_01"],
            &["0", "1"],
        ];
        for names in cases {
            assert!(matches!(of(names), Shape::Named(kept) if kept == names), "{names:?}");
        }
    }
}
