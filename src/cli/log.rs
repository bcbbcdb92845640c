//! Logging: off unless asked for, to stderr or a file, never to stdout.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::config::Settings;

/// Where the log goes.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct LogArgs {
    /// Log, such as `info` or `assistd=debug`; prompts and answers only at `trace` [env: ASSISTD_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Log to this file instead of stderr; `info` if no filter is given [env: ASSISTD_LOG_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

/// Sends panics to the log instead of stderr, which is silent. What a panic says may quote a text that it failed on,
/// so that is for `trace`.
pub fn take_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%place, "a panic");
        tracing::trace!(backtrace = %std::backtrace::Backtrace::capture(), "{panic}");
    }));
}

/// Starts logging. A flag that is wrong is an error; a variable that is wrong is a problem of the settings.
pub fn start(args: &LogArgs, settings: &mut Settings) -> Result<(), String> {
    let variable = |name: &str| {
        settings
            .environment
            .get(name)
            .filter(|value| !value.is_empty())
            .cloned()
    };
    let filter = args.log.clone().or_else(|| variable("ASSISTD_LOG"));
    let file = args
        .log_file
        .clone()
        .or_else(|| variable("ASSISTD_LOG_FILE").map(PathBuf::from));
    let is_flag = args.log.is_some() || args.log_file.is_some();
    let started = match (filter, file) {
        (None, None) => Ok(()),
        (filter, file) => write(filter.as_deref().unwrap_or("info"), file),
    };
    match started {
        Err(problem) if !is_flag => settings.problems.push(problem),
        started => return started,
    }
    Ok(())
}

fn write(filter: &str, file: Option<PathBuf>) -> Result<(), String> {
    // The crate that speaks MCP logs what is said: who wants that names it.
    let filter = match filter.contains("rmcp") {
        true => filter.to_owned(),
        false => format!("{filter},rmcp=off"),
    };
    let filter =
        EnvFilter::try_new(&filter).map_err(|error| format!("expected the log filter to be like `info`: {error}"))?;
    // A log that cannot be written must not be reported on stderr, which may be the very thing that is closed.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false);
    match file {
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(&path);
            let file = opened.map_err(|error| format!("failed to open the log file `{}`: {error}", path.display()))?;
            log.with_ansi(false).with_writer(Mutex::new(file)).init();
        }
        None => log
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .init(),
    }
    Ok(())
}
