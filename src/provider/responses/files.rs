//! How files reach the upstream: by an id of its own, within the request, as text, or uploaded once.
//!
//! Uploads are kept with the thread, by message and part, so that no file goes up twice.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Upstream;
use super::input::name_of;
use crate::error::{Error, Kind};
use crate::protocol::{File, Part};
use crate::provider::http::{Call, Failure, Form};
use crate::provider::openai::Named;
use crate::thread::Message;

/// From which size on a file is uploaded, in bytes of base 64: within the request it would go up again in each turn.
const UPLOAD_FROM: usize = 1024 * 1024 / 3 * 4;

/// How an upstream takes files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Large ones are uploaded for this purpose, others stand in the request.
    Upload {
        /// The upstream's word for it.
        purpose: &'static str,
    },
    /// All stand in the request; text does as text, which any server understands.
    Inline,
}

/// The files that the upstream has of a thread, by [`key`].
pub type Uploaded = BTreeMap<String, String>;

/// What is known of a thread's files.
#[derive(Debug)]
pub struct Files {
    /// How this upstream takes them.
    pub taking: Taking,
    /// What it has.
    pub uploaded: Uploaded,
}

/// One file that is to go up.
pub struct Upload<'a> {
    /// What to keep its id under.
    pub key: String,
    file: &'a File,
    purpose: &'static str,
}

/// What an upload is kept under.
fn key(message_id: &str, index: usize) -> String {
    format!("{message_id}/{index}")
}

impl Files {
    /// The file as a part of a message; none if it has no content.
    pub fn part(&self, message_id: &str, index: usize, part: &Part) -> Option<Value> {
        let Part::File(file) = part else {
            return None;
        };
        let uploaded = self.uploaded.get(&key(message_id, index));
        if let Some(file_id) = file.file_id.as_ref().or(uploaded) {
            return Some(json!({ "type": "input_file", "file_id": file_id }));
        }
        if self.taking == Taking::Inline && file.text().is_some() {
            let mut text = String::new();
            part.append_text(&mut text);
            return Some(json!({ "type": "input_text", "text": text }));
        }
        let data = file.data_url()?;
        Some(json!({ "type": "input_file", "filename": name_of(file), "file_data": data }))
    }

    /// The first file that is to go up and has not.
    pub fn missing<'a>(&self, messages: &'a [Message]) -> Option<Upload<'a>> {
        let Taking::Upload { purpose } = self.taking else {
            return None;
        };
        let parts = messages.iter().flat_map(|message| {
            message
                .content
                .iter()
                .enumerate()
                .map(move |(index, part)| (message, index, part))
        });
        let mut large = parts.filter_map(|(message, index, part)| match part {
            Part::File(file) if file.data.as_ref().is_some_and(|data| data.len() > UPLOAD_FROM) => Some(Upload {
                key: key(&message.id, index),
                file,
                purpose,
            }),
            _ => None,
        });
        large.find(|upload| !self.uploaded.contains_key(&upload.key))
    }

    /// Forgets what the upstream has of messages that are no longer in the thread.
    pub fn retain(&mut self, messages: &[Message]) {
        let is_there = |key: &str| {
            let id = key.rsplit_once('/').map_or(key, |(id, _)| id);
            messages.iter().any(|message| message.id == id)
        };
        self.uploaded.retain(|key, _| is_there(key));
    }
}

impl Upstream {
    /// Uploads a file and gives its id.
    pub async fn upload(&self, upload: &Upload<'_>) -> Result<String, Failure> {
        let bytes = upload.file.bytes().unwrap_or_default();
        let form = Form::file(name_of(upload.file), type_of(upload.file), bytes).field("purpose", upload.purpose);
        let call = Call::post(["files"]).multipart(form);
        let answer = self.endpoint.send(&call).await?;
        let named: Named = answer.json().await?;
        named.id.ok_or_else(|| {
            let provider = &self.endpoint.provider;
            let message = format!("provider `{provider}` gave an uploaded file no id");
            Error::new(Kind::Upstream, message).with_provider(provider).into()
        })
    }
}

fn type_of(file: &File) -> &str {
    file.mime_type.as_deref().unwrap_or("application/octet-stream")
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn file(kind: &str, bytes: &[u8]) -> Part {
        Part::File(File {
            data: Some(STANDARD.encode(bytes)),
            mime_type: Some(kind.to_owned()),
            name: Some("a.txt".into()),
            ..File::default()
        })
    }

    fn files(taking: Taking) -> Files {
        Files {
            taking,
            uploaded: Uploaded::from([("m/0".to_owned(), "file-1".to_owned())]),
        }
    }

    const UPLOAD: Taking = Taking::Upload { purpose: "user_data" };

    #[test]
    fn a_file_goes_by_its_id_as_text_or_within_the_request() {
        let text = file("text/plain", b"hello");
        let by_id = json!({ "type": "input_file", "file_id": "file-1" });
        assert_eq!(files(UPLOAD).part("m", 0, &text), Some(by_id));
        let data = json!({ "type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8=" });
        assert_eq!(files(UPLOAD).part("m", 1, &text), Some(data));
        let as_text = json!({ "type": "input_text", "text": "a.txt\n```txt\nhello\n```\n" });
        assert_eq!(files(Taking::Inline).part("m", 1, &text), Some(as_text));
        let binary = files(Taking::Inline)
            .part("m", 1, &file("application/pdf", b"%PDF"))
            .unwrap();
        assert_eq!(binary["type"], "input_file");
        assert_eq!(files(UPLOAD).part("m", 1, &Part::File(File::default())), None);
    }

    #[test]
    fn only_large_files_go_up_and_each_once() {
        let message = |id: &str, size: usize| Message {
            content: vec![file("application/pdf", &vec![0; size])],
            ..Message::text(id, crate::protocol::Role::User, "")
        };
        let messages = [message("m", 2_000_000), message("n", 10), message("o", 2_000_000)];
        assert_eq!(files(UPLOAD).missing(&messages).unwrap().key, "o/0");
        assert!(files(Taking::Inline).missing(&messages).is_none());
        let mut kept = files(UPLOAD);
        kept.retain(&messages[1..]);
        assert!(kept.uploaded.is_empty());
    }
}
