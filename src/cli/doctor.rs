//! `assistd doctor`: what is set, where it comes from, and whether the provider can be reached.
//!
//! It asks the daemon what any client can ask, and adds what only the command line knows: which file and which variables
//! have a say. Values of variables are never shown.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ProviderNames, Status};
use super::interrupt::Interrupt;
use super::schema::print;
use super::settings::Sources;
use crate::config::{Role, Settings};
use crate::error::Error;
use crate::protocol::{CheckDetails, CheckStage, PROTOCOL_VERSION, ProviderCheckResult, StageStatus};

/// What is looked at.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Look at every provider, not only at the one that answers
    #[arg(long, conflicts_with = "provider")]
    all: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  assistd doctor                        why does it not answer?
  assistd doctor --provider work        another provider of the settings
  assistd doctor --json | jq '.checks[].stages[] | select(.status == \"failed\")'

The exit code is 0 if all is well, and 1 if not.";

/// What was found.
struct Report {
    sources: Sources,
    problems: Vec<String>,
    status: Option<Status>,
    database: Result<(), Error>,
    checks: Vec<Result<ProviderCheckResult, Error>>,
}

/// Looks, prints and gives the exit code.
pub fn run(args: &DoctorArgs, sources: Sources, mut settings: Settings) -> ExitCode {
    settings.role = Role::OneShot;
    let problems = settings.problems.clone();
    super::block_on(async {
        let mut interrupt = match Interrupt::listen() {
            Ok(interrupt) => interrupt,
            Err(error) => {
                super::failure::complain(&format!("failed to listen for signals: {error}"));
                return 1;
            }
        };
        let looking = look(args, sources, problems, settings);
        let report = tokio::select! {
            report = looking => report,
            code = interrupt.next() => return code,
        };
        let text = if args.json {
            format!("{:#}\n", report.to_json())
        } else {
            report.to_text()
        };
        // A reader that has seen enough does not change what was found.
        let _ = print(text.as_bytes());
        u8::from(!report.is_well())
    })
}

async fn look(args: &DoctorArgs, sources: Sources, problems: Vec<String>, settings: Settings) -> Report {
    let mut client = Client::start(settings);
    let status = client.request::<Status>("server/status", json!({})).await.ok();
    let database = client
        .request::<Value>("thread/list", json!({ "limit": 1 }))
        .await
        .map(drop);
    let names = match args.all {
        true => client
            .request::<ProviderNames>("provider/list", json!({}))
            .await
            .map(ProviderNames::into_names),
        false => Ok(Vec::new()),
    };
    let mut checks = Vec::new();
    match names {
        Ok(names) if names.is_empty() => checks.push(client.request("provider/check", json!({})).await),
        Ok(names) => {
            for name in names {
                checks.push(client.request("provider/check", json!({ "provider": name })).await);
            }
        }
        Err(error) => checks.push(Err(error)),
    }
    client.leave().await;
    Report {
        sources,
        problems,
        status,
        database,
        checks,
    }
}

impl Report {
    fn is_well(&self) -> bool {
        let answers = |check: &Result<ProviderCheckResult, Error>| check.as_ref().is_ok_and(|check| check.ok);
        self.problems.is_empty() && self.database.is_ok() && self.checks.iter().all(answers)
    }

    fn to_json(&self) -> Value {
        let database = self.status.as_ref().and_then(|status| status.database.as_deref());
        let checks = self.checks.iter().map(|check| match check {
            Ok(check) => json!(check),
            Err(error) => json!({ "ok": false, "error": error }),
        });
        json!({
            "ok": self.is_well(),
            "version": env!("CARGO_PKG_VERSION"),
            "protocolVersion": PROTOCOL_VERSION,
            "settings": {
                "file": self.sources.file.as_ref().map(|file| file.display().to_string()),
                "fileExists": self.sources.file_exists,
                "variables": self.sources.variables,
                "problems": self.problems,
            },
            "database": { "path": database, "error": self.database.as_ref().err() },
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "assistd {}, protocol {PROTOCOL_VERSION}\n\nsettings\n",
            env!("CARGO_PKG_VERSION")
        );
        self.put_settings(&mut text);
        text.push_str("\ndata\n");
        self.put_database(&mut text);
        for check in &self.checks {
            text.push('\n');
            match check {
                Ok(check) => put_check(&mut text, check),
                Err(error) => put(&mut text, "FAILED", "", &error.message, error.data.hint.as_deref()),
            }
        }
        text.push('\n');
        text.push_str(if self.is_well() {
            "all is well\n"
        } else {
            "something is wrong: see FAILED above\n"
        });
        text
    }

    fn put_settings(&self, text: &mut String) {
        let file = match &self.sources.file {
            Some(file) if self.sources.file_exists => format!("`{}`", file.display()),
            Some(file) => format!("there is no `{}`", file.display()),
            None => "the configuration folder is unknown, since the home folder is".to_owned(),
        };
        put(text, "ok", "file", &file, None);
        let variables = match self.sources.variables.as_slice() {
            [] => "none that matters here is set".to_owned(),
            names => names.join(", "),
        };
        put(text, "ok", "variables", &variables, None);
        for problem in &self.problems {
            put(text, "FAILED", "settings", problem, None);
        }
    }

    fn put_database(&self, text: &mut String) {
        let path = self.status.as_ref().and_then(|status| status.database.as_deref());
        match (&self.database, path) {
            (Ok(()), Some(path)) => put(
                text,
                "ok",
                "database",
                &format!("`{path}` can be read and written"),
                None,
            ),
            (Ok(()), None) => put(text, "ok", "database", "threads are kept in memory only", None),
            (Err(error), _) => put(text, "FAILED", "database", &error.message, error.data.hint.as_deref()),
        }
    }
}

fn put_check(text: &mut String, check: &ProviderCheckResult) {
    match (&check.provider, &check.dialect, &check.reason) {
        (Some(name), Some(dialect), Some(reason)) => {
            let _ = writeln!(text, "provider `{name}` ({dialect}), because {reason}");
        }
        _ => text.push_str("provider\n"),
    }
    for stage in &check.stages {
        put_stage(text, stage);
    }
}

fn put_stage(text: &mut String, stage: &CheckStage) {
    let mark = match stage.status {
        StageStatus::Passed => "ok",
        StageStatus::Failed => "FAILED",
        StageStatus::Skipped => "-",
    };
    let name = json!(stage.stage);
    put(
        text,
        mark,
        name.as_str().unwrap_or_default(),
        &stage.message,
        stage.hint.as_deref(),
    );
    put_details(text, &stage.details);
}

/// What helps somebody who reads: the chain, and where a name leads.
fn put_details(text: &mut String, details: &CheckDetails) {
    let mut line = |said: String| {
        let _ = writeln!(text, "{:24}{said}", "");
    };
    if !details.addresses.is_empty() {
        line(details.addresses.join(", "));
    }
    if let Some(proxy) = &details.proxy {
        line(proxy.clone());
    }
    if let Some(tls) = &details.tls {
        let alpn = details.alpn.as_deref().unwrap_or("http/1.1");
        line(format!("TLS {tls}, {alpn}"));
    }
    for certificate in &details.certificates {
        line(format!(
            "{} by {}, until {}",
            certificate.subject, certificate.issuer, certificate.not_after
        ));
    }
}

/// One line, and what to do behind it.
fn put(text: &mut String, mark: &str, name: &str, message: &str, hint: Option<&str>) {
    let _ = writeln!(text, "  {mark:<7} {name:<13} {message}");
    if let Some(hint) = hint {
        let _ = writeln!(text, "{:24}{hint}", "");
    }
}
