//! What an upstream turned out to want otherwise than others: learnt from its refusal, kept for as long as the provider
//! lives, so that the price is one request.
//!
//! Knows no request. Each habit is learnt once; a refusal that teaches nothing new is a refusal.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// The habits of one upstream. Shared by runs, which may learn side by side.
#[derive(Debug)]
pub struct Habits {
    /// The limit of the answer is `max_completion_tokens`, and not `max_tokens`.
    completion_limit: AtomicBool,
    /// Whether the name of the limit was learnt, and not assumed.
    limit_learnt: AtomicBool,
    no_stream_options: AtomicBool,
    alternates: AtomicBool,
    no_system: AtomicBool,
}

impl Habits {
    /// Those that are assumed of an upstream: OpenAI itself and Azure have left `max_tokens` behind.
    pub fn assumed(is_openai: bool) -> Self {
        Habits {
            completion_limit: AtomicBool::new(is_openai),
            limit_learnt: AtomicBool::default(),
            no_stream_options: AtomicBool::default(),
            alternates: AtomicBool::default(),
            no_system: AtomicBool::default(),
        }
    }

    /// Whether the limit of the answer is called `max_completion_tokens`.
    pub fn has_completion_limit(&self) -> bool {
        self.completion_limit.load(Ordering::Relaxed)
    }

    /// Whether it takes `stream_options`.
    pub fn takes_stream_options(&self) -> bool {
        !self.no_stream_options.load(Ordering::Relaxed)
    }

    /// Whether its template demands that user and assistant alternate.
    pub fn must_alternate(&self) -> bool {
        self.alternates.load(Ordering::Relaxed)
    }

    /// Whether its template knows no instructions; they begin the first message of the user then.
    pub fn has_no_system_role(&self) -> bool {
        self.no_system.load(Ordering::Relaxed)
    }

    /// Learns from a refusal; true if the request should be made anew.
    pub fn learn(&self, refusal: &Error) -> bool {
        // Templates that complain are a server error at some.
        if !matches!(refusal.upstream_status(), Some(400 | 422 | 500)) {
            return false;
        }
        let message = refusal.upstream_message().to_ascii_lowercase();
        let says = |words: &str| message.contains(words);
        if says("max_tokens") || says("max_completion_tokens") {
            // `Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'`, or
            // `Unrecognized request argument supplied: max_completion_tokens`; but not `max_tokens is too large`.
            let is_name = ["support", "recogni", "unknown", "not permitted", "unexpected"];
            if !is_name.iter().any(|words| says(words)) || self.limit_learnt.swap(true, Ordering::Relaxed) {
                return false;
            }
            self.completion_limit.fetch_xor(true, Ordering::Relaxed);
            return true;
        }
        let habit = if says("stream_options") {
            &self.no_stream_options
        } else if says("roles must alternate") {
            &self.alternates
        } else if says("system role not supported") {
            &self.no_system
        } else {
            return false;
        };
        !habit.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, Upstream};

    fn refusal(status: u16, message: &str) -> Error {
        Error::new(Kind::Upstream, "refused").with_upstream(Upstream {
            status: Some(status),
            message: Some(message.to_owned()),
            ..Upstream::default()
        })
    }

    #[test]
    fn each_habit_is_learnt_once() {
        let habits = Habits::assumed(false);
        let newer = refusal(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        );
        assert!(habits.learn(&newer) && habits.has_completion_limit());
        assert!(!habits.learn(&newer), "a second time it is a refusal");
        assert!(habits.learn(&refusal(
            500,
            "Conversation roles must alternate user/assistant/user/assistant/..."
        )));
        assert!(habits.must_alternate());
        assert!(habits.learn(&refusal(422, "stream_options: Extra inputs are not permitted")));
        assert!(!habits.takes_stream_options());
        assert!(habits.learn(&refusal(400, "System role not supported")));
        assert!(habits.has_no_system_role());
    }

    #[test]
    fn a_limit_that_is_too_large_is_no_habit() {
        let habits = Habits::assumed(true);
        assert!(!habits.learn(&refusal(400, "max_completion_tokens is too large: 99999")));
        assert!(!habits.learn(&refusal(429, "max_tokens is not supported")));
        assert!(habits.has_completion_limit());
    }
}
