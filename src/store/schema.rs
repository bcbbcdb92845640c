//! The tables, and the way from every earlier shape of them to this one.
//!
//! `user_version` counts the steps that a database has taken. A step, once released, never changes: what comes later is
//! one more step. Before an older database takes a step a copy of it is kept; a newer one is refused.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::failure::{Failure, storage};
use super::folder::private;

/// Every step that was ever released, in order.
///
/// In all tables `key` is for joins and never leaves the database; `id` is what the wire knows. Times are milliseconds
/// since 1970. Words are those of the wire.
pub const STEPS: &[&str] = &[
    "
CREATE TABLE thread (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT,
    assistant TEXT,
    metadata TEXT NOT NULL,            -- a JSON object
    truncation TEXT NOT NULL,
    messages INTEGER NOT NULL,         -- how many, so that a list need not count them
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    touched INTEGER NOT NULL UNIQUE    -- counts writes to any thread: the order of lists, which clocks cannot disturb
) STRICT;

CREATE TABLE run (
    key INTEGER PRIMARY KEY,           -- the order of arrival
    id TEXT NOT NULL UNIQUE,
    thread INTEGER NOT NULL REFERENCES thread (key) ON DELETE CASCADE,
    owner TEXT,                        -- the journal of the process that runs it; null after the end
    status TEXT NOT NULL,
    stop_reason TEXT,
    provider TEXT NOT NULL,
    model TEXT,
    assistant TEXT,
    message_id TEXT NOT NULL,          -- the user's message that it answers
    content TEXT,                      -- that message's parts, in JSON, until it enters the thread
    seq INTEGER NOT NULL,
    steps TEXT NOT NULL,               -- a JSON array
    tool_calls TEXT NOT NULL,          -- a JSON array
    usage TEXT,                        -- a JSON object
    error TEXT,                        -- a JSON object
    created_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE UNIQUE INDEX run_under_way ON run (thread) WHERE status = 'inProgress';
CREATE INDEX run_of_thread ON run (thread);
CREATE INDEX run_of_owner ON run (owner) WHERE owner IS NOT NULL;

CREATE TABLE message (
    key INTEGER PRIMARY KEY,           -- the order within the thread
    id TEXT NOT NULL UNIQUE,
    thread INTEGER NOT NULL REFERENCES thread (key) ON DELETE CASCADE,
    run INTEGER REFERENCES run (key) ON DELETE SET NULL,
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    content TEXT NOT NULL,             -- a JSON array of parts
    marks BLOB,                        -- where the text stood after each event
    retried INTEGER NOT NULL DEFAULT 0, -- 1: another answer took its place, and it goes upstream no more
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX message_of_thread ON message (thread, key);
CREATE INDEX message_of_run ON message (run, key);

CREATE TABLE anchor (                  -- what a provider wants back with the thread's next request
    thread INTEGER NOT NULL REFERENCES thread (key) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    value TEXT NOT NULL,               -- JSON
    PRIMARY KEY (thread, provider)
) STRICT, WITHOUT ROWID;
",
    "
ALTER TABLE run ADD COLUMN rounds TEXT NOT NULL DEFAULT '[]';  -- a JSON array: its rounds that ended with calls
ALTER TABLE run ADD COLUMN continues INTEGER REFERENCES run (key) ON DELETE SET NULL;  -- whose calls it has answered
ALTER TABLE run ADD COLUMN background TEXT;  -- a JSON object, until the end: what takes it up after its process died
CREATE INDEX run_continues ON run (continues) WHERE continues IS NOT NULL;
",
];

/// Brings a database to the shape that `steps` lead to. To be called in turn. `path` is the database, none in memory.
pub fn migrate(connection: &mut Connection, steps: &[&str], path: Option<&Path>) -> Result<(), Failure> {
    let version = version(connection)?;
    let known = steps.len();
    if version == known {
        return Ok(());
    }
    if version > known {
        let message = format!(
            "expected database {} to have schema {known} or older, and it has {version}; update assistd, or name \
             another data folder",
            path.map_or("in memory".into(), |path| format!("`{}`", path.display()))
        );
        return Err(storage(message).into());
    }
    match path {
        Some(path) if version == 0 => refuse_foreign(connection, path)?,
        Some(path) => keep_copy(connection, path, version)?,
        None => {}
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &steps[version..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known as i64)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> Result<usize, Failure> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// A database that took no step of ours and yet has tables belongs to somebody else.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), Failure> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(());
    }
    let path = path.display();
    let message = format!("expected `{path}` to be a database of assistd, and it is another program's; move it away");
    Err(storage(message).into())
}

/// Keeps the database as it was before its first step forward, as `assistd.db.schema-1`.
fn keep_copy(connection: &Connection, path: &Path, version: usize) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{version}"));
    let copy = Path::new(&name);
    if copy.exists() {
        // What an earlier try left; that one did not get as far as its first step.
        fs::remove_file(copy)?;
    }
    // SQLite fills a file that is there and empty: so it is private from its first byte.
    private().open(copy)?;
    connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE thing (name TEXT) STRICT;";
    const SECOND: &str = "ALTER TABLE thing ADD COLUMN size INTEGER;";

    fn at(path: &Path, steps: &[&str]) -> Result<Connection, String> {
        let mut connection = Connection::open(path).unwrap();
        let taken = migrate(&mut connection, steps, Some(path));
        taken.map_err(|failure| failure.into_error(Some(path), None).message.into_owned())?;
        Ok(connection)
    }

    #[test]
    fn an_older_database_is_copied_and_brought_forward() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.db");
        let old = at(&path, &[FIRST]).unwrap();
        old.execute("INSERT INTO thing VALUES ('kept')", []).unwrap();
        drop(old);

        let new = at(&path, &[FIRST, SECOND]).unwrap();
        let row: (String, Option<i64>) = new
            .query_row("SELECT name, size FROM thing", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(row, ("kept".to_owned(), None));

        let copy = Connection::open(place.path().join("a.db.schema-1")).unwrap();
        assert_eq!(version(&copy).unwrap(), 1);
        let name: String = copy.query_row("SELECT * FROM thing", [], |row| row.get(0)).unwrap();
        assert_eq!(name, "kept");
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.db");
        drop(at(&path, &[FIRST, SECOND]).unwrap());
        let message = at(&path, &[FIRST]).unwrap_err();
        assert!(message.contains("to have schema 1 or older, and it has 2"), "{message}");
        assert_eq!(version(&Connection::open(&path).unwrap()).unwrap(), 2);
    }

    #[test]
    fn a_step_that_fails_leaves_the_database_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.db");
        drop(at(&path, &[FIRST]).unwrap());
        at(&path, &[FIRST, SECOND, "CREATE nonsense"]).unwrap_err();
        let connection = Connection::open(&path).unwrap();
        assert_eq!(version(&connection).unwrap(), 1);
        assert!(connection.prepare("SELECT size FROM thing").is_err());
        drop(connection);
        at(&path, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn another_programs_database_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.db");
        Connection::open(&path).unwrap().execute_batch(FIRST).unwrap();
        let message = at(&path, STEPS).unwrap_err();
        assert!(message.contains("another program's"), "{message}");
    }

    #[test]
    fn runs_of_the_first_schema_are_brought_forward() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.db");
        let old = at(&path, &STEPS[..1]).unwrap();
        old.execute_batch(
            "INSERT INTO thread VALUES (1, 't', NULL, NULL, '{}', 'auto', 0, 0, 0, 0);
             INSERT INTO run (id, thread, status, provider, message_id, seq, steps, tool_calls, created_at)
             VALUES ('r', 1, 'completed', 'p', 'm', 3, '[]', '[]', 0);",
        )
        .unwrap();
        drop(old);
        let new = at(&path, STEPS).unwrap();
        let row: (String, Option<i64>, Option<String>) = new
            .query_row("SELECT rounds, continues, background FROM run", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(row, ("[]".to_owned(), None, None));
        new.execute("DELETE FROM thread", []).unwrap();
    }

    #[test]
    fn the_tables_can_be_made() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, STEPS, None).unwrap();
        migrate(&mut connection, STEPS, None).unwrap();
        assert_eq!(version(&connection).unwrap(), STEPS.len());
    }
}
