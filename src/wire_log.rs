//! `--wire-log FILE`: both directions of the wire, a message a line, with keys blanked.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;

use crate::config::Settings;
use crate::outbox::Tap;

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WireLog(Rc<Log>);

struct Log {
    file: RefCell<File>,
    keys: Vec<String>,
}

impl WireLog {
    /// The log that the settings ask for. One that cannot be opened is said in the log of the program, and left out.
    pub(crate) fn open(settings: &Settings) -> Option<WireLog> {
        let path = settings.wire_log.as_ref()?;
        let mut options = File::options();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(file) => Some(WireLog(Rc::new(Log {
                file: RefCell::new(file),
                keys: settings.known_keys(),
            }))),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the wire log cannot be opened");
                None
            }
        }
    }

    /// A message from the client.
    pub(crate) fn received(&self, text: &str) {
        self.write("--> ", text);
    }

    /// Sees the messages to the client.
    pub(crate) fn tap(&self) -> Tap {
        let log = self.clone();
        Box::new(move |text| log.write("<-- ", text))
    }

    fn write(&self, direction: &str, text: &str) {
        let mut line = String::with_capacity(direction.len() + text.len() + 1);
        line.push_str(direction);
        // A JSON text may be spread over lines; the log has one line for each.
        line.extend(text.chars().map(|character| {
            if matches!(character, '\n' | '\r') {
                ' '
            } else {
                character
            }
        }));
        for key in &self.0.keys {
            line = line.replace(key.as_str(), "[key]");
        }
        line.push('\n');
        if let Err(error) = self.0.file.borrow_mut().write_all(line.as_bytes()) {
            tracing::error!(%error, "the wire log cannot be written");
        }
    }
}
