//! The one place with `unsafe`: starts a program that dies with the worker, whatever kills that, and that is in its cgroup
//! before it is the program.
//!
//! The child runs in the worker's memory until it is the program, as with `posix_spawn`(3); the worker stands still meanwhile.
//! `fork` would copy the worker's page tables, and every page it then writes, for nothing: half of what a short command costs.
//! `posix_spawn` itself can't say that the child is to die with its parent (prctl(2), `PR_SET_PDEATHSIG`).

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction, sigprocmask,
};
use nix::unistd::{self, Pid, getpid, getppid};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;

/// Enough for a few system calls, and for the `exec` of a script without a first line that says of what.
const STACK: usize = 128 << 10;

/// What is to be started. All of it is made before: the child may not allocate anything.
#[derive(Debug)]
pub struct Program {
    /// Its file.
    pub path: CString,
    /// Its arguments, with its own name.
    pub arguments: Vec<CString>,
    /// Its environment, as `NAME=value`.
    pub environment: Vec<CString>,
    /// Where it runs.
    pub directory: CString,
    /// Its standard input, output and error.
    pub standard: [OwnedFd; 3],
    /// The `cgroup.procs` of the cgroup it is to be in.
    pub door: Option<File>,
}

impl Program {
    /// Starts it as the leader of a process group of its own.
    ///
    /// # Errors
    /// The first system call that fails, `execve` for instance if there is no such program.
    pub fn start(&self) -> io::Result<Pid> {
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        let (parent, error) = (getpid(), Cell::new(None));
        let child = Box::new(|| {
            error.set(Some(self.become_it(parent, &arguments, &environment)));
            127
        });
        let mut stack = vec![0; STACK];
        // No handler of ours may run in the child.
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: this thread stands still until the child has become the program or ended (`CLONE_VFORK`), so what the
        // child borrows outlives it, and nobody uses it at the same time. The child has a stack of its own. It makes system
        // calls only, allocates nothing, takes no lock, and unwinds nowhere.
        let child = unsafe { clone(child, &mut stack, flags, Some(libc::SIGCHLD)) };
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        let child = child?;
        match error.get() {
            None => Ok(child),
            Some(error) => {
                // It has ended, and it was never the program.
                let _ = nix::sys::wait::waitpid(child, None);
                Err(error.into())
            }
        }
    }

    /// In the child; comes back only with an error.
    fn become_it(&self, parent: Pid, arguments: &[*const c_char], environment: &[*const c_char]) -> Errno {
        if let Err(error) = self.prepare(parent) {
            return error;
        }
        // SAFETY: both end with a null pointer, and point to texts that `self` owns.
        unsafe { libc::execvpe(self.path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        Errno::last()
    }

    fn prepare(&self, parent: Pid) -> Result<(), Errno> {
        set_pdeathsig(Signal::SIGKILL)?;
        // The worker may have died before the line above took effect.
        if getppid() != parent {
            return Err(Errno::EPIPE);
        }
        unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        if let Some(door) = &self.door {
            unistd::write(door, b"0")?;
        }
        unistd::chdir::<CStr>(&self.directory)?;
        let [input, output, error] = self.standard.each_ref().map(AsFd::as_fd);
        unistd::dup2_stdin(input)?;
        unistd::dup2_stdout(output)?;
        unistd::dup2_stderr(error)?;
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
            // SAFETY: no handler is installed, and in this process none is left.
            let old = unsafe { sigaction(signal, &default) }?;
            // What is ignored stays so, but for what Rust ignores at its start.
            if matches!(old.handler(), SigHandler::SigIgn) && signal != Signal::SIGPIPE {
                // SAFETY: as above.
                unsafe { sigaction(signal, &old) }?;
            }
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
    }
}

/// For C: pointers to the texts, and a null pointer.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::io::Read;

    fn program(path: &str, arguments: &[&str]) -> (Program, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let text = |text: &str| CString::new(text).unwrap();
        let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
        let program = Program {
            path: text(path),
            arguments: arguments.iter().map(|argument| text(argument)).collect(),
            environment: vec![text("OWN=1")],
            directory: text("/usr"),
            standard: [null(), writer.into(), null()],
            door: None,
        };
        (program, reader)
    }

    #[test]
    fn it_is_what_it_should_be() {
        let say = r#"echo "$OWN $PWD $0 $1"; ps -o pgid= -p $$ | tr -d ' '; echo $$; grep -E 'Sig(Blk|Ign)' /proc/self/status"#;
        let (program, mut reader) = program("/bin/sh", &["sh", "-c", say, "name", "a b"]);
        let child = program.start().unwrap();
        drop(program);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "1 /usr name a b");
        assert_eq!(lines[1..3], [child.to_string(), child.to_string()]);
        // Of the usual 31 signals.
        let masks = |text: &str| -> Vec<u64> {
            let masks = text.lines().filter(|line| line.starts_with("SigBlk") || line.starts_with("SigIgn"));
            masks.map(|line| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap() & 0x7fff_ffff).collect()
        };
        let pipe = 1 << (Signal::SIGPIPE as u64 - 1);
        // What we were started to ignore (by nohup, say) stays so; what Rust ignores at its start doesn't.
        let ours = masks(&std::fs::read_to_string("/proc/self/status").unwrap())[1] & !pipe;
        assert_eq!(masks(&said), [0, ours], "nothing is blocked, and SIGPIPE not ignored");
    }

    #[test]
    fn what_cannot_be_started_is_told_and_leaves_nothing() {
        let (program, _reader) = program("/nowhere/at/all", &["all"]);
        assert_eq!(program.start().unwrap_err().kind(), io::ErrorKind::NotFound);
        let ours = SigSet::thread_get_mask().unwrap();
        assert!(!ours.contains(Signal::SIGTERM), "our own mask is as it was");
    }
}
