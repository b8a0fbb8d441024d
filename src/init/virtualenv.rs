//! The virtual environment of an application: a folder with a `pyvenv.cfg`.

use nix::unistd::Uid;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names people and tools give to it; poetry and uv use `.venv` where they keep it in the project.
const NAMES: [&str; 4] = [".venv", "venv", "env", "virtualenv"];

/// Interpreters of the environments that may be the application's, the most likely first.
///
/// They are looked for from `root`, the folder the application is imported from, up to the folder around `project`;
/// `active` is what `VIRTUAL_ENV` says. Those that have Celery installed come first, because one that is activated by
/// chance often hasn't. What belongs to a stranger is left out: its Python is going to be run.
pub fn interpreters(root: &Path, project: &Path, active: Option<&Path>) -> Vec<PathBuf> {
    let highest = project.parent().unwrap_or(project);
    let near = root.ancestors().take_while(|folder| folder.starts_with(highest));
    let near = near.flat_map(|folder| NAMES.map(|name| folder.join(name)));
    let trusted = [Some(0), Some(Uid::effective().as_raw()), owner(project)];
    let near = near.filter(|environment| trusted.contains(&owner(environment)));
    let mut found: Vec<PathBuf> = Vec::new();
    for environment in active.map(Path::to_owned).into_iter().chain(near) {
        if environment.join("pyvenv.cfg").is_file() && python(&environment).exists() && !found.contains(&environment) {
            found.push(environment);
        }
    }
    found.sort_by_key(|environment| !has_celery(environment));
    found.iter().map(|environment| python(environment)).collect()
}

fn owner(path: &Path) -> Option<u32> {
    path.metadata().ok().map(|meta| meta.uid())
}

/// Its link, not what it points to: only its own path tells Python which environment it is.
fn python(environment: &Path) -> PathBuf {
    environment.join("bin/python")
}

fn has_celery(environment: &Path) -> bool {
    let Ok(versions) = environment.join("lib").read_dir() else { return false };
    versions.flatten().any(|version| version.path().join("site-packages/celery").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(place: &Path, celery: bool) -> PathBuf {
        let packages = place.join("lib/python3.11/site-packages");
        std::fs::create_dir_all(if celery { packages.join("celery") } else { packages }).unwrap();
        std::fs::create_dir_all(place.join("bin")).unwrap();
        std::fs::write(place.join("pyvenv.cfg"), "").unwrap();
        std::fs::write(place.join("bin/python"), "").unwrap();
        place.join("bin/python")
    }

    #[test]
    fn the_nearest_one_with_celery_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let project = root.path().join("srv/shop");
        let application = project.join("src");
        std::fs::create_dir_all(application.join("env")).unwrap(); // a folder of that name is none yet
        let above = environment(&project.join(".venv"), true);
        let next_to = environment(&application.join("venv"), false);
        let around = environment(&root.path().join("srv/env"), false);
        environment(&root.path().join("venv"), true); // too far away to be its own
        let active = environment(&root.path().join("tools"), false);
        let found = interpreters(&application, &project, Some(&root.path().join("tools")));
        assert_eq!(found, [above.clone(), active, next_to, around.clone()]);
        assert_eq!(interpreters(&project, &project, None), [above, around]);
    }
}
