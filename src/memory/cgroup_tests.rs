//! With folders in the place of cgroups: names, order and words. What the kernel makes of them is for
//! `tests/e2e/test_memory.py`.

use super::*;

#[test]
fn where_a_process_stands() {
    let mounts = "24 30 0:22 / /proc rw - proc proc rw\n\
                  35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let path = own("0::/system.slice/fairstalk.service\n", mounts).unwrap();
    assert_eq!(path, Path::new("/sys/fs/cgroup/system.slice/fairstalk.service"));
    let hybrid = "9:memory:/x\n0::/y\n";
    assert_eq!(own(hybrid, mounts).unwrap(), Path::new("/sys/fs/cgroup/y"));
    assert_eq!(own("9:memory:/x\n", mounts), None);
    assert_eq!(own("0::/x\n", "24 30 0:22 / /proc rw - proc proc rw\n"), None);
}

fn base(controllers: &str, processes: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cgroup.controllers"), controllers).unwrap();
    fs::write(folder.path().join("cgroup.procs"), processes).unwrap();
    folder
}

#[test]
fn only_a_cgroup_of_ones_own_is_used() {
    let others = base("cpu memory pids\n", "7\n8\n");
    assert!(prepare_at(others.path(), 7).unwrap_err().ends_with("holds other processes too"));
    let undelegated = base("cpu\n", "7\n");
    assert!(prepare_at(undelegated.path(), 7).unwrap_err().ends_with("a unit needs Delegate=memory"));
    for refused in [others, undelegated] {
        assert!(!refused.path().join(DAEMON).exists());
    }
    assert!(prepare_at(Path::new("/nowhere"), 7).unwrap_err().starts_with("/nowhere: "));
}

#[test]
fn the_daemon_moves_and_leftovers_go() {
    let folder = base("memory\n", "7\n");
    fs::create_dir(folder.path().join("task-1.1-0")).unwrap();
    fs::create_dir(folder.path().join(DAEMON)).unwrap();
    // A folder's files would keep it; the kernel's do not.
    assert_eq!(prepare_at(folder.path(), 7), Ok(()));
    assert_eq!(fs::read_to_string(folder.path().join("daemon/cgroup.procs")).unwrap(), "7");
    assert_eq!(fs::read_to_string(folder.path().join("cgroup.subtree_control")).unwrap(), "+memory");
}

#[test]
fn a_leaf_has_its_limit_and_says_why_something_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let leaves = Leaves::new(folder.path().to_owned());
    let leaf = leaves.leaf("1.1", Some(5000)).unwrap();
    let write = |file: &str, text: &str| fs::write(leaf.path.join(file), text).unwrap();
    assert_eq!(leaf.door(), folder.path().join("task-1.1-0/cgroup.procs"));
    let limit = || fs::read_to_string(leaf.path.join("memory.max")).unwrap();
    assert_eq!(limit(), "5000");
    assert_eq!(leaf.outgrown(), None, "no events yet");
    write("memory.events", "low 0\nhigh 0\nmax 9\noom 0\noom_kill 1\noom_group_kill 0\n");
    assert_eq!(leaf.outgrown(), None, "the whole machine was out of memory");
    write("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 0\n");
    assert_eq!(leaf.outgrown(), None, "nothing was killed");
    write("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n");
    assert_eq!(leaf.outgrown(), Some(5000), "a kernel without memory.peak");
    write("memory.peak", "4999\n");
    assert_eq!(leaf.outgrown(), Some(4999));
    leaf.bound(None).unwrap();
    assert_eq!(limit(), "max");
    assert_ne!(leaves.leaf("1.1", None).unwrap().path, leaf.path);
}

#[test]
fn a_leaf_that_is_not_empty_yet_is_removed_later() {
    let folder = tempfile::tempdir().unwrap();
    let leaves = Leaves::new(folder.path().to_owned());
    let leaf = leaves.leaf("1.1", None).unwrap();
    let path = leaf.path.clone();
    drop(leaf); // its files keep this folder, as processes keep a cgroup
    assert!(path.exists());
    leaves.sweep();
    assert!(path.exists());
    fs::remove_dir_all(&path).unwrap();
    leaves.sweep();
    assert_eq!(leaves.left.borrow().len(), 0);
}

#[test]
fn a_worker_removes_what_its_predecessor_has_left() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["task-1.1-0", "task-1.2-0", "task-12.1-0", "daemon"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    Leaves::new(folder.path().to_owned()).inherit("1.2");
    // A folder in the place of a cgroup gets a file when it is told to kill, so here it stays, but for that.
    let told = |name: &str| folder.path().join(name).join("cgroup.kill").exists();
    assert_eq!(["task-1.1-0", "task-1.2-0", "task-12.1-0", "daemon"].map(told), [true, false, false, false]);
}
