//! Programs that this process starts and that must not stay behind when it is killed.
//!
//! Whoever starts one also kills it, group and all, when it is no longer wanted; this is for kill -9, after which nobody
//! is left to do so.

use tokio::process::Command;

/// Lets the system kill the program when this process is gone, however it went. What it started itself, and everything
/// elsewhere than on Linux, is told by the end of its input only. The thread that starts it has to live as long as the
/// process, since it is that thread whose death counts.
pub fn be_missed(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

        let parent = getpid();
        // SAFETY: between fork and exec only what is safe in a signal's way may be called: these are two system calls,
        // and neither allocates.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                match getppid() == Some(parent) {
                    true => Ok(()),
                    // It died before it could be told to be missed.
                    false => Err(std::io::ErrorKind::BrokenPipe.into()),
                }
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
