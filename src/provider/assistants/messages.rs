//! The messages of a run, from the upstream's events to ours: each piece of text, annotation and picture exactly once,
//! whether it came in a delta or stands only in the message.

use super::wire::{self, Part};
use crate::protocol::{Image, PartKind};
use crate::provider::Event;
use crate::provider::json::Text;

/// What has been shown of the messages so far.
#[derive(Debug, Default)]
pub struct Messages {
    known: Vec<Known>,
    /// The message that the last events belonged to.
    current: Option<usize>,
    has_text: bool,
    has_refusal: bool,
    /// Why the last message is incomplete, if it is.
    incomplete: Option<String>,
}

#[derive(Debug, Default)]
struct Known {
    id: String,
    /// A user's message is told of as well by some upstreams; it is none of the answer.
    is_users: bool,
    is_done: bool,
    parts: Vec<Shown>,
}

/// What has been shown of one part.
#[derive(Debug, Default)]
struct Shown {
    index: u32,
    /// How much text, in bytes.
    text: usize,
    annotations: usize,
    image: bool,
}

impl Messages {
    /// `thread.message.delta`: the hot path.
    pub fn accept_delta(&mut self, delta: wire::MessageDelta, out: &mut Vec<Event>) {
        let id = delta.id.as_ref().map_or("", |id| &id.0);
        let Some(known) = self.turn_to(id, false, out) else {
            return;
        };
        for part in delta.delta.and_then(|delta| delta.content).unwrap_or_default() {
            self.show(known, part.index.unwrap_or_default(), part, Whole::No, out);
        }
    }

    /// `thread.message.created` and `.in_progress`.
    pub fn accept_begun(&mut self, message: wire::Message, out: &mut Vec<Event>) {
        self.accept_whole(message, out);
    }

    /// `thread.message.completed` and `.incomplete`.
    pub fn accept_ended(&mut self, mut message: wire::Message, out: &mut Vec<Event>) {
        self.incomplete = message.incomplete_details.take().and_then(|details| details.reason);
        let id = message.id.as_ref().map_or("", |id| &id.0).to_owned();
        self.accept_whole(message, out);
        if let Some(current) = self.current.take_if(|current| self.known[*current].id == id) {
            self.known[current].is_done = true;
            out.push(Event::MessageDone);
        }
    }

    /// Whether the answer is nothing but a refusal.
    pub fn is_refusal(&self) -> bool {
        self.has_refusal && !self.has_text
    }

    /// The upstream's word for why the last message is incomplete.
    pub fn incomplete_reason(&self) -> Option<&str> {
        self.incomplete.as_deref()
    }

    fn accept_whole(&mut self, message: wire::Message, out: &mut Vec<Event>) {
        let id = message.id.as_ref().map_or("", |id| &id.0);
        // Told twice of the same end, we tell of it once.
        if self.known.iter().any(|known| known.id == id && known.is_done) {
            return;
        }
        let is_users = message.role.as_ref().is_some_and(|role| role.0 == "user");
        let Some(known) = self.turn_to(id, is_users, out) else {
            return;
        };
        for (place, part) in message.content.unwrap_or_default().into_iter().enumerate() {
            let index = part.index.unwrap_or(place as u32);
            self.show(known, index, part, Whole::Yes, out);
        }
    }

    /// Makes this message the current one; none if it is not part of the answer.
    fn turn_to(&mut self, id: &str, is_users: bool, out: &mut Vec<Event>) -> Option<usize> {
        if let Some(current) = self.current.filter(|&current| self.known[current].id == id) {
            return Some(current);
        }
        let found = self.known.iter().position(|known| known.id == id);
        let place = found.unwrap_or_else(|| {
            self.known.push(Known {
                id: id.to_owned(),
                is_users,
                ..Known::default()
            });
            self.known.len() - 1
        });
        if self.known[place].is_users {
            return None;
        }
        if self.current.replace(place).is_some() {
            out.push(Event::MessageDone);
        }
        out.push(Event::MessageStarted {
            upstream_id: (!id.is_empty()).then(|| id.to_owned()),
        });
        Some(place)
    }

    fn show(&mut self, known: usize, index: u32, part: Part, whole: Whole, out: &mut Vec<Event>) {
        let shown = self.known[known].part(index);
        if let Some(text) = part.text {
            if let Some(piece) = shown.unseen(text.value.as_ref(), whole) {
                self.has_text = true;
                push_delta(out, index, PartKind::Text, piece);
            }
            let annotations = text.annotations.unwrap_or_default();
            let seen = if whole == Whole::Yes { shown.annotations } else { 0 };
            for annotation in annotations.into_iter().skip(seen) {
                shown.annotations += 1;
                out.push(Event::Annotation {
                    index,
                    annotation: annotation.into(),
                });
            }
        }
        if let Some(piece) = shown.unseen(part.refusal.as_ref(), whole) {
            self.has_refusal = true;
            push_delta(out, index, PartKind::Refusal, piece);
        }
        let image = image(part.image_file, part.image_url);
        if let Some(image) = image.filter(|_| !std::mem::replace(&mut shown.image, true)) {
            self.has_text = true;
            out.push(Event::Image { index, image });
        }
    }
}

/// Whether a part is the whole of it or a further piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

impl Known {
    fn part(&mut self, index: u32) -> &mut Shown {
        let place = self.parts.iter().position(|part| part.index == index);
        let place = place.unwrap_or_else(|| {
            self.parts.push(Shown {
                index,
                ..Shown::default()
            });
            self.parts.len() - 1
        });
        &mut self.parts[place]
    }
}

impl Shown {
    /// What of this text has not been shown, and counts it as shown.
    fn unseen<'a>(&mut self, text: Option<&'a Text>, whole: Whole) -> Option<&'a str> {
        let text = &*text?.0;
        let unseen = match whole {
            Whole::No => text,
            Whole::Yes => text.get(self.text..)?,
        };
        self.text += unseen.len();
        (!unseen.is_empty()).then_some(unseen)
    }
}

fn image(file: Option<wire::ImageFile>, url: Option<wire::ImageUrl>) -> Option<Image> {
    let file = file.map(|file| Image {
        file_id: Some(file.file_id),
        detail: file.detail,
        ..Image::default()
    });
    file.or_else(|| {
        url.map(|url| Image {
            url: Some(url.url),
            detail: url.detail,
            ..Image::default()
        })
    })
}

/// Joins neighbours: deltas that came together go on together.
fn push_delta(out: &mut Vec<Event>, index: u32, part: PartKind, piece: &str) {
    match out.last_mut() {
        Some(Event::Delta {
            index: i,
            part: p,
            text,
        }) if *i == index && *p == part => text.push_str(piece),
        _ => out.push(Event::Delta {
            index,
            part,
            text: piece.to_owned(),
        }),
    }
}
