//! Waiting for a descriptor, and keeping descriptors from other programs, with the one unsafe line that each takes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The descriptor, to be waited for. An error means that it cannot be: files, and the likes of /dev/null. Has to be
/// called on a runtime.
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns an open descriptor and gives the same number for as long as it lives, and nobody in
    // this crate puts another into an `AsyncFd`.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(io::Error::from)
}

/// Keeps every descriptor that is open now, but for the three standard ones, from the programs that this process
/// starts. Those that we open are kept from them anyway; whoever started us may have left us others, and a lock in one
/// of them would be held for as long as such a program, or an agent that it leaves behind, lives.
pub fn keep_from_programs() {
    // Where this folder is missing, or lists no more than the standard three, nothing can be learnt.
    let Ok(open) = std::fs::read_dir("/dev/fd") else {
        return;
    };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for number in numbers.filter(|number| *number > 2) {
        // SAFETY: it is borrowed for this one call, which neither closes nor uses what is open there. Where it was
        // closed meanwhile the call fails; where the number is another one's by now, that one is ours and has the mark.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}
