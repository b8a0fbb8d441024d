//! How much memory tasks use, and what bounds it: a cgroup for each where the daemon may make some ([`cgroup`]), else a
//! look at `/proc` now and then ([`usage`]).

pub mod allocator;
pub mod cgroup;
pub mod usage;

/// A number of bytes for people.
pub fn shown(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
