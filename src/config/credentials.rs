//! The password that does not stand in the configuration: a file of its own, or a systemd credential.

use super::environment::Environment;
use super::problem::Complaint;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest password file that is read.
const LIMIT: u64 = 64 * 1024;

/// Reads the password at `place`: an absolute path, or the bare name of a credential. One trailing newline is not part of it.
pub(super) fn password(place: &str, environment: &Environment) -> Result<String, Complaint> {
    let path = find(place, environment)?;
    let unreadable = |error: std::io::Error| {
        let remedy = "let it be readable by the user fairstalk runs as, or pass it by LoadCredential= in the unit";
        Complaint::new(format!("{} can't be read: {error}", path.display()), remedy)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).map_err(unreadable)?;
    let length = file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let remedy = "put the password alone into the file, in one line";
    let wrong = |what: &str| Complaint::new(format!("{} {what}", path.display()), remedy);
    if length as u64 > LIMIT {
        return Err(wrong("is too large for a password"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(wrong("is empty"));
    }
    if line.contains(['\n', '\r', '\0']) {
        return Err(wrong("has more than one line"));
    }
    Ok(line.to_owned())
}

/// Where the file at `place` is: an absolute path, or the bare name of a credential.
pub(super) fn find(place: &str, environment: &Environment) -> Result<PathBuf, Complaint> {
    if Path::new(place).is_absolute() {
        return Ok(PathBuf::from(place));
    }
    if place.is_empty() || place.contains('/') || place == "." || place == ".." {
        let remedy = "write an absolute path, or the bare name of a credential given by LoadCredential= in the unit";
        return Err(Complaint::new("is neither an absolute path nor a bare name", remedy));
    }
    match environment.get("CREDENTIALS_DIRECTORY") {
        Some(folder) => Ok(Path::new(folder).join(place)),
        None => Err(Complaint::new(
            "is the name of a systemd credential, but CREDENTIALS_DIRECTORY is not set here",
            format!(
                "add LoadCredential={place}:/path/of/the/file to the unit, set CREDENTIALS_DIRECTORY, or write an \
                 absolute path"
            ),
        )),
    }
}
