//! A cgroup for each runner and each command (cgroups(7), version 2), where systemd has handed ours over to us
//! (`Delegate=memory`).
//!
//! ```text
//! fairstalk.service/           ours; only leaves may hold processes
//! ├─ daemon                    supervisor, zygote, workers
//! ├─ task-1.1-0                runner of worker 1, first incarnation
//! └─ task-2.1-7
//! ```
//!
//! The supervisor makes the first level, each worker its leaves, and whoever is to be in one writes itself into it. Where
//! any of this is not possible, tasks are watched through `/proc` instead.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Cgroup of the daemon's own processes.
const DAEMON: &str = "daemon";
/// How names of leaves begin.
const LEAF: &str = "task-";

/// Makes the cgroup of this process ready to hold leaves, and moves the process to `daemon` in it. To be called
/// before any child is started. What a killed predecessor has left in it is killed and removed.
///
/// # Errors
/// Why there can't be leaves, in words; nothing has changed then.
pub fn prepare() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let base = own(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
        .ok_or("this process is in no cgroup of version 2")?;
    prepare_at(&base, std::process::id())?;
    Ok(base)
}

/// Folder of a process's cgroup: where it stands (`/proc/PID/cgroup`) below where the tree is mounted.
fn own(cgroup: &str, mounts: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4)).flatten()
    })?;
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

fn prepare_at(base: &Path, pid: u32) -> Result<(), String> {
    let shown = base.display();
    let controllers =
        fs::read_to_string(base.join("cgroup.controllers")).map_err(|error| format!("{shown}: {error}"))?;
    if !controllers.split_ascii_whitespace().any(|controller| controller == "memory") {
        return Err(format!("{shown} has no memory controller; a unit needs Delegate=memory"));
    }
    clear(base);
    let others = fs::read_to_string(base.join("cgroup.procs")).map_err(|error| format!("{shown}: {error}"))?;
    if others.split_ascii_whitespace().any(|other| other != pid.to_string()) {
        return Err(format!("{shown} holds other processes too"));
    }
    let daemon = base.join(DAEMON);
    match fs::create_dir(&daemon) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(format!("{shown}: {error}")),
        _ => {}
    }
    let moved = fs::write(daemon.join("cgroup.procs"), pid.to_string())
        .and_then(|()| fs::write(base.join("cgroup.subtree_control"), "+memory"))
        .and_then(|()| Leaves::new(base.to_owned()).leaf("probe", Some(1 << 30)).map(drop));
    moved.map_err(|error| {
        let _ = fs::write(base.join("cgroup.procs"), pid.to_string());
        let _ = fs::remove_dir(&daemon);
        format!("{shown}: {error}")
    })
}

/// Undoes what [`prepare`] has done, as far as it can be: to be called when all children are gone. Under systemd the
/// whole tree goes with the service; elsewhere the next daemon finds it as this one did.
pub fn restore(base: &Path) {
    clear(base);
    let undone = fs::write(base.join("cgroup.subtree_control"), "-memory")
        .and_then(|()| fs::write(base.join("cgroup.procs"), std::process::id().to_string()))
        .and_then(|()| fs::remove_dir(base.join(DAEMON)));
    if let Err(error) = undone {
        tracing::debug!("{} is left as it is: {error}", base.display());
    }
}

/// Kills whatever is in the leaves below `base` and removes them, as far as they are empty by then.
fn clear(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(LEAF) {
            remove(&entry.path());
        }
    }
}

/// Kills what is in a leaf (Linux 5.14 can) and removes it; whether it is gone.
fn remove(path: &Path) -> bool {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Where one worker makes its leaves.
#[derive(Debug)]
pub struct Leaves {
    base: PathBuf,
    made: Cell<u64>,
    /// Those whose processes have been killed but are not gone yet.
    left: RefCell<Vec<PathBuf>>,
}

impl Leaves {
    /// Below a folder that [`prepare`] has made ready.
    pub fn new(base: PathBuf) -> Rc<Leaves> {
        Rc::new(Leaves { base, made: Cell::new(0), left: RefCell::default() })
    }

    /// A new leaf with a limit in bytes. `owner` tells whose it is, among all processes that make leaves here. When more
    /// is used than that, the kernel kills everything in it, and nothing else.
    ///
    /// # Errors
    /// If the kernel refuses the leaf or its limit.
    pub fn leaf(self: &Rc<Self>, owner: &str, limit: Option<u64>) -> io::Result<Leaf> {
        let number = self.made.get();
        self.made.set(number + 1);
        let path = self.base.join(format!("{LEAF}{owner}-{number}"));
        fs::create_dir(&path)?;
        let leaf = Leaf { leaves: Rc::clone(self), path, limit: Cell::new(None) };
        leaf.bound(limit)?;
        // Neither is there on every kernel. Swapped out, a task over its limit would crawl instead of ending.
        let _ = fs::write(leaf.path.join("memory.oom.group"), "1");
        let _ = fs::write(leaf.path.join("memory.swap.max"), "0");
        Ok(leaf)
    }

    /// Takes over the leaves of a worker's earlier incarnations: `owner` is `WORKER.INCARNATION`.
    pub fn inherit(&self, owner: &str) {
        let worker = owner.split_once('.').map_or(owner, |(worker, _)| worker);
        let (ours, theirs) = (format!("{LEAF}{owner}-"), format!("{LEAF}{worker}."));
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&theirs) && !name.starts_with(&ours) {
                self.left.borrow_mut().push(entry.path());
            }
        }
        self.sweep();
    }

    /// Removes the leaves whose processes are gone by now.
    pub fn sweep(&self) {
        self.left.borrow_mut().retain(|path| !remove(path));
    }
}

/// A cgroup for one runner or command. Dropped, it is removed, and what is still in it is killed.
#[derive(Debug)]
pub struct Leaf {
    leaves: Rc<Leaves>,
    path: PathBuf,
    limit: Cell<Option<u64>>,
}

impl Leaf {
    /// A process that writes `0` into this file is in the leaf from then on, with all it starts.
    pub fn door(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Sets the limit.
    ///
    /// # Errors
    /// If the kernel refuses it; the one before stays.
    pub fn bound(&self, limit: Option<u64>) -> io::Result<()> {
        if self.limit.get() != limit {
            fs::write(self.path.join("memory.max"), limit.map_or("max".to_owned(), |limit| limit.to_string()))?;
            self.limit.set(limit);
        }
        Ok(())
    }

    /// The most that was used, if something was killed here for using more than the limit. A kill because the whole
    /// machine had no memory left is not the fault of what ran here, and is none.
    pub fn outgrown(&self) -> Option<u64> {
        let events = fs::read_to_string(self.path.join("memory.events")).ok()?;
        let happened = |name: &str| {
            let count = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
            count.is_some_and(|count| count > 0)
        };
        let limit = self.limit.get()?;
        // memory.peak came with Linux 5.19.
        let peak = || fs::read_to_string(self.path.join("memory.peak")).ok()?.trim().parse().ok();
        (happened("oom") && happened("oom_kill")).then(|| peak().unwrap_or(limit))
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        if !remove(&self.path) {
            self.leaves.left.borrow_mut().push(self.path.clone());
        }
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
