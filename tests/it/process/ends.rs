//! What a client may put at the daemon's stdin and stdout: pipes, sockets, a terminal.
//!
//! Every descriptor is closed on exec from the moment it is there: tests start children side by side, and one that
//! inherited an end would keep it open.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// Both sides of a connection.
pub struct Ends {
    /// What the client writes to.
    pub input: OwnedFd,
    /// What the client reads from.
    pub output: OwnedFd,
    /// The daemon's stdin.
    pub stdin: OwnedFd,
    /// The daemon's stdout.
    pub stdout: OwnedFd,
}

/// Two pipes: what a shell and most programs give.
pub fn pipes() -> Ends {
    let (stdin, input) = io::pipe().unwrap();
    let (output, stdout) = io::pipe().unwrap();
    ends(input.into(), output.into(), stdin.into(), stdout.into())
}

/// Two pairs of sockets: what Node gives.
pub fn sockets() -> Ends {
    let (input, stdin) = UnixStream::pair().unwrap();
    let (output, stdout) = UnixStream::pair().unwrap();
    ends(input.into(), output.into(), stdin.into(), stdout.into())
}

/// One pair of sockets for both directions.
pub fn one_socket() -> Ends {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (ours, theirs) = (OwnedFd::from(ours), OwnedFd::from(theirs));
    ends(ours.try_clone().unwrap(), ours, theirs.try_clone().unwrap(), theirs)
}

/// A terminal that passes on every byte as it is.
#[cfg(target_os = "linux")]
pub fn terminal() -> Ends {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, OFlags};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    let open = |path: &str| {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    };
    let ours = open("/dev/ptmx");
    let mut number: libc::c_uint = 0;
    let unlocked: libc::c_int = 0;
    // SAFETY: both requests take a pointer to one integer, which lives through the call.
    let done = unsafe {
        libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) == 0
            && libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTN, &mut number) == 0
    };
    assert!(done, "{}", io::Error::last_os_error());
    let theirs = open(&format!("/dev/pts/{number}"));
    let mut settings = tcgetattr(&theirs).unwrap();
    settings.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &settings).unwrap();
    ends(ours.try_clone().unwrap(), ours, theirs.try_clone().unwrap(), theirs)
}

/// The client's ends never make it wait, so that each of its waits has a deadline.
fn ends(input: OwnedFd, output: OwnedFd, stdin: OwnedFd, stdout: OwnedFd) -> Ends {
    for end in [&input, &output] {
        rustix::io::ioctl_fionbio(end, true).unwrap();
    }
    Ends {
        input,
        output,
        stdin,
        stdout,
    }
}
