//! The supervisor's loop: one thread, one blocking point.
//!
//! Each pass compares what there is with what there should be and acts; events only make it come sooner. So nothing
//! is lost when two of them arrive together, and a pass too many does no harm.

use super::backoff::{self, Backoff};
use super::drain::Drain;
use super::fleet::{Daemon, Fleet};
use super::launch::Launcher;
use super::liveness;
use super::notify::Notifier;
use super::policy::Ended;
use super::signals::{Signals, Wish};
use super::zygote::Zygote;
use crate::channel::{Exit, Order};
use crate::config::Config;
use crate::memory::cgroup;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest time between two passes.
const CEILING: Duration = Duration::from_secs(1);

/// Why the supervisor can't begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("started with {0} threads; processes must be started from the only one")]
    Threads(usize),
    #[error("can't count threads")]
    Count(#[source] io::Error),
    #[error("can't handle signals")]
    Signals(#[source] io::Error),
    #[error("can't become the reaper of orphans")]
    Subreaper(#[source] nix::Error),
    #[error("can't listen for the zygote")]
    Zygote(#[source] nix::Error),
    #[error(transparent)]
    Backoff(#[from] backoff::Invalid),
}

/// Runs the daemon until it is told to stop.
pub fn run(config: Config, launcher: Launcher) -> Exit {
    match Supervisor::new(config, launcher) {
        Ok(mut supervisor) => loop {
            if let Some(exit) = supervisor.pass() {
                supervisor.cgroup.as_deref().into_iter().for_each(cgroup::restore);
                return exit;
            }
            supervisor.sleep();
        },
        Err(StartError::Backoff(error)) => {
            tracing::error!("{error}");
            Exit::Config
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::error!("{error}{cause}");
            Exit::Internal
        }
    }
}

/// Where tasks get cgroups of their own; without, workers look at `/proc`.
fn prepare_cgroup() -> Option<PathBuf> {
    match cgroup::prepare() {
        Ok(base) => {
            tracing::info!("memory limits are kept by cgroups below {}", base.display());
            Some(base)
        }
        Err(reason) => {
            tracing::info!("memory limits are kept by looking at /proc: {reason}");
            None
        }
    }
}

/// The daemon's state.
pub(super) struct Supervisor {
    pub(super) config: Config,
    pub(super) launcher: Launcher,
    pub(super) backoff: Backoff,
    pub(super) signals: Signals,
    pub(super) notifier: Notifier,
    pub(super) fleet: Fleet,
    pub(super) zygote: Option<Zygote>,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) host: String,
    pub(super) owner: String,
    pub(super) ready: bool,
    pub(super) paused: bool,
    pub(super) drain: Option<Drain>,
    pub(super) last_pass: Instant,
}

impl Supervisor {
    fn new(config: Config, launcher: Launcher) -> Result<Self, StartError> {
        // The kernel tells children of the death of the *thread* that started them; and another thread could start
        // one just while the zygote's socket is inheritable.
        let threads = std::fs::read_dir("/proc/self/task").map_err(StartError::Count)?.count();
        if threads != 1 {
            return Err(StartError::Threads(threads));
        }
        // What a dead worker's commands have started comes to us, to be ended and reaped.
        nix::sys::prctl::set_child_subreaper(true).map_err(StartError::Subreaper)?;
        let now = Instant::now();
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        let host = host.unwrap_or_else(|_| "localhost".to_owned());
        let cgroup = config.limits_memory().then(prepare_cgroup).flatten();
        Ok(Self {
            cgroup,
            backoff: Backoff::new(config.workers.restart_min, config.workers.restart_max)?,
            signals: Signals::register().map_err(StartError::Signals)?,
            notifier: Notifier::from_env(),
            fleet: Fleet::new(config.workers.processes, now),
            zygote: config.python.as_ref().map(|_| Zygote::new(now)).transpose().map_err(StartError::Zygote)?,
            // Random, because the pid comes back after a restart of the machine or the container.
            owner: format!("{host}:{}:{:08x}", std::process::id(), fastrand::u32(..)),
            host,
            config,
            launcher,
            ready: false,
            paused: false,
            drain: None,
            last_pass: now,
        })
    }

    /// One pass. The order matters: reports are read before anybody is judged for not having sent one.
    fn pass(&mut self) -> Option<Exit> {
        let now = Instant::now();
        for wish in self.signals.take() {
            self.obey(wish, now);
        }
        self.fleet.read(now);
        if let Some(zygote) = &mut self.zygote {
            zygote.read(now);
        }
        self.reap(now);
        if liveness::stood_still(self.last_pass, now, CEILING) {
            tracing::warn!("stood still for {:.1} s", now.duration_since(self.last_pass).as_secs_f32());
            self.fleet.workers.iter_mut().for_each(|worker| worker.vigil.heard(now));
        }
        self.last_pass = now;
        self.fleet.judge_silence(self.config.workers.liveness_timeout, now);
        if let Some(zygote) = &mut self.zygote {
            zygote.kill_overdue(now);
        }
        if self.drain.is_none() {
            self.start_due(now);
        }
        let exit = self.advance_drain(now);
        self.announce(now, exit.is_some());
        exit
    }

    fn obey(&mut self, wish: Wish, now: Instant) {
        match wish {
            Wish::Child => {}
            Wish::Reload => tracing::warn!("configuration not reloaded: restart to apply changes"),
            Wish::Pause if !self.paused => {
                tracing::info!("paused: nothing is claimed until CONT");
                self.paused = true;
                self.fleet.order_all(&Order::Pause);
            }
            Wish::Resume if self.paused => {
                tracing::info!("resumed");
                self.paused = false;
                self.fleet.order_all(&Order::Resume);
            }
            Wish::Pause | Wish::Resume => {}
            Wish::Stop => match &mut self.drain {
                None => {
                    tracing::info!("stopping: running tasks may take {:?}", self.config.workers.drain_timeout);
                    self.begin_drain(None, now);
                }
                Some(drain) => {
                    if drain.hand_back(now) {
                        tracing::info!("stopping now: running tasks are handed back");
                        self.fleet.order_all(&Order::HandBack);
                    }
                }
            },
        }
    }

    fn start_due(&mut self, now: Instant) {
        if let Some(zygote) = &mut self.zygote
            && zygote.slot.due().is_some_and(|due| due <= now)
            && let Err(error) = zygote.start(&self.config, &self.launcher.zygote)
        {
            if let Some(python) = &self.config.python {
                let (interpreter, directory) = (python.interpreter.display(), python.directory.display());
                tracing::error!("can't start [python] interpreter {interpreter} in directory {directory}: {error}");
            }
            zygote.note = Some(format!("can't start the interpreter: {error}"));
            // No such interpreter, or not executable: that is the configuration's fault.
            zygote.failed = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
            self.zygote_ended(Ended::Unborn, now);
        }
        if self.drain.is_some() {
            return;
        }
        let zygote = self.zygote.as_ref().map(Zygote::name);
        let daemon = Daemon {
            config: &self.config,
            host: &self.host,
            owner: &self.owner,
            zygote,
            cgroup: self.cgroup.as_deref(),
        };
        for number in self.fleet.start_due(&daemon, &*self.launcher.worker, self.paused, now) {
            if let Some(index) = self.fleet.workers.iter().position(|worker| worker.number == number) {
                self.worker_ended(index, Ended::Unborn, now);
            }
        }
    }

    /// The one place that blocks: until something arrives or the earliest deadline.
    fn sleep(&self) {
        let now = Instant::now();
        let timeout = self.config.workers.liveness_timeout;
        let due = self.fleet.workers.iter().filter_map(|worker| match &worker.child {
            Some(_) => worker.vigil.due(timeout),
            None => worker.slot.due(),
        });
        let due = due.chain(self.zygote.as_ref().and_then(Zygote::due)).chain(self.drain.as_ref().and_then(Drain::due));
        let until = due.map(|due| due.saturating_duration_since(now)).min().unwrap_or(CEILING);
        let wait = until.min(CEILING).min(self.notifier.tick().unwrap_or(CEILING));
        // Rounded up: a millisecond too early would make one pass for nothing.
        let wait = u16::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX);
        let children = self.fleet.workers.iter().map(|worker| &worker.child);
        let children = children.chain(self.zygote.iter().map(|zygote| &zygote.child)).flatten();
        let mut fds = vec![PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
        fds.extend(children.filter_map(|child| child.wire.interest()).map(|(fd, unsent)| {
            PollFd::new(fd, if unsent { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN })
        }));
        match poll(&mut fds, PollTimeout::from(wait)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => tracing::error!(%error, "poll"),
        }
    }
}
