//! Whose the files are to be, where root sets things up for others.

use nix::unistd::{Uid, User};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The user the Debian package makes and the unit runs as.
const SERVICE: &str = "fairstalk";

/// A user of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, or its number if it has none.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Id of its own group.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// Who owns a directory.
pub fn owner(directory: &Path) -> Option<Account> {
    let meta = directory.metadata().ok()?;
    Some(match User::from_uid(Uid::from_raw(meta.uid())) {
        Ok(Some(user)) => account(user),
        _ => Account { name: meta.uid().to_string(), uid: meta.uid(), gid: meta.gid(), home: PathBuf::from("/") },
    })
}

/// The user of the unit, if the system has one.
pub fn service() -> Option<Account> {
    named(SERVICE)
}

/// The user of this name or number, if the system has one.
pub fn named(name: &str) -> Option<Account> {
    let user = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    user.ok().flatten().map(account)
}

/// Whom to be while the application's code runs: it should not be root where the application is another's.
pub fn runner(owner: Option<&Account>) -> Option<&Account> {
    owner.filter(|owner| owner.uid != 0 && Uid::effective().is_root())
}

/// Who has to be able to read the configuration, if that is somebody else than whoever writes it: only root can
/// give files away.
pub fn reader(application: Option<&Account>) -> Option<Account> {
    if !Uid::effective().is_root() {
        return None;
    }
    service().or_else(|| application.cloned())
}

fn account(user: User) -> Account {
    Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
}
