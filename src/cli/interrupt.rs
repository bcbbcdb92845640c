//! Ctrl-C and its relatives, for a command that has a run to stop before it leaves.

use std::io;

/// Listens from the moment it is made; before that, a signal ends the process as usual.
pub struct Interrupt {
    #[cfg(unix)]
    streams: [(tokio::signal::unix::Signal, u8); 3],
}

impl Interrupt {
    /// Begins to listen. Needs a runtime.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Interrupt> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Interrupt {
            streams: [
                (signal(SignalKind::interrupt())?, 130),
                (signal(SignalKind::terminate())?, 143),
                (signal(SignalKind::hangup())?, 129),
            ],
        })
    }

    /// Begins to listen. Needs a runtime.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Interrupt> {
        Ok(Interrupt {})
    }

    /// The next signal, as the exit code of a program that it stops. Safe to drop and ask again.
    #[cfg(unix)]
    pub async fn next(&mut self) -> u8 {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.streams;
        tokio::select! {
            _ = interrupt.recv() => *a,
            _ = terminate.recv() => *b,
            _ = hangup.recv() => *c,
        }
    }

    /// The next signal, as the exit code of a program that it stops. Safe to drop and ask again.
    #[cfg(not(unix))]
    pub async fn next(&mut self) -> u8 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => 130,
            Err(_) => std::future::pending().await,
        }
    }
}
