//! What follows from the health of a server, in words for whoever runs it. Pure.

use super::Kind;
use super::health::Health;
use crate::channel::Exit;
use crate::config::show_size;

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// Its name, for machines; it does not change.
    pub code: &'static str,
    /// What it is, and what to do about it.
    pub text: String,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// Good to know.
    Note,
    /// Tasks or results may be lost.
    Warning,
    /// Nothing can be run; a command ends with this code.
    Error(Exit),
}

impl Grade {
    /// For text and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Grade::Note => "note",
            Grade::Warning => "warning",
            Grade::Error(_) => "error",
        }
    }
}

/// Everything there is to say about a server, errors first.
pub fn verdict(health: &Health) -> Vec<Finding> {
    let found = [usable(health), identity(health), eviction(health), Some(durability(health)), unread(health)];
    found.into_iter().flatten().collect()
}

fn usable(health: &Health) -> Option<Finding> {
    let error = |exit, code, text: &str| Some(Finding { grade: Grade::Error(exit), code, text: text.to_owned() });
    match health.mode.as_str() {
        "cluster" => {
            let text = "Redis Cluster is not supported: one script touches the keys of all queues, which a cluster \
                        spreads over servers; use a single server";
            return error(Exit::Config, "cluster", text);
        }
        "sentinel" => {
            let text = "this is a Sentinel, not the server it watches; write sentinel:// and [broker] master_name, or the \
                        address of the primary into [broker] url";
            return error(Exit::Config, "sentinel", text);
        }
        _ if health.replica => {
            let text = "this server is a replica: it takes no writes, or loses them; write the address of the primary \
                        into [broker] url";
            return error(Exit::Unavailable, "replica", text);
        }
        _ => {}
    }
    let refused = health.refused.as_ref()?;
    let remedy = match refused.kind {
        Kind::Configuration => {
            " (the user needs +@read +@write +@scripting +@connection on the queues, unacked*, celery-task-meta-*, \
             fairstalk:* and _kombu*, behind key_prefix)"
        }
        Kind::Unexpected => " (another program's data under these keys, or no Redis)",
        Kind::Unavailable | Kind::TooOld => "",
    };
    error(refused.kind.exit(), "refused", &format!("Redis refuses what workers do: {}{remedy}", refused.text))
}

fn identity(health: &Health) -> Option<Finding> {
    let text = health.unverified?.to_owned();
    Some(Finding { grade: Grade::Warning, code: "unverified", text })
}

fn eviction(health: &Health) -> Option<Finding> {
    let policy = health.eviction.as_deref().filter(|policy| *policy != "noeviction")?;
    let set = "set maxmemory-policy noeviction";
    let all = policy.starts_with("allkeys");
    let (grade, text) = match health.memory_limit {
        None | Some(0) => (
            Grade::Note,
            format!(
                "maxmemory-policy is {policy}, which does nothing as long as maxmemory is 0; before you limit it, {set}"
            ),
        ),
        Some(limit) if all => (
            Grade::Warning,
            format!(
                "maxmemory-policy is {policy}: at {} Redis deletes queues and running messages; {set}",
                show_size(limit)
            ),
        ),
        Some(limit) => (
            Grade::Warning,
            format!(
                "maxmemory-policy is {policy}: at {} Redis deletes results that are still wanted; {set}",
                show_size(limit)
            ),
        ),
    };
    Some(Finding { grade, code: "eviction", text })
}

/// What is lost when the server's host fails.
///
/// Up to two seconds with `everysec`: if the disk is busy, Redis puts the write off for so long ("Fsync" in
/// <https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency/>).
fn durability(health: &Health) -> Finding {
    let finding = |grade, code, text: &str| Finding { grade, code, text: text.to_owned() };
    let snapshots = health.snapshots.as_deref();
    match (health.append_only, health.fsync.as_deref()) {
        (Some(true), Some("always")) => {
            finding(Grade::Note, "fsync-always", "a crash of its host loses nothing: appendfsync always")
        }
        (Some(true), Some("everysec")) => {
            let text = "a crash of its host loses up to 1 s of tasks, 2 s at worst: appendfsync everysec";
            finding(Grade::Note, "fsync-everysec", text)
        }
        (Some(true), Some(other)) => {
            let text = "a crash of its host loses what the kernel has not written yet, 30 s of tasks and more: \
                        appendfsync ";
            finding(Grade::Warning, "fsync-no", &format!("{text}{other}; set it to everysec or always"))
        }
        (Some(true), None) => {
            let text = "a crash of its host loses 1 s of tasks or more: there is an append-only file, but appendfsync \
                        could not be read";
            finding(Grade::Note, "fsync-unknown", text)
        }
        (Some(false), _) => match snapshots {
            Some("") => {
                let text = "a restart of Redis loses every task: it keeps nothing on disk; set appendonly yes";
                finding(Grade::Warning, "no-persistence", text)
            }
            Some(points) => {
                let text = format!(
                    "a crash of Redis loses all tasks since its last snapshot{}: there is no append-only file, only \
                     save \"{points}\"; set appendonly yes",
                    pending(health)
                );
                finding(Grade::Warning, "snapshots-only", &text)
            }
            None => {
                let text = format!(
                    "a crash of Redis loses all tasks since its last snapshot{}, if there are any: there is no \
                     append-only file, and save could not be read; set appendonly yes",
                    pending(health)
                );
                finding(Grade::Warning, "no-append-only-file", &text)
            }
        },
        (None, _) => {
            let text = "what a crash of Redis would lose is not known: how it keeps its data could not be read";
            finding(Grade::Note, "persistence-unknown", text)
        }
    }
}

fn pending(health: &Health) -> String {
    health.changes.map(|changes| format!(" ({changes} changes now)")).unwrap_or_default()
}

fn unread(health: &Health) -> Option<Finding> {
    let text = format!("Redis refuses to tell everything: {}", health.unread.join("; "));
    (!health.unread.is_empty()).then_some(Finding { grade: Grade::Note, code: "unread", text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::health::Refused;

    fn healthy() -> Health {
        Health {
            version: "7.0.15".to_owned(),
            mode: "standalone".to_owned(),
            memory_limit: Some(0),
            eviction: Some("noeviction".to_owned()),
            append_only: Some(true),
            fsync: Some("everysec".to_owned()),
            snapshots: Some(String::new()),
            ..Health::default()
        }
    }

    /// Grades and names of what is said when something is otherwise.
    fn otherwise(change: impl FnOnce(&mut Health)) -> Vec<(&'static str, &'static str)> {
        let mut health = healthy();
        change(&mut health);
        verdict(&health).iter().map(|finding| (finding.grade.word(), finding.code)).collect()
    }

    #[test]
    fn every_way_to_keep_data_has_its_own_verdict() {
        let cases = [
            (Some(true), Some("always"), Some(""), ("note", "fsync-always")),
            (Some(true), Some("everysec"), Some(""), ("note", "fsync-everysec")),
            (Some(true), Some("no"), Some(""), ("warning", "fsync-no")),
            (Some(true), None, None, ("note", "fsync-unknown")),
            (Some(false), Some("everysec"), Some(""), ("warning", "no-persistence")),
            (Some(false), Some("always"), Some("3600 1"), ("warning", "snapshots-only")),
            (Some(false), None, None, ("warning", "no-append-only-file")),
            (None, Some("always"), Some(""), ("note", "persistence-unknown")),
            (None, None, None, ("note", "persistence-unknown")),
        ];
        for (append_only, fsync, snapshots, expected) in cases {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let found = otherwise(|health| {
                (health.append_only, health.fsync, health.snapshots) = (append_only, own(fsync), own(snapshots));
            });
            assert_eq!(found, [expected], "{append_only:?} {fsync:?} {snapshots:?}");
        }
    }

    #[test]
    fn a_policy_matters_where_memory_is_limited() {
        let policy = |limit, policy: &str| {
            otherwise(|health| (health.memory_limit, health.eviction) = (limit, Some(policy.to_owned())))[0]
        };
        assert_eq!(policy(Some(0), "allkeys-lru"), ("note", "eviction"));
        assert_eq!(policy(Some(1), "allkeys-lru"), ("warning", "eviction"));
        assert_eq!(policy(Some(1), "volatile-ttl"), ("warning", "eviction"));
        assert_eq!(policy(Some(1), "noeviction"), ("note", "fsync-everysec"));
    }

    #[test]
    fn what_cannot_be_worked_with_is_an_error_with_its_code() {
        let first = |change: fn(&mut Health)| {
            let mut health = healthy();
            change(&mut health);
            let found = verdict(&health).remove(0);
            (found.grade, found.code)
        };
        assert_eq!(first(|health| health.mode = "cluster".into()), (Grade::Error(Exit::Config), "cluster"));
        assert_eq!(first(|health| health.mode = "sentinel".into()), (Grade::Error(Exit::Config), "sentinel"));
        assert_eq!(first(|health| health.replica = true), (Grade::Error(Exit::Unavailable), "replica"));
        let refused = |kind| Some(Refused { kind, text: "NOPERM".into() });
        let mut health = Health { refused: refused(Kind::Configuration), ..healthy() };
        assert_eq!(verdict(&health)[0].grade, Grade::Error(Exit::Config));
        health.refused = refused(Kind::Unavailable);
        assert_eq!(verdict(&health)[0].grade, Grade::Error(Exit::Unavailable));
    }

    #[test]
    fn what_could_not_be_read_is_said_and_nothing_is_guessed() {
        let found = otherwise(|health| {
            let unread = vec!["INFO (NOPERM)".to_owned()];
            *health = Health { mode: "standalone".into(), unread, ..Health::default() };
        });
        assert_eq!(found, [("note", "persistence-unknown"), ("note", "unread")]);
    }
}
