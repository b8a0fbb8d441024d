//! The sections of the configuration that `init` writes, each with what was found and why it is written so.

use super::Findings;
use super::queues::{self, Shape};
use super::render::{list, quoted};
use super::started::Slots;
use super::tenancy;
use crate::config::show_duration;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn broker(found: &Findings, password_file: Option<&Path>) -> String {
    let mut text = String::from("[broker]\n");
    match &found.broker {
        Some(Ok(url)) => {
            let by = match (found.said(), &found.started) {
                (Some(_), _) => "The application's broker.",
                (None, Some(_)) => "The broker the command names; the application was not asked.",
                (None, None) => "Found in the application's files.",
            };
            text.push_str(&format!("# {by}\nurl = {}\n", quoted(url)));
        }
        Some(Err(_)) | None => {
            text.push_str("# FILL IN: the application's broker_url.\n#url = \"redis://127.0.0.1:6379/0\"\n");
        }
    }
    if let Some(file) = password_file {
        text.push_str(&format!(
            "# The broker's password, readable by its owner alone. A bare name instead of a path is that of a systemd\n\
             # credential (LoadCredential=).\npassword_file = {}\n",
            quoted(&file.to_string_lossy())
        ));
    }
    if let Some(answer) = found.said().filter(|answer| !answer.master_name.is_empty()) {
        text.push_str(&format!(
            "# master_name of broker_transport_options.\nmaster_name = {}\n",
            quoted(&answer.master_name)
        ));
        if answer.sentinel_password {
            text.push_str(
                "# FILL IN: sentinel_kwargs of broker_transport_options has a password; write it into a file.\n",
            );
            text.push_str("#sentinel_password_file = \"sentinel-password\"\n");
        }
    }
    if let Some(prefix) = found.said().map(|answer| &answer.key_prefix).filter(|prefix| !prefix.is_empty()) {
        text.push_str(&format!("# global_keyprefix of broker_transport_options.\nkey_prefix = {}\n", quoted(prefix)));
    }
    text
}

pub(super) fn queues(found: &Findings) -> String {
    let mut text = String::from("[queues]\n");
    let mut names = found.queues();
    if names.is_empty() || found.said().is_none() && found.started.is_none() {
        text.push_str("# FILL IN: the queues of `celery worker -Q`, all of them; \"celery\" is Celery's default.\n");
        if names.is_empty() {
            names.push("celery".to_owned());
        }
    }
    if let Some(started) = &found.started {
        text.push_str(&started.said_queues());
    }
    let started = found.worker_queues.iter().any(|queue| !found.said().is_some_and(|said| said.queues.contains(queue)));
    if started {
        text.push_str("# Some of these are from a `celery worker -Q` in the project's files.\n");
    }
    match queues::shape(&names) {
        Shape::Numbered { prefix, count } => text.push_str(&format!(
            "# The application's queues are {} to {}. `fairstalk route` takes a user's queue to be\n\
             # int(md5(str(user_id)), 16) % count, which is for the application to decide.\n\
             prefix = {}\ncount = {count}\n",
            quoted(&format!("{prefix}0")),
            quoted(&format!("{prefix}{}", count - 1)),
            quoted(&prefix)
        )),
        Shape::Named(names) => {
            if found.started.is_none() {
                text.push_str("# The queues that the application's settings, routes and tasks name.\n");
            }
            text.push_str(&format!("names = {}\n", list(&names)));
        }
    }
    let Some(answer) = found.said() else { return text };
    if names.contains(&answer.default_queue) {
        text.push_str(&format!("# task_default_queue.\ndefault = {}\n", quoted(&answer.default_queue)));
    }
    if found.started.is_some() {
        return text;
    }
    if answer.router {
        text.push_str(
            "# A function in task_routes decides about queues, so there may be more than these: add those it names.\n",
        );
    } else if names == ["celery"] {
        text.push_str("# Queues that only the producers name, with apply_async(queue=…), have to be added.\n");
    }
    text
}

pub(super) fn workers(found: &Findings) -> String {
    let started = found.started.as_ref();
    let by_settings =
        || found.said().and_then(|answer| answer.concurrency).map(|wanted| Slots::of("worker_concurrency", wanted));
    let usual = || match started {
        Some(_) => Slots {
            why: "Nothing says how many, so as many as there are CPUs, as under Celery".to_owned(),
            processes: None,
            concurrency: 1,
            least: None,
        },
        None => Slots {
            why: "The defaults; \"auto\" goes by the cores".to_owned(),
            processes: Some(2),
            concurrency: 4,
            least: None,
        },
    };
    let slots = started.and_then(|started| started.slots.clone()).or_else(by_settings).unwrap_or_else(usual);
    let processes = slots.processes.map_or_else(|| quoted("auto"), |number| number.to_string());
    let mut text = format!(
        "[workers]\n# Worker processes, and tasks at once in each of them. {}.\nprocesses = {processes}\n\
         concurrency = {}\n",
        slots.why,
        slots.written()
    );
    if let Some(name) = started.and_then(|started| started.name.as_ref()) {
        // Where there are several processes, each needs a name of its own.
        let name = match name.split_once('@') {
            Some((own, host)) if slots.processes != Some(1) && !name.contains("%i") => format!("{own}-%i@{host}"),
            _ => name.clone(),
        };
        text.push_str(&format!("# The node name; %i is the number of the process.\nname = {}\n", quoted(&name)));
    }
    if started.is_some_and(|started| started.events) {
        text.push_str("# Monitors are told of every task.\nevents = true\n");
    }
    text.push_str(
        "# When the daemon stops, running tasks have this long to finish; then they are handed back and run again.\n",
    );
    match started.and_then(|started| started.drain_timeout) {
        Some(time) => text.push_str(&format!("# TimeoutStopSec.\ndrain_timeout = {}\n", quoted(&show_duration(time)))),
        None => text.push_str("#drain_timeout = \"60s\"\n"),
    }
    text
}

pub(super) fn python(found: &Findings) -> String {
    // Without an application there is no section yet, because it would have to name one.
    let mark = if found.app.is_some() { "" } else { "#" };
    let mut text = format!("{mark}[python]\n");
    match &found.app {
        Some(app) => {
            match &found.started {
                Some(_) => text.push_str("# As in `celery -A`.\n"),
                None => {
                    let file = quoted(&app.file.to_string_lossy());
                    text.push_str(&format!("# As in `celery -A`, found in {file}.\n"));
                }
            }
            for other in &found.others {
                let file = quoted(&other.file.to_string_lossy());
                text.push_str(&format!("# There is also {} in {file}.\n", quoted(&other.app)));
            }
            text.push_str(&format!("app = {}\n", quoted(&app.app)));
            text.push_str(&format!("directory = {}\n", quoted(&app.root.to_string_lossy())));
        }
        None => text.push_str(
            "# FILL IN: the application as in `celery -A`, and the folder it is imported from.\n#app = \"\"\n\
             #directory = \"/srv/app\"\n",
        ),
    }
    match &found.interpreter {
        Some(python) => text.push_str(&format!("{mark}interpreter = {}\n", quoted(&python.to_string_lossy()))),
        None => text.push_str(
            "# No virtual environment was found (venv, .venv or env, next to the application or above; VIRTUAL_ENV),\n\
             # so this is python3 of PATH. Write for example \"/srv/app/venv/bin/python\".\n#interpreter = \"python3\"\n",
        ),
    }
    text.push_str("# Variables the application needs besides those of the service.\n");
    if !found.variables.is_empty() {
        text.push_str(&format!(
            "# When this was written, these were set and may have decided about what stands here: {}.\n",
            found.variables.join(", ")
        ));
    }
    let mut env: BTreeMap<&str, &str> = BTreeMap::new();
    if let Some(settings) = &found.settings {
        env.insert("DJANGO_SETTINGS_MODULE", settings);
    }
    let started = found.started.as_ref();
    env.extend(started.iter().flat_map(|started| &started.env).map(|(name, value)| (name.as_str(), value.as_str())));
    match env.is_empty() {
        true => text.push_str("#env = {}\n"),
        false => {
            let pair = |(name, value): (&&str, &&str)| format!("{} = {}", quoted_key(name), quoted(value));
            let pairs: Vec<String> = env.iter().map(pair).collect();
            text.push_str(&format!("{mark}env = {{ {} }}\n", pairs.join(", ")));
        }
    }
    let by_settings = found.said().and_then(|answer| answer.max_tasks);
    if let Some(most) = by_settings.filter(|_| started.is_none_or(|started| started.max_tasks.is_none())) {
        text.push_str(&format!("# worker_max_tasks_per_child.\nmax_tasks_per_runner = {most}\n"));
    }
    let limits = started.map(|started| started.limits()).unwrap_or_default();
    match found.app {
        Some(_) => text + &limits,
        None => limits.lines().fold(text, |text, line| format!("{text}#{}\n", line.trim_start_matches('#'))),
    }
}

/// The name of a variable as a key.
fn quoted_key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if bare { name.to_owned() } else { quoted(name) }
}

pub(super) fn tenancy(found: &Findings) -> String {
    let Some(answer) = found.said() else { return String::new() };
    let Some(guess) = tenancy::guess(&answer.tasks) else { return String::new() };
    let some = guess.tasks.iter().take(3).map(|task| quoted(task)).collect::<Vec<_>>().join(", ");
    let more = if guess.tasks.len() > 3 { ", …" } else { "" };
    format!(
        "[tenancy]\n# {} of {} tasks have a parameter {}: {some}{more}.\n\
         # If it says whose task it is, take the # away.\n#parameter = {}\n",
        guess.tasks.len(),
        answer.tasks.len(),
        quoted(guess.parameter),
        quoted(guess.parameter)
    )
}

pub(super) fn results(found: &Findings) -> String {
    let Some(results) = found.said().map(|answer| &answer.results) else { return String::new() };
    let broker = found.broker.as_ref().and_then(|broker| broker.as_ref().ok());
    // Parameters of TLS need not be said again.
    let server = broker.filter(|url| !url.starts_with("sentinel:")).and_then(|url| url.split('?').next());
    // Of a socket's URL the database is not the last part, and there Celery's own answer has no database either.
    let (Some(database), Some(server)) = (results.database, server.and_then(|url| url.rsplit_once('/'))) else {
        return String::new();
    };
    if server.1 == database.to_string() && results.key_prefix.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "# Results of command tasks go where the application has its own, so that its producers find them.\n[results]\n",
    );
    text.push_str(&format!("url = {}\n", quoted(&format!("{}/{database}", server.0))));
    if !results.key_prefix.is_empty() {
        text.push_str(&format!("key_prefix = {}\n", quoted(&results.key_prefix)));
    }
    text
}

pub(super) fn delivery(found: &Findings) -> String {
    let Some(answer) = found.said() else { return String::new() };
    let known = |kind: &&String| ["json", "pickle", "yaml", "msgpack"].contains(&kind.as_str()) || kind.contains('/');
    let accept: Vec<String> = answer.accept.iter().filter(known).cloned().collect();
    if accept.is_empty() || accept == ["json"] || accept == ["application/json"] {
        return String::new();
    }
    format!("[delivery]\n# accept_content.\naccept = {}\n", list(&accept))
}

pub(super) fn log(found: &Findings) -> String {
    let level = found.started.as_ref().and_then(|started| started.level);
    let level = level.map(|level| format!("# --loglevel.\nlevel = {}\n", quoted(level))).unwrap_or_default();
    format!(
        "[log]\n{level}# \"failures\" (and retries), or \"all\": a line for each task at its start and at its end.\n\
         #tasks = \"failures\"\n"
    )
}
