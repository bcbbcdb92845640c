//! One file over HTTPS, into a file. Gives up soon where there is no network, so that the next source gets its turn.
//!
//! Nothing here judges what came: the caller compares the checksum.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::{Progress, Report, SOURCE_BYTES, Stage};

/// How long reaching the hub may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the hub may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// Downloads `url` to the file `to`, or says in a sentence why not. Blocks.
pub(super) fn download(url: &str, to: &Path, report: Report) -> Result<(), String> {
    // An error means that somebody has installed one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| cause.to_string())?;
    runtime.block_on(receive(url, to, report))
}

async fn receive(url: &str, to: &Path, report: Report<'_>) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .build()
        .map_err(root)?;
    let response = client.get(url).send().await.map_err(root)?;
    let mut response = response.error_for_status().map_err(|error| match error.status() {
        Some(status) => format!("it answered {status}"),
        None => root(error),
    })?;
    let mut file = File::create(to).map_err(|cause| cause.to_string())?;
    let mut done = 0;
    while let Some(piece) = response.chunk().await.map_err(root)? {
        done += piece.len() as u64;
        if done > SOURCE_BYTES {
            return Err(format!("expected {SOURCE_BYTES} bytes, got more"));
        }
        file.write_all(&piece).map_err(|cause| cause.to_string())?;
        report(Progress {
            stage: Stage::Hub,
            done,
            total: SOURCE_BYTES,
        });
    }
    Ok(())
}

/// The cause at the bottom of the chain: the levels above only say that a request failed. No URL is in it, since one
/// may hold a password.
fn root(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
