//! What the system tells of a process: its processor time and its memory. Linux only; elsewhere a figure is missing.

use std::fs;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// The processor time of all threads that live, in seconds.
pub fn cpu(process: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<u64>().ok()
    });
    Some(nanoseconds.sum::<u64>() as f64 / 1e9)
}

/// The processor time of a child that has ended or is about to, in seconds. It can be waited for afterwards.
pub fn cpu_at_end(process: u32) -> Option<f64> {
    let pid = Pid::from_raw(i32::try_from(process).ok()?)?;
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok()?;
    cpu(process)
}

/// The resident memory now, in MiB.
pub fn resident(process: u32) -> Option<f64> {
    status(process, "VmRSS:")
}

/// The resident memory that is no page of a file, in MiB: what one more process costs.
pub fn private(process: u32) -> Option<f64> {
    status(process, "RssAnon:")
}

/// The most resident memory that it ever had, in MiB.
pub fn peak_resident(process: u32) -> Option<f64> {
    status(process, "VmHWM:")
}

fn status(process: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
