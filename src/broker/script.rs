//! The scripts: nearly each is `tenants.lua`, `lanes.lua` and its own part, and gets the same keys and arguments first.

use super::Keys;
use redis::ScriptInvocation;

/// A script made of the common part and its own.
macro_rules! script {
    ($($part:literal),+) => {
        redis::Script::new(concat!(
            include_str!("scripts/tenants.lua"),
            include_str!("scripts/lanes.lua"),
            $(include_str!($part)),+
        ))
    };
}
pub(super) use script;

/// Messages poured back in one call, about: nobody else waits for the server for more than some milliseconds.
pub(super) const POUR: usize = 200;

/// A call with what all scripts expect: their keys, the prefix of all keys, the owner in question.
pub(super) fn call<'a>(script: &'a redis::Script, keys: &Keys, owner: &str) -> ScriptInvocation<'a> {
    let mut invocation = script.prepare_invoke();
    for key in keys.of_scripts(owner) {
        invocation.key(key);
    }
    invocation.arg(keys.prefix()).arg(owner);
    invocation
}
