//! How the C library keeps memory that was freed. Large messages make it matter.
//!
//! By default what is larger than 128 KiB is mapped anew for each message, and given back after it, so that the kernel clears and
//! maps every page of it again: half of what a message of 200 kB costs a worker or a runner. So this much is kept instead. It is
//! said by a variable of the environment, which the library reads at the start of a process (mallopt(3), ld.so(8)); where the
//! library is another one it means nothing.

use std::ffi::OsStr;
use std::process::Command;

/// Name of the variable.
pub const NAME: &str = "GLIBC_TUNABLES";

/// What it says: blocks below 2 MiB are not mapped, and up to 4 MiB at the end of the heap are not given back.
pub const VALUE: &str = "glibc.malloc.mmap_threshold=2097152:glibc.malloc.trim_threshold=4194304";

/// Sets it for a program that is to be started, unless the operator has said something himself.
pub fn set(command: &mut Command) {
    if std::env::var_os(NAME).is_none() {
        command.env(NAME, VALUE);
    }
}

/// Whether this variable of our own environment is the one that was set here: it is not meant for what tasks start.
pub fn is_ours(name: &OsStr, value: &OsStr) -> bool {
    name == NAME && value == VALUE
}
