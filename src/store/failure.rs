//! What can go wrong in the store, and the sentence that a person gets for it.
//!
//! A sentence names the database, the cause and what to do; it never quotes a row.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{Error, Kind};

/// A command of the store that did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The answer is no.
    Refused(Error),
    /// The thread has a run under way.
    Busy {
        /// The thread's id.
        thread_id: String,
        /// The run in the way.
        run_id: String,
        /// The journal of the process that has it.
        owner: Option<String>,
    },
    /// SQLite failed.
    Sql(rusqlite::Error),
    /// A file beside the database failed.
    Io(io::Error),
}

impl Failure {
    /// As the caller is told of it. `path` is the database, none in memory; `journal` is this process's own.
    pub fn into_error(self, path: Option<&Path>, journal: Option<&str>) -> Error {
        match self {
            Failure::Refused(error) => error,
            Failure::Busy {
                thread_id,
                run_id,
                owner,
            } => busy(&thread_id, &run_id, owner.as_deref() == journal),
            Failure::Sql(error) => storage(sql_sentence(&error, &shown(path))),
            Failure::Io(error) => storage(format!("failed to write beside {}: {}", shown(path), io_cause(&error))),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sql(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// An error of kind `storage`.
pub fn storage(message: String) -> Error {
    Error::new(Kind::Storage, message)
}

/// An error of the operating system in the words of a sentence: without its number and its capital.
pub fn io_cause(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut chars = words.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

fn busy(thread_id: &str, run_id: &str, is_ours: bool) -> Error {
    let message = if is_ours {
        format!("thread `{thread_id}` already has a run under way")
    } else {
        format!("thread `{thread_id}` has a run under way in another process; send again when it has ended")
    };
    Error::new(Kind::Busy, message).with_run(thread_id, run_id, None)
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the database in memory".to_owned(),
        |path| format!("database `{}`", path.display()),
    )
}

fn sql_sentence(error: &rusqlite::Error, database: &str) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("{database} is damaged; put a copy in its place, or move it away to begin a new one")
        }
        Some(ErrorCode::DiskFull) => format!("failed to write {database}: its disk is full; make room and try again"),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("failed to open {database} for writing; make it and its folder writable, or name another folder")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("{database} is locked by another program; close that program and try again")
        }
        Some(ErrorCode::SystemIoFailure) => format!("failed to read or write {database}: its disk reports an error"),
        Some(_) => format!("failed to use {database}: {error}"),
        None => format!("failed to read {database}: it holds something that this build cannot read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(code: i32) -> String {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let error = Failure::Sql(error).into_error(Some(Path::new("/d/a.db")), None);
        assert_eq!(error.kind(), Kind::Storage);
        error.message.into_owned()
    }

    #[test]
    fn what_sqlite_says_becomes_what_to_do() {
        use rusqlite::ffi;
        assert!(sentence(ffi::SQLITE_CORRUPT).contains("`/d/a.db` is damaged; put a copy"));
        assert!(sentence(ffi::SQLITE_FULL).contains("its disk is full"));
        assert!(sentence(ffi::SQLITE_READONLY).contains("make it and its folder writable"));
        assert!(sentence(ffi::SQLITE_BUSY).contains("another program"));
    }

    #[test]
    fn causes_read_as_part_of_a_sentence() {
        assert_eq!(io_cause(&io::Error::from_raw_os_error(13)), "permission denied");
    }

    #[test]
    fn a_busy_thread_says_who_has_it() {
        let busy = |owner: &str| Failure::Busy {
            thread_id: "t".into(),
            run_id: "r".into(),
            owner: Some(owner.into()),
        };
        let ours = busy("a").into_error(None, Some("a"));
        assert_eq!(ours.message, "thread `t` already has a run under way");
        assert_eq!(ours.data.run_id.as_deref(), Some("r"));
        let theirs = busy("b").into_error(None, Some("a"));
        assert!(theirs.message.contains("in another process"), "{theirs}");
    }
}
