//! Whose task a message is, as the broker names it. Pure.
//!
//! A flow is what gets a share of the running time: a tenant, or, for messages that name none, their queue.

use super::tenant;
use crate::config::{Queues, Tenancy};
use crate::message::Message;
use crate::message::body;
use crate::routing::numbered_queue;
use md5::{Digest, Md5};
use std::rc::Rc;

/// Longest id that is part of a key as it is, bytes.
const ID_MAX: usize = 200;

/// Flow of a tenant.
pub fn of_tenant(id: &str) -> Rc<str> {
    if id.len() <= ID_MAX && !id.chars().any(char::is_control) {
        return format!("t:{id}").into();
    }
    // Parts of keys and claims are separated by control characters.
    let digest: String = Md5::digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
    let readable: String = id.chars().filter(|c| !c.is_control()).take(40).collect();
    format!("t:{readable}~{digest}").into()
}

/// Flow of the messages of a queue that name no tenant.
pub fn of_queue(queue: &str) -> Rc<str> {
    format!("q:{queue}").into()
}

/// The tenant, if the flow is one.
pub fn tenant_of(flow: &str) -> Option<&str> {
    flow.strip_prefix("t:")
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
        return of_queue(queue);
    }
    // A body that isn't JSON names nobody; Python alone reads it.
    let arguments = tenancy.parameter.as_ref().and_then(|_| body::arguments(message).ok());
    let tenant = tenant(tenancy, message, arguments.as_ref(), parameters);
    let own = |id: &String| numbered_queue(queues, id).is_none_or(|expected| expected == queue);
    tenant.filter(own).map_or_else(|| of_queue(queue), |id| of_tenant(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(user: &str, queue: &str) -> Rc<str> {
        let tenancy = Tenancy { parameter: Some("user_id".into()), header: Some("user".into()), ..Tenancy::default() };
        let names: Vec<String> = (0..20).map(|number| format!("queue_{number}")).collect();
        let queues = Queues { default: names[0].clone(), names, prefix: Some("queue_".into()) };
        let headers = format!(r#"{{"task": "t", "id": "i", "user": {user}}}"#);
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
