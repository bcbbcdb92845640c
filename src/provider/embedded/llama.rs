//! The engine: one request to one answer, token by token.
//!
//! The invariant: between two looks at the cancel token there is at most one token, or [`PREFILL`] tokens of prompt.

use std::path::{Path, PathBuf};

use super::memory;
use super::model::{Model, first_line};
use super::prompt::{self, Prompt};
use super::sampler::Sampler;
use super::utf8::Characters;
use super::vocabulary::Piece;
use super::warm::{Shelf, Warm};
use super::worker::{Engine, Job};
use crate::error::{Error, Kind};
use crate::protocol::{PartKind, StopReason, Usage};
use crate::provider::{End, Event};

/// How many tokens of the prompt are read at once: enough to be fast, few enough to be cancelled soon.
const PREFILL: usize = 64;

/// The longest answer where the request names none, in tokens. A small model that has lost its thread would else write
/// until its context is full, which takes minutes.
const USUAL_MOST: u32 = 1024;

/// Holds one model, and the conversations that it has read.
#[derive(Default)]
pub(super) struct Llama {
    model: Option<(PathBuf, Model)>,
    shelf: Shelf,
}

impl Engine for Llama {
    fn answer(&mut self, job: &Job) -> End {
        if let Err(error) = self.load(&job.model) {
            return End::Failed(error);
        }
        let Some((_, model)) = &self.model else {
            return End::Failed(Error::new(Kind::Internal, "the model was loaded but is not there"));
        };
        let prompt = match prompt::fit(model, &job.request) {
            Ok(prompt) => prompt,
            Err(error) => return End::Failed(error),
        };
        let mut answer = Answer::new(job, model, prompt, &mut self.shelf);
        let end = match answer.read().and_then(|()| answer.write()) {
            Ok(end) | Err(end) => end,
        };
        answer.emit(Event::Usage(answer.usage()));
        if let Some(warm) = answer.into_warm(&end) {
            self.shelf.put(warm, model.token_bytes);
        }
        end
    }

    fn is_loaded(&self) -> bool {
        self.model.is_some()
    }

    fn unload(&mut self) {
        self.shelf.clear();
        self.model = None;
        memory::give_back();
    }
}

impl Llama {
    fn load(&mut self, path: &Path) -> Result<(), Error> {
        if self.model.as_ref().is_some_and(|(loaded, _)| loaded == path) {
            return Ok(());
        }
        self.unload();
        self.model = Some((path.to_owned(), Model::load(path)?));
        Ok(())
    }
}

/// An answer being made.
struct Answer<'a> {
    job: &'a Job,
    model: &'a Model,
    warm: Warm,
    /// How many ids the prompt has, and how many of them were read for an earlier answer.
    prompt: usize,
    cached: usize,
    left_out: u32,
    characters: Characters,
    text: String,
}

/// What is left to do, or how the answer ends before that.
type Step<T> = Result<T, End>;

impl<'a> Answer<'a> {
    fn new(job: &'a Job, model: &'a Model, prompt: Prompt, shelf: &mut Shelf) -> Answer<'a> {
        let warm = shelf
            .take(&prompt.pieces)
            .and_then(|warm| warm.extended(&prompt.pieces, model));
        let warm = warm.unwrap_or_else(|| Warm {
            pieces: prompt.pieces,
            ids: prompt.ids,
            read: 0,
            state: model.fresh(),
        });
        Answer {
            job,
            model,
            prompt: warm.ids.len(),
            cached: warm.read,
            warm,
            left_out: prompt.left_out,
            characters: Characters::default(),
            text: String::new(),
        }
    }

    /// Reads what is new of the prompt, but for the last ids.
    fn read(&mut self) -> Step<()> {
        if self.left_out > 0 {
            self.emit(Event::Truncated {
                messages: self.left_out,
            });
        }
        while self.warm.ids.len() - self.warm.read > PREFILL {
            self.look_up()?;
            self.forward()?;
        }
        Ok(())
    }

    /// Writes the answer to its end. Each round reads what is unread, which is one id after the first, and writes one.
    fn write(&mut self) -> Step<End> {
        let mut sampler = Sampler::new(&self.job.request.options);
        self.emit(Event::MessageStarted { upstream_id: None });
        loop {
            self.look_up()?;
            if let Some(reason) = self.limit() {
                self.finish_text();
                return Ok(End::Incomplete(reason));
            }
            let logits = self.forward()?;
            let id = sampler.choose(logits).ok_or_else(|| failed("it gave no number"))?;
            if self.model.vocabulary.ends_turn(id) {
                self.finish_text();
                self.emit(Event::MessageDone);
                return Ok(End::Completed(StopReason::EndTurn));
            }
            self.warm.ids.push(id);
            let text = self.characters.push(&self.model.vocabulary.bytes(id));
            self.say(text);
        }
    }

    /// Why nothing more may be written.
    fn limit(&self) -> Option<StopReason> {
        let most = self.job.request.options.max_output_tokens.unwrap_or(USUAL_MOST);
        if self.written() >= most as usize {
            return Some(StopReason::MaxTokens);
        }
        (self.warm.ids.len() >= self.model.context).then_some(StopReason::ContextFull)
    }

    /// Reads the next ids, at most [`PREFILL`].
    fn forward(&mut self) -> Step<Vec<f32>> {
        let Warm { ids, read, state, .. } = &mut self.warm;
        let to = ids.len().min(*read + PREFILL);
        let logits = state.read(&ids[*read..to], *read);
        *read = to;
        logits.map_err(|error| failed(first_line(&error.to_string())))
    }

    /// Ends here if nobody wants the answer any more.
    fn look_up(&self) -> Step<()> {
        match self.job.request.cancel.is_cancelled() || self.job.events.is_closed() {
            true => Err(End::Cancelled),
            false => Ok(()),
        }
    }

    fn finish_text(&mut self) {
        let rest = std::mem::take(&mut self.characters).finish();
        self.say(rest);
    }

    fn say(&mut self, text: String) {
        if !text.is_empty() {
            self.text.push_str(&text);
            self.emit(Event::Delta {
                index: 0,
                part: PartKind::Text,
                text,
            });
        }
    }

    /// Waits while the reader is slow. If it is gone, [`Answer::look_up`] will tell.
    fn emit(&self, event: Event) {
        let _ = self.job.events.blocking_send(event);
    }

    fn written(&self) -> usize {
        self.warm.ids.len() - self.prompt
    }

    fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.prompt as u64,
            output_tokens: self.written() as u64,
            total_tokens: self.warm.ids.len() as u64,
            cached_tokens: Some(self.cached as u64),
            reasoning_tokens: None,
        }
    }

    /// The conversation with this answer in it, for the next turn. None if there is nothing that a next turn could
    /// begin with, or if the state cannot be trusted.
    fn into_warm(mut self, end: &End) -> Option<Warm> {
        if self.text.is_empty() || matches!(end, End::Failed(_)) {
            return None;
        }
        match self.warm.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(&self.text),
            _ => self.warm.pieces.push(Piece::Text(self.text)),
        }
        Some(self.warm)
    }
}

impl Warm {
    /// This conversation with the rest of `pieces`, which it begins. None if that is longer than the context.
    fn extended(mut self, pieces: &[Piece], model: &Model) -> Option<Warm> {
        let rest = &pieces[self.pieces.len()..];
        self.ids.extend(model.vocabulary.encode(rest));
        self.pieces.extend_from_slice(rest);
        Some(self).filter(|warm| warm.read < warm.ids.len() && warm.ids.len() < model.context)
    }
}

fn failed(why: &str) -> End {
    End::Failed(Error::new(
        Kind::Internal,
        format!("the embedded model failed to compute: {why}"),
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use tokio::sync::{Semaphore, mpsc};
    use tokio_util::sync::CancellationToken;

    use super::super::weights;
    use super::*;
    use crate::config::EMBEDDED_INSTRUCTIONS;
    use crate::protocol::{Options, Role};
    use crate::provider::Request;
    use crate::thread::{Conversation, Message};

    /// A job that asks this greedily, and where its events come. One waits at most, so that the engine is never ahead
    /// of its reader by more than two.
    fn job(question: &str) -> (Job, mpsc::Receiver<Event>) {
        let (events, incoming) = mpsc::channel(1);
        let request = Request {
            model: None,
            instructions: Some(EMBEDDED_INSTRUCTIONS.to_owned()),
            conversation: Arc::new(Conversation {
                messages: vec![Message::text("m", Role::User, question)],
                ..Conversation::default()
            }),
            tools: Vec::new(),
            options: Options {
                temperature: Some(0.0),
                max_output_tokens: Some(48),
                ..Options::default()
            },
            anchor: None,
            rounds: Vec::new(),
            cancel: CancellationToken::new(),
        };
        let job = Job {
            model: weights::for_tests(),
            request,
            events,
            turn: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        };
        (job, incoming)
    }

    /// Answers, while `look` sees each event as it comes.
    fn answer(engine: &mut Llama, job: (Job, mpsc::Receiver<Event>), mut look: impl FnMut(&Event) + Send) -> End {
        let (job, mut incoming) = job;
        thread::scope(|scope| {
            scope.spawn(move || {
                while let Some(event) = incoming.blocking_recv() {
                    look(&event);
                }
            });
            let end = engine.answer(&job);
            drop(job);
            end
        })
    }

    #[test]
    fn a_cancelled_answer_ends_within_a_token() {
        let job = job("Tell me a long story about a river.");
        let cancel = job.0.request.cancel.clone();
        let mut deltas = 0;
        let mut usage = None;
        let end = answer(&mut Llama::default(), job, |event| match event {
            Event::Delta { .. } => {
                deltas += 1;
                if deltas == 3 {
                    cancel.cancel();
                }
            }
            Event::Usage(figures) => usage = Some(*figures),
            _ => {}
        });
        assert_eq!(end, End::Cancelled);
        // One may wait for the reader, and one for the place of that.
        assert!((3..=5).contains(&deltas), "{deltas}");
        assert!(usage.unwrap().output_tokens <= 6);
    }

    #[test]
    fn nothing_is_computed_for_who_cancelled_before_or_is_gone() {
        let mut engine = Llama::default();
        let cancelled = job("Hi");
        cancelled.0.request.cancel.cancel();
        let mut texts = 0;
        let end = answer(&mut engine, cancelled, |event| {
            texts += usize::from(matches!(event, Event::Delta { .. }))
        });
        assert_eq!((end, texts), (End::Cancelled, 0));
        let (gone, incoming) = job("Hi");
        drop(incoming);
        assert_eq!(engine.answer(&gone), End::Cancelled);
    }

    #[test]
    fn an_answer_that_fills_the_context_ends_there() {
        let mut engine = Llama::default();
        engine.load(&weights::for_tests()).unwrap();
        engine.model.as_mut().unwrap().1.context = 64;
        let mut usage = None;
        let end = answer(&mut engine, job("Tell me a long story about a river."), |event| {
            if let Event::Usage(figures) = event {
                usage = Some(*figures);
            }
        });
        assert_eq!(end, End::Incomplete(StopReason::ContextFull));
        assert_eq!(usage.unwrap().total_tokens, 64);
    }
}
