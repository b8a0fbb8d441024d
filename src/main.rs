//! The `fairstalk` command.

fn main() {}
