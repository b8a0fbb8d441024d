//! `fairstalk check`: would `run` work? Reads the configuration as `run` does, asks Redis, imports the application, and
//! says what would be run. Everything that is wrong is told, not only the first thing.

mod application;
mod plan;
mod report;

use super::redis::block_on;
use super::tenants::named_by;
use super::{Error, Settings, output};
use crate::broker::health::{self, Health};
use crate::broker::{BrokerError, Connection, Finding, Grade, Keys, verdict};
use crate::channel::Exit;
use crate::config::{Config, Problems};
use application::Application;
use plan::Plan;
use std::io::Write;

/// Read the configuration as `run` does, see whether Redis and the application can be worked with, and say what would run.
///
/// Exit code 0 if nothing would keep the daemon from running, 69 if Redis can't be reached, 78 if something has to be
/// changed. Warnings change nothing about it, unless --strict is given.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Warnings are errors: exit code 78
    #[arg(long)]
    strict: bool,
}

/// Everything that was found out.
struct Check<'a> {
    config: &'a Config,
    /// None if the server could not be reached.
    redis: Option<Health>,
    /// How it is known whose a message is; none without the server.
    naming: Option<String>,
    /// None if there is none, or it can't be imported.
    application: Option<Application>,
    plan: Plan,
    findings: Vec<Finding>,
}

/// Prints what would be run and what is to be known about it.
///
/// # Errors
/// A configuration that can't be used, or output that fails; what else is wrong is printed.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let config = match usable(settings) {
        Ok(config) => config,
        Err(Error::Config(problems)) if args.json => return refuse(settings, &problems),
        Err(error) => return Err(error),
    };
    let mut check = Check {
        config: &config,
        redis: None,
        naming: None,
        application: None,
        plan: Plan::new(&config),
        findings: Vec::new(),
    };
    check.ask_redis()?;
    check.ask_application()?;
    check.findings.extend(check.plan.findings());
    let exit = exit(&check.findings, args.strict);
    output::print(|out| {
        match args.json {
            true => writeln!(out, "{}", report::json(&check, settings, exit)),
            false => report::text(&check, exit, out),
        }
        .map_err(Error::Output)
    })?;
    if !args.json {
        for finding in check.findings.iter().filter(|finding| matches!(finding.grade, Grade::Error(_))) {
            // Not eprintln!, which panics when nobody reads standard error any more.
            let _ = writeln!(std::io::stderr(), "fairstalk: {}", finding.text);
        }
    }
    Ok(exit)
}

fn usable(settings: &Settings) -> Result<Config, Error> {
    let config = settings.config()?;
    config.runnable()?;
    Ok(config)
}

fn refuse(settings: &Settings, problems: &Problems) -> Result<Exit, Error> {
    let json = report::refusal(settings, problems);
    output::print(|out| writeln!(out, "{json}").map_err(Error::Output))?;
    Ok(Exit::Config)
}

/// What has to be changed comes before what may pass by itself.
fn exit(findings: &[Finding], strict: bool) -> Exit {
    let of = |wanted: Exit| findings.iter().any(|finding| finding.grade == Grade::Error(wanted));
    let strictly = strict && findings.iter().any(|finding| finding.grade == Grade::Warning);
    match () {
        () if of(Exit::Config) => Exit::Config,
        () if of(Exit::Unavailable) => Exit::Unavailable,
        () if of(Exit::Internal) => Exit::Internal,
        () if strictly => Exit::Config,
        () => Exit::Ok,
    }
}

impl Check<'_> {
    fn ask_redis(&mut self) -> Result<(), Error> {
        let asked = block_on(async { Ok(self.health().await) })?;
        match asked {
            Ok((health, naming)) => {
                self.naming = naming;
                let address = crate::broker::address(&self.config.broker);
                let about = |mut finding: Finding| {
                    finding.text = format!("Redis at {address}: {}", finding.text);
                    finding
                };
                self.findings.extend(verdict::verdict(&health).into_iter().map(about));
                self.redis = Some(health);
            }
            Err(error) => {
                let (grade, text) = (Grade::Error(error.kind.exit()), error.to_string());
                self.findings.push(Finding { grade, code: "redis", text });
            }
        }
        Ok(())
    }

    async fn health(&self) -> Result<(Health, Option<String>), BrokerError> {
        let mut connection = Connection::open(&self.config.broker).await?;
        let keys = Keys::new(&self.config.broker, &self.config.queues);
        let health = health::inspect(&mut connection, &keys).await?;
        // What keeps it from being read, such as an ACL, has been told by then.
        Ok((health, named_by(self.config, &mut connection, &keys).await.ok()))
    }

    fn ask_application(&mut self) -> Result<(), Error> {
        let Some(python) = &self.config.python else { return Ok(()) };
        match application::import(self.config, python)? {
            Ok(application) => {
                self.findings.extend(application.findings());
                self.application = Some(application);
            }
            Err(text) => self.findings.push(Finding { grade: Grade::Error(Exit::Config), code: "application", text }),
        }
        Ok(())
    }
}
