//! Files of this machine: where a path or URI leads, and what is there.
//!
//! Only regular files are read: a directory, a pipe or a device is refused without waiting for it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use reqwest::Url;

/// The longest path that any system takes, in bytes.
const LONGEST: usize = 4096;

/// Why a file is not read.
#[derive(Debug)]
pub enum Problem {
    /// It has at least this many bytes.
    TooLarge(u64),
    /// What the system says, or what else it is.
    Unreadable(String),
}

/// Whether this is a `file:` URI.
pub fn is_file_uri(text: &str) -> bool {
    text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"))
}

/// The file that an absolute path or a `file:` URI means; none for a relative path or another machine's file.
pub fn locate(text: &str) -> Option<PathBuf> {
    if text.len() > LONGEST {
        return None;
    }
    let path = if is_file_uri(text) {
        Url::parse(text).ok()?.to_file_path().ok()?
    } else {
        PathBuf::from(text)
    };
    (path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0)).then_some(path)
}

/// As much of what should be a path as a sentence has room for.
pub fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(256)]
}

/// The bytes of a regular file, of at most this size.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Problem> {
    // Looked at before it is opened, since opening alone does something to some devices.
    check(&fs::metadata(path).map_err(unreadable)?, max)?;
    let file = open(path).map_err(unreadable)?;
    check(&file.metadata().map_err(unreadable)?, max)?;
    let mut bytes = Vec::new();
    // It may grow meanwhile, and some files of the system have more in them than their size says.
    file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 {
        size if size > max => Err(Problem::TooLarge(size)),
        _ => Ok(bytes),
    }
}

fn check(metadata: &fs::Metadata, max: u64) -> Result<(), Problem> {
    match metadata.len() {
        _ if metadata.is_dir() => Err(Problem::Unreadable("it is a directory".to_owned())),
        _ if !metadata.is_file() => Err(Problem::Unreadable("it is no regular file".to_owned())),
        size if size > max => Err(Problem::TooLarge(size)),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.read(true);
    // What has become a pipe since it was looked at must not be waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    options.open(path)
}

fn unreadable(error: io::Error) -> Problem {
    Problem::Unreadable(match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_uris_decoded() {
        let rows = [
            ("/a/b c", Some("/a/b c")),
            ("file:///a/b%20c%C3%BC", Some("/a/b cü")),
            ("FILE:///a", Some("/a")),
            ("file://localhost/a", Some("/a")),
            ("file:/a", Some("/a")),
            ("/a%20b", Some("/a%20b")),
            ("file:a/b", Some("/a/b")),
            ("file://elsewhere/a", None),
            ("a/b", None),
            ("./a", None),
            ("~/a", None),
            ("", None),
            ("/a\0b", None),
            ("https://example.org/a", None),
        ];
        for (text, path) in rows {
            assert_eq!(locate(text).as_deref(), path.map(Path::new), "{text}");
        }
    }
}
