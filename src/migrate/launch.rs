//! The place of `celery` in a command line, and what stands around it.

use super::command::{self, Command};
use super::words::{self, Variables};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a worker is started.
#[derive(Debug, Default)]
pub struct Launch {
    /// What follows `celery`.
    pub command: Command,
    /// The program `celery`, or the Python that runs it as a module; what `PATH` finds if it is a bare name.
    pub program: PathBuf,
    /// Folder of the environment that was activated before.
    pub activated: Option<PathBuf>,
    /// Where it was gone to before.
    pub directory: Option<PathBuf>,
    /// Variables that were set for it.
    pub env: BTreeMap<String, String>,
    /// What else is done, which nothing stands for.
    pub left: Vec<String>,
}

/// The worker that these words start: themselves, or in a script behind `sh -c`. None if they start none.
pub fn find(words: &[String], variables: &mut Variables) -> Option<Launch> {
    let script = match words {
        [shell, option, script, ..] if is_shell(shell) && option.starts_with('-') && option.ends_with('c') => script,
        _ => return among(vec![words.to_vec()], variables),
    };
    among(words::of_script(script, variables), variables)
}

/// The worker that one of these commands starts.
pub fn among(commands: Vec<Vec<String>>, variables: &Variables) -> Option<Launch> {
    let mut launch = Launch::default();
    let mut found = false;
    for words in commands {
        if !found && launch.starts(&words) {
            found = true;
            continue;
        }
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["cd", folder] => launch.directory = Some(PathBuf::from(folder)),
            ["." | "source", file] if file.ends_with("bin/activate") => {
                launch.activated = Path::new(file).ancestors().nth(2).map(Path::to_owned);
            }
            ["export", ..] => {
                let names = words[1..].iter().map(|word| word.split('=').next().unwrap_or(word));
                let pairs = names.filter_map(|name| Some((name.to_owned(), variables.set.get(name)?.clone())));
                launch.env.extend(pairs);
            }
            ["set", ..] => {}
            _ if !words::assigned(&words).is_empty() => {}
            _ => launch.left.push(words.join(" ")),
        }
    }
    found.then_some(launch)
}

fn is_shell(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("sh" | "bash" | "dash" | "zsh"))
}

impl Launch {
    /// Takes a command that starts a worker.
    fn starts(&mut self, words: &[String]) -> bool {
        let is_celery = |word: &String| word.rsplit('/').next() == Some("celery");
        let as_module = |at: usize| words[at] == "celery" && at > 1 && words[at - 1] == "-m";
        for at in (0..words.len()).filter(|at| is_celery(&words[*at])) {
            let Some(command) = command::read(&words[at + 1..]) else { continue };
            let (before, program) = match as_module(at) {
                true => (&words[..at - 2], &words[at - 2]),
                false => (&words[..at], &words[at]),
            };
            self.command = command;
            self.program = PathBuf::from(program);
            let mut wrapped = Vec::new();
            for word in before {
                match words::assignment(word) {
                    Some((name, value)) => {
                        self.env.insert(name.to_owned(), value.to_owned());
                    }
                    None if ["env", "exec", "/usr/bin/env"].contains(&word.as_str()) => {}
                    None => wrapped.push(word.as_str()),
                }
            }
            if !wrapped.is_empty() {
                self.left.push(format!("{} …", wrapped.join(" ")));
            }
            return true;
        }
        false
    }

    /// Python of the environment that `celery` belongs to. `path` is where a bare name is looked for.
    pub fn interpreter(&self, path: Option<&str>) -> Option<PathBuf> {
        if let Some(folder) = &self.activated {
            let folder = self.directory.iter().fold(folder.clone(), |folder, base| base.join(folder));
            return Some(folder.join("bin/python"));
        }
        let program = match self.program.components().count() {
            0 => return None,
            1 => {
                let folders = std::env::split_paths(path?);
                folders.map(|folder| folder.join(&self.program)).find(|file| file.is_file())?
            }
            _ => self.directory.iter().fold(self.program.clone(), |program, base| base.join(program)),
        };
        if program.file_name().is_some_and(|name| name != "celery") {
            return Some(program);
        }
        let beside = ["python", "python3"].map(|name| program.with_file_name(name));
        let there = beside.iter().find(|file| file.exists()).cloned();
        // A script of pip's says which Python it is for, in its first line.
        let said = || {
            let text = std::fs::read_to_string(&program).ok()?;
            let line = text.lines().next()?.strip_prefix("#!")?.trim();
            (line.starts_with('/') && line.contains("python") && !line.contains(' ')).then(|| PathBuf::from(line))
        };
        let [python, _] = beside;
        there.or_else(said).or(Some(python))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Launch> {
        let mut variables = Variables::default();
        find(&words::of_unit(line, &mut variables), &mut variables)
    }

    #[test]
    fn celery_is_found_in_every_place_it_stands_in() {
        for (line, program) in [
            ("/srv/venv/bin/celery -A shop worker", "/srv/venv/bin/celery"),
            ("/srv/venv/bin/python -m celery -A shop worker", "/srv/venv/bin/python"),
            ("/bin/sh -c 'exec venv/bin/celery worker -A shop'", "venv/bin/celery"),
            ("/bin/bash -lc \"celery multi start 2 -A shop\"", "celery"),
        ] {
            let launch = of(line).unwrap();
            assert_eq!(launch.program, PathBuf::from(program), "{line}");
            assert_eq!(launch.command.given[0].value, "shop");
            assert!(launch.left.is_empty(), "{line}: {:?}", launch.left);
        }
        assert!(of("/srv/celery/bin/gunicorn worker").is_none());
        assert!(of("celery -A shop beat").is_none());
    }

    #[test]
    fn what_stands_around_it_is_told() {
        let script = "sh -c 'set -e; cd /srv/shop; . .venv/bin/activate; export A=1 B=2; ulimit -n 9; C=3 nice -n 5 celery -A shop worker'";
        let launch = of(script).unwrap();
        assert_eq!(launch.directory, Some(PathBuf::from("/srv/shop")));
        assert_eq!(launch.activated, Some(PathBuf::from(".venv")));
        assert_eq!(launch.env.keys().collect::<Vec<_>>(), ["A", "B", "C"]);
        assert_eq!(launch.left, ["ulimit -n 9", "nice -n 5 …"]);
        assert_eq!(launch.interpreter(None), Some(PathBuf::from("/srv/shop/.venv/bin/python")));
    }

    #[test]
    fn the_interpreter_is_the_one_beside_celery_or_of_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let celery = folder.path().join("celery");
        let launch = Launch { program: PathBuf::from("celery"), ..Launch::default() };
        let path = folder.path().to_str().unwrap();
        assert_eq!(launch.interpreter(Some(path)), None);
        std::fs::write(&celery, "#!/opt/venv/bin/python3\n").unwrap();
        assert_eq!(launch.interpreter(Some(path)), Some(PathBuf::from("/opt/venv/bin/python3")));
        std::fs::write(folder.path().join("python3"), "").unwrap();
        assert_eq!(launch.interpreter(Some(path)), Some(folder.path().join("python3")));
        let other = Launch { program: PathBuf::from("/nowhere/bin/celery"), ..Launch::default() };
        assert_eq!(other.interpreter(None), Some(PathBuf::from("/nowhere/bin/python")));
    }
}
