//! What one Python file says, read line by line: it is not parsed and not run.
//!
//! This only has to find the places worth asking about. Whether an application is there, its own interpreter says.

/// Names at the top level of a module that are set to a Celery application, in their order.
pub fn celery_names(text: &str) -> Vec<String> {
    text.lines().filter_map(celery_name).map(str::to_owned).collect()
}

/// `app = Celery(…)`, also of a module or a class derived from it, and Flask's `app.extensions["celery"]`.
fn celery_name(line: &str) -> Option<&str> {
    let (left, right) = line.split_once('=')?;
    let name = left.split(':').next()?.trim_end();
    if !is_identifier(name) || right.starts_with('=') {
        return None;
    }
    let right = right.trim();
    let callee = right.split_once('(').map_or("", |(callee, _)| callee);
    let made = callee.ends_with("Celery") && callee.split('.').all(is_identifier);
    let kept = right.ends_with(".extensions[\"celery\"]") || right.ends_with(".extensions['celery']");
    (made || kept).then_some(name)
}

/// The value that a file gives to `DJANGO_SETTINGS_MODULE`.
pub fn settings_module(text: &str) -> Option<String> {
    const NAME: &str = "DJANGO_SETTINGS_MODULE";
    let code = |line: &&str| line.contains(NAME) && !line.trim_start().starts_with('#');
    let line = text.lines().find(code)?;
    let behind = &line[line.find(NAME)? + NAME.len()..];
    // Behind the quote that closes the name.
    let value = literals(behind.get(1..)?).next()?;
    value.split('.').all(is_identifier).then(|| value.to_owned())
}

/// A Redis URL that a line about a broker spells out, as `CELERY_BROKER_URL = "redis://…"` or `Celery(broker='redis://…')`.
pub fn broker_url(text: &str) -> Option<String> {
    let about = |line: &&str| line.to_ascii_lowercase().contains("broker") && !line.trim_start().starts_with('#');
    let url = |line: &str| literals(line).find(|literal| is_redis(literal)).map(str::to_owned);
    text.lines().filter(about).find_map(url)
}

/// The same in a file of variables, `CELERY_BROKER_URL=redis://…`.
pub fn broker_variable(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.to_ascii_uppercase().contains("BROKER") && !name.starts_with('#') && is_redis(value))
            .then(|| value.to_owned())
    })
}

/// The queues of each `celery worker … -Q a,b` in a unit, a Procfile, a script or a list of containers.
pub fn worker_queues(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let commands = text
        .lines()
        .filter(|line| line.contains("celery") && line.contains("worker") && !line.trim_start().starts_with('#'));
    commands.flat_map(queues_of).collect()
}

fn queues_of(command: &str) -> Vec<String> {
    let mut words = command.split_whitespace().map(|word| word.trim_matches(['"', '\'', ',', '[', ']']));
    let mut named = Vec::new();
    while let Some(word) = words.next() {
        let list = match word {
            "-Q" | "--queues" => words.next(),
            word => word.strip_prefix("--queues=").or_else(|| word.strip_prefix("-Q")),
        };
        named.extend(list.unwrap_or_default().split(',').map(str::to_owned));
    }
    let plain = |name: &String| !name.is_empty() && !name.contains(['$', '{', '%', '*', '`']);
    named.retain(plain);
    named
}

/// Not one that is put together of several parts: `redis://{HOST}/0`.
fn is_redis(text: &str) -> bool {
    let scheme = ["redis://", "rediss://", "redis+socket://", "unix://", "sentinel://"];
    scheme.iter().any(|scheme| text.starts_with(scheme)) && !text.contains(['{', '}', '$', '%', ' '])
}

/// What stands between quotes in one line.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(['"', '\''])?;
        let quote = if rest[start..].starts_with('"') { '"' } else { '\'' };
        let inside = &rest[start + 1..];
        let end = inside.find(quote)?;
        rest = &inside[end + 1..];
        Some(&inside[..end])
    })
}

/// Whether Python would take it for a name.
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_an_assignment_at_the_top_level() {
        let found = [
            "app = Celery(\"shop\")",
            "app: Celery = Celery(",
            "app=celery.Celery('x', broker='redis://h')",
            "app = TenantAwareCelery('x')",
            "app = flask_app.extensions[\"celery\"]",
        ];
        for line in found {
            assert_eq!(celery_names(line), ["app"], "{line}");
        }
        let none = [
            "    app = Celery('in a function')",
            "# app = Celery('x')",
            "app == Celery('x')",
            "self.app = Celery('x')",
            "app = make(Celery('x'))",
            "from celery import Celery",
        ];
        for line in none {
            assert!(celery_names(line).is_empty(), "{line}");
        }
        assert_eq!(celery_names("a = Celery()\nx = 1\nb = Celery()\n"), ["a", "b"]);
    }

    #[test]
    fn queues_are_those_a_worker_is_started_with() {
        let queues = |text: &str| worker_queues(text).join(" ");
        assert_eq!(queues("ExecStart=/srv/venv/bin/celery -A shop worker \\\n  -Q a,b -c 4\n"), "a b");
        assert_eq!(queues("worker: celery -A shop worker --queues=a -l info"), "a");
        assert_eq!(queues("command: [\"celery\", \"-A\", \"shop\", \"worker\", \"-Q\", \"a,b\"]"), "a b");
        assert_eq!(queues("celery worker -Q $QUEUES,a"), "a");
        assert_eq!(queues("celery worker -Q"), "");
        assert_eq!(queues("# celery worker -Q a\ngcc -Q b\n"), "");
    }

    #[test]
    fn the_settings_module_is_the_literal_behind_its_name() {
        let set = |line: &str| settings_module(line);
        let shop = Some("shop.settings".to_owned());
        assert_eq!(set("    os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"shop.settings\")"), shop);
        assert_eq!(set("os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'"), shop);
        assert_eq!(set("# DJANGO_SETTINGS_MODULE = 'x'\nsetdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')"), shop);
        assert_eq!(set("os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", module)"), None);
        assert_eq!(set("DJANGO_SETTINGS_MODULE"), None);
    }

    #[test]
    fn a_broker_is_a_whole_url_on_a_line_about_brokers() {
        let url = Some("redis://h:1/2".to_owned());
        assert_eq!(broker_url("CELERY_BROKER_URL = env('BROKER', default='redis://h:1/2')"), url);
        assert!(broker_url("app = Celery('x', broker=\"redis://h:1/2\")").is_some());
        assert_eq!(broker_url("CACHE = 'redis://h:1/2'"), None);
        assert_eq!(broker_url("broker = f'redis://{HOST}/0'"), None);
        assert_eq!(broker_variable("A=1\nCELERY_BROKER_URL=\"redis://h:1/2\"\n"), url);
        assert_eq!(broker_variable("#BROKER=redis://h"), None);
    }
}
