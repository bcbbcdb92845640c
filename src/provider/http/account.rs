//! What an upstream says is wrong, and what that means: by its codes, then its status, then its words.
//!
//! Pure. The words are as the upstream wrote them: whoever passes them on scrubs them first.

use crate::error::Kind;

/// How upstreams say that a conversation does not fit the model, in lower case.
const CONTEXT_WORDS: [&str; 13] = [
    // OpenAI, vLLM, DeepSeek, OpenRouter, Groq
    "maximum context length",
    "reduce the length of the messages",
    // vLLM, of a prompt
    "longer than the maximum model length",
    // llama.cpp
    "the available context size",
    // Ollama
    "exceeds the context length",
    "exceeded max context length",
    // LM Studio
    "context length of only",
    "greater than the context length",
    // xAI
    "maximum prompt length",
    // Anthropic
    "prompt is too long",
    // Google
    "exceeds the maximum number of tokens",
    // Amazon
    "input is too long for requested model",
    // LM Studio and others
    "context window",
];

/// An upstream's own account of what is wrong.
#[derive(Default)]
pub(super) struct Account {
    /// Of the answer, if there was one.
    pub(super) status: Option<u16>,
    /// A code that is a status: what it would have been, had the answer not begun with another.
    pub(super) told_status: Option<u16>,
    pub(super) code: Option<String>,
    /// `type`, which some upstreams give instead of a code.
    pub(super) class: Option<String>,
    pub(super) message: Option<String>,
}

impl Account {
    /// The status of a refusal: that of the answer, unless the answer began well.
    fn status(&self) -> Option<u16> {
        let began_well = self.status.is_none_or(|status| status < 300);
        self.told_status.filter(|_| began_well).or(self.status)
    }

    /// What it is about.
    pub(super) fn kind(&self) -> Kind {
        let words = [self.code.as_deref(), self.class.as_deref()];
        for word in words.into_iter().flatten() {
            match word {
                "insufficient_quota" | "billing_hard_limit_reached" => return Kind::QuotaExceeded,
                // Both also come with the runs that an account without quota starts.
                "rate_limit_exceeded" | "rate_limit_error" | "too_many_requests" if self.speaks_of_quota() => {
                    return Kind::QuotaExceeded;
                }
                "rate_limit_exceeded" | "rate_limit_error" | "too_many_requests" => return Kind::RateLimited,
                "context_length_exceeded" | "exceed_context_size_error" => return Kind::ContextOverflow,
                // `invalid_prompt` is what a prompt gets that was found to break the rules of use.
                "content_filter" | "content_policy_violation" | "invalid_prompt" => return Kind::ContentFiltered,
                "invalid_api_key" | "authentication_error" => return Kind::AuthRequired,
                "overloaded_error" | "server_overloaded" => return Kind::Overloaded,
                _ => {}
            }
        }
        match self.status() {
            None | Some(200 | 400 | 413 | 422 | 500) if self.speaks_of_context() => Kind::ContextOverflow,
            Some(401 | 403) => Kind::AuthRequired,
            Some(404 | 410) => Kind::NotFound,
            Some(413) => Kind::InputTooLarge,
            Some(429) => Kind::RateLimited,
            Some(503 | 529) => Kind::Overloaded,
            _ => Kind::Upstream,
        }
    }

    fn speaks_of_quota(&self) -> bool {
        self.message
            .as_deref()
            .is_some_and(|message| message.contains("exceeded your current quota"))
    }

    /// Whether the conversation is too long, in the words of those who have no code for it.
    fn speaks_of_context(&self) -> bool {
        let Some(message) = &self.message else {
            return false;
        };
        let message = message.to_ascii_lowercase();
        CONTEXT_WORDS.iter().any(|words| message.contains(words))
    }

    /// Whether the same may succeed later.
    pub(super) fn passes(&self) -> bool {
        match self.kind() {
            Kind::RateLimited | Kind::Overloaded => true,
            Kind::Upstream => match self.status() {
                None | Some(200..=299) => !self.is_our_fault(),
                // llama.cpp has 500 for a picture that its model cannot see.
                Some(500) if self.says_never() => false,
                Some(status) => matches!(status, 408 | 409 | 500..),
            },
            _ => false,
        }
    }

    fn says_never(&self) -> bool {
        let message = self.message.as_deref();
        message.is_some_and(|message| message.contains("is not supported"))
    }

    fn is_our_fault(&self) -> bool {
        let words = [self.code.as_deref(), self.class.as_deref()];
        words.into_iter().flatten().any(|word| word.starts_with("invalid_"))
    }

    /// What to do about a failure of this kind.
    pub(super) fn hint(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::AuthRequired => {
                Some("see that the key is valid for this `base_url`: `api_key_env` or `api_key_command`")
            }
            Kind::NotFound if self.code.as_deref() == Some("model_not_found") => {
                Some("`model/list` and `assistd model list` show the models that it offers")
            }
            Kind::NotFound => {
                Some("check `base_url` (most end in `/v1`), `api_version`, and the ids and model names of the settings")
            }
            Kind::QuotaExceeded => Some("the upstream's billing page says what is left"),
            Kind::ContextOverflow => Some("start a new thread, or use a model with a larger context"),
            Kind::Upstream if self.code.as_deref() == Some("server_error") => {
                Some("this often passes; at Azure it is also what a used up quota of tokens per minute looks like")
            }
            _ => None,
        }
    }
}
