//! Whose task a message is, as the broker names it. Pure.
//!
//! A flow is what gets a share of the running time: a tenant, or, for messages that name none, their queue.

use super::tenant;
use crate::config::{Fallback, Queues, Tenancy};
use crate::message::Message;
use crate::message::body;
use crate::routing::numbered_queue;
use md5::{Digest, Md5};
use std::rc::Rc;

/// Longest id that is part of a key as it is, bytes.
const ID_MAX: usize = 200;

/// Flow of a tenant.
pub fn of_tenant(id: &str) -> Rc<str> {
    named('t', id)
}

fn named(kind: char, id: &str) -> Rc<str> {
    if id.len() <= ID_MAX && !id.chars().any(char::is_control) {
        return format!("{kind}:{id}").into();
    }
    // Parts of keys and claims are separated by control characters.
    let digest: String = Md5::digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
    let readable: String = id.chars().filter(|c| !c.is_control()).take(40).collect();
    format!("{kind}:{readable}~{digest}").into()
}

/// Flow of the messages of a queue that name no tenant.
pub fn of_queue(queue: &str) -> Rc<str> {
    format!("q:{queue}").into()
}

/// The tenant, if the flow is one.
pub fn tenant_of(flow: &str) -> Option<&str> {
    flow.strip_prefix("t:")
}

/// Flow of a message that names no tenant: its queue, or where it is configured so its group or the first task of its
/// workflow, if it has one.
fn of_nobody(tenancy: &Tenancy, queue: &str, message: &Message) -> Rc<str> {
    let (kind, id) = match tenancy.fallback {
        Fallback::Queue => ('q', None),
        Fallback::Group => ('g', message.headers.group.as_ref()),
        Fallback::Root => ('r', message.headers.root_id.as_ref()),
    };
    id.map_or_else(|| of_queue(queue), |id| named(kind, id))
}

/// A flow as people write it: a tenant by its id, all others in parentheses, `(queue_3)`.
pub fn shown(flow: &str) -> String {
    match flow.split_once(':') {
        Some(("t", id)) => id.to_owned(),
        Some(("g", id)) => format!("(group {id})"),
        Some(("r", id)) => format!("(root {id})"),
        _ => format!("({})", flow.strip_prefix("q:").unwrap_or(flow)),
    }
}

/// The flow somebody means by this text.
pub fn meant(text: &str) -> Rc<str> {
    let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else { return of_tenant(text) };
    match inner.split_once(' ') {
        Some(("group", id)) => named('g', id),
        Some(("root", id)) => named('r', id),
        _ => of_queue(inner),
    }
}

/// Flow of a message. `parameters` are those of its task. A tenant counts only if the queue is its own: whoever sends
/// by another rule than `md5(id) % count` means something else by that parameter.
pub fn of_message(
    tenancy: &Tenancy,
    queues: &Queues,
    queue: &str,
    message: &Message,
    parameters: &[String],
) -> Rc<str> {
    if tenancy.parameter.is_none() && tenancy.header.is_none() {
        return of_nobody(tenancy, queue, message);
    }
    // A body that isn't JSON names nobody; Python alone reads it.
    let arguments = tenancy.parameter.as_ref().and_then(|_| body::arguments(message).ok());
    let tenant = tenant(tenancy, message, arguments.as_ref(), parameters);
    let own = |id: &String| numbered_queue(queues, id).is_none_or(|expected| expected == queue);
    tenant.filter(own).map_or_else(|| of_nobody(tenancy, queue, message), |id| of_tenant(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(user: &str, queue: &str) -> Rc<str> {
        flow_with(user, queue, Fallback::Queue)
    }

    fn flow_with(user: &str, queue: &str, fallback: Fallback) -> Rc<str> {
        let (parameter, header) = (Some("user_id".into()), Some("user".into()));
        let tenancy = Tenancy { parameter, header, fallback, ..Tenancy::default() };
        let names: Vec<String> = (0..20).map(|number| format!("queue_{number}")).collect();
        let queues = Queues { default: names[0].clone(), names, prefix: Some("queue_".into()) };
        let headers = format!(r#"{{"task": "t", "id": "i", "group": "g1", "root_id": "r1", "user": {user}}}"#);
        let raw = format!(r#"{{"body": "[[], {{}}, {{}}]", "headers": {headers}, "properties": {{}}}}"#);
        of_message(&tenancy, &queues, queue, &Message::parse(raw.into_bytes()).unwrap(), &[])
    }

    #[test]
    fn a_tenant_counts_in_its_own_queue() {
        assert_eq!(&*flow("1", "queue_11"), "t:1");
        assert_eq!(&*flow("1", "queue_0"), "q:queue_0");
        assert_eq!(&*flow("null", "queue_0"), "q:queue_0");
    }

    #[test]
    fn who_is_nobody_s_may_be_its_group_s_or_its_root_s() {
        assert_eq!(&*flow_with("null", "queue_0", Fallback::Group), "g:g1");
        assert_eq!(&*flow_with("1", "queue_0", Fallback::Root), "r:r1");
        assert_eq!(&*flow_with("1", "queue_11", Fallback::Root), "t:1");
        assert_eq!(tenant_of("g:g1"), None);
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for (flow, text) in [("t:7", "7"), ("q:queue_3", "(queue_3)"), ("g:a b", "(group a b)"), ("r:x", "(root x)")] {
            assert_eq!((&*shown(flow), &*meant(text)), (text, flow));
        }
    }

    #[test]
    fn ids_never_break_a_key() {
        assert_eq!(&*of_tenant("zoë 7:x"), "t:zoë 7:x");
        let odd = of_tenant("a\0b\u{1f}c");
        assert!(odd.starts_with("t:abc~") && !odd.chars().any(char::is_control));
        assert_ne!(odd, of_tenant("a\0b\u{1f}d"));
        assert!(of_tenant(&"x".repeat(5000)).len() < 100);
        assert_eq!(tenant_of(&of_tenant("7")), Some("7"));
        assert_eq!(tenant_of(&of_queue("queue_7")), None);
    }
}
