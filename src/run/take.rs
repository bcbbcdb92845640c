//! A provider's events, each as the entry that is kept of it and the event that is shown.

use std::rc::Rc;

use super::Run;
use crate::error::{Error, Kind};
use crate::protocol::{EventType, PartKind, RunEvent, RunStatus};
use crate::provider::{End, Event};
use crate::transcript::Entry;

impl Run {
    /// Takes one event of the provider; the round's end, if it was that.
    pub(super) fn take(&mut self, event: Option<Event>) -> Option<End> {
        let Some(event) = event else {
            let error = Error::new(Kind::Network, "the provider's stream stopped without an end").retryable(true);
            return Some(End::Failed(error));
        };
        match event {
            Event::Delta { index, part, text } => self.delta(index, part, &text),
            Event::MessageStarted { .. } => self.start_message(),
            Event::MessageDone => self.finish_message(),
            Event::Annotation { index, annotation } => {
                let message_id = self.message();
                self.entry(Entry::Annotation {
                    index,
                    annotation: annotation.clone(),
                });
                self.event(RunEvent::Annotation {
                    message_id: message_id.to_string(),
                    index,
                    annotation,
                });
            }
            Event::Image { index, image } => {
                let message_id = self.message();
                self.entry(Entry::Image {
                    index,
                    image: image.clone(),
                });
                self.event(RunEvent::Image {
                    message_id: message_id.to_string(),
                    index,
                    image,
                });
            }
            Event::Step(step) => self.step(step),
            Event::Usage(usage) => {
                let usage = self.usage_before.plus(usage);
                self.entry(Entry::Usage { usage });
                self.event(RunEvent::Usage { usage });
            }
            Event::Anchor(anchor) => self.entry(Entry::Anchor { anchor }),
            Event::Carry(carry) => self.carry = Some(carry),
            Event::Status(status) => self.event(RunEvent::Status { status }),
            Event::ToolArguments {
                step_id,
                call_id,
                name,
                text,
            } => {
                self.event(RunEvent::ToolArguments {
                    step_id,
                    call_id,
                    name,
                    text,
                });
            }
            Event::Reasoning { text, summary } => self.event(RunEvent::Reasoning { text, summary }),
            Event::Retry { attempt, delay, error } => {
                let delay_ms = delay.as_millis() as u64;
                self.event(RunEvent::Retry {
                    attempt,
                    delay_ms,
                    error,
                });
            }
            Event::RateLimit(limits) => self.event(RunEvent::RateLimit(limits)),
            Event::Truncated { messages } => self.event(RunEvent::Truncated { messages }),
            Event::Upstream { name, data } => self.event(RunEvent::Upstream { name, data }),
            Event::End(end) => return Some(end),
        }
        None
    }

    fn delta(&mut self, index: u32, part: PartKind, text: &str) {
        if text.is_empty() {
            return;
        }
        let message = self.message();
        self.batch
            .delta(&message, index, part, text, &mut self.transcript.borrow_mut());
    }

    fn start_message(&mut self) {
        if self.transcript.borrow().message_under_way().is_some() {
            self.finish_message();
        }
        let message_id = crate::ids::message();
        self.entry(Entry::Message { message_id });
    }

    pub(super) fn finish_message(&mut self) {
        let Some(message_id) = self.transcript.borrow().message_under_way() else {
            return;
        };
        self.entry(Entry::MessageDone);
        if self.events.wants(EventType::Message) {
            let content = self.transcript.borrow().last_content();
            let event = RunEvent::Message {
                message_id: message_id.to_string(),
                status: RunStatus::Completed,
                content: Some(content),
            };
            self.event(event);
        }
    }

    /// The message that text goes to; begins one if there is none.
    fn message(&mut self) -> Rc<str> {
        if let Some(message) = self.transcript.borrow().message_under_way() {
            return message;
        }
        self.start_message();
        let message = self.transcript.borrow().message_under_way();
        message.expect("a message was begun")
    }
}
