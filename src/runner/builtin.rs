//! Tasks that every worker knows by itself, and does in no time, in no slot and in no other process.

/// Does nothing and returns `None`: shows that messages come through, and what the way costs without a task.
pub const NOOP: &str = "fairstalk.noop";

/// Whether this is the name of one. Tasks of the application and of `[tasks]` come first.
pub fn is_builtin(task: &str) -> bool {
    task == NOOP
}
