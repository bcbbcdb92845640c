//! `--wire-log FILE`: both directions of the wire, a message a line, with keys blanked.
//!
//! Keys are those of the settings and the environment, and every token that the client gives: the log knows which of
//! our requests ask for one, and blanks their answers whole.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;

use serde_json::Value;

use crate::config::{Settings, password_of};
use crate::outbox::Tap;

/// What stands in the log where a key was.
const BLANK: &str = "[key]";

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WireLog(Rc<Log>);

struct Log {
    file: RefCell<File>,
    keys: RefCell<Vec<String>>,
    /// The ids of our `auth/token` requests.
    asked: RefCell<BTreeSet<u64>>,
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
                keys: RefCell::new(settings.known_keys()),
                asked: RefCell::default(),
            }))),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the wire log cannot be opened");
                None
            }
        }
    }

    /// A message from the client.
    pub(crate) fn received(&self, text: &str) {
        match serde_json::from_str(text) {
            Ok(message) => {
                let blanked = self.0.blanked(message);
                self.write("--> ", blanked.as_deref().unwrap_or(text));
            }
            // A message that nobody can read may still be an answer with a token in it.
            Err(_) if text.contains("token") || text.contains("proxy") => {
                self.write("--> ", &format!("[{} bytes that are no JSON]", text.len()));
            }
            Err(_) => self.write("--> ", text),
        }
    }

    /// Sees the messages to the client.
    pub(crate) fn tap(&self) -> Tap {
        let log = self.clone();
        Box::new(move |text| {
            log.0.note_question(text);
            log.write("<-- ", text);
        })
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
        for key in &*self.0.keys.borrow() {
            line = line.replace(key.as_str(), BLANK);
        }
        line.push('\n');
        if let Err(error) = self.0.file.borrow_mut().write_all(line.as_bytes()) {
            tracing::error!(%error, "the wire log cannot be written");
        }
    }
}

impl Log {
    /// Remembers a request for a token.
    fn note_question(&self, text: &str) {
        if !text.contains("\"auth/token\"") {
            return;
        }
        let message: Option<Value> = serde_json::from_str(text).ok();
        let message = message.filter(|message| message["method"] == "auth/token");
        if let Some(id) = message.and_then(|message| message["id"].as_u64()) {
            self.asked.borrow_mut().insert(id);
        }
    }

    /// The message without the secrets in it, each of which is a key from now on; none if there are none.
    fn blanked(&self, mut message: Value) -> Option<String> {
        let entries = match &mut message {
            Value::Array(entries) => entries.as_mut_slice(),
            one => std::slice::from_mut(one),
        };
        let mut is_blanked = false;
        for entry in entries {
            let is_token = entry
                .get("id")
                .and_then(Value::as_u64)
                .is_some_and(|id| self.asked.borrow().contains(&id));
            if let Some(result) = entry
                .get_mut("result")
                .filter(|result| is_token || result["token"].is_string())
            {
                self.learn(&result.take());
                *result = BLANK.into();
                is_blanked = true;
            }
            if entry["method"] == "initialize" {
                let settings = entry.pointer("/params/settings").unwrap_or(&Value::Null);
                self.learn_passwords(settings);
            }
        }
        is_blanked.then(|| message.to_string())
    }

    /// Every text in this is a key, but for what is too short to be one.
    fn learn(&self, value: &Value) {
        match value {
            Value::String(text) if text.trim().len() >= 4 => self.keys.borrow_mut().push(text.trim().to_owned()),
            Value::Array(values) => values.iter().for_each(|value| self.learn(value)),
            Value::Object(members) => members.values().for_each(|value| self.learn(value)),
            _ => {}
        }
    }

    /// The passwords of proxies in settings.
    fn learn_passwords(&self, settings: &Value) {
        for (name, value) in settings.as_object().into_iter().flatten() {
            match value.as_str().and_then(password_of) {
                Some(password) if name == "proxy" && !password.is_empty() => {
                    self.keys.borrow_mut().push(password.to_owned());
                }
                _ => self.learn_passwords(value),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of what these said: `>` from the client, `<` to it.
    fn log(said: &[(char, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::ephemeral();
        settings.wire_log = Some(dir.path().join("log"));
        let log = WireLog::open(&settings).unwrap();
        let mut tap = log.tap();
        for (direction, text) in said {
            match direction {
                '>' => log.received(text),
                _ => tap(text),
            }
        }
        std::fs::read_to_string(dir.path().join("log")).unwrap()
    }

    const ASKED: (char, &str) = ('<', r#"{"id":7,"method":"auth/token","params":{}}"#);

    #[test]
    fn a_token_of_the_client_is_blanked_from_its_answer_on() {
        let answers = [
            r#"{"id":7,"result":{"token":"sk-secret"}}"#,
            r#"{"id":7,"result":{"token":"sk-\u0073ecret"}}"#,
            r#"[{"id":7,"result":{"token":"sk-secret"}},{"id":8,"result":null}]"#,
            r#"{"id":7,"result":"sk-secret"}"#,
            r#"{"id":9,"result":{"token":"sk-secret"}}"#,
        ];
        for answer in answers {
            let log = log(&[ASKED, ('>', answer), ('<', r#"{"method":"x","params":"sk-secret"}"#)]);
            assert!(!log.contains("secret") && !log.contains("u0073"), "{log}");
            assert_eq!(log.matches(BLANK).count(), 2, "{log}");
        }
        let broken = log(&[ASKED, ('>', r#"{"id":7,"result":{"token":"sk-secret""#)]);
        assert!(broken.ends_with("--> [37 bytes that are no JSON]\n"), "{broken}");
    }

    #[test]
    fn a_proxys_password_in_the_settings_is_blanked() {
        let initialize = r#"{"id":1,"method":"initialize","params":{"settings":{"proxy":"http://u:hunter2@p:1",
            "providers":{"p":{"dialect":"chat","proxy":"socks5://v:hunter3@q:2"}}}}}"#;
        let log = log(&[('>', initialize)]);
        assert!(!log.contains("hunter"), "{log}");
        assert!(log.contains("http://u:[key]@p:1"), "{log}");
    }

    #[test]
    fn all_else_is_logged_as_it_was_said() {
        let log = log(&[('>', "{\"a\" :\n1}"), ('>', "nonsense"), ('<', "{}")]);
        assert_eq!(log, "--> {\"a\" : 1}\n--> nonsense\n<-- {}\n");
    }
}
