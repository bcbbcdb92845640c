//! A chunk of the stream, as far as we read it. Servers differ from the description and from each other, so every
//! field is optional, and one of another type than expected counts as absent.
//!
//! A delta of text is the hot path: it borrows from the event, and what few chunks have (usage, calls, citations) stays
//! raw until somebody wants it. Log probabilities and padding are skipped over and never become values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::scalar::{Scalar, absent, read};
use crate::protocol;

/// `chat.completion.chunk`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Chunk<'a> {
    /// Only the first: more are sent only to those who ask for more.
    #[serde(borrow)]
    pub choices: Option<First<'a>>,
    #[serde(borrow)]
    pub object: Scalar<'a>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    /// Pages that the answer rests on, as Perplexity and xAI have them: the same list again and again.
    #[serde(borrow)]
    pub citations: Option<&'a RawValue>,
    /// Where Groq put its usage before it had the usual place.
    #[serde(borrow)]
    pub x_groq: Option<XGroq<'a>>,
}

/// `x_groq`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct XGroq<'a> {
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// The choice of index 0, if the list has it.
#[derive(Debug, Default)]
pub struct First<'a>(pub Option<Choice<'a>>);

/// One of the answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice<'a> {
    #[serde(borrow)]
    index: Scalar<'a>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    /// The answer so far, which Perplexity sends beside the delta and others in its place.
    #[serde(borrow)]
    pub message: Option<Delta<'a>>,
    #[serde(borrow)]
    pub finish_reason: Scalar<'a>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// What is new.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Delta<'a> {
    #[serde(borrow)]
    pub content: Content<'a>,
    #[serde(borrow)]
    pub refusal: Scalar<'a>,
    /// DeepSeek's spelling, and that of most others.
    #[serde(borrow)]
    pub reasoning_content: Scalar<'a>,
    /// vLLM's, Groq's and OpenRouter's.
    #[serde(borrow)]
    pub reasoning: Scalar<'a>,
    /// OpenRouter's, which it wants back.
    #[serde(borrow)]
    pub reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_calls: Option<&'a RawValue>,
    /// What tools were before there were tools.
    #[serde(borrow)]
    pub function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    pub annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub images: Option<&'a RawValue>,
}

/// A text, or a list of parts.
#[derive(Debug, Default)]
pub enum Content<'a> {
    /// Absent, null, or something else.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

/// A part of a content that is a list: text, or Mistral's thinking, which is a list again.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Part<'a> {
    #[serde(borrow)]
    pub text: Content<'a>,
    #[serde(borrow)]
    pub thinking: Content<'a>,
    #[serde(borrow)]
    pub refusal: Scalar<'a>,
    #[serde(borrow)]
    pub image_url: Option<&'a RawValue>,
}

/// A piece of a tool call, or all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CallPiece<'a> {
    #[serde(borrow)]
    pub index: Scalar<'a>,
    #[serde(borrow)]
    pub id: Scalar<'a>,
    #[serde(borrow)]
    pub function: Option<FunctionPiece<'a>>,
    /// What Google wants back with the call.
    #[serde(borrow)]
    pub extra_content: Option<&'a RawValue>,
}

/// A piece of its function.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FunctionPiece<'a> {
    #[serde(borrow)]
    pub name: Scalar<'a>,
    /// A string; from some servers the object itself.
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

/// `usage`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage<'a> {
    #[serde(borrow)]
    prompt_tokens: Scalar<'a>,
    #[serde(borrow)]
    completion_tokens: Scalar<'a>,
    #[serde(borrow)]
    total_tokens: Scalar<'a>,
    #[serde(borrow)]
    prompt_tokens_details: Option<TokenDetails<'a>>,
    #[serde(borrow)]
    completion_tokens_details: Option<TokenDetails<'a>>,
    /// DeepSeek's count of what came from its cache.
    #[serde(borrow)]
    prompt_cache_hit_tokens: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Scalar<'a>,
    #[serde(borrow)]
    reasoning_tokens: Scalar<'a>,
}

/// A citation within the text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotation<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Scalar<'a>,
    #[serde(borrow)]
    pub url_citation: Option<Cited<'a>>,
}

/// The page that is cited. OpenAI counts the offsets in characters, as we do.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cited<'a> {
    #[serde(borrow)]
    pub url: Scalar<'a>,
    #[serde(borrow)]
    pub title: Scalar<'a>,
    #[serde(borrow)]
    pub start_index: Scalar<'a>,
    #[serde(borrow)]
    pub end_index: Scalar<'a>,
}

/// An image: `{"image_url": {"url": …}}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImagePart<'a> {
    #[serde(borrow)]
    pub image_url: Option<ImageUrl<'a>>,
}

/// Where it is: often the picture itself, as a `data:` URL.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImageUrl<'a> {
    #[serde(borrow)]
    pub url: Scalar<'a>,
}

impl From<Usage<'_>> for protocol::Usage {
    fn from(usage: Usage<'_>) -> Self {
        let input_tokens = usage.prompt_tokens.number().unwrap_or_default();
        let output_tokens = usage.completion_tokens.number().unwrap_or_default();
        let detail =
            |details: Option<TokenDetails>, which: fn(&TokenDetails) -> Option<u64>| details.as_ref().and_then(which);
        protocol::Usage {
            input_tokens,
            output_tokens,
            total_tokens: usage.total_tokens.number().unwrap_or(input_tokens + output_tokens),
            cached_tokens: detail(usage.prompt_tokens_details, |details| details.cached_tokens.number())
                .or(usage.prompt_cache_hit_tokens.number()),
            reasoning_tokens: detail(usage.completion_tokens_details, |details| {
                details.reasoning_tokens.number()
            }),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor;
        impl<'de> Visitor<'de> for FirstVisitor {
            type Value = First<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First<'de>, A::Error> {
                let mut first = None;
                while let Some(choice) = seq.next_element::<Choice<'de>>()? {
                    if first.is_none() && choice.index.number().unwrap_or(0) == 0 {
                        first = Some(choice);
                    }
                }
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(FirstVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Content<'de>, E> {
                Ok(Content::Absent)
            }

            absent!(Content<'de>, Content::Absent);

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(raw) = seq.next_element::<&RawValue>()? {
                    let part = read(raw).or_else(|| {
                        let text = Content::Text(read::<Scalar>(raw)?.text()?);
                        Some(Part {
                            text,
                            ..Part::default()
                        })
                    });
                    parts.extend(part);
                }
                Ok(Content::Parts(parts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Content::Absent)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hot path copies a text once, into the event that carries it, and makes nothing of what it does not want.
    #[test]
    fn a_delta_is_borrowed_from_its_event() {
        let data = r#"{"id":"c","choices":[{"index":0,"delta":{"content":" a"},"logprobs":{"content":[{"token":"a","bytes":[32,97]}]},"finish_reason":null}],"usage":null,"obfuscation":"xyz"}"#;
        let chunk: Chunk = serde_json::from_str(data).unwrap();
        let choice = chunk.choices.unwrap().0.unwrap();
        let Content::Text(Cow::Borrowed(text)) = choice.delta.unwrap().content else {
            panic!("the text was copied");
        };
        assert!(data.as_bytes().as_ptr_range().contains(&text.as_ptr()));
        assert!(chunk.usage.is_none() && chunk.error.is_none());
    }
}
