//! The drop-in for `fairstalk.service`: what the old unit says of users, variables, limits and order, and nothing that
//! fairstalk's unit decides for itself.

use super::settings::one_line;
use super::unit::{Entry, Unit};
use crate::init::ask::without_passwords;
use std::collections::BTreeMap;

/// What there is to carry over.
pub struct Parts<'a> {
    /// Where it comes from, for the first line.
    pub from: &'a str,
    /// The unit of the old worker, if there is one.
    pub unit: Option<&'a Unit>,
    /// Keys that options of the command stand for.
    pub keys: &'a [(&'static str, String)],
    /// Variables that were set beside the unit.
    pub env: &'a BTreeMap<String, String>,
    /// Name of the instance, of `fairstalk@NAME`.
    pub instance: Option<&'a str>,
}

/// What becomes of a key of a unit.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is copied.
    Copied,
    /// fairstalk's unit, or its configuration, says it.
    Own,
    /// fairstalk's unit is closed, whatever the old one was.
    Closed,
    /// Nobody knows.
    Unknown,
}

const OWN: &[&str] = &[
    "Type",
    "PIDFile",
    "ExecStart",
    "ExecStartPre",
    "ExecStartPost",
    "ExecStop",
    "ExecStopPost",
    "ExecReload",
    "ExecCondition",
    "Restart",
    "RestartSec",
    "RestartForceExitStatus",
    "RestartPreventExitStatus",
    "SuccessExitStatus",
    "TimeoutSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "TimeoutAbortSec",
    "RuntimeMaxSec",
    "KillMode",
    "KillSignal",
    "FinalKillSignal",
    "RestartKillSignal",
    "SendSIGKILL",
    "SendSIGHUP",
    "RemainAfterExit",
    "GuessMainPID",
    "NotifyAccess",
    "WatchdogSec",
    "WatchdogSignal",
    "WorkingDirectory",
    "StandardInput",
    "StandardOutput",
    "StandardError",
    "OOMPolicy",
    "Delegate",
    "StartLimitInterval",
    "StartLimitIntervalSec",
    "StartLimitBurst",
    "PermissionsStartOnly",
    "Description",
    "Documentation",
    "DefaultDependencies",
    "WantedBy",
    "RequiredBy",
    "Also",
    "Alias",
    "DefaultInstance",
];
const COPIED: &[&str] = &[
    "Environment",
    "EnvironmentFile",
    "PassEnvironment",
    "UnsetEnvironment",
    "User",
    "Group",
    "SupplementaryGroups",
    "UMask",
    "Nice",
    "OOMScoreAdjust",
    "Slice",
    "SyslogIdentifier",
    "ReadWritePaths",
    "ReadWriteDirectories",
    "BindPaths",
    "BindReadOnlyPaths",
    "DeviceAllow",
    "DevicePolicy",
    "After",
    "Before",
    "Wants",
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "RequiresMountsFor",
    "TasksMax",
    "TasksAccounting",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "PropagatesStopTo",
    "StopPropagatedFrom",
    "Upholds",
];
const COPIED_STARTS: &[&str] = &[
    "Limit",
    "Memory",
    "CPU",
    "IO",
    "BlockIO",
    "IPAddress",
    "StateDirectory",
    "CacheDirectory",
    "LogsDirectory",
    "ConfigurationDirectory",
    "RuntimeDirectory",
    "LoadCredential",
    "SetCredential",
    "Condition",
    "Assert",
    "Log",
];
const CLOSED_STARTS: &[&str] = &[
    "Protect",
    "Private",
    "Restrict",
    "SystemCall",
    "Capability",
    "Ambient",
    "NoNewPrivileges",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "ReadOnly",
    "Inaccessible",
    "ProcSubset",
    "RemoveIPC",
    "Secure",
    "DynamicUser",
    "Root",
    "NoExecPaths",
    "ExecPaths",
    "TemporaryFileSystem",
    "KeyringMode",
    "MountFlags",
];

fn fate(key: &str) -> Fate {
    let starts = |with: &[&str]| with.iter().any(|start| key.starts_with(start));
    if OWN.contains(&key) {
        Fate::Own
    } else if starts(CLOSED_STARTS) {
        Fate::Closed
    } else if COPIED.contains(&key) || starts(COPIED_STARTS) {
        Fate::Copied
    } else {
        Fate::Unknown
    }
}

/// The text.
pub fn text(parts: &Parts<'_>) -> String {
    let mut text = format!(
        "# Written by `fairstalk migrate` from {}. It is laid over {}, which says all the rest.\n",
        one_line(parts.from),
        unit_name(parts.instance)
    );
    let none = Unit::default();
    let entries = &parts.unit.unwrap_or(&none).entries;
    let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut left: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| is_in_force(entry, entries)) {
        let shown = one_line(&without_passwords(&format!("{}={}", entry.key, entry.value)));
        match fate(&entry.key) {
            Fate::Copied => sections.entry(section(entry)).or_default().push(copied(entry)),
            Fate::Own => left.entry("it says this itself, or its configuration does").or_default().push(shown),
            Fate::Closed => left.entry("it is closed more tightly; docs/systemd.md").or_default().push(shown),
            Fate::Unknown => left.entry("not understood; look whether it is still wanted").or_default().push(shown),
        }
    }
    let service = sections.entry("Service").or_default();
    for (key, value) in parts.keys {
        service.push(format!("{key}={}", value.replace('%', "%%")));
    }
    for (name, value) in parts.env {
        service.push(variable(name, value));
    }
    service.extend(hints(service));
    for name in ["Unit", "Service"] {
        if let Some(lines) = sections.get(name) {
            text.push_str(&format!("\n[{name}]\n{}\n", lines.join("\n")));
        }
    }
    for (why, lines) in left {
        text.push_str(&format!("\n# Not taken over: {why}:\n"));
        lines.iter().for_each(|line| text.push_str(&format!("#   {line}\n")));
    }
    text
}

/// `fairstalk.service`, or the instance of it.
pub fn unit_name(instance: Option<&str>) -> String {
    instance.map_or_else(|| "fairstalk.service".to_owned(), |name| format!("fairstalk@{name}.service"))
}

/// Keys that nobody knows, for whoever does not look into the text.
pub fn unknown(unit: &Unit) -> Vec<String> {
    let unknown = unit.entries.iter().filter(|entry| fate(&entry.key) == Fate::Unknown);
    unknown.map(|entry| format!("{}= of the unit is not understood", one_line(&entry.key))).collect()
}

/// Of a key that has one value, the last one counts.
fn is_in_force(entry: &Entry, all: &[Entry]) -> bool {
    let single = ["User", "Group", "UMask", "Nice", "Slice", "OOMScoreAdjust", "SyslogIdentifier", "TasksMax"];
    let single = single.contains(&entry.key.as_str()) || entry.key.starts_with("Limit");
    let last = all.iter().rfind(|other| other.section == entry.section && other.key == entry.key);
    !single || last.is_some_and(|last| std::ptr::eq(last, entry))
}

fn section(entry: &Entry) -> &'static str {
    if entry.section == "Unit" { "Unit" } else { "Service" }
}

fn copied(entry: &Entry) -> String {
    let Entry { key, value, .. } = entry;
    let plain = format!("{key}={value}");
    match key.as_str() {
        "Requires" | "Requisite" | "BindsTo" if value.contains("redis") => {
            format!(
                "# Was {key}=: fairstalk outlives an outage of Redis, and should not be stopped with it.\nWants={value}"
            )
        }
        "Slice" => format!("{plain}\nReadWritePaths=-/sys/fs/cgroup/{value}/%n"),
        _ => plain,
    }
}

/// A variable as `Environment=` takes it.
fn variable(name: &str, value: &str) -> String {
    let value = one_line(value).replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("Environment=\"{name}={value}\"")
}

/// What many will have to add.
fn hints(service: &[String]) -> Vec<String> {
    let has = |key: &str| service.iter().any(|line| line.starts_with(key));
    let mut hints = Vec::new();
    if !has("User=") {
        hints.push(
            "# Nothing names a user, so the old worker ran as root, or as whoever started it. fairstalk's unit has a user\n\
             # of its own, fairstalk; if the application's files demand another:\n#User="
                .to_owned(),
        );
    }
    if !has("ReadWrite") {
        hints.push(
            "# Tasks may write to /var/lib/fairstalk and /tmp alone, and see a /tmp of their own. Where else they write:\n\
             #ReadWritePaths="
                .to_owned(),
        );
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::unit;

    fn of(text: &str, keys: &[(&'static str, String)], env: &[(&str, &str)]) -> String {
        let unit = unit::parse(text);
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        super::text(&Parts { from: "celery.service", unit: Some(&unit), keys, env: &env, instance: None })
    }

    #[test]
    fn nothing_of_the_old_unit_gets_lost() {
        let written = of(
            "[Unit]\nDescription=x\nAfter=postgresql.service\nRequires=redis.service\n[Service]\nType=forking\nUser=a\n\
             User=shop\nEnvironment=\"A=x y\"\nLimitNOFILE=9\nPrivateTmp=no\nFrobnicate=1\n[Install]\nWantedBy=x.target\n",
            &[],
            &[("B", "50% \"q\"")],
        );
        for line in [
            "[Unit]\nAfter=postgresql.service\n# Was Requires=: ",
            "\nWants=redis.service\n",
            "[Service]\nUser=shop\nEnvironment=\"A=x y\"\nLimitNOFILE=9\nEnvironment=\"B=50%% \\\"q\\\"\"\n",
            "#   Description=x\n#   Type=forking\n#   WantedBy=x.target\n",
            "closed more tightly; docs/systemd.md:\n#   PrivateTmp=no\n",
            "not understood; look whether it is still wanted:\n#   Frobnicate=1\n",
            "#ReadWritePaths=",
        ] {
            assert!(written.contains(line), "{line}\n\n{written}");
        }
        assert!(!written.contains("User=a") && !written.contains("#User="), "{written}");
    }

    #[test]
    fn options_of_the_command_become_keys() {
        let written = of("[Service]\n", &[("User", "me".to_owned()), ("UMask", "0%7".to_owned())], &[]);
        assert!(written.contains("User=me\nUMask=0%%7\n"), "{written}");
        assert!(of("", &[], &[]).contains("#User="));
    }
}
