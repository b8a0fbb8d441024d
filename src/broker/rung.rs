//! Which lists have changed since they were last seen empty.

use super::Keys;
use redis::{FromRedisValue, PushInfo, PushKind, Value};

/// More than so many lists aren't told apart: asking for each costs as much as asking for all.
const MOST: usize = 8;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// Anything may have changed.
    Everywhere,
    /// Only these keys; the others hold what they held.
    Lists(Vec<String>),
}

impl Default for Rung {
    /// Nothing has changed.
    fn default() -> Rung {
        Rung::Lists(Vec::new())
    }
}

impl Rung {
    /// What the server has pushed: an invalidation names the keys, unless all have gone.
    pub fn of(info: &PushInfo) -> Rung {
        let names = info.data.first().map(Vec::<String>::from_redis_value_ref);
        match (&info.kind, info.data.first(), names) {
            (PushKind::Invalidate, Some(Value::Array(_)), Some(Ok(names))) => Rung::Lists(names).within_reason(),
            _ => Rung::Everywhere,
        }
    }

    /// And there as well.
    pub fn add(&mut self, other: Rung) {
        let (Rung::Lists(lists), Rung::Lists(others)) = (&mut *self, other) else {
            *self = Rung::Everywhere;
            return;
        };
        for list in others {
            if !lists.contains(&list) {
                lists.push(list);
            }
        }
        *self = std::mem::take(self).within_reason();
    }

    fn within_reason(self) -> Rung {
        match self {
            Rung::Lists(lists) if lists.len() <= MOST => Rung::Lists(lists),
            _ => Rung::Everywhere,
        }
    }

    /// As the step reads it: empty for everywhere, else `priority step:number of the queue` of each list, and a hyphen. Other
    /// keys that begin like a queue are left out.
    pub(super) fn written(&self, keys: &Keys) -> String {
        let Rung::Lists(lists) = self else { return String::new() };
        let places = lists.iter().filter_map(|list| keys.place_of(list));
        places.map(|(step, queue)| format!("{step}:{queue} ")).chain(["-".to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Broker, Queues};
    use std::time::Duration;

    fn invalidation(data: Vec<Value>) -> Rung {
        Rung::of(&PushInfo { kind: PushKind::Invalidate, data })
    }

    fn names(names: &[&str]) -> Value {
        Value::Array(names.iter().map(|name| Value::BulkString(name.as_bytes().to_vec())).collect())
    }

    #[test]
    fn an_invalidation_names_what_has_changed() {
        assert_eq!(invalidation(vec![names(&["a", "b"])]), Rung::Lists(vec!["a".into(), "b".into()]));
        assert_eq!(invalidation(vec![Value::Nil]), Rung::Everywhere, "FLUSHALL");
        assert_eq!(Rung::of(&PushInfo { kind: PushKind::Disconnection, data: vec![] }), Rung::Everywhere);
        assert_eq!(invalidation(vec![names(&["a"; MOST + 1])]), Rung::Everywhere, "too many");
    }

    #[test]
    fn what_is_added_is_kept_once() {
        let mut rung = Rung::default();
        rung.add(invalidation(vec![names(&["a"])]));
        rung.add(invalidation(vec![names(&["a", "b"])]));
        assert_eq!(rung, Rung::Lists(vec!["a".into(), "b".into()]));
        rung.add(Rung::Everywhere);
        rung.add(invalidation(vec![names(&["c"])]));
        assert_eq!(rung, Rung::Everywhere);
    }

    #[test]
    fn lists_are_written_as_places() {
        let broker = Broker {
            url: String::new(),
            tls: None,
            sentinel: None,
            key_prefix: "p:".into(),
            timeout: Duration::ZERO,
            visibility_timeout: Duration::ZERO,
        };
        let queues = Queues { names: vec!["q_1".into(), "q_10".into()], default: "q_1".into(), prefix: None };
        let keys = Keys::new(&broker, &queues);
        let lists = ["p:q_10", "p:q_1\u{6}\u{16}6", "p:q_100", "q_1", "p:q_1\u{6}\u{16}7"];
        assert_eq!(Rung::Lists(lists.map(str::to_owned).to_vec()).written(&keys), "0:1 2:0 -");
        assert_eq!(Rung::default().written(&keys), "-");
        assert_eq!(Rung::Everywhere.written(&keys), "");
    }
}
