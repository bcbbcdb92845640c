//! Images and files of our messages at the upstream: uploaded once, kept by their ids with the thread.
//!
//! Which tool reads a file there is told by its kind, since the upstream does not find out by itself: `file_search` is
//! for texts and documents, `code_interpreter` for tables and all that only a program reads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Upstream;
use crate::error::{Error, Kind};
use crate::protocol::{File, Image, Part, Role};
use crate::provider::http::{Call, Failure, Form};
use crate::provider::openai::Named;
use crate::thread::Message;

/// The extensions that `file_search` takes.
const SEARCHED: &[&str] = &[
    "c", "cpp", "cs", "css", "doc", "docx", "go", "html", "java", "js", "json", "md", "pdf", "php", "pptx", "py", "rb",
    "sh", "tex", "ts", "txt",
];

/// Texts that are of more use to a program than to a search.
const TABLES: &[&str] = &["csv", "tsv", "xml", "svg"];

/// The extensions of files without a name, by their media types.
const EXTENSIONS: &[(&str, &str)] = &[
    ("application/json", "json"),
    ("application/pdf", "pdf"),
    ("application/xml", "xml"),
    ("application/zip", "zip"),
    ("text/csv", "csv"),
    ("text/html", "html"),
    ("text/markdown", "md"),
    ("text/plain", "txt"),
];

/// The upstream's ids of parts of our messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Uploads {
    /// Those of earlier turns, which may be gone from the upstream by now.
    kept: BTreeMap<String, String>,
    /// Those of this turn.
    new: BTreeMap<String, String>,
}

/// A part that the upstream has to be given before a message can name it.
#[derive(Debug)]
pub struct Missing {
    place: String,
    purpose: &'static str,
    form: Form,
    /// Whether it is the newest message's, which has to be understood whole.
    pub is_newest: bool,
}

impl Uploads {
    /// What an anchor of ours tells.
    pub fn read(anchor: Option<&Value>) -> Uploads {
        let files = anchor.and_then(|anchor| anchor.get("files")?.as_object());
        let files = files.into_iter().flatten();
        Uploads {
            kept: files
                .filter_map(|(place, id)| Some((place.clone(), id.as_str()?.to_owned())))
                .collect(),
            new: BTreeMap::new(),
        }
    }

    /// Puts them into an anchor.
    pub fn put_into(&self, anchor: &mut Value) {
        let all: serde_json::Map<_, _> = self
            .kept
            .iter()
            .chain(&self.new)
            .map(|(place, id)| (place.clone(), json!(id)))
            .collect();
        if !all.is_empty() {
            anchor["files"] = Value::Object(all);
        }
    }

    /// The upstream's id of this part of a message.
    pub fn id(&self, message: &Message, index: usize) -> Option<&str> {
        let place = place(message, index);
        let id = self.new.get(&place).or_else(|| self.kept.get(&place));
        id.map(String::as_str)
    }

    /// Notes what the upstream calls a part that was missing.
    pub fn add(&mut self, missing: &Missing, id: String) {
        self.new.insert(missing.place.clone(), id);
    }

    /// Notes that the upstream refuses a part of an older message: the message goes without it.
    pub fn give_up(&mut self, missing: &Missing) {
        self.new.insert(missing.place.clone(), String::new());
    }

    /// Forgets those of earlier turns that a refusal names: they are gone from the upstream. True if there were any.
    pub fn forget_named(&mut self, refusal: &Error) -> bool {
        let before = self.kept.len();
        let message = refusal.upstream_message();
        self.kept
            .retain(|_, id| id.is_empty() || !message.contains(id.as_str()));
        self.kept.len() < before
    }

    /// The first part of these messages that the upstream does not have. `newest` is our id of the newest message.
    pub fn missing(&self, messages: &[Message], newest: &str) -> Option<Missing> {
        let questions = messages.iter().filter(|message| message.role == Role::User);
        let parts = questions.flat_map(|message| {
            let parts = message.content.iter().enumerate();
            parts.map(move |(index, part)| (message, index, part))
        });
        let mut missing = parts.filter(|(message, index, _)| self.id(message, *index).is_none());
        missing.find_map(|(message, index, part)| {
            let (purpose, form) = match part {
                Part::Image(image) => ("vision", image_form(image)?),
                Part::File(file) => ("assistants", file_form(file)?),
                _ => return None,
            };
            Some(Missing {
                place: place(message, index),
                purpose,
                form,
                is_newest: message.id == newest,
            })
        })
    }
}

impl Upstream {
    /// Gives the upstream a part, and gives its id there.
    pub async fn upload(&self, missing: &Missing) -> Result<String, Failure> {
        let form = missing.form.clone().field("purpose", missing.purpose);
        let answer = self.endpoint.send(&Call::post(["files"]).multipart(form)).await;
        let answer = answer.map_err(|failure| Failure {
            // Where the connection broke: a file that is given twice does no harm.
            repeatable: failure.repeatable || failure.error.kind() == Kind::Network,
            ..failure
        })?;
        let file: Named = answer.json().await?;
        file.id.ok_or_else(|| {
            let provider = &self.endpoint.provider;
            let message = format!("expected provider `{provider}` to give an id to an uploaded file, found none");
            Error::new(Kind::Upstream, message).with_provider(provider).into()
        })
    }
}

/// The tools that read the files of these messages, as a run names them.
pub fn tools_for(messages: &[Message]) -> Vec<Value> {
    let questions = messages.iter().filter(|message| message.role == Role::User);
    let files = questions
        .flat_map(|message| &message.content)
        .filter_map(|part| match part {
            Part::File(file) => Some(tool_for(file)),
            _ => None,
        });
    let mut tools: Vec<Value> = Vec::new();
    for tool in files.map(|tool| json!({ "type": tool })) {
        if !tools.contains(&tool) {
            tools.push(tool);
        }
    }
    tools
}

/// The tool that reads a file.
pub fn tool_for(file: &File) -> &'static str {
    let extension = extension(file);
    let extension = extension.as_deref().unwrap_or_default();
    let is_table = TABLES.contains(&extension);
    // A file that only the upstream has is a text, unless its name says another thing.
    let is_text = || extension.is_empty() && file.data.is_none() || file.text().is_some();
    if SEARCHED.contains(&extension) || (!is_table && is_text()) {
        "file_search"
    } else {
        "code_interpreter"
    }
}

fn image_form(image: &Image) -> Option<Form> {
    let mime_type = image.mime_type.as_deref().unwrap_or("image/png");
    let extension = mime_type.rsplit('/').next().unwrap_or("png");
    Some(Form::file(format!("image.{extension}"), mime_type, image.bytes()?))
}

/// A text whose extension a search does not take goes there as `.txt`.
fn file_form(file: &File) -> Option<Form> {
    let bytes = file.bytes()?;
    let mime_type = file.mime_type.as_deref().unwrap_or("application/octet-stream");
    let mut name = file.name.as_deref().map_or("file", base_name).to_owned();
    let extension = extension(file);
    if extension.is_some() && !name.contains('.') {
        name = format!("{name}.{}", extension.as_deref().unwrap_or_default());
    }
    let is_searched = extension.is_some_and(|extension| SEARCHED.contains(&&*extension));
    if tool_for(file) == "file_search" && !is_searched {
        name.push_str(".txt");
    }
    Some(Form::file(name, mime_type, bytes))
}

/// The extension of a file's name; that of its media type where it has none.
fn extension(file: &File) -> Option<String> {
    let name = file.name.as_deref().map(base_name).unwrap_or_default();
    if let Some((_, extension)) = name.rsplit_once('.') {
        return Some(extension.to_ascii_lowercase());
    }
    let essence = file.mime_type.as_deref()?.split(';').next()?.trim();
    let known = EXTENSIONS.iter().find(|(mime_type, _)| *mime_type == essence)?;
    Some(known.1.to_owned())
}

/// The last segment of a path, whichever system wrote it.
fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn place(message: &Message, index: usize) -> String {
    format!("{}/{index}", message.id)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn file(name: &str, mime_type: &str, bytes: &[u8]) -> File {
        File {
            name: (!name.is_empty()).then(|| name.to_owned()),
            mime_type: (!mime_type.is_empty()).then(|| mime_type.to_owned()),
            data: Some(STANDARD.encode(bytes)),
            ..File::default()
        }
    }

    #[test]
    fn the_kind_of_a_file_tells_its_tool_and_its_name_there() {
        let rows = [
            (file("a.pdf", "application/pdf", b"%PDF"), "file_search", "a.pdf"),
            (file("a.md", "text/markdown", b"# a"), "file_search", "a.md"),
            (file("src/main.rs", "text/x-rust", b"fn"), "file_search", "main.rs.txt"),
            (file("Makefile", "text/plain", b"all:"), "file_search", "Makefile.txt"),
            (file("", "application/pdf", b"%PDF"), "file_search", "file.pdf"),
            (file("", "", b"\0"), "code_interpreter", "file"),
            (file("a.csv", "text/csv", b"a,b"), "code_interpreter", "a.csv"),
            (file("A.PNG", "image/png", b"\x89"), "code_interpreter", "A.PNG"),
            (
                file("a.parquet", "application/octet-stream", b"\0"),
                "code_interpreter",
                "a.parquet",
            ),
        ];
        for (file, tool, name) in rows {
            assert_eq!(tool_for(&file), tool, "{file:?}");
            assert!(
                format!("{:?}", file_form(&file)).contains(&format!("name: {name:?}")),
                "{file:?}"
            );
        }
        let only_there = File {
            file_id: Some("file_1".into()),
            ..File::default()
        };
        assert_eq!(tool_for(&only_there), "file_search");
    }

    #[test]
    fn what_was_uploaded_is_kept_and_forgotten_when_it_is_gone() {
        let mut message = Message::text("u1", Role::User, "x");
        message.content.push(Part::File(file("a.md", "text/markdown", b"# a")));
        let messages = [message];
        let mut uploads = Uploads::default();
        let missing = uploads.missing(&messages, "u1").unwrap();
        assert!(missing.is_newest);
        uploads.add(&missing, "file_1".into());
        assert!(uploads.missing(&messages, "u1").is_none());

        let mut anchor = json!({});
        uploads.put_into(&mut anchor);
        assert_eq!(anchor, json!({ "files": { "u1/1": "file_1" } }));
        let mut kept = Uploads::read(Some(&anchor));
        assert_eq!(kept.id(&messages[0], 1), Some("file_1"));

        let refusal = |message: &str| {
            Error::new(Kind::Upstream, "refused").with_upstream(crate::error::Upstream {
                message: Some(message.to_owned()),
                ..Default::default()
            })
        };
        assert!(!kept.forget_named(&refusal("No thread thread_1")));
        assert!(kept.forget_named(&refusal("No file file_1")));
        assert!(!kept.forget_named(&refusal("No file file_1")), "it is forgotten once");
        assert!(
            !uploads.forget_named(&refusal("No file file_1")),
            "what is new cannot be gone"
        );
        assert!(kept.missing(&messages, "u1").is_some());
    }
}
