//! One message of the output, from the upstream's events to ours: each piece of text and each annotation exactly once,
//! whether it came in a delta or stands only in the whole message.

use super::markers::Markers;
use super::wire;
use crate::protocol::{Annotation, PartKind};
use crate::provider::Event;

/// What has been shown of a message.
#[derive(Debug, Default)]
pub struct Message {
    parts: Vec<Part>,
    /// How many parts the upstream has announced, for pieces that do not say which they belong to.
    announced: u32,
}

#[derive(Debug)]
struct Part {
    index: u32,
    kind: PartKind,
    /// How much of the upstream's text has come, in bytes.
    taken: usize,
    /// How many of its annotations have come.
    annotations: usize,
    markers: Markers,
}

impl Message {
    /// A part begins.
    pub fn announce(&mut self, index: Option<u32>) {
        self.announced = index.map_or(self.announced, |index| index) + 1;
    }

    /// A piece of text: the hot path.
    pub fn piece(&mut self, index: Option<u32>, kind: PartKind, piece: &str, out: &mut Vec<Event>) {
        self.part(index, kind).take(piece, out);
    }

    /// The whole text of a part: gives what no piece has told.
    pub fn whole(&mut self, index: Option<u32>, kind: PartKind, text: &str, out: &mut Vec<Event>) {
        let part = self.part(index, kind);
        if let Some(missing) = text.get(part.taken..) {
            part.take(missing, out);
        }
    }

    /// One more annotation.
    pub fn annotation(&mut self, index: Option<u32>, annotation: wire::Annotation, out: &mut Vec<Event>) {
        let part = self.part(index, PartKind::Text);
        part.annotations += 1;
        part.annotate(annotation.into(), out);
    }

    /// A whole part: its text, and the annotations that have not come by themselves.
    pub fn whole_part(&mut self, index: Option<u32>, part: wire::Part, out: &mut Vec<Event>) {
        if let Some(refusal) = part.refusal {
            self.whole(index, PartKind::Refusal, &refusal, out);
        }
        if let Some(text) = part.text {
            self.whole(index, PartKind::Text, &text, out);
        }
        let annotations = part.annotations.unwrap_or_default();
        let given = self.part(index, PartKind::Text).annotations;
        for annotation in annotations.into_iter().skip(given) {
            self.annotation(index, annotation, out);
        }
    }

    /// Nothing more comes: what was held back is text, and marks that nobody has explained are citations.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        for part in &mut self.parts {
            let held = part.markers.finish();
            show(part.index, part.kind, &held, out);
            let index = part.index;
            out.extend(
                part.markers
                    .uncited()
                    .map(|annotation| Event::Annotation { index, annotation }),
            );
        }
    }

    /// Whether there is text of this kind.
    pub fn has(&self, kind: PartKind) -> bool {
        self.parts.iter().any(|part| part.kind == kind && part.taken > 0)
    }

    fn part(&mut self, index: Option<u32>, kind: PartKind) -> &mut Part {
        let index = index.unwrap_or(self.announced.saturating_sub(1));
        let known = self
            .parts
            .iter()
            .position(|part| part.index == index && part.kind == kind);
        let place = known.unwrap_or_else(|| {
            self.parts.push(Part {
                index,
                kind,
                taken: 0,
                annotations: 0,
                markers: Markers::default(),
            });
            self.parts.len() - 1
        });
        &mut self.parts[place]
    }
}

impl Part {
    fn take(&mut self, piece: &str, out: &mut Vec<Event>) {
        self.taken += piece.len();
        let shown = self.markers.pass(piece);
        show(self.index, self.kind, &shown, out);
    }

    fn annotate(&mut self, mut annotation: Annotation, out: &mut Vec<Event>) {
        self.markers.place(&mut annotation);
        out.push(Event::Annotation {
            index: self.index,
            annotation,
        });
    }
}

/// Neighbouring pieces that came together go on together.
fn show(index: u32, kind: PartKind, piece: &str, out: &mut Vec<Event>) {
    if piece.is_empty() {
        return;
    }
    match out.last_mut() {
        Some(Event::Delta {
            index: last,
            part,
            text,
        }) if (*last, *part) == (index, kind) => text.push_str(piece),
        _ => out.push(Event::Delta {
            index,
            part: kind,
            text: piece.to_owned(),
        }),
    }
}
