//! Ctrl-C and its relatives, for a command that has a run to stop before it leaves.

use std::future::pending;
use std::io::{self, IsTerminal};

use futures::future::{FutureExt, LocalBoxFuture};

use crate::stdio::Stdout;

/// The exit code of a program whose terminal is gone.
const HUNG_UP: u8 = 129;

/// Listens from the moment it is made; before that, a signal ends the process as usual.
pub struct Interrupt {
    #[cfg(unix)]
    streams: [(tokio::signal::unix::Signal, u8); 3],
    /// Ends when the terminal is gone, which not everybody is sent a signal for.
    terminal: Option<LocalBoxFuture<'static, ()>>,
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
                (signal(SignalKind::hangup())?, HUNG_UP),
            ],
            terminal: None,
        })
    }

    /// Begins to listen. Needs a runtime.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Interrupt> {
        Ok(Interrupt { terminal: None })
    }

    /// The same, for a program that its user talks to: it also ends with its terminal, where it has one.
    pub fn or_terminal(mut self) -> io::Result<Interrupt> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            self.terminal = Some(Stdout::open()?.closed()?.boxed_local());
        }
        Ok(self)
    }

    /// The next signal, as the exit code of a program that it stops. Safe to drop and ask again.
    #[cfg(unix)]
    pub async fn next(&mut self) -> u8 {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.streams;
        tokio::select! {
            _ = interrupt.recv() => *a,
            _ = terminate.recv() => *b,
            _ = hangup.recv() => *c,
            () = end_of(&mut self.terminal) => HUNG_UP,
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

async fn end_of(terminal: &mut Option<LocalBoxFuture<'static, ()>>) {
    match terminal {
        Some(gone) => gone.await,
        None => return pending().await,
    }
    // It ends once; whoever asks again waits for a signal.
    *terminal = None;
}
