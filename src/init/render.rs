//! The text of the configuration that `init` writes.
//!
//! Only what was found, and what many will want to change, stands in it; the rest has its default, and the first lines
//! say where everything is listed. Text of the application goes through [`quoted`], so it can't end a line.

use super::Findings;
use super::sections;
use std::path::Path;

/// The whole file. `password_file` is where the broker's password was put, if it has one.
pub fn text(found: &Findings, password_file: Option<&Path>) -> String {
    let by = if found.started.is_some() { "migrate" } else { "init" };
    let mut text = format!(
        "# Written by `fairstalk {by}`. Only what was found is here, and what many want to change; all keys and their\n\
         # defaults: docs/configuration.md, fairstalk.toml(5). `fairstalk check` tries everything that is written here.\n",
    );
    for open in found.open() {
        text.push_str(&format!("#\n# FILL IN: {open}\n"));
    }
    for section in [
        sections::broker(found, password_file),
        sections::queues(found),
        sections::workers(found),
        sections::python(found),
        sections::tenancy(found),
        sections::results(found),
        sections::delivery(found),
        sections::log(found),
    ] {
        if !section.is_empty() {
            text.push('\n');
            text.push_str(&section);
        }
    }
    let notes = found.started.as_ref().map(|started| started.notes.as_slice()).unwrap_or_default();
    if !notes.is_empty() {
        text.push_str("\n# What the old command says and nothing above stands for:\n");
        for note in notes {
            text.push_str(&format!("# * {note}\n"));
        }
    }
    text
}

/// A TOML string. JSON escapes all that TOML wants escaped, but for one character.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A TOML list of strings, broken into lines where it is long.
pub fn list(items: &[String]) -> String {
    const WIDTH: usize = 100;
    let mut lines = vec![String::new()];
    for item in items {
        let item = quoted(item);
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = item,
            Some(line) if line.len() + item.len() < WIDTH => *line = format!("{line}, {item}"),
            _ => lines.push(item),
        }
    }
    match lines.as_slice() {
        [line] => format!("[{line}]"),
        lines => format!("[\n    {},\n]", lines.join(",\n    ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config, Environment, Surroundings};
    use crate::init::ask::{Answer, Results};
    use crate::init::project::Candidate;
    use std::path::PathBuf;

    fn parse(text: &str) -> Config {
        let surroundings = Surroundings { environment: Environment::default(), cores: 2 };
        config::parse(text, Path::new("/etc/fairstalk/fairstalk.toml"), &surroundings)
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    fn candidate(app: &str) -> Candidate {
        Candidate { app: app.to_owned(), root: PathBuf::from("/srv/a \"b\""), file: PathBuf::from("/srv/x.py") }
    }

    fn findings(answer: Option<Result<Answer, String>>) -> Findings {
        Findings {
            app: Some(candidate("shop")),
            others: vec![candidate("evil\nname")],
            interpreter: Some(PathBuf::from("/srv/venv/bin/python")),
            settings: Some("shop.settings".to_owned()),
            broker: Some(Ok("redis://h:6379/3".to_owned())),
            password: None,
            answer,
            worker_queues: Vec::new(),
            owner: None,
            variables: vec!["CELERY_BROKER_URL".to_owned()],
            started: None,
        }
    }

    fn answer(queues: &[&str]) -> Answer {
        let parameters = vec!["self".to_owned(), "org_id".to_owned()];
        Answer {
            celery: "5.7.0".to_owned(),
            python: "3.11.2".to_owned(),
            broker_url: String::new(),
            master_name: String::new(),
            sentinel_password: false,
            sentinel_tls: false,
            key_prefix: "shop:".to_owned(),
            default_queue: "mail".to_owned(),
            consumed: Vec::new(),
            queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
            router: true,
            results: Results {
                backend: Some("RedisBackend".to_owned()),
                database: Some(1),
                key_prefix: "r:".to_owned(),
            },
            tasks: [("evil\n[python]".to_owned(), parameters)].into_iter().collect(),
            concurrency: Some(6),
            max_tasks: Some(500),
            accept: vec!["json".to_owned(), "pickle".to_owned(), "application/x-own".to_owned()],
        }
    }

    #[test]
    fn what_was_found_is_what_is_read() {
        let config = parse(&text(&findings(Some(Ok(answer(&["mail", "a\"b\\c"])))), None));
        assert_eq!(config.broker.url, "redis://h:6379/3");
        assert_eq!(config.broker.key_prefix, "shop:");
        assert_eq!(config.queues.names, ["mail", "a\"b\\c"]);
        assert_eq!(config.queues.default, "mail");
        assert_eq!((config.workers.processes, config.workers.concurrency.max), (2, 3));
        let python = config.python.unwrap();
        assert_eq!((python.app.as_str(), python.directory), ("shop", PathBuf::from("/srv/a \"b\"")));
        assert_eq!(python.interpreter, PathBuf::from("/srv/venv/bin/python"));
        assert_eq!(python.env["DJANGO_SETTINGS_MODULE"], "shop.settings");
        assert_eq!(python.max_tasks_per_runner, Some(500));
        assert_eq!(config.tenancy.parameter, None, "only proposed");
        assert_eq!((config.results.url.as_str(), config.results.key_prefix.as_str()), ("redis://h:6379/1", "r:"));
        assert_eq!(config.delivery.accept.len(), 3);
    }

    #[test]
    fn numbered_queues_are_prefix_and_count() {
        let mut all = answer(&["q_0", "q_1", "q_2"]);
        all.default_queue = "q_1".to_owned();
        let config = parse(&text(&findings(Some(Ok(all))), None));
        assert_eq!((config.queues.prefix.as_deref(), config.queues.names.len()), (Some("q_"), 3));
        assert_eq!(config.queues.default, "q_1");
    }

    #[test]
    fn queues_of_a_stock_worker_come_behind_those_of_the_application() {
        let mut found = findings(Some(Ok(answer(&["mail"]))));
        found.worker_queues = vec!["images".to_owned(), "mail".to_owned()];
        assert_eq!(parse(&text(&found, None)).queues.names, ["mail", "images"]);
        found.answer = Some(Err("ImportError".to_owned()));
        found.worker_queues = vec!["q_1".to_owned(), "q_0".to_owned()];
        assert_eq!(parse(&text(&found, None)).queues.prefix.as_deref(), Some("q_"));
    }

    #[test]
    fn a_proposal_says_why_and_is_true_when_it_is_taken() {
        let text = text(&findings(Some(Ok(answer(&["mail"])))), None);
        assert!(text.contains("1 of 1 tasks"), "{text}");
        assert_eq!(parse(&text.replace("#parameter", "parameter")).tenancy.parameter.as_deref(), Some("org_id"));
    }

    #[test]
    fn what_is_not_known_has_a_place_to_fill_in() {
        let mut found = findings(Some(Err("ImportError: x".to_owned())));
        found.broker = None;
        found.app = None;
        found.interpreter = None;
        let written = text(&found, None);
        assert!(parse(&written).runnable().is_err());
        assert!(
            written.contains("# FILL IN: [python] app") && written.contains("# FILL IN: [broker] url"),
            "{written}"
        );
        let filled = written.replace("#[python]\n", "[python]\n").replace("#app = \"\"", "app = \"shop\"");
        assert_eq!(parse(&filled).python.unwrap().app, "shop");
    }

    #[test]
    fn the_password_is_in_no_configuration() {
        let mut found = findings(Some(Ok(answer(&["mail"]))));
        found.password = Some("s3cret".to_owned());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let written = text(&found, Some(file.path()));
        assert!(!written.contains("s3cret"), "{written}");
        assert_eq!(parse(&written).broker.url, "redis://:s3cret@h:6379/3");
        assert_eq!(parse(&written).results.url, "redis://:s3cret@h:6379/1");
    }
}
