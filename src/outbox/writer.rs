//! The task that writes: takes what waits, up to 64 KiB, and hands it to the client in one write.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{Body, Entry, Outbox, Shared};
use crate::config::Framing;
use crate::frame;

/// How much is encoded ahead of the client's reading.
const CHUNK: usize = 64 * 1024;

/// Sees every message that is written, for the wire log.
pub type Tap = Box<dyn FnMut(&str)>;

/// Writes until the outbox is closed and empty. An error means that the client is gone: whatever is queued then and
/// later is thrown away.
pub async fn write<O: AsyncWrite + Unpin>(outbox: Outbox, mut output: O, mut tap: Option<Tap>) -> io::Result<()> {
    let shared = &*outbox.0;
    let mut buffer = Vec::new();
    let result = loop {
        shared.fill(&mut buffer, tap.as_mut());
        if buffer.is_empty() {
            if shared.queue.borrow().is_closed {
                break output.shutdown().await;
            }
            shared.filled.notified().await;
            continue;
        }
        if let Err(error) = shared.hand_over(&buffer, &mut output).await {
            break Err(error);
        }
        buffer.clear();
        buffer.shrink_to(CHUNK);
    };
    if result.is_err() {
        shared.give_up();
    }
    shared.drained.notify_waiters();
    result
}

impl Shared {
    /// Encodes what waits, until the chunk is full.
    fn fill(&self, buffer: &mut Vec<u8>, mut tap: Option<&mut Tap>) {
        while buffer.len() < CHUNK {
            // The queue is not held while a body is made, since that reads the run's state.
            let (entry, framing) = {
                let mut queue = self.queue.borrow_mut();
                (queue.pop(), queue.framing)
            };
            let Some(entry) = entry else { break };
            match entry {
                Entry::Message {
                    body: Body::Ready(text),
                    ..
                } => put(framing, &text, buffer, &mut tap),
                Entry::Message {
                    body: Body::Later(make),
                    ..
                } => put(framing, &make(), buffer, &mut tap),
                Entry::Delta(delta) => {
                    if framing == Framing::Lines && tap.is_none() {
                        delta.write(buffer);
                        buffer.push(b'\n');
                    } else {
                        let mut text = Vec::new();
                        delta.write(&mut text);
                        let text = std::str::from_utf8(&text).expect("JSON made of strings is UTF-8");
                        put(framing, text, buffer, &mut tap);
                    }
                }
            }
        }
        let mut queue = self.queue.borrow_mut();
        queue.is_writing = !buffer.is_empty();
        if queue.is_writing || queue.entries.is_empty() {
            drop(queue);
            self.drained.notify_waiters();
        }
    }

    async fn hand_over<O: AsyncWrite + Unpin>(&self, mut bytes: &[u8], output: &mut O) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = output.write(bytes).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[count..];
            self.queue.borrow_mut().written += count as u64;
        }
        output.flush().await
    }

    fn give_up(&self) {
        let entries = {
            let mut queue = self.queue.borrow_mut();
            queue.is_broken = true;
            queue.is_writing = false;
            queue.responses = 0;
            std::mem::take(&mut queue.entries)
        };
        drop(entries);
    }
}

fn put(framing: Framing, text: &str, buffer: &mut Vec<u8>, tap: &mut Option<&mut Tap>) {
    if let Some(tap) = tap {
        tap(text);
    }
    frame::encode(framing, text, buffer);
}
