//! Where a worker's start is read from, and what is found there.

use super::launch::{self, Launch};
use super::settings::one_line;
use super::unit::{self, Unit};
use super::variables::{self, Defaults};
use super::words::{self, Variables};
use super::{Error, Wish, dropin};
use crate::init::account;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What was given.
pub enum Source {
    /// A unit, or a file of variables.
    File {
        /// What it is called.
        name: String,
        /// What is in it.
        text: String,
    },
    /// A command line, cut into words.
    Command(Vec<String>),
}

/// How the old worker is started, from whatever source.
pub(super) struct Old {
    /// What it was read from.
    pub name: String,
    /// The unit, if it is one.
    pub unit: Option<Unit>,
    /// The start itself.
    pub launch: Launch,
    /// The folder it is started in.
    pub directory: PathBuf,
    /// Variables of the unit, and of its files.
    env: BTreeMap<String, String>,
    /// Variables that the command needs and nothing sets.
    missing: Vec<String>,
    /// Files and lines that could not be read.
    unread: Vec<String>,
}

/// Longest `[workers] drain_timeout`.
const LONGEST_DRAIN: Duration = Duration::from_secs(86_400);

impl Source {
    /// Finds the worker in it.
    pub(super) fn read(&self, wish: &Wish) -> Result<Old, Error> {
        let instance = wish.instance.as_deref();
        match self {
            Source::Command(words) => of_command(words, wish),
            Source::File { name, text } if unit::is_unit(text) => of_unit(name, text, instance),
            Source::File { name, text } => of_defaults(name, text),
        }
    }
}

fn of_command(words: &[String], wish: &Wish) -> Result<Old, Error> {
    let mut known = Variables::default();
    // A command in quotes is one word.
    let launch = match words {
        [line] if line.contains(' ') => launch::among(words::of_script(line, &mut known), &known),
        words => launch::find(words, &mut known),
    };
    let launch = launch.ok_or_else(|| Error::NoWorker("this command".to_owned()))?;
    Ok(Old::new("a command line", None, launch, wish.directory.clone(), known, BTreeMap::new()))
}

fn of_unit(name: &str, text: &str, instance: Option<&str>) -> Result<Old, Error> {
    let unit = unit::parse(text);
    if unit.is_template() && instance.is_none() {
        return Err(Error::Template);
    }
    let mut unread = Vec::new();
    let mut env: BTreeMap<String, String> = unit.environment(instance).into_iter().collect();
    for file in unit.all("EnvironmentFile") {
        let path = unit::specified(file.trim_start_matches('-'), instance);
        match std::fs::read_to_string(&path) {
            Ok(text) => env.extend(variables::environment_file(&text)),
            // Such a file may be missing, and the drop-in names it all the same.
            Err(error) if file.starts_with('-') && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => unread.push(format!("EnvironmentFile={}: can't be read: {error}", one_line(file))),
        }
    }
    let mut known = Variables { set: env.clone(), ..Variables::default() };
    let start = |line: &str, known: &mut Variables| {
        let line = unit::specified(line, instance);
        let plain = line.trim_start_matches(['-', ':', '+', '!', '|', '@']);
        let mut words = words::of_unit(plain, known);
        if line.starts_with('@') && words.len() > 1 {
            words.remove(1); // what it is to be called
        }
        launch::find(&words, known)
    };
    let launch = unit.all("ExecStart").find_map(|line| start(line, &mut known));
    let launch = launch.ok_or_else(|| Error::NoWorker(name.to_owned()))?;
    let directory = unit.last("WorkingDirectory").map(|folder| unit::specified(folder, instance));
    let directory = match directory.as_deref().map(|folder| folder.trim_start_matches('-')) {
        Some("~") => unit.last("User").and_then(account::named).map_or_else(|| PathBuf::from("/"), |user| user.home),
        Some(folder) => {
            if folder.contains('%') {
                unread.push(format!("WorkingDirectory={}: only systemd knows where that is", one_line(folder)));
            }
            PathBuf::from(folder)
        }
        None => PathBuf::from("/"),
    };
    let mut old = Old::new(name, Some(unit), launch, directory, known, env);
    old.unread = unread;
    Ok(old)
}

/// Variables of Debian's and Celery's own init script, in the command that it makes of them.
fn of_defaults(name: &str, text: &str) -> Result<Old, Error> {
    let Defaults { mut variables, exported, other } = variables::defaults(text);
    let set = |name: &str| variables.set.get(name).filter(|value| !value.is_empty()).cloned();
    let mut line = vec![set("CELERY_BIN").unwrap_or_else(|| "celery".to_owned())];
    line.extend(["multi", "start"].map(str::to_owned));
    line.extend(words::quoted_words(&set("CELERYD_NODES").unwrap_or_default()));
    for (option, name) in [
        ("--app", "CELERY_APP"),
        ("--workdir", "CELERYD_CHDIR"),
        ("--pidfile", "CELERYD_PID_FILE"),
        ("--logfile", "CELERYD_LOG_FILE"),
        ("--loglevel", "CELERYD_LOG_LEVEL"),
        ("--uid", "CELERYD_USER"),
        ("--gid", "CELERYD_GROUP"),
    ] {
        line.extend(set(name).map(|value| format!("{option}={value}")));
    }
    line.extend(words::quoted_words(&set("CELERYD_OPTS").unwrap_or_default()));
    if set("CELERYD_NODES").is_none() && set("CELERYD_OPTS").is_none() {
        return Err(Error::NoWorker(name.to_owned()));
    }
    let launch = launch::find(&line, &mut variables).ok_or_else(|| Error::NoWorker(name.to_owned()))?;
    let is_exported = |(name, _): &(&String, &String)| exported.contains(name);
    let env = variables.set.iter().filter(is_exported).map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut old = Old::new(name, None, launch, PathBuf::from("/"), variables, BTreeMap::new());
    old.launch.env.extend::<BTreeMap<String, String>>(env);
    old.launch.left.extend(other);
    Ok(old)
}

impl Old {
    fn new(
        name: &str,
        unit: Option<Unit>,
        mut launch: Launch,
        directory: PathBuf,
        known: Variables,
        env: BTreeMap<String, String>,
    ) -> Old {
        let directory = launch.directory.iter().fold(directory, |folder, further| folder.join(further));
        launch.directory = Some(directory.clone());
        let missing = known.missing.into_iter().collect();
        Old { name: name.to_owned(), unit, launch, directory, env, missing, unread: Vec::new() }
    }

    /// All variables that the application sees.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.env.clone();
        all.extend(self.launch.env.clone());
        all
    }

    /// Those that the unit does not set. What `[python] env` has anyway is left out.
    pub fn beside_unit(&self) -> BTreeMap<String, String> {
        let mut own = self.launch.env.clone();
        own.remove("DJANGO_SETTINGS_MODULE");
        own
    }

    /// Names of the variables the application's answer may depend on.
    pub fn names_of_variables(&self) -> Vec<String> {
        let usual = ["PATH", "HOME", "DJANGO_SETTINGS_MODULE", "LANG", "USER"];
        let mut names: Vec<String> = self.environment().into_keys().collect();
        names.retain(|name| words::is_name(name) && !usual.contains(&name.as_str()) && !is_of_the_start(name));
        names
    }

    /// `User=` of the unit.
    pub fn user(&self) -> Option<&str> {
        self.unit.as_ref()?.last("User")
    }

    /// How long the old unit lets running tasks finish.
    pub fn stop_timeout(&self) -> Option<Duration> {
        let unit = self.unit.as_ref()?;
        let time = unit.last("TimeoutStopSec").or_else(|| unit.last("TimeoutSec"))?;
        span(time).map(|time| time.min(LONGEST_DRAIN)).filter(|time| !time.is_zero())
    }

    /// What is neither in the file nor in the drop-in.
    pub fn notes(&self) -> Vec<String> {
        let unknown = self
            .launch
            .command
            .unknown
            .iter()
            .map(|word| format!("{}: not understood; look what it does", one_line(word)));
        let left = self.launch.left.iter().map(|line| format!("{}: not taken over", one_line(line)));
        unknown.chain(left).collect()
    }

    /// The same, for whoever does not look into the file.
    pub fn unknown(&self) -> Vec<String> {
        let words = self.launch.command.unknown.iter().map(|word| format!("{} is not understood", one_line(word)));
        let left = self.launch.left.iter().map(|line| format!("not taken over: {}", one_line(line)));
        words.chain(left).chain(self.unit.iter().flat_map(dropin::unknown)).collect()
    }

    /// What could not be found out.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.missing.iter().map(|name| format!("${name}: nothing that was read sets it"));
        missing.chain(self.unread.iter().cloned()).collect()
    }
}

/// Variables that only the command line is made of.
fn is_of_the_start(name: &str) -> bool {
    name.starts_with("CELERYD_") || name.starts_with("CELERYBEAT_") || ["CELERY_BIN", "CELERY_APP"].contains(&name)
}

/// A time of systemd.time(7): `90`, `5min`, `1min 30s`, `infinity`. None if it is none.
fn span(text: &str) -> Option<Duration> {
    if text == "infinity" {
        return Some(LONGEST_DRAIN);
    }
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let millis = match &rest[..letters] {
            "" | "s" | "sec" | "second" | "seconds" => 1000,
            "ms" | "msec" => 1,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_systemd() {
        let seconds = |text| span(text).map(|time| time.as_secs());
        assert_eq!(["90", "5min", "1min 30s", "2h", "infinity"].map(seconds), [90, 300, 90, 7200, 86_400].map(Some));
        assert_eq!(["x", "5 apples", "1.5s"].map(seconds), [None; 3]);
    }
}
