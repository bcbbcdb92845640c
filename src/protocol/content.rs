//! What a message is made of.

mod inline;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
        /// The text, or the part of it that is selected. Where it is absent the URI has to be a `file:` URI, and that
        /// file is read when this is sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
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
    /// The bytes in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The media type of `data`; assistd tells it from the bytes.
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

    /// Appends what a model that reads only text gets of this part: files that are no text and images are left out.
    pub fn append_text(&self, to: &mut String) {
        match self {
            Part::Text { text, .. } | Part::Refusal { text } => to.push_str(text),
            Part::Resource {
                uri,
                text,
                mime_type,
                selection,
            } => {
                let text = text.as_deref().unwrap_or_default();
                inline::resource(uri, mime_type.as_deref(), text, *selection, to);
            }
            Part::File(file) => {
                if let Some(text) = file.text() {
                    inline::file(file, &text, to);
                }
            }
            Part::Image(_) => {}
        }
    }
}

impl Part {
    /// The base 64 of an image or a file.
    pub fn data_mut(&mut self) -> Option<&mut Option<String>> {
        match self {
            Part::Image(image) => Some(&mut image.data),
            Part::File(file) => Some(&mut file.data),
            Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => None,
        }
    }
}

impl File {
    /// The bytes of `data`.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        decoded(self.data.as_deref())
    }

    /// The text of `data`, if it is text in UTF-8, without a byte order mark.
    pub fn text(&self) -> Option<String> {
        let kind = self.mime_type.as_deref().unwrap_or_default().split('/').next();
        if matches!(kind, Some("audio" | "video" | "font")) || self.mime_type.as_deref() == Some("application/pdf") {
            return None;
        }
        let text = String::from_utf8(self.bytes()?).ok()?;
        let text = match text.strip_prefix('\u{feff}') {
            Some(text) => text.to_owned(),
            None => text,
        };
        (!text.contains('\0')).then_some(text)
    }

    /// `data` as a URL: `data:text/csv;base64,…`.
    pub fn data_url(&self) -> Option<String> {
        data_url(
            self.mime_type.as_deref().unwrap_or("application/octet-stream"),
            self.data.as_deref(),
        )
    }
}

impl Image {
    /// The bytes of `data`.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        decoded(self.data.as_deref())
    }

    /// `data` as a URL: `data:image/png;base64,…`.
    pub fn data_url(&self) -> Option<String> {
        data_url(self.mime_type.as_deref().unwrap_or("image/png"), self.data.as_deref())
    }
}

fn decoded(data: Option<&str>) -> Option<Vec<u8>> {
    STANDARD.decode(data?).ok()
}

fn data_url(mime_type: &str, data: Option<&str>) -> Option<String> {
    Some(format!("data:{mime_type};base64,{}", data?))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8], mime_type: &str) -> File {
        File {
            data: Some(STANDARD.encode(bytes)),
            mime_type: Some(mime_type.to_owned()),
            name: Some("a.txt".to_owned()),
            ..File::default()
        }
    }

    #[test]
    fn a_file_is_text_if_it_is_utf_8_and_no_other_kind() {
        let rows = [
            (file("grün".as_bytes(), "text/plain"), Some("grün")),
            (file(b"{}", "application/json"), Some("{}")),
            (file("\u{feff}a".as_bytes(), "text/csv"), Some("a")),
            (file(b"", "text/plain"), Some("")),
            (file(b"gr\xfcn", "text/plain"), None),
            (file(b"a\0b", "text/plain"), None),
            (file(b"%PDF-1.4", "application/pdf"), None),
            (File::default(), None),
        ];
        for (file, expected) in rows {
            assert_eq!(file.text().as_deref(), expected, "{file:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_left_out_of_the_text() {
        let mut text = String::new();
        Part::File(file(b"\x00\x01", "application/zip")).append_text(&mut text);
        Part::Image(Image::default()).append_text(&mut text);
        assert_eq!(text, "");
        Part::File(file(b"one\n", "text/plain")).append_text(&mut text);
        assert_eq!(text, "a.txt\n```txt\none\n```\n");
    }

    #[test]
    fn data_urls_name_their_media_type() {
        assert_eq!(file(b"a", "text/csv").data_url().unwrap(), "data:text/csv;base64,YQ==");
        assert_eq!(Image::default().data_url(), None);
    }
}
