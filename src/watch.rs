//! What the system knows of processes: whether one has died, and how large this one is.

use futures::future::LocalBoxFuture;

/// Ends when the process with this id has died. None if it is not alive here, or the system cannot tell: a number from
/// another machine or container means nothing.
#[cfg(target_os = "linux")]
pub fn death_of(process_id: u32) -> Option<LocalBoxFuture<'static, ()>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tokio::io::Interest;

    use crate::descriptor::register;

    let pid = Pid::from_raw(i32::try_from(process_id).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // One that has died and was not waited for still has its number.
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)).ok()? > 0 {
        return None;
    }
    let pidfd = register(pidfd, Interest::READABLE).ok()?;
    Some(Box::pin(async move {
        // A process's descriptor becomes readable when it dies; an error of the poll means the same to us.
        let _ = pidfd.readable().await;
    }))
}

/// Ends when the process with this id has died: asked once a second, since there is no descriptor to wait on.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn death_of(process_id: u32) -> Option<LocalBoxFuture<'static, ()>> {
    use rustix::process::{Pid, test_kill_process};

    let pid = Pid::from_raw(i32::try_from(process_id).ok()?)?;
    test_kill_process(pid).ok()?;
    Some(Box::pin(async move {
        while test_kill_process(pid).is_ok() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }))
}

/// Never: this system is not known here.
#[cfg(not(unix))]
pub fn death_of(_process_id: u32) -> Option<LocalBoxFuture<'static, ()>> {
    None
}

/// This process's resident memory in bytes, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
