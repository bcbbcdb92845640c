//! The same story told twice, from wherever the first teller died.

use super::*;
use crate::protocol::{Annotation, Image, StopReason};
use crate::transcript::Entry;

/// What a run journals, and what a provider gives: the same story told twice.
fn story() -> Vec<(Option<Entry>, Event)> {
    let message = |id: &str| Some(Entry::Message { message_id: id.into() });
    let started = || Event::MessageStarted { upstream_id: None };
    let text = |index, part, text: &str| {
        let text = text.to_owned();
        (None, Event::Delta { index, part, text })
    };
    let annotation = Annotation {
        kind: "urlCitation".into(),
        ..Annotation::default()
    };
    let image = Image::default();
    vec![
        (message("1"), started()),
        text(0, PartKind::Text, "Grüße "),
        text(0, PartKind::Text, "und "),
        (
            Some(Entry::Annotation {
                index: 0,
                annotation: annotation.clone(),
            }),
            Event::Annotation { index: 0, annotation },
        ),
        (
            Some(Entry::Image {
                index: 1,
                image: image.clone(),
            }),
            Event::Image { index: 1, image },
        ),
        text(0, PartKind::Text, "mehr"),
        (Some(Entry::MessageDone), Event::MessageDone),
        (Some(Entry::Step { step: step("a") }), Event::Step(step("a"))),
        (Some(Entry::Step { step: step("b") }), Event::Step(step("b"))),
        (message("2"), started()),
        text(0, PartKind::Refusal, "No, "),
        text(0, PartKind::Refusal, "no."),
        (Some(Entry::MessageDone), Event::MessageDone),
    ]
}

fn step(status: &str) -> RunStep {
    RunStep {
        id: "s".into(),
        kind: "reasoning".into(),
        status: status.into(),
        calls: Vec::new(),
        error: None,
        usage: None,
    }
}

/// What a transcript is after these.
fn told(story: &[(Option<Entry>, Event)]) -> Transcript {
    let mut transcript = Transcript::default();
    tell(&mut transcript, story);
    transcript
}

fn tell(transcript: &mut Transcript, story: &[(Option<Entry>, Event)]) {
    for (entry, event) in story {
        let seq = transcript.seq() + 1;
        match (entry, event) {
            (Some(entry), _) => transcript.apply(seq, entry.clone()),
            (None, Event::Delta { index, part, text }) => {
                transcript.delta(seq, *index, *part, text);
            }
            _ => unreachable!("only text has no entry"),
        }
    }
}

fn all_new(known: &mut Known, event: Event) -> Vec<Event> {
    known.pass(event).expect("it is the same story")
}

#[test]
fn what_is_known_is_passed_over_wherever_the_process_died() {
    let story = story();
    let end = || Event::End(End::Completed(StopReason::EndTurn));
    for died in 0..=story.len() {
        let mut known = Known::of(&told(&story[..died]));
        let events = story.iter().map(|(_, event)| event.clone()).chain([end()]);
        let new: Vec<Event> = events.flat_map(|event| all_new(&mut known, event)).collect();
        let mut expected: Vec<Event> = story[died..].iter().map(|(_, event)| event.clone()).collect();
        expected.push(end());
        assert_eq!(new, expected, "died after {died}");
    }
}

#[test]
fn text_is_known_to_the_byte_in_whatever_pieces_it_comes() {
    let story = story();
    let transcript = told(&story[..3]);
    let whole = "Grüße und mehr";
    for cut in (0..=whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
        let mut known = Known::of(&transcript);
        let mut new = String::new();
        for piece in [&whole[..cut], &whole[cut..]] {
            let event = Event::Delta {
                index: 0,
                part: PartKind::Text,
                text: piece.to_owned(),
            };
            for event in all_new(&mut known, event) {
                let Event::Delta { text, .. } = event else {
                    panic!("expected text, found {event:?}");
                };
                new += &text;
            }
        }
        assert_eq!(new, "mehr", "cut at {cut}");
        assert!(known.is_caught_up());
    }
}

#[test]
fn another_story_is_not_believed() {
    let story = story();
    let told = told(&story);
    let delta = |text: &str| Event::Delta {
        index: 0,
        part: PartKind::Text,
        text: text.to_owned(),
    };
    let end = Event::End(End::Completed(StopReason::EndTurn));
    let others = [
        vec![delta("Hello")],
        vec![delta("Gr\u{fe}")],
        vec![delta("Grüße und mehr "), delta("x")],
        vec![delta("Grüße "), Event::MessageDone],
        vec![delta("Grüße und mehr"), end.clone()],
        vec![end],
    ];
    for other in others {
        let mut known = Known::of(&told);
        let believed = other.iter().try_for_each(|event| known.pass(event.clone()).map(drop));
        assert_eq!(believed, Err(Differs), "{other:?}");
    }
}

#[test]
fn a_step_that_went_another_way_is_told_at_the_end() {
    let mut known = Known::of(&told(&story()[..8]));
    for event in story()[..7].iter().map(|(_, event)| event.clone()) {
        assert_eq!(all_new(&mut known, event), []);
    }
    assert_eq!(all_new(&mut known, Event::Step(step("c"))), []);
    let end = Event::End(End::Completed(StopReason::EndTurn));
    assert_eq!(all_new(&mut known, end.clone()), [Event::Step(step("c")), end]);
}
