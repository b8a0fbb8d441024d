//! Every key there is, in one list: for the check of unknown keys, for the environment variables, and for the
//! tests that hold `docs/configuration.md` and `etc/fairstalk.toml` to it.

/// Sections and their keys, in the order in which they are documented.
pub const SECTIONS: &[(&str, &[&str])] = &[
    (
        "broker",
        &[
            "url",
            "password_file",
            "master_name",
            "sentinel_password_file",
            "key_prefix",
            "timeout",
            "visibility_timeout",
        ],
    ),
    ("queues", &["prefix", "count", "default", "names"]),
    (
        "workers",
        &[
            "processes",
            "concurrency",
            "shrink_after",
            "name",
            "drain_timeout",
            "liveness_timeout",
            "reload_timeout",
            "restart_min",
            "restart_max",
            "memory_limit",
            "claim_ahead",
            "events",
        ],
    ),
    (
        "python",
        &[
            "app",
            "directory",
            "interpreter",
            "env",
            "max_tasks_per_runner",
            "max_memory_per_runner",
            "time_limit",
            "soft_time_limit",
        ],
    ),
    (
        "tenancy",
        &["parameter", "header", "fallback", "weights", "max_concurrency", "rate_limit", "reserved_slots", "stagger"],
    ),
    ("results", &["url", "expires", "key_prefix"]),
    (
        "delivery",
        &[
            "accept",
            "max_deliveries",
            "dead_letters_max",
            "dead_letters_age",
            "max_message_size",
            "mode",
            "keep_failed",
        ],
    ),
    (
        "log",
        &["level", "tasks", "format", "journal_socket", "storm_window", "storm_lines", "storm_output", "task_output"],
    ),
    (TASKS, TASK),
];

/// The section that holds one table per task, so that its keys have no environment variables.
pub(super) const TASKS: &str = "tasks";

/// Keys of each `[tasks."name"]`.
const TASK: &[&str] = &[
    "command",
    "directory",
    "env",
    "max_retries",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "time_limit",
    "delivery",
    "keep_failed",
    "memory_limit",
    "rate_limit",
];

/// Keys whose values may hold a secret and are never shown, in whatever section.
const SECRET: &[&str] = &["url", "env"];

/// The keys of a section; empty for an unknown one.
pub(super) fn of(section: &str) -> &'static [&'static str] {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

/// Whether a value of this key may be shown.
pub(super) fn may_be_shown(key: &str) -> bool {
    !SECRET.contains(&key)
}

/// The environment variable that overrides `[section] key`.
pub fn variable(section: &str, key: &str) -> String {
    format!("FAIRSTALK_{}__{}", section.to_uppercase(), key.to_uppercase())
}

/// The known word nearest to `word`, if one is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &str| strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase());
    known
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The section other than `section` that has exactly this key.
pub(super) fn owner_of(key: &str, section: &str) -> Option<&'static str> {
    let mut owners = SECTIONS.iter().filter(|(name, keys)| *name != section && keys.contains(&key));
    match (owners.next(), owners.next()) {
        (Some((name, _)), None) => Some(name),
        _ => None,
    }
}
