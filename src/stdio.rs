//! The process's own stdin and stdout as ends of a connection, whatever they are: pipe, socket, terminal or file.
//!
//! No thread reads or writes here, so nothing blocks the way out, and the descriptors are left in the mode in which
//! they were found: other processes may share them. A pipe is opened anew for that, a socket is asked not to wait each
//! time, and anything else is polled first. A file is never waited for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::descriptor::register;

/// The most that is written to a descriptor that was only polled: a pipe with room takes this without waiting.
const PIPE_BUF: usize = 4096;

/// The process's stdin.
pub struct Stdin(End);

/// The process's stdout.
pub struct Stdout(End);

/// One end of a connection.
enum End {
    Waiting(AsyncFd<OwnedFd>, Kind),
    File(File),
}

/// How a descriptor that can be waited for is used without waiting in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Opened anew, so that not waiting is ours alone.
    Pipe,
    /// Asked not to wait, each time.
    Socket,
    /// A terminal, or a pipe that could not be opened anew: polled first.
    Other,
}

impl Stdin {
    /// The process's stdin. Has to be called on a runtime.
    pub fn open() -> io::Result<Stdin> {
        End::open(rustix::stdio::stdin(), Interest::READABLE).map(Stdin)
    }
}

impl Stdout {
    /// The process's stdout. Has to be called on a runtime.
    pub fn open() -> io::Result<Stdout> {
        End::open(rustix::stdio::stdout(), Interest::WRITABLE).map(Stdout)
    }

    /// What ends when nobody reads any more: a pipe shows an error then, a socket that both sides are closed. Where it
    /// cannot be seen it never ends, and the next write tells.
    pub fn closed(&self) -> io::Result<impl Future<Output = ()> + 'static> {
        let watched = match &self.0 {
            End::Waiting(fd, Kind::Pipe) => Some(watch(fd.as_fd(), Interest::ERROR)?),
            End::Waiting(fd, Kind::Socket | Kind::Other) => Some(watch(fd.as_fd(), Interest::WRITABLE)?),
            End::File(_) => None,
        };
        Ok(async move {
            match watched {
                Some(watched) => hung_up(watched).await,
                None => std::future::pending().await,
            }
        })
    }
}

fn watch(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd.try_clone_to_owned()?, interest)
}

async fn hung_up(watched: AsyncFd<OwnedFd>) {
    let interest = Interest::ERROR | Interest::WRITABLE;
    while let Ok(mut guard) = watched.ready(interest).await {
        let ready = guard.ready();
        if ready.is_error() || ready.is_write_closed() {
            return;
        }
        guard.clear_ready();
    }
}

impl End {
    fn open(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<End> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
        let own = fd.try_clone_to_owned()?;
        if kind == FileType::RegularFile {
            return Ok(End::File(own.into()));
        }
        if kind == FileType::Fifo
            && let Some(anew) = open_anew(fd, interest)
        {
            return register(anew, interest).map(|fd| End::Waiting(fd, Kind::Pipe));
        }
        match register(own, interest) {
            Ok(fd) if kind == FileType::Socket => Ok(End::Waiting(fd, Kind::Socket)),
            Ok(fd) => Ok(End::Waiting(fd, Kind::Other)),
            // What cannot be waited for, such as /dev/null, never makes anybody wait.
            Err(_) => Ok(End::File(fd.try_clone_to_owned()?.into())),
        }
    }

    fn read(&mut self, to: &mut [u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (fd, kind) = match self {
            End::File(file) => return Poll::Ready(file.read(to)),
            End::Waiting(fd, kind) => (fd, *kind),
        };
        loop {
            let mut guard = ready!(fd.poll_read_ready(context))?;
            let result = guard.try_io(|fd| {
                let fd = fd.as_fd();
                match kind {
                    Kind::Pipe => {}
                    Kind::Socket => return Ok(rustix::net::recv(fd, &mut *to, RecvFlags::DONTWAIT)?.0),
                    Kind::Other => is_ready(fd, PollFlags::IN)?,
                }
                Ok(rustix::io::read(fd, &mut *to)?)
            });
            if let Ok(result) = result {
                return Poll::Ready(result);
            }
        }
    }

    fn write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (fd, kind) = match self {
            End::File(file) => return Poll::Ready(file.write(bytes)),
            End::Waiting(fd, kind) => (fd, *kind),
        };
        loop {
            let mut guard = ready!(fd.poll_write_ready(context))?;
            let result = guard.try_io(|fd| {
                let fd = fd.as_fd();
                match kind {
                    Kind::Pipe => Ok(rustix::io::write(fd, bytes)?),
                    // A Rust program ignores SIGPIPE, so this is an error like any other when the client is gone.
                    Kind::Socket => Ok(rustix::net::send(fd, bytes, SendFlags::DONTWAIT)?),
                    Kind::Other => {
                        is_ready(fd, PollFlags::OUT)?;
                        Ok(rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_BUF)])?)
                    }
                }
            });
            if let Ok(result) = result {
                return Poll::Ready(result);
            }
        }
    }
}

/// The same pipe under a description of our own, which does not wait.
#[cfg(target_os = "linux")]
fn open_anew(fd: BorrowedFd<'_>, interest: Interest) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;

    let direction = if interest.is_readable() {
        OFlags::RDONLY
    } else {
        OFlags::WRONLY
    };
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, direction | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Only Linux opens a descriptor's path anew; elsewhere it would be the same description again.
#[cfg(not(target_os = "linux"))]
fn open_anew(_fd: BorrowedFd<'_>, _interest: Interest) -> Option<OwnedFd> {
    None
}

/// `WouldBlock` unless the descriptor is ready, or closed, right now.
fn is_ready(fd: BorrowedFd<'_>, wanted: PollFlags) -> io::Result<()> {
    let mut polled = [PollFd::from_borrowed_fd(fd, wanted)];
    match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

impl AsyncRead for Stdin {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(self.0.read(to.initialize_unfilled(), context))?;
        to.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.write(bytes, context)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
