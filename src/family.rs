//! A program that we start and all that it starts, as one process group: they are told together and killed together.
//!
//! Whoever starts the program owns the end of its family. The number of a family is its own only until the program has
//! been waited for; nobody is told anything after that.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::descriptor;

/// A program's family.
#[derive(Debug, Clone, Copy)]
pub struct Family(Option<Pid>);

impl Family {
    /// Makes the program that is about to be started the first of a family, with no descriptor of ours but its three,
    /// and killed where its [`Child`] is dropped or this process is killed.
    pub fn found(command: &mut Command) {
        command.kill_on_drop(true).process_group(0);
        be_missed(command);
        descriptor::keep_from_programs();
    }

    /// The family of a program that was started so; nobody, once it has been waited for.
    pub fn of(child: &Child) -> Family {
        Family(child.id().and_then(|id| Pid::from_raw(id as i32)))
    }

    /// The program itself, until it has been waited for.
    pub fn program(self) -> Option<Pid> {
        self.0
    }

    /// Sends all of them this signal. Those that are gone need not be told.
    pub fn tell(self, signal: Signal) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Lets the system kill the program when this process is gone, however it went. What it started itself, and everything
/// elsewhere than on Linux, is told by the end of its input only. The thread that starts it has to live as long as the
/// process, since it is that thread whose death counts.
fn be_missed(command: &mut Command) {
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
