//! Files and images that go along with a question, as parts of its content. Their paths are made absolute here, since the
//! daemon refuses others; it also reads them.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

/// What goes along with a question.
#[derive(Debug, Default, Args)]
pub struct Attached {
    /// Send this file along; may be given several times
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Send this image along (PNG, JPEG, GIF or WebP); may be given several times
    #[arg(long = "image", value_name = "PATH")]
    images: Vec<PathBuf>,
}

impl Attached {
    /// The parts, images first.
    pub fn parts(&self) -> Result<Vec<Value>, String> {
        let images = self.images.iter().map(|path| part("image", path));
        images.chain(self.files.iter().map(|path| part("file", path))).collect()
    }
}

/// The part of this type for the file at a path.
pub fn part(kind: &str, path: &Path) -> Result<Value, String> {
    let problem = |why: &str| format!("failed to find the {kind} `{}`: {why}", path.display());
    let absolute = std::path::absolute(path).map_err(|error| problem(&error.to_string()))?;
    match absolute.to_str() {
        Some(path) => Ok(json!({ "type": kind, "path": path })),
        None => Err(problem("expected its path to be UTF-8")),
    }
}

/// `content`: the text, alone or before these parts. A text that is empty is left out where there are parts.
pub fn content(text: &str, mut parts: Vec<Value>) -> Value {
    if parts.is_empty() {
        return text.into();
    }
    if !text.trim().is_empty() {
        parts.insert(0, json!({ "type": "text", "text": text }));
    }
    parts.into()
}
