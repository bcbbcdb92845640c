//! The sending end, and the only task that writes to the client.
//!
//! The queue holds positions in a run's text, not copies of it: a delta that waits is merged with the next one of the
//! same run, message and part, up to what the client takes in one message. Order is the order of queueing; a merged
//! delta stands where its first piece stood. Bounded by [`LANE_ROOM`] entries a run and [`RESPONSE_ROOM`] responses:
//! whoever fills them waits in [`Lane::room`] or [`Outbox::response_room`]; nothing here blocks anybody else.

mod delta;
mod writer;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::config::Framing;
use crate::transcript::Text;

pub use delta::{Address, MAX_DELTA_OVERHEAD, escaped_len};
pub use writer::{Tap, write};

use delta::Delta;

/// How many entries of one run may wait before it stops reading its upstream.
pub const LANE_ROOM: usize = 64;

/// How many responses may wait before assistd stops reading the client.
pub const RESPONSE_ROOM: usize = 1024;

/// How long a message may be that nobody reads: text is cut as for a client that takes lines.
const UNREAD_MESSAGE: usize = 60 * 1024;

/// The handle by which messages are queued. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Outbox(Rc<Shared>);

struct Shared {
    queue: RefCell<Queue>,
    /// The writer waits here for something to write.
    filled: Notify,
    /// Whoever waits for room waits here; told after each write.
    drained: Notify,
}

struct Queue {
    entries: VecDeque<Entry>,
    /// How many entries have left the front since the beginning: the number of `entries[0]`.
    taken: u64,
    responses: usize,
    framing: Framing,
    max_message: usize,
    /// Bytes that the client has taken; moves while the client reads at all.
    written: u64,
    /// The writer holds encoded bytes that the client has not taken yet.
    is_writing: bool,
    is_closed: bool,
    is_broken: bool,
}

enum Entry {
    Message {
        body: Body,
        kind: EntryKind,
        lane: Option<Rc<LaneState>>,
    },
    Delta(Delta),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Response,
    Other,
}

/// A message's JSON text, or how to make it when its turn comes, so that a long text is not held twice.
pub enum Body {
    /// The text.
    Ready(String),
    /// Makes the text when it is written.
    Later(Box<dyn FnOnce() -> String>),
}

/// A run's place in the outbox. Dropping it leaves what it queued.
#[derive(Clone)]
pub struct Lane {
    outbox: Outbox,
    state: Rc<LaneState>,
}

struct LaneState {
    address: Address,
    /// Entries of this run that wait.
    unsent: Cell<usize>,
    /// The number of the run's last entry.
    last: Cell<Option<u64>>,
}

impl Outbox {
    /// An empty outbox for a client that takes messages of up to `max_message` bytes.
    pub fn new(framing: Framing, max_message: usize) -> Self {
        Outbox(Rc::new(Shared {
            queue: RefCell::new(Queue {
                entries: VecDeque::new(),
                taken: 0,
                responses: 0,
                framing,
                max_message,
                written: 0,
                is_writing: false,
                is_closed: false,
                is_broken: false,
            }),
            filled: Notify::new(),
            drained: Notify::new(),
        }))
    }

    /// An outbox that nobody reads: what is queued is forgotten at once, and there is always room.
    pub fn nowhere() -> Self {
        let outbox = Outbox::new(Framing::Lines, UNREAD_MESSAGE);
        outbox.0.queue.borrow_mut().is_broken = true;
        outbox
    }

    /// How the client frames, and the largest line or body that it takes. Holds for what is written from now on.
    pub fn configure(&self, framing: Framing, max_message: usize) {
        let mut queue = self.0.queue.borrow_mut();
        queue.framing = framing;
        queue.max_message = max_message;
    }

    /// The largest line or body that the client takes, in bytes.
    pub fn max_message(&self) -> usize {
        self.0.queue.borrow().max_message
    }

    /// Queues a response.
    pub fn respond(&self, text: String) {
        self.push(Entry::Message {
            body: Body::Ready(text),
            kind: EntryKind::Response,
            lane: None,
        });
    }

    /// Queues a notification or request that belongs to no run.
    pub fn notify(&self, text: String) {
        self.push(Entry::Message {
            body: Body::Ready(text),
            kind: EntryKind::Other,
            lane: None,
        });
    }

    /// A place for the run with this address.
    pub fn lane(&self, address: Address) -> Lane {
        Lane {
            outbox: self.clone(),
            state: Rc::new(LaneState {
                address,
                unsent: Cell::new(0),
                last: Cell::new(None),
            }),
        }
    }

    /// How many messages wait.
    pub fn unsent(&self) -> usize {
        self.0.queue.borrow().entries.len()
    }

    /// Waits until fewer than [`RESPONSE_ROOM`] responses wait. Safe to drop.
    pub async fn response_room(&self) {
        self.until(|queue| queue.responses < RESPONSE_ROOM || queue.is_broken)
            .await;
    }

    /// Waits until all that was queued has been handed to the client. Safe to drop.
    pub async fn flushed(&self) {
        self.until(|queue| queue.entries.is_empty() && !queue.is_writing).await;
    }

    /// Whether there is room for a response now.
    pub fn has_response_room(&self) -> bool {
        self.0.queue.borrow().responses < RESPONSE_ROOM
    }

    /// Whether anything waits, and how many bytes the client has taken: if that stands still, it does not read.
    pub fn progress(&self) -> (bool, u64) {
        let queue = self.0.queue.borrow();
        (queue.is_writing || !queue.entries.is_empty(), queue.written)
    }

    /// Lets the writer end when it has written what is queued.
    pub fn close(&self) {
        self.0.queue.borrow_mut().is_closed = true;
        self.0.filled.notify_one();
    }

    fn push(&self, entry: Entry) {
        {
            let mut queue = self.0.queue.borrow_mut();
            if queue.is_broken {
                return;
            }
            queue.push(entry);
        }
        self.0.filled.notify_one();
    }

    async fn until(&self, condition: impl Fn(&Queue) -> bool) {
        loop {
            let drained = self.0.drained.notified();
            if condition(&self.0.queue.borrow()) {
                return;
            }
            drained.await;
        }
    }
}

impl Lane {
    /// Queues a piece of text: `text[start..]` as it stands now, which the event `seq` brought. `escaped` is its length
    /// within JSON quotes. Merged with the piece before it where nothing else of the run was queued in between.
    pub fn delta(&self, message: &Rc<str>, piece: Piece) {
        {
            let mut queue = self.outbox.0.queue.borrow_mut();
            if queue.is_broken {
                return;
            }
            let limit = queue.max_message;
            let waiting = self.state.last.get().and_then(|number| queue.waiting(number));
            if let Some(Entry::Delta(delta)) = waiting
                && delta.take_in(message, &piece, limit)
            {
                return;
            }
            queue.push(Entry::Delta(Delta::new(self.state.clone(), message.clone(), piece)));
        }
        self.outbox.0.filled.notify_one();
    }

    /// Queues a notification or request of the run.
    pub fn notify(&self, body: Body) {
        self.push(body, EntryKind::Other);
    }

    /// Queues the response to the request that asked for the run, behind what the run has queued.
    pub fn respond(&self, body: Body) {
        self.push(body, EntryKind::Response);
    }

    /// Whether the run may queue more.
    pub fn has_room(&self) -> bool {
        self.state.unsent.get() < LANE_ROOM
    }

    /// Waits until fewer than [`LANE_ROOM`] entries of the run wait. Safe to drop.
    pub async fn room(&self) {
        self.outbox
            .until(|queue| self.state.unsent.get() < LANE_ROOM || queue.is_broken)
            .await;
    }

    /// The longest piece of text, escaped and in bytes, that fits one message of this run.
    pub fn max_piece(&self) -> usize {
        self.outbox
            .max_message()
            .saturating_sub(self.state.address.len() + MAX_DELTA_OVERHEAD)
    }

    /// The largest message that the client takes.
    pub fn max_message(&self) -> usize {
        self.outbox.max_message()
    }

    /// Whose lane it is.
    pub fn address(&self) -> &Address {
        &self.state.address
    }

    fn push(&self, body: Body, kind: EntryKind) {
        self.outbox.push(Entry::Message {
            body,
            kind,
            lane: Some(self.state.clone()),
        });
    }
}

/// A piece of a part's text.
pub struct Piece {
    /// The event that brought it.
    pub seq: u64,
    /// The content part of the message.
    pub index: u32,
    /// Text or refusal.
    pub part: crate::protocol::PartKind,
    /// The part's text.
    pub text: Text,
    /// Where the piece begins, in bytes.
    pub start: usize,
    /// Just behind the piece, in bytes.
    pub end: usize,
    /// Its length within JSON quotes.
    pub escaped: usize,
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        if let Some(lane) = entry.lane() {
            lane.unsent.set(lane.unsent.get() + 1);
            lane.last.set(Some(self.taken + self.entries.len() as u64));
        }
        if matches!(
            entry,
            Entry::Message {
                kind: EntryKind::Response,
                ..
            }
        ) {
            self.responses += 1;
        }
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.taken += 1;
        if let Some(lane) = entry.lane() {
            lane.unsent.set(lane.unsent.get() - 1);
        }
        if matches!(
            entry,
            Entry::Message {
                kind: EntryKind::Response,
                ..
            }
        ) {
            self.responses -= 1;
        }
        Some(entry)
    }

    /// The entry with this number, if it still waits.
    fn waiting(&mut self, number: u64) -> Option<&mut Entry> {
        let place = number.checked_sub(self.taken)?;
        self.entries.get_mut(usize::try_from(place).ok()?)
    }
}

impl Entry {
    fn lane(&self) -> Option<&Rc<LaneState>> {
        match self {
            Entry::Message { lane, .. } => lane.as_ref(),
            Entry::Delta(delta) => Some(&delta.lane),
        }
    }
}
