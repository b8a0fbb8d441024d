//! Walks through a project's folder for what may be its Celery application.

use super::source;
use std::path::{Path, PathBuf};

/// Folders below the one that was named are looked into this deep.
const DEPTH: usize = 6;
/// More files are not looked at: a home directory was named, or `/`.
const FILES: usize = 20_000;
/// Larger files are data.
const LARGEST: u64 = 1024 * 1024;
/// Folders with other people's code, or without any.
const FOREIGN: [&str; 6] = ["node_modules", "site-packages", "__pycache__", "migrations", "static", "media"];
/// Parts of a path that say that an application there is not the real one.
const MINOR: [&str; 8] = ["test", "tests", "testing", "docs", "doc", "example", "examples", "benchmarks"];

/// A place where a Celery application is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// As in `celery -A`.
    pub app: String,
    /// The folder that has to be on `sys.path`.
    pub root: PathBuf,
    /// Where it was seen.
    pub file: PathBuf,
}

impl Candidate {
    /// The same application with another folder on `sys.path`, above or below; none if it can't be imported from there.
    pub fn seen_from(&self, root: &Path) -> Option<Candidate> {
        let app = if let Ok(between) = self.root.strip_prefix(root) {
            let mut parts: Vec<&str> = between.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
            parts.push(&self.app);
            parts.join(".")
        } else {
            let between: Vec<&str> =
                root.strip_prefix(&self.root).ok()?.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
            self.app.strip_prefix(&format!("{}.", between.join(".")))?.to_owned()
        };
        let importable = app.split(['.', ':']).all(source::is_identifier);
        importable.then(|| Candidate { app, root: root.to_owned(), file: self.file.clone() })
    }
}

/// What the files of a project say.
#[derive(Debug, Default)]
pub struct Project {
    /// Applications, the most likely first.
    pub candidates: Vec<Candidate>,
    /// What `manage.py` or the application's own file sets `DJANGO_SETTINGS_MODULE` to.
    pub settings: Option<String>,
    /// The folder of the `manage.py` it stands in.
    pub manage: Option<PathBuf>,
    /// A broker's URL that is spelt out somewhere; may hold a password.
    pub broker_url: Option<String>,
    /// Queues that some `celery worker` is started with.
    pub queues: Vec<String>,
}

/// Looks through the files below `directory`.
pub fn look(directory: &Path) -> Project {
    let mut files = Vec::new();
    list(directory, DEPTH, &mut files);
    files.sort();
    let mut project = Project::default();
    let mut own_settings = None;
    for file in &files {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(".env") {
            project.broker_url = project.broker_url.or_else(|| source::broker_variable(&text));
            continue;
        }
        if !name.ends_with(".py") {
            project.queues.extend(source::worker_queues(&text));
            continue;
        }
        project.broker_url = project.broker_url.or_else(|| source::broker_url(&text));
        if name == "manage.py" && project.manage.is_none() {
            project.settings = source::settings_module(&text);
            project.manage = file.parent().map(Path::to_owned);
        }
        let names = source::celery_names(&text);
        if !names.is_empty() {
            own_settings = own_settings.or_else(|| source::settings_module(&text));
        }
        project.candidates.extend(candidates(file, &names));
    }
    project.settings = project.settings.or(own_settings);
    project.candidates.sort_by_cached_key(|candidate| unlikelihood(candidate, directory));
    project
}

fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            let ours = !name.starts_with('.') && !FOREIGN.contains(&&*name) && !path.join("pyvenv.cfg").exists();
            if ours && depth > 0 {
                list(&path, depth - 1, files);
            }
        } else if files.len() < FILES && (name.ends_with(".py") || tells_of_workers(&name)) {
            // A link leads to a file that may be anywhere; what it names counts, not itself.
            let readable = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
            files.extend(readable.then_some(path));
        }
    }
}

/// Files of variables, and those that start processes.
fn tells_of_workers(name: &str) -> bool {
    const ENDS: [&str; 6] = [".service", ".sh", ".yml", ".yaml", ".conf", ".ini"];
    name.starts_with(".env") || ["Procfile", "Makefile"].contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// `celery -A` finds `app`, `celery` or the only application of a module by itself, and so it finds that of
/// `package/celery.py` by the name of the package.
fn candidates(file: &Path, names: &[String]) -> Vec<Candidate> {
    let Some((root, module)) = module(file) else { return Vec::new() };
    let short = module.strip_suffix(".celery").unwrap_or(&module);
    let candidate = |app: String| Candidate { app, root: root.clone(), file: file.to_owned() };
    match names {
        [_] => vec![candidate(short.to_owned())],
        _ => names.iter().map(|name| candidate(format!("{module}:{name}"))).collect(),
    }
}

/// The folder for `sys.path` and the dotted name of a file: the folder is the first above it that is no package.
fn module(file: &Path) -> Option<(PathBuf, String)> {
    let mut root = file.parent()?;
    let stem = file.file_stem()?.to_str()?;
    let mut parts = if stem == "__init__" { Vec::new() } else { vec![stem] };
    // A celery.py right on sys.path would hide Celery itself, so its folder is a package, be it without __init__.py.
    while root.join("__init__.py").exists() || parts == ["celery"] {
        parts.insert(0, root.file_name()?.to_str()?);
        root = root.parent()?;
    }
    parts.iter().all(|part| source::is_identifier(part)).then(|| (root.to_owned(), parts.join(".")))
}

/// The least comes first: not in tests, next to Django's settings, in a `celery.py`, near the top.
fn unlikelihood(candidate: &Candidate, directory: &Path) -> (bool, bool, bool, usize, PathBuf) {
    let below = candidate.file.strip_prefix(directory).unwrap_or(&candidate.file);
    let minor = below.iter().any(|part| {
        part.to_str().is_some_and(|part| MINOR.contains(&part) || part.starts_with("test_") || part == "conftest.py")
    });
    let folder = candidate.file.parent().unwrap_or(directory);
    let next_to_settings = folder.join("settings.py").exists() || folder.join("settings/__init__.py").exists();
    let named = candidate.file.file_stem().is_some_and(|stem| stem == "celery" || stem == "celery_app");
    (minor, !next_to_settings, !named, below.iter().count(), below.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project of these files; each is its path and its text.
    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let project = look(folder.path());
        (folder, project)
    }

    fn apps(project: &Project) -> Vec<&str> {
        project.candidates.iter().map(|candidate| candidate.app.as_str()).collect()
    }

    const APP: &str = "app = Celery('x')\n";

    #[test]
    fn the_one_next_to_djangos_settings_is_the_most_likely() {
        let manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')";
        let (folder, project) = project(&[
            ("src/manage.py", manage),
            ("src/shop/__init__.py", ""),
            ("src/shop/settings.py", "CELERY_BROKER_URL = 'redis://h/3'"),
            ("src/shop/celery.py", APP),
            ("aaa.py", APP),
            ("tests/celery.py", APP),
            (".venv/pyvenv.cfg", ""),
            (".venv/x.py", APP),
            ("environment/pyvenv.cfg", ""),
            ("environment/x.py", APP),
        ]);
        assert_eq!(apps(&project), ["shop", "aaa", "tests"]);
        assert_eq!(project.candidates[0].root, folder.path().join("src"));
        assert_eq!(project.settings.as_deref(), Some("shop.settings"));
        assert_eq!(project.manage, Some(folder.path().join("src")));
        assert_eq!(project.broker_url.as_deref(), Some("redis://h/3"));
    }

    #[test]
    fn an_application_has_another_name_from_another_folder() {
        let candidate = |root: &str, app: &str| Candidate { app: app.into(), root: root.into(), file: "x".into() };
        let seen = |root: &str, app: &str, from: &str| candidate(root, app).seen_from(Path::new(from)).map(|c| c.app);
        assert_eq!(seen("/srv/apps", "worker:one", "/srv").as_deref(), Some("apps.worker:one"));
        assert_eq!(seen("/srv", "repo.shop", "/srv/repo").as_deref(), Some("shop"));
        assert_eq!(seen("/srv/my-apps", "worker", "/srv"), None);
        assert_eq!(seen("/srv", "shop", "/srv/repo"), None);
        assert_eq!(seen("/srv", "shop", "/opt"), None);
    }

    #[test]
    fn names_are_those_celery_finds() {
        let cases: [(&str, &str, &str, &str); 5] = [
            ("tasks.py", APP, "tasks", ""),
            ("pkg/celery.py", APP, "pkg", ""),
            ("pkg/__init__.py", APP, "pkg", ""),
            ("a/__init__.py", APP, "a", ""),
            ("deep/er/worker.py", APP, "worker", "deep/er"),
        ];
        for (path, text, app, root) in cases {
            let (folder, project) = project(&[(path, text)]);
            assert_eq!(apps(&project), [app], "{path}");
            assert_eq!(
                project.candidates[0].root,
                folder.path().join(root).components().collect::<PathBuf>(),
                "{path}"
            );
        }
        let (_folder, several) = project(&[("jobs.py", "one = Celery()\ntwo = Celery()\n")]);
        assert_eq!(apps(&several), ["jobs:one", "jobs:two"]);
        let (_folder, none) = project(&[("my-jobs.py", APP), ("other.py", "")]);
        assert!(none.candidates.is_empty(), "a file that can't be imported by its name");
    }
}
