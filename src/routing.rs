//! User id to queue: the rule that producers and workers share.
//!
//! It is `int(md5(str(user_id)), 16) % count` of the Python side, over the whole 128 bits. Changing it would
//! move users to other queues while their tasks wait in the old ones, so it is fixed for ever.

use crate::config::Queues;
use md5::{Digest, Md5};

/// Number of a user's queue, 0 to `count` - 1; 0 if `count` is 0.
///
/// The id is what Python's `str(user_id)` gives, in UTF-8. Any other bytes are hashed as they are.
pub fn queue_index<U: AsRef<[u8]> + ?Sized>(user: &U, count: u32) -> u32 {
    let digest = u128::from_be_bytes(Md5::digest(user.as_ref()).into());
    let index = digest.checked_rem(u128::from(count)).unwrap_or(0);
    // Smaller than `count`, so it always fits.
    u32::try_from(index).unwrap_or(0)
}

/// A user's queue; none if the queues are not numbered (`[queues] names`), so that only the application knows it.
pub fn numbered_queue<'q, U: AsRef<[u8]> + ?Sized>(queues: &'q Queues, user: &U) -> Option<&'q str> {
    queues.prefix.as_ref()?;
    let count = u32::try_from(queues.names.len()).ok()?;
    let index = usize::try_from(queue_index(user, count)).ok()?;
    queues.names.get(index).map(String::as_str)
}

/// Where a message goes: its user's queue, or the default one without a user or without numbered queues.
pub fn queue_for<'q>(queues: &'q Queues, user: Option<&str>) -> &'q str {
    user.and_then(|user| numbered_queue(queues, user)).unwrap_or(&queues.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `int(hashlib.md5(str(user).encode()).hexdigest(), 16) % count`.
    const KNOWN: &[(&str, u32, u32)] = &[
        ("1", 20, 11),
        ("1", 1, 0),
        ("1", 1000, 411),
        ("1", 7, 2),
        ("42", 20, 14),
        ("42", 1, 0),
        ("42", 1000, 174),
        ("42", 7, 0),
        ("1000000007", 20, 5),
        ("-1", 20, 12),
        ("", 20, 6),
        ("5f2b8a54-4f1c-4f6e-9d0e-2f6f0a3b7c11", 20, 16),
        ("zoë", 20, 3),
        ("用户7", 20, 9),
    ];

    fn numbered(count: u32) -> Queues {
        let names: Vec<String> = (0..count).map(|number| format!("queue_{number}")).collect();
        Queues { default: names[0].clone(), names, prefix: Some("queue_".to_owned()) }
    }

    #[test]
    fn it_is_the_function_of_the_python_side() {
        for (user, count, expected) in KNOWN {
            assert_eq!(queue_index(*user, *count), *expected, "{user:?} % {count}");
        }
    }

    #[test]
    fn without_a_user_it_is_the_default() {
        let queues = Queues { default: "queue_3".to_owned(), ..numbered(20) };
        assert_eq!(queue_for(&queues, None), "queue_3");
        assert_eq!(queue_for(&queues, Some("1")), format!("queue_{}", queue_index("1", 20)));
    }

    #[test]
    fn named_queues_are_not_guessed() {
        let names = vec!["celery".to_owned(), "mail".to_owned()];
        let queues = Queues { default: "mail".to_owned(), names, prefix: None };
        assert_eq!(numbered_queue(&queues, "1"), None);
        assert_eq!(queue_for(&queues, Some("1")), "mail");
    }

    #[test]
    fn no_queues_at_all_do_not_panic() {
        assert_eq!(queue_index("1", 0), 0);
    }
}
