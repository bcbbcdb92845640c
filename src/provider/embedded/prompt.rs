//! What of a conversation the model gets: all of it, or what is left when the oldest turns are out.
//!
//! The instructions and the last user message are never left out. Nothing here computes or waits.

use super::model::Model;
use super::vocabulary::Piece;
use crate::error::{Error, Kind};
use crate::protocol::{Options, Role, Truncation};
use crate::provider::Request;
use crate::thread::Message;

/// How many tokens are kept free for the answer, at most; never more than a quarter of the context.
const ANSWER_ROOM: usize = 512;

/// What the model reads.
#[derive(Debug)]
pub(super) struct Prompt {
    /// It in pieces, by which conversations are known again.
    pub(super) pieces: Vec<Piece>,
    /// Its token ids.
    pub(super) ids: Vec<u32>,
    /// How many of the oldest messages are not in it.
    pub(super) left_out: u32,
}

/// The longest prompt that fits, or why there is none.
pub(super) fn fit(model: &Model, request: &Request) -> Result<Prompt, Error> {
    let turns = request.conversation.turns();
    if turns.is_empty() {
        return Err(Error::invalid_params("expected `content` to hold text, got none"));
    }
    let room = room(model.context, &request.options);
    let attempt = |turn: usize| attempt(model, request.instructions.as_deref(), &turns[turn..], room);
    let whole = match attempt(0)? {
        Ok(prompt) => return Ok(prompt),
        Err(overflow) => overflow,
    };
    let questions: Vec<usize> = (1..turns.len()).filter(|turn| turns[*turn].0 == Role::User).collect();
    if request.conversation.truncation == Truncation::Error || questions.is_empty() {
        return Err(whole.into_error(room, "the conversation"));
    }
    // The later it begins, the shorter it is: the first that fits is found by halving.
    let (mut from, mut to) = (0, questions.len() - 1);
    let mut found = match attempt(questions[to])? {
        Ok(found) => found,
        Err(overflow) => return Err(overflow.into_error(room, "the last message alone")),
    };
    while from < to {
        let middle = (from + to) / 2;
        match attempt(questions[middle])? {
            Ok(shorter) => (to, found) = (middle, shorter),
            Err(_) => from = middle + 1,
        }
    }
    found.left_out = first_messages(&request.conversation.messages)[questions[to]] as u32;
    Ok(found)
}

/// A prompt that does not fit.
struct Overflow {
    tokens: usize,
    bytes: usize,
}

impl Overflow {
    fn into_error(self, room: usize, what: &str) -> Error {
        let message = format!(
            "{what} does not fit the model's context: expected at most {room} tokens, got at least {}",
            self.tokens
        );
        let hint = "send less text or begin a new thread; with `truncation` set to `auto`, a thread's oldest messages \
                    are left out";
        Error::new(Kind::ContextOverflow, message)
            .with_size(self.bytes as u64)
            .with_hint(hint)
    }
}

fn attempt(
    model: &Model,
    instructions: Option<&str>,
    turns: &[(Role, String)],
    room: usize,
) -> Result<Result<Prompt, Overflow>, Error> {
    let bytes = instructions.map_or(0, str::len) + turns.iter().map(|(_, text)| text.len()).sum::<usize>();
    // Megabytes are not encoded only to find that they are too many.
    let tokens = model.vocabulary.at_least(bytes);
    if tokens > room {
        return Ok(Err(Overflow { tokens, bytes }));
    }
    let pieces = model
        .template
        .prompt(instructions, turns, &model.vocabulary)
        .map_err(|error| {
            let message = format!("the model's chat template refuses this conversation: {error}");
            Error::new(Kind::ConfigInvalid, message)
        })?;
    let ids = model.vocabulary.encode(&pieces);
    let tokens = ids.len();
    if tokens > room {
        return Ok(Err(Overflow { tokens, bytes }));
    }
    let left_out = 0;
    Ok(Ok(Prompt { pieces, ids, left_out }))
}

/// How many tokens a prompt may have.
fn room(context: usize, options: &Options) -> usize {
    let wanted = options.max_output_tokens.map_or(ANSWER_ROOM, |tokens| tokens as usize);
    context - wanted.min(ANSWER_ROOM).min(context / 4)
}

/// The index of the first message of each turn, by the rule of [`crate::thread::Conversation::turns`].
fn first_messages(messages: &[Message]) -> Vec<usize> {
    let mut firsts = Vec::new();
    let mut role = None;
    for (index, message) in messages.iter().enumerate() {
        if role != Some(message.role) && !message.joined().is_empty() {
            role = Some(message.role);
            firsts.push(index);
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::super::weights;
    use super::*;
    use crate::thread::Conversation;

    fn request(texts: &[&str], truncation: Truncation) -> Request {
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let messages = roles
            .zip(texts)
            .map(|(role, text)| Message::text("m", role, *text))
            .collect();
        Request {
            model: None,
            instructions: Some("Be brief.".to_owned()),
            conversation: Arc::new(Conversation { messages, truncation }),
            tools: Vec::new(),
            options: Options::default(),
            anchor: None,
            rounds: Vec::new(),
            cancel: CancellationToken::new(),
        }
    }

    #[test]
    fn the_oldest_turns_are_left_out_until_the_rest_fits() {
        let mut model = Model::load(&weights::for_tests()).unwrap();
        let texts = ["one", "two", "three", "four", "five", "six", "last"];
        let whole = fit(&model, &request(&texts, Truncation::Auto)).unwrap();
        assert_eq!(whole.left_out, 0);
        for left_out in [2, 4, 6] {
            let expected = fit(&model, &request(&texts[left_out..], Truncation::Auto)).unwrap();
            // Just enough for what is expected; a quarter is kept for the answer.
            model.context = (expected.ids.len() * 4).div_ceil(3);
            let prompt = fit(&model, &request(&texts, Truncation::Auto)).unwrap();
            assert_eq!((prompt.left_out as usize, prompt.pieces), (left_out, expected.pieces));
            assert!(prompt.ids.len() <= model.context - model.context / 4);
        }
        let alone = fit(&model, &request(&["last"], Truncation::Auto)).unwrap();
        model.context = alone.ids.len();
        let error = fit(&model, &request(&texts, Truncation::Auto)).unwrap_err();
        assert_eq!(error.kind(), Kind::ContextOverflow);
        assert!(
            error.message.starts_with("the last message alone does not fit"),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_left_out_of_a_thread_that_forbids_it() {
        let mut model = Model::load(&weights::for_tests()).unwrap();
        let texts = ["one", "two", "three"];
        let tokens = fit(&model, &request(&texts, Truncation::Error)).unwrap().ids.len();
        model.context = tokens;
        let error = fit(&model, &request(&texts, Truncation::Error)).unwrap_err();
        assert_eq!((error.kind(), error.data.size), (Kind::ContextOverflow, Some(20)));
        let room = tokens - tokens / 4;
        assert!(
            error
                .message
                .ends_with(&format!("expected at most {room} tokens, got at least {tokens}")),
            "{error}"
        );
    }

    #[test]
    fn megabytes_are_refused_without_being_encoded() {
        let model = Model::load(&weights::for_tests()).unwrap();
        let long = "word ".repeat(10 << 20);
        let error = fit(&model, &request(&[&long], Truncation::Auto)).unwrap_err();
        assert_eq!(error.kind(), Kind::ContextOverflow);
    }

    #[test]
    fn a_conversation_without_text_is_refused() {
        let model = Model::load(&weights::for_tests()).unwrap();
        let error = fit(&model, &request(&[""], Truncation::Auto)).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidParams);
    }

    #[test]
    fn turns_and_their_first_messages_go_together() {
        let roles = [
            Role::Assistant,
            Role::User,
            Role::User,
            Role::Assistant,
            Role::User,
            Role::Assistant,
            Role::User,
        ];
        let texts = ["hello", "a", "b", "", "c", "d", "e"];
        let messages = roles
            .iter()
            .zip(texts)
            .map(|(role, text)| Message::text("m", *role, text))
            .collect();
        let conversation = Conversation {
            messages,
            truncation: Truncation::Auto,
        };
        assert_eq!(first_messages(&conversation.messages), [0, 1, 5, 6]);
        assert_eq!(conversation.turns().len(), 4);
    }

    #[test]
    fn an_answer_has_room_but_never_more_than_a_quarter() {
        let options = |max_output_tokens| Options {
            max_output_tokens,
            ..Options::default()
        };
        assert_eq!(room(4096, &options(None)), 3584);
        assert_eq!(room(4096, &options(Some(16))), 4080);
        assert_eq!(room(1024, &options(Some(4000))), 768);
    }
}
