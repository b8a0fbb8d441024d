//! Memory of a process and everything it has started, as `/proc` tells it.
//!
//! Resident memory is quickly read, but counts what a runner shares with the zygote and other runners in full; the
//! proportional size counts a share of it, but the kernel has to walk all pages for it. So the latter is asked for only
//! where the former is over the limit.

use std::path::{Path, PathBuf};

/// Deepest descent into what a task has started: a chain longer than this is not a task's any more.
const DEEPEST: usize = 64;

/// A process table.
#[derive(Debug, Clone)]
pub struct Proc {
    root: PathBuf,
    page: u64,
}

impl Default for Proc {
    /// That of the kernel.
    fn default() -> Proc {
        Proc { root: PathBuf::from("/proc"), page: rustix::param::page_size() as u64 }
    }
}

impl Proc {
    /// Bytes that `pid` and its descendants use, as far as that matters for a limit: resident memory if that is within
    /// it, else the proportional size. Processes that have just ended count nothing.
    pub fn used(&self, pid: u32, limit: u64) -> u64 {
        let family = self.family(pid);
        let resident = family.iter().map(|&pid| self.resident(pid)).sum();
        if resident <= limit {
            return resident;
        }
        family.iter().map(|&pid| self.proportional(pid)).sum()
    }

    /// Resident bytes of one process (proc(5), `statm`).
    pub fn resident(&self, pid: u32) -> u64 {
        let pages = self.read(pid, "statm").and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        pages.unwrap_or(0) * self.page
    }

    /// Its proportional share (`smaps_rollup`); resident bytes where the kernel does not tell it.
    fn proportional(&self, pid: u32) -> u64 {
        let pss = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim();
            line.strip_suffix(" kB")?.trim().parse::<u64>().ok()
        };
        match self.read(pid, "smaps_rollup").and_then(pss) {
            Some(kibibytes) => kibibytes << 10,
            None => self.resident(pid),
        }
    }

    /// The process and its descendants. Children are listed for each thread.
    fn family(&self, pid: u32) -> Vec<u32> {
        let mut family = vec![pid];
        let mut generation = 0..1;
        for _ in 0..DEEPEST {
            for index in generation.clone() {
                let threads = std::fs::read_dir(self.path(family[index]).join("task")).into_iter().flatten().flatten();
                for thread in threads {
                    let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                    family.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
                }
            }
            generation = generation.end..family.len();
            if generation.is_empty() {
                break;
            }
        }
        family
    }

    fn read(&self, pid: u32, file: &str) -> Option<String> {
        std::fs::read_to_string(self.path(pid).join(file)).ok()
    }

    fn path(&self, pid: u32) -> PathBuf {
        Path::new(&self.root).join(pid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process table of three generations; the numbers are pages and KiB.
    fn table() -> (tempfile::TempDir, Proc) {
        let folder = tempfile::tempdir().unwrap();
        for (pid, thread, children, pages, pss) in [
            (10, 10, "11 ", 100, 50),
            (10, 12, "13 ", 100, 50),
            (11, 11, "14 ", 30, 20),
            (13, 13, "", 5, 4),
            (14, 14, "", 7, 6),
        ] {
            let own = folder.path().join(pid.to_string());
            let thread = own.join("task").join(thread.to_string());
            std::fs::create_dir_all(&thread).unwrap();
            std::fs::write(thread.join("children"), children).unwrap();
            std::fs::write(own.join("statm"), format!("9999 {pages} 1 1 0 1 0\n")).unwrap();
            let rollup =
                format!("55-7f ---p 00000000 00:00 0 [rollup]\nRss: {pages} kB\nPss:  {pss} kB\nPss_Dirty: 1 kB\n");
            std::fs::write(own.join("smaps_rollup"), rollup).unwrap();
        }
        let proc = Proc { root: folder.path().to_owned(), page: 1024 };
        (folder, proc)
    }

    #[test]
    fn descendants_of_every_thread_count() {
        let (_folder, proc) = table();
        assert_eq!(proc.used(10, 1 << 20), (100 + 30 + 5 + 7) << 10);
        assert_eq!(proc.used(11, 1 << 20), (30 + 7) << 10);
    }

    #[test]
    fn over_the_limit_shared_memory_counts_in_part() {
        let (_folder, proc) = table();
        assert_eq!(proc.used(10, 141 << 10), (50 + 20 + 4 + 6) << 10);
        assert_eq!(proc.used(10, 142 << 10), 142 << 10);
    }

    #[test]
    fn a_process_that_is_gone_uses_nothing() {
        let (_folder, proc) = table();
        assert_eq!(proc.used(99, 0), 0);
        let own = Proc::default();
        assert!(own.used(std::process::id(), u64::MAX) > 1 << 20);
    }
}
