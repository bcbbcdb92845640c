//! What a message is made of.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The person, or the program that speaks for one.
    User,
    /// The assistant.
    Assistant,
}

/// One part of a message's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Citations and files that the text points to.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        annotations: Vec<Annotation>,
    },
    /// The model's refusal to answer.
    Refusal {
        /// The words of the refusal.
        text: String,
    },
    /// A picture.
    Image(Image),
    /// A file.
    File(File),
    /// Something that the editor has open: its text goes to the model under its URI.
    Resource {
        /// Where it is, such as `file:///home/me/a.rs`.
        uri: String,
        /// The text, or the part of it that is selected.
        text: String,
        /// Its media type or language.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
        /// What is selected, by line and column, both from 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selection: Option<Selection>,
    },
}

/// A file, by exactly one of `path`, `data` or `fileId`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Where it is on this machine: absolute, or a `file:` URI. Read when it is sent; the thread keeps what was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The bytes in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The upstream's id of a file that it holds already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// Its media type; guessed from the name and the bytes where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Its name, for the model and for people; that of `path` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A picture, by exactly one of `path`, `url`, `fileId` or `data`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// Where it is on this machine: absolute, or a `file:` URI. Read when it is sent; the thread keeps what was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where the upstream can fetch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The upstream's id of an uploaded or generated file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// The bytes in base 64; `mimeType` says what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The media type of `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// `low`, `high` or `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A range of a text: from `start` to just before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// The first position.
    pub start: Position,
    /// The position behind the last.
    pub end: Position,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Position {
    /// From 0.
    pub line: u32,
    /// From 0, as the editor counts.
    pub character: u32,
}

/// A mark on a part of a text, such as a citation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Annotation {
    /// `fileCitation`, `filePath`, `urlCitation` or `containerFileCitation`; others as the upstream names them.
    #[serde(rename = "type")]
    pub kind: String,
    /// The marker that stands in the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where the marker begins in the part's text, in code points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// Just behind the marker, in code points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
    /// The file that is cited or offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// The upstream's container that holds the file, where it is none of the account's own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The words that are cited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// The page that is cited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The page's title, or the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// What a user says: a string, or a list of parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Content(pub Vec<Part>);

impl Part {
    /// A text part without annotations.
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text {
            text: text.into(),
            annotations: Vec::new(),
        }
    }

    /// Appends what a model that reads only text gets of this part.
    pub fn append_text(&self, to: &mut String) {
        match self {
            Part::Text { text, .. } | Part::Refusal { text } => to.push_str(text),
            Part::Resource { uri, text, .. } => {
                if !to.is_empty() && !to.ends_with('\n') {
                    to.push('\n');
                }
                to.push_str(uri);
                to.push('\n');
                to.push_str(text);
            }
            Part::Image(_) | Part::File(_) => {}
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content(vec![Part::text(text)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content(parts))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl JsonSchema for Content {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Content".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let parts = generator.subschema_for::<Vec<Part>>();
        schemars::json_schema!({
            "description": "A string, or a list of parts.",
            "anyOf": [{ "type": "string" }, parts]
        })
    }
}
