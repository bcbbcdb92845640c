//! Waiting for a descriptor, with the one unsafe line that takes.

use std::io;
use std::os::fd::OwnedFd;

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
