//! The supervisor's loop: one thread, one blocking point.
//!
//! Each pass compares what there is with what there should be and acts; events only make it come sooner. So nothing
//! is lost when two of them arrive together, and a pass too many does no harm.

use super::backoff::{self, Backoff};
use super::control::Control;
use super::drain::Drain;
use super::fleet::Fleet;
use super::generation::Generation;
use super::launch::{Launcher, Loader};
use super::liveness;
use super::notify::Notifier;
use super::policy::Ended;
use super::reload::Reload;
use super::signals::{Signals, Wish};
use super::worker::Daemon;
use super::zygote::Zygote;
use crate::channel::{Exit, Order};
use crate::config::Config;
use crate::memory::cgroup;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest time between two passes: a little longer than between two beats of a worker, each of which begins one.
const CEILING: Duration = Duration::from_millis(1500);

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

/// Runs the daemon until it is told to stop. At a reload `loader` is asked for the configuration.
pub fn run(config: Config, launcher: Launcher, loader: Loader) -> Exit {
    match Supervisor::new(config, launcher, loader) {
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
    /// The configuration in force.
    pub(super) config: Config,
    pub(super) launcher: Launcher,
    pub(super) loader: Loader,
    pub(super) backoff: Backoff,
    pub(super) signals: Signals,
    pub(super) notifier: Notifier,
    pub(super) control: Control,
    pub(super) fleet: Fleet,
    /// One, and during a reload two.
    pub(super) generations: Vec<Generation>,
    /// Number of the generation in force.
    pub(super) current: u32,
    /// Highest number of a generation until now.
    pub(super) newest: u32,
    /// Where tasks get cgroups of their own, if a limit was configured at the start.
    pub(super) cgroup: Option<PathBuf>,
    pub(super) host: String,
    pub(super) owner: String,
    pub(super) ready: bool,
    pub(super) paused: bool,
    pub(super) reload: Option<Reload>,
    /// One more was asked for.
    pub(super) reload_wanted: bool,
    /// Why the last one failed, in one line.
    pub(super) reload_failure: Option<String>,
    pub(super) drain: Option<Drain>,
    /// What STATUS said last that it does.
    pub(super) doing: &'static str,
    pub(super) last_pass: Instant,
}

/// Number of the first generation.
const FIRST: u32 = 1;

impl Supervisor {
    fn new(config: Config, launcher: Launcher, loader: Loader) -> Result<Self, StartError> {
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
            control: Control::listen(),
            fleet: Fleet::new(config.workers.processes, FIRST, now),
            generations: vec![Generation::new(FIRST, config.clone(), now).map_err(StartError::Zygote)?],
            current: FIRST,
            newest: FIRST,
            // Random, because the pid comes back after a restart of the machine or the container.
            owner: format!("{host}:{}:{:08x}", std::process::id(), fastrand::u32(..)),
            host,
            config,
            launcher,
            loader,
            ready: false,
            paused: false,
            reload: None,
            reload_wanted: false,
            reload_failure: None,
            drain: None,
            doing: "",
            last_pass: now,
        })
    }

    /// One pass. The order matters: reports are read before anybody is judged for not having sent one.
    fn pass(&mut self) -> Option<Exit> {
        let now = Instant::now();
        for wish in self.signals.take() {
            self.obey(wish, now);
        }
        self.reload_wanted |= self.control.read();
        self.fleet.read(now);
        if self.drain.is_none() && self.fleet.workers.iter().any(|worker| worker.stop) {
            self.obey(Wish::Stop, now); // told by each worker, and meant once
        }
        self.zygotes().for_each(|zygote| zygote.read(now));
        self.reap(now);
        if liveness::stood_still(self.last_pass, now, CEILING) {
            tracing::warn!("stood still for {:.1} s", now.duration_since(self.last_pass).as_secs_f32());
            self.fleet.workers.iter_mut().for_each(|worker| worker.vigil.heard(now));
        }
        self.last_pass = now;
        self.fleet.judge(self.config.workers.liveness_timeout, now);
        self.zygotes().for_each(|zygote| zygote.kill_overdue(now));
        self.close_generations(now);
        if self.drain.is_none() {
            self.advance_reload(now);
            self.start_due(now);
        }
        for generation in self.generations.iter_mut().filter(|generation| self.fleet.serves(generation.number)) {
            generation.zygote.iter_mut().for_each(Zygote::serves);
        }
        let exit = self.advance_drain(now);
        self.announce(now, exit.is_some());
        exit
    }

    fn zygotes(&mut self) -> impl Iterator<Item = &mut Zygote> {
        self.generations.iter_mut().filter_map(|generation| generation.zygote.as_mut())
    }

    fn obey(&mut self, wish: Wish, now: Instant) {
        match wish {
            Wish::Child => {}
            Wish::Reload => self.reload_wanted = true,
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
        let mut unborn = Vec::new();
        for generation in &mut self.generations {
            if let Some(zygote) = &mut generation.zygote
                && zygote.slot.due().is_some_and(|due| due <= now)
                && let Err(error) = zygote.start(&generation.config, &self.launcher.zygote)
            {
                if let Some(python) = &generation.config.python {
                    let (interpreter, directory) = (python.interpreter.display(), python.directory.display());
                    tracing::error!("can't start [python] interpreter {interpreter} in directory {directory}: {error}");
                }
                zygote.note = Some(format!("can't start the interpreter: {error}"));
                // No such interpreter, or not executable: that is the configuration's fault.
                zygote.failed = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
                unborn.push(generation.number);
            }
        }
        unborn.into_iter().for_each(|number| self.zygote_ended(number, Ended::Unborn, now));
        if self.drain.is_some() {
            return;
        }
        let daemon = |number: u32| {
            let generation = self.generations.iter().find(|generation| generation.number == number)?;
            let zygote = generation.zygote.as_ref().map(Zygote::name);
            let cgroup = self.cgroup.as_deref();
            Some(Daemon { config: &generation.config, host: &self.host, owner: &self.owner, zygote, cgroup })
        };
        for index in self.fleet.start_due(daemon, &*self.launcher.worker, self.paused, now).into_iter().rev() {
            self.worker_ended(index, Ended::Unborn, now);
        }
    }

    /// The one place that blocks: until something arrives or the earliest deadline.
    fn sleep(&self) {
        let now = Instant::now();
        let timeout = self.config.workers.liveness_timeout;
        let zygotes = || self.generations.iter().filter_map(|generation| generation.zygote.as_ref());
        let due = self.fleet.workers.iter().filter_map(|worker| worker.due(timeout));
        let due = due.chain(zygotes().filter_map(Zygote::due)).chain(self.drain.as_ref().and_then(Drain::due));
        let due = due.chain(self.reload_deadline()).chain(self.reload_due().then_some(now));
        let until = due.map(|due| due.saturating_duration_since(now)).min().unwrap_or(CEILING);
        let wait = until.min(CEILING).min(self.notifier.tick().unwrap_or(CEILING));
        // Rounded up: a millisecond too early would make one pass for nothing.
        let wait = u16::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX);
        let children = self.fleet.workers.iter().map(|worker| &worker.child);
        let children = children.chain(zygotes().map(|zygote| &zygote.child)).flatten();
        let mut fds = vec![PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
        fds.extend(self.control.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(children.filter_map(|child| child.wire.interest()).map(|(fd, unsent)| {
            PollFd::new(fd, if unsent { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN })
        }));
        match poll(&mut fds, PollTimeout::from(wait)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => tracing::error!(%error, "poll"),
        }
    }
}
