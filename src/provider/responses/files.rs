//! How files reach the upstream: by an id of its own, within the request, as text, or uploaded once.
//!
//! Uploads are kept with the thread, by message and part, so that no file goes up twice.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Upstream;
use super::input::{data_url, name_of};
use super::wire::Named;
use crate::error::{Error, Kind};
use crate::protocol::{File, Part};
use crate::provider::http::{Call, Failure};
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
    pub fn part(&self, message_id: &str, index: usize, file: &File) -> Option<Value> {
        let uploaded = self.uploaded.get(&key(message_id, index));
        if let Some(file_id) = file.file_id.as_ref().or(uploaded) {
            return Some(json!({ "type": "input_file", "file_id": file_id }));
        }
        let data = file.data.as_deref()?;
        let name = name_of(file);
        if self.taking == Taking::Inline
            && let Some(text) = text_of(file)
        {
            return Some(json!({ "type": "input_text", "text": format!("{name}\n{text}") }));
        }
        Some(json!({ "type": "input_file", "filename": name, "file_data": data_url(type_of(file), data) }))
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
        let call = form(upload)?;
        let answer = self.endpoint.send(&call).await?;
        let named: Named = answer.json().await?;
        named.id.ok_or_else(|| {
            let provider = &self.endpoint.provider;
            let message = format!("provider `{provider}` gave an uploaded file no id");
            Error::new(Kind::Upstream, message).with_provider(provider).into()
        })
    }
}

/// `POST /files`, as `multipart/form-data` has it (RFC 7578).
fn form(upload: &Upload) -> Result<Call, Error> {
    let bytes = STANDARD.decode(upload.file.data.as_deref().unwrap_or_default());
    let bytes = bytes.map_err(|_| not_base64(upload.file))?;
    let boundary = boundary(&bytes);
    // Quotes and line ends would end the header.
    let name: String = name_of(upload.file)
        .chars()
        .map(|c| {
            if c == '"' || c == '\\' || c.is_control() {
                '_'
            } else {
                c
            }
        })
        .collect();
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {}\r\n\r\n",
        upload.purpose,
        type_of(upload.file),
    )
    .into_bytes();
    body.extend_from_slice(&bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Ok(Call::post(["files"]).body(&format!("multipart/form-data; boundary={boundary}"), body))
}

/// "Boundary delimiters must not appear within the encapsulated material." (RFC 2046, 5.1.1)
fn boundary(bytes: &[u8]) -> String {
    let candidates = (0_u32..).map(|number| format!("assistd-part-{number}"));
    let mut free = candidates.filter(|boundary| memchr::memmem::find(bytes, boundary.as_bytes()).is_none());
    free.next().expect("no file holds every number")
}

/// What is wrong with a file's `data`.
pub fn not_base64(file: &File) -> Error {
    Error::invalid_params(format!("expected `data` of file `{}` to be in base 64", name_of(file)))
}

fn type_of(file: &File) -> &str {
    file.mime_type.as_deref().unwrap_or("application/octet-stream")
}

/// The text of a text file.
fn text_of(file: &File) -> Option<String> {
    let kind = type_of(file);
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_text = kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind,
            "application/json"
                | "application/xml"
                | "application/toml"
                | "application/javascript"
                | "application/x-sh"
                | "application/yaml"
        );
    // A file of no known type is text if it reads as such.
    let may_be = is_text || kind == "application/octet-stream";
    let bytes = STANDARD.decode(file.data.as_deref()?).ok().filter(|_| may_be)?;
    String::from_utf8(bytes)
        .ok()
        .filter(|text| is_text || !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, bytes: &[u8]) -> File {
        File {
            data: Some(STANDARD.encode(bytes)),
            mime_type: Some(kind.to_owned()),
            name: Some("a.txt".into()),
            ..File::default()
        }
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
        let as_text = json!({ "type": "input_text", "text": "a.txt\nhello" });
        assert_eq!(files(Taking::Inline).part("m", 1, &text), Some(as_text));
        let binary = files(Taking::Inline)
            .part("m", 1, &file("application/pdf", b"%PDF"))
            .unwrap();
        assert_eq!(binary["type"], "input_file");
        assert_eq!(files(UPLOAD).part("m", 1, &File::default()), None);
    }

    #[test]
    fn only_large_files_go_up_and_each_once() {
        let message = |id: &str, size: usize| Message {
            content: vec![Part::File(file("application/pdf", &vec![0; size]))],
            ..Message::text(id, crate::protocol::Role::User, "")
        };
        let messages = [message("m", 2_000_000), message("n", 10), message("o", 2_000_000)];
        assert_eq!(files(UPLOAD).missing(&messages).unwrap().key, "o/0");
        assert!(files(Taking::Inline).missing(&messages).is_none());
        let mut kept = files(UPLOAD);
        kept.retain(&messages[1..]);
        assert!(kept.uploaded.is_empty());
    }

    #[test]
    fn the_boundary_is_in_no_file() {
        assert_eq!(boundary(b"x"), "assistd-part-0");
        assert_eq!(boundary(b"assistd-part-0 assistd-part-1"), "assistd-part-2");
    }
}
