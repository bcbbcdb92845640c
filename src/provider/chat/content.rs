//! A message's content as Chat Completions has it, and what it has no form for.
//!
//! Pure. What is only text goes as one string, since many servers take nothing else; a file of text is put in under
//! its name. Pictures go by URL or as their bytes.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Kind};
use crate::protocol::{File, Image, Part};

/// `content` of a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Value>),
}

/// What this upstream takes besides text and pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// Files that are not text, as `file` parts: api.openai.com and Azure.
    pub files: bool,
}

/// What cannot be sent, in a sentence: asked before anything is stored.
pub fn check(parts: &[Part], takes: Takes) -> Result<(), Error> {
    parts.iter().try_for_each(|part| match part {
        Part::Image(image) => image_part(image).map(drop),
        Part::File(file) => file_part(file, takes).map(drop),
        Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => Ok(()),
    })
}

/// The content of a user's message; none if it says nothing. What this upstream cannot take is left out: of the newest
/// message [`check`] has told by then, and an older one must not make the thread useless.
pub fn content(parts: &[Part], takes: Takes) -> Option<Content<'_>> {
    if let [Part::Text { text, .. }] = parts {
        return (!text.is_empty()).then_some(Content::Text(text.into()));
    }
    let mut list = Vec::new();
    let mut text = String::new();
    for part in parts {
        let other = match part {
            Part::Image(image) => image_part(image).ok(),
            Part::File(file) => match file_part(file, takes) {
                Ok(FilePart::Text(inlined)) => {
                    append(&mut text, file_name(file), &inlined);
                    continue;
                }
                Ok(FilePart::File(value)) => Some(value),
                Err(_) => None,
            },
            Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => {
                part.append_text(&mut text);
                continue;
            }
        };
        if let Some(other) = other {
            push_text(&mut list, &mut text);
            list.push(other);
        }
    }
    if list.is_empty() {
        return (!text.is_empty()).then_some(Content::Text(text.into()));
    }
    push_text(&mut list, &mut text);
    Some(Content::Parts(list))
}

impl Content<'_> {
    /// Puts another message's content behind this one.
    pub fn join(&mut self, other: Self) {
        if let (Content::Text(text), Content::Text(more)) = (&mut *self, &other) {
            let text = text.to_mut();
            text.push_str("\n\n");
            text.push_str(more);
            return;
        }
        let mut list = std::mem::replace(self, Content::Parts(Vec::new())).into_parts();
        list.extend(other.into_parts());
        *self = Content::Parts(list);
    }

    fn into_parts(self) -> Vec<Value> {
        match self {
            Content::Text(text) => vec![text_part(&text)],
            Content::Parts(list) => list,
        }
    }
}

fn push_text(list: &mut Vec<Value>, text: &mut String) {
    if !text.is_empty() {
        list.push(text_part(text));
        text.clear();
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn image_part(image: &Image) -> Result<Value, Error> {
    let url = match (&image.url, &image.data) {
        (Some(url), _) => url.clone(),
        (None, Some(data)) => {
            let mime_type = image.mime_type.as_deref().unwrap_or_else(|| image_type(data));
            format!("data:{mime_type};base64,{data}")
        }
        (None, None) => {
            return Err(Error::new(
                Kind::InvalidParams,
                "expected an image by `url` or `data`: Chat Completions takes no `fileId`",
            )
            .with_hint("send the picture itself, as `path` or `data`"));
        }
    };
    let mut part = json!({ "type": "image_url", "image_url": { "url": url } });
    if let Some(detail) = &image.detail {
        part["image_url"]["detail"] = json!(detail);
    }
    Ok(part)
}

/// What a picture is, by its first bytes.
fn image_type(data: &str) -> &'static str {
    match data.as_bytes() {
        [b'/', b'9', b'j', ..] => "image/jpeg",
        [b'R', b'0', b'l', ..] => "image/gif",
        [b'U', b'k', b'l', ..] => "image/webp",
        _ => "image/png",
    }
}

enum FilePart {
    /// Its text.
    Text(String),
    /// A part of its own.
    File(Value),
}

fn file_part(file: &File, takes: Takes) -> Result<FilePart, Error> {
    let name = file_name(file);
    if let Some(data) = &file.data {
        let mime_type = file.mime_type.as_deref().unwrap_or("application/octet-stream");
        let bytes = STANDARD.decode(data).map_err(|_| {
            Error::new(
                Kind::InvalidParams,
                format!("expected `data` of the file `{name}` to be base 64"),
            )
        })?;
        if let Some(text) = text_of(bytes, mime_type) {
            return Ok(FilePart::Text(text));
        }
        if takes.files {
            let data = format!("data:{mime_type};base64,{data}");
            return Ok(FilePart::File(
                json!({ "type": "file", "file": { "filename": name, "file_data": data } }),
            ));
        }
        return Err(Error::new(
            Kind::InvalidParams,
            format!("the file `{name}` is not text (`{mime_type}`), and this upstream takes only text and pictures"),
        )
        .with_hint("send its text instead, or use a provider at api.openai.com or Azure"));
    }
    match &file.file_id {
        Some(file_id) if takes.files => Ok(FilePart::File(
            json!({ "type": "file", "file": { "file_id": file_id } }),
        )),
        _ => Err(Error::new(
            Kind::InvalidParams,
            format!("the file `{name}` is named by `fileId`, and this upstream holds no files"),
        )
        .with_hint("send the file itself, as `path` or `data`")),
    }
}

fn file_name(file: &File) -> &str {
    file.name.as_deref().or(file.file_id.as_deref()).unwrap_or("file")
}

/// The text of a file that is text: UTF-8 without a zero byte, whatever its type, but for types that only look so.
fn text_of(bytes: Vec<u8>, mime_type: &str) -> Option<String> {
    let is_other = mime_type == "application/pdf" || mime_type.starts_with("image/") && mime_type != "image/svg+xml";
    if is_other || bytes.starts_with(b"%PDF-") || bytes.contains(&0) {
        return None;
    }
    String::from_utf8(bytes).ok()
}

/// Puts a file's text under a line with its name, as a resource is put under its URI.
fn append(to: &mut String, name: &str, text: &str) {
    if !to.is_empty() && !to.ends_with('\n') {
        to.push('\n');
    }
    to.push_str(name);
    to.push('\n');
    to.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Takes = Takes { files: true };
    const TEXT: Takes = Takes { files: false };

    fn file(name: &str, bytes: &[u8], mime_type: &str) -> Part {
        Part::File(File {
            data: Some(STANDARD.encode(bytes)),
            name: Some(name.into()),
            mime_type: Some(mime_type.into()),
            ..File::default()
        })
    }

    #[test]
    fn what_is_only_text_is_one_string() {
        let resource = Part::Resource {
            uri: "file:///a.rs".into(),
            text: "fn a() {}".into(),
            mime_type: None,
            selection: None,
        };
        let parts = [
            Part::text("Look"),
            resource,
            file("b.toml", b"b = 1\n", "application/toml"),
        ];
        let expected = "Look\nfile:///a.rs\nfn a() {}\nb.toml\nb = 1\n";
        assert_eq!(content(&parts, TEXT), Some(Content::Text(expected.into())));
        assert_eq!(content(&[Part::text("")], TEXT), None);
    }

    #[test]
    fn pictures_make_it_a_list_in_the_order_in_which_it_was_said() {
        let picture = Part::Image(Image {
            data: Some("/9j/4AAQ".into()),
            detail: Some("low".into()),
            ..Image::default()
        });
        let parts = [Part::text("a"), Part::text("b"), picture, Part::text("c")];
        let url = "data:image/jpeg;base64,/9j/4AAQ";
        assert_eq!(
            content(&parts, TEXT),
            Some(Content::Parts(vec![
                json!({ "type": "text", "text": "ab" }),
                json!({ "type": "image_url", "image_url": { "url": url, "detail": "low" } }),
                json!({ "type": "text", "text": "c" }),
            ]))
        );
    }

    #[test]
    fn what_has_no_form_is_refused_with_a_sentence() {
        let image = Part::Image(Image {
            file_id: Some("file_1".into()),
            ..Image::default()
        });
        let held = Part::File(File {
            file_id: Some("file_2".into()),
            ..File::default()
        });
        let rows = [
            (image, ALL, "takes no `fileId`"),
            (held.clone(), TEXT, "`file_2` is named by `fileId`"),
            (
                file("a.pdf", b"%PDF-1.7", "application/pdf"),
                TEXT,
                "`a.pdf` is not text",
            ),
            (
                file("a.bin", &[0xFF, 0], "application/octet-stream"),
                TEXT,
                "`a.bin` is not text",
            ),
        ];
        for (part, takes, words) in rows {
            let error = check(&[Part::text("a"), part.clone()], takes).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidParams);
            assert!(error.message.contains(words), "{error}");
            // In an older message it is left out.
            assert_eq!(content(&[part], takes), None);
        }
        check(&[held, file("a.pdf", b"%PDF-1.7", "application/pdf")], ALL).unwrap();
    }
}
