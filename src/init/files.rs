//! Writes a file that may hold secrets: whole or not at all, and never over another one unasked.

use super::account::Account;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// A configuration: the group may read it.
pub const SHARED: u32 = 0o640;
/// A password.
pub const SECRET: u32 = 0o600;

/// Puts `text` at `path`. `mode` is the most that is allowed: a file that is replaced keeps its owner, and its mode where
/// that is tighter. `reader` gets a secret as its own, and a shared file through its group.
///
/// # Errors
/// `AlreadyExists` if there is something and `replace` is false; else what the system says.
pub fn write(path: &Path, text: &str, mode: u32, reader: Option<&Account>, replace: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let draft = folder.join(format!(".{name}.{:08x}", fastrand::u32(..)));
    let written = fill(&draft, path, text, mode, reader).and_then(|()| match replace {
        true => std::fs::rename(&draft, path),
        // Unlike a rename, a link fails where something is already.
        false => std::fs::hard_link(&draft, path),
    });
    // After a rename it is gone already.
    let _ = std::fs::remove_file(&draft);
    written?;
    std::fs::File::open(folder)?.sync_all()
}

fn fill(draft: &Path, path: &Path, text: &str, mode: u32, reader: Option<&Account>) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    let mut mode = mode;
    match path.metadata() {
        Ok(old) => {
            mode &= old.mode();
            if file.metadata()?.uid() != old.uid() || file.metadata()?.gid() != old.gid() {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        Err(_) => {
            if let Some(reader) = reader {
                let own = (mode == SECRET).then_some(reader.uid);
                fchown(&file, own, Some(reader.gid))?;
            }
        }
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_with_its_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, mode) = (folder.path().join("a.toml"), |path: &Path| path.metadata().unwrap().mode() & 0o777);
        write(&file, "one", SHARED, None, false).unwrap();
        assert_eq!((std::fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("one", 0o640));
        let refused = write(&file, "two", SHARED, None, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o604)).unwrap();
        write(&file, "three", SHARED, None, true).unwrap();
        assert_eq!((std::fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("three", 0o600));
        write(&folder.path().join("b"), "secret", SECRET, None, false).unwrap();
        assert_eq!(mode(&folder.path().join("b")), 0o600);
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
    }
}
