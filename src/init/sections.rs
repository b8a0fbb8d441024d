//! The sections of the configuration that `init` writes, each with what was found and why it is written so.

use super::Findings;
use super::queues::{self, Shape};
use super::render::{list, quoted};
use super::tenancy;
use std::path::Path;

pub(super) fn broker(found: &Findings, password_file: Option<&Path>) -> String {
    let mut text = String::from("[broker]\n");
    match &found.broker {
        Some(Ok(url)) => {
            let by =
                if found.said().is_some() { "The application's broker." } else { "Found in the application's files." };
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
    if let Some(prefix) = found.said().map(|answer| &answer.key_prefix).filter(|prefix| !prefix.is_empty()) {
        text.push_str(&format!("# global_keyprefix of broker_transport_options.\nkey_prefix = {}\n", quoted(prefix)));
    }
    text
}

pub(super) fn queues(found: &Findings) -> String {
    let mut text = String::from("[queues]\n");
    let mut names = found.queues();
    if found.said().is_none() {
        text.push_str("# FILL IN: the queues of `celery worker -Q`, all of them; \"celery\" is Celery's default.\n");
        if names.is_empty() {
            names.push("celery".to_owned());
        }
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
        Shape::Named(names) => text.push_str(&format!(
            "# The queues that the application's settings, routes and tasks name.\nnames = {}\n",
            list(&names)
        )),
    }
    let Some(answer) = found.said() else { return text };
    if names.contains(&answer.default_queue) {
        text.push_str(&format!("# task_default_queue.\ndefault = {}\n", quoted(&answer.default_queue)));
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
    let (why, processes, concurrency) = match found.said().and_then(|answer| answer.concurrency) {
        Some(wanted) if wanted >= 4 && wanted % 2 == 0 => ("worker_concurrency, in two processes", 2, wanted / 2),
        Some(wanted) => ("worker_concurrency", 1, wanted),
        None => ("The defaults; \"auto\" goes by the cores", 2, 4),
    };
    format!(
        "[workers]\n# Worker processes, and tasks at once in each of them. {why}.\nprocesses = {processes}\n\
         concurrency = {}\n\
         # When the daemon stops, running tasks have this long to finish; then they are handed back and run again.\n\
         #drain_timeout = \"60s\"\n",
        concurrency.min(256)
    )
}

pub(super) fn python(found: &Findings) -> String {
    // Without an application there is no section yet, because it would have to name one.
    let mark = if found.app.is_some() { "" } else { "#" };
    let mut text = format!("{mark}[python]\n");
    match &found.app {
        Some(app) => {
            text.push_str(&format!("# As in `celery -A`, found in {}.\n", quoted(&app.file.to_string_lossy())));
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
    match &found.settings {
        Some(settings) => text.push_str(&format!("{mark}env = {{ DJANGO_SETTINGS_MODULE = {} }}\n", quoted(settings))),
        None => text.push_str("#env = {}\n"),
    }
    if let Some(most) = found.said().and_then(|answer| answer.max_tasks) {
        text.push_str(&format!("# worker_max_tasks_per_child.\nmax_tasks_per_runner = {most}\n"));
    }
    text
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
    // Of a socket's URL the database is not the last part, and there Celery's own answer has no database either.
    let (Some(database), Some(server)) = (results.database, broker.and_then(|url| url.rsplit_once('/'))) else {
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

pub(super) fn log() -> String {
    "[log]\n# \"failures\" (and retries), or \"all\": a line for each task at its start and at its end.\n\
     #tasks = \"failures\"\n"
        .to_owned()
}
