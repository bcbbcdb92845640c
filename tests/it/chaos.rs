//! Upstreams that break: at every event, in the middle of one, in the middle of a character, by silence, by a reset, by
//! a status. After each the thread is whole, nothing is there twice, and the next send works.

mod wires;

use serde_json::{Value, json};

use crate::process::Daemon;
use crate::process::pipes;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};
use wires::Wire;

/// How an upstream breaks off.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// It closes the connection behind an event.
    Close,
    /// It resets the connection in the middle of the next event.
    ResetWithin,
    /// It says nothing more.
    Stall,
}

const FAULTS: [Fault; 3] = [Fault::Close, Fault::ResetWithin, Fault::Stall];

impl Fault {
    /// A stream that breaks off behind this many events.
    fn reply(self, events: &[String], count: usize) -> Reply {
        let mut body = events[..count].concat();
        if self == Fault::ResetWithin
            && let Some(next) = events.get(count)
        {
            body.push_str(&next[..next.floor_char_boundary(next.len() / 2)]);
        }
        let reply = Reply::events(body);
        match self {
            Fault::Close => reply.close(),
            Fault::ResetWithin => reply.reset(),
            Fault::Stall => reply.stall(),
        }
    }
}

/// A daemon, its upstream, and a count of its requests.
struct Trial<'a> {
    wire: &'a Wire,
    upstream: &'a Upstream,
    daemon: Daemon,
    id: u64,
}

impl Trial<'_> {
    fn next_id(&mut self) -> u64 {
        self.id += 1;
        self.id
    }

    fn whole(&self) -> Reply {
        Reply::events(self.wire.events.concat())
    }

    /// Asks in a new thread, with these replies waiting; gives the thread and what `assistant/completed` said.
    fn first(&mut self, replies: impl IntoIterator<Item = Reply>, what: &str) -> (Value, Value) {
        replies.into_iter().for_each(|reply| self.upstream.push(reply));
        let id = self.next_id();
        self.daemon.ask(id, "first");
        let completed = self.daemon.notification("assistant/completed", id);
        self.daemon.response(id);
        let shown = self.daemon.text(id);
        assert_eq!(
            completed["text"].as_str().unwrap_or_default(),
            shown,
            "{what}: what was shown is what is said to be"
        );
        (completed["threadId"].clone(), completed)
    }

    /// The thread holds just the question and what was shown of its answer; the next question is answered, and the
    /// upstream is told all of it once.
    fn is_whole(&mut self, thread: &Value, completed: &Value, what: &str) {
        let shown = completed["text"].as_str().unwrap_or_default().to_owned();
        let mut expected = vec!["first".to_owned()];
        expected.extend(Some(shown.clone()).filter(|shown| !shown.is_empty()));
        assert_eq!(self.stored(thread), expected, "{what}: the thread");

        let before = self.upstream.requests().len();
        self.upstream.push(self.whole());
        let id = self.next_id();
        self.daemon.ask_in(id, thread, "second");
        let answer = self.daemon.result(id);
        assert_eq!(
            (&answer["status"], &answer["text"]),
            (&json!("completed"), &json!(self.wire.text())),
            "{what}: the next send"
        );
        expected.extend(["second".to_owned(), self.wire.text()]);
        assert_eq!(self.stored(thread), expected, "{what}: the thread after the next send");
        let requests = self.upstream.requests();
        let openings = requests[before..]
            .iter()
            .filter(|request| (self.wire.is_opening)(request));
        let told: Vec<Vec<String>> = openings.map(self.wire.told).collect();
        assert_eq!(told.len(), 1, "{what}: the next send is one request");
        if !self.wire.keeps_history {
            assert_eq!(
                told[0],
                expected[..expected.len() - 1],
                "{what}: the history that the upstream is told"
            );
        }
    }

    /// The texts of a thread's messages, oldest first. One that was begun and broke before its first word has none.
    fn stored(&mut self, thread: &Value) -> Vec<String> {
        let id = self.next_id();
        self.daemon.request(id, "thread/read", json!({ "threadId": thread }));
        let read = self.daemon.result(id);
        let messages = read["messages"].as_array().unwrap().iter().rev();
        messages
            .filter_map(|message| message["content"][0]["text"].as_str().map(str::to_owned))
            .collect()
    }
}

/// Runs a trial of this wire: the daemon is the real one, and so are the sockets.
async fn try_out(wire: Wire, trial: impl FnOnce(&mut Trial) + Send + 'static) {
    let upstream = Upstream::start([]).await.aside(wire.aside);
    tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let base_url = upstream.url();
        let settings = wire.settings;
        home.write_config(&format!(
            "[providers.test]\nbase_url = \"{base_url}\"\nidle_timeout = 0.3\n{settings}"
        ));
        let mut trial_of = Trial {
            wire: &wire,
            upstream: &upstream,
            daemon: Daemon::run(home.command(&["--stdio"]), pipes()),
            id: 0,
        };
        let capabilities = json!({ "events": ["retry"] });
        trial_of
            .daemon
            .request(0, "initialize", json!({ "capabilities": capabilities }));
        trial(&mut trial_of);
        trial_of.daemon.leave();
    })
    .await
    .unwrap();
}

/// Breaks it everywhere.
fn breaks_everywhere(trial: &mut Trial) {
    let events = trial.wire.events.clone();
    for fault in FAULTS {
        for count in 0..=events.len() {
            let wire = trial.wire;
            let what = format!("{}: {fault:?} behind event {count}", wire.name);
            let is_whole = count >= wire.whole_after;
            // Whoever waited in vain does not wait once more.
            let begins_anew = wire.begins_anew && fault != Fault::Stall;
            let begins_anew = begins_anew && !is_whole && wire.shown(count).is_empty();
            let mut replies = vec![fault.reply(&events, count)];
            replies.extend(begins_anew.then(|| trial.whole()));
            let (thread, completed) = trial.first(replies, &what);
            let (status, text) = match is_whole || begins_anew {
                true => ("completed", wire.text()),
                false => ("failed", wire.shown(count)),
            };
            assert_eq!(completed["status"], status, "{what}: {completed}");
            assert_eq!(completed["text"].as_str().unwrap_or_default(), text, "{what}");
            if status == "failed" {
                assert_eq!(completed["error"]["data"]["retryable"], true, "{what}: {completed}");
            }
            trial.is_whole(&thread, &completed, &what);
        }
    }
}

/// A body that ends within a character of the text.
fn breaks_within_a_character(trial: &mut Trial) {
    let (count, at) = trial.wire.within_a_character();
    let bytes = [
        trial.wire.events[..count].concat().as_bytes(),
        &trial.wire.events[count].as_bytes()[..at],
    ]
    .concat();
    let (thread, completed) = trial.first([Reply::events(bytes).close()], "half a character");
    assert_eq!(completed["status"], "failed", "{completed}");
    assert_eq!(completed["text"].as_str().unwrap_or_default(), trial.wire.shown(count));
    trial.is_whole(&thread, &completed, "half a character");
}

/// Statuses that pass, and some that do not.
fn refuses(trial: &mut Trial) {
    let refused = |status: u16| Reply::json(status, json!({ "error": { "message": "not now" } }));
    let asked = |delay: &str| refused(429).header("retry-after", delay);
    let passing = [
        ("429 with Retry-After", asked("1"), Some(1000)),
        ("429 with a Retry-After of nothing", asked("0"), Some(0)),
        ("500", refused(500), None),
        ("503", refused(503), None),
        ("408", refused(408), None),
    ];
    for (what, reply, delay) in passing {
        let whole = trial.whole();
        let (thread, completed) = trial.first([reply, whole], what);
        assert_eq!(completed["status"], "completed", "{what}: {completed}");
        let id = trial.id;
        let retry = trial.daemon.notification("assistant/event", id);
        assert_eq!(
            (&retry["type"], &retry["attempt"]),
            (&json!("retry"), &json!(1)),
            "{what}"
        );
        if let Some(delay) = delay {
            assert_eq!(retry["delayMs"], delay, "{what}");
        }
        trial.is_whole(&thread, &completed, what);
    }
    for (what, status, kind) in [
        ("400", 400, "upstream"),
        ("401", 401, "authRequired"),
        ("404", 404, "notFound"),
    ] {
        let (thread, completed) = trial.first([refused(status)], what);
        assert_eq!(completed["error"]["data"]["kind"], kind, "{what}: {completed}");
        trial.is_whole(&thread, &completed, what);
    }
}

macro_rules! trials {
    ($($wire:ident)*) => {
        $(mod $wire {
            use super::*;

            #[tokio::test]
            async fn a_stream_that_breaks_anywhere() {
                try_out(wires::$wire(), breaks_everywhere).await;
            }

            #[tokio::test]
            async fn a_stream_that_breaks_within_a_character() {
                try_out(wires::$wire(), breaks_within_a_character).await;
            }

            #[tokio::test]
            async fn an_upstream_that_refuses() {
                try_out(wires::$wire(), refuses).await;
            }
        })*
    };
}

trials! { assistants chat responses }
