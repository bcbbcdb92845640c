//! Tools over the real dialects: what is called at once, what goes back in which order, what the next turn is told, also
//! by another process, and what a client does that cannot call any.

mod wires;

use serde_json::{Value, json};

use super::Daemon;
use super::ends::pipes;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};
use wires::Wire;

const TOOLS: &str = r#"
default_assistant = "work"
[assistants.work]
provider = "test"
tools = [{ name = "look" }, { name = "hear" }]
"#;

/// The question, what the model thought and said, and its calls.
const ASKED: [&str; 5] = [
    "user: what is there?",
    "reasoning: sealed 1",
    "assistant: Let me see. ",
    "call c1: look {\"at\":\"é\"}",
    "call c2: hear {}",
];

/// What came back, and what the model made of it.
const ANSWERED: [&str; 4] = [
    "output c1: A",
    "output c2: B",
    "reasoning: sealed 2",
    "assistant: Sunny.",
];

struct Trial<'a> {
    wire: &'a Wire,
    upstream: &'a Upstream,
    home: Home,
}

impl Trial<'_> {
    fn start(&self, calls_tools: bool) -> Daemon {
        let mut daemon = Daemon::run(self.home.command(&["--stdio"]), pipes());
        let capabilities = json!({ "toolCall": calls_tools });
        daemon.request(0, "initialize", json!({ "capabilities": capabilities }));
        daemon.result(0);
        daemon
    }

    fn will_call(&self) {
        self.upstream.push(Reply::events((self.wire.calls)()));
    }

    fn will_say(&self, number: u32, text: &str) {
        self.upstream.push(Reply::events((self.wire.says)(number, text)));
    }

    /// Asks in a process of its own, and gives the thread: the calls are left to whoever comes next.
    fn leaves_calls(&self) -> Value {
        self.will_call();
        let mut daemon = self.start(false);
        daemon.ask(1, "what is there?");
        let ended = daemon.result(1);
        daemon.leave();
        assert_eq!(
            (&ended["status"], &ended["stopReason"], &ended["text"]),
            (&json!("completed"), &json!("toolCalls"), &json!("Let me see. "))
        );
        assert_eq!(
            ended["toolCalls"],
            json!([
                { "callId": "c1", "name": "look", "arguments": "{\"at\":\"é\"}" },
                { "callId": "c2", "name": "hear", "arguments": "{}" },
            ])
        );
        ended["threadId"].clone()
    }

    /// Sends this in a process of its own, and gives the answer's text.
    fn send(&self, params: Value) -> Value {
        let mut daemon = self.start(false);
        daemon.request(1, "assistant/send", params);
        let answer = daemon.result(1);
        assert_eq!(answer["status"], "completed", "{answer}");
        daemon.leave();
        answer["text"].clone()
    }

    /// The last request tells all of this; only the end of it, from here on, where the upstream has the rest.
    fn was_told(&self, whole: &[&[&str]], new_from: Option<(&str, usize)>) {
        let whole: Vec<&str> = whole.concat();
        let request = self.upstream.requests().pop().unwrap();
        let told = (self.wire.told)(&request.json());
        let expected: Vec<&str> = match new_from.filter(|_| self.wire.keeps_history) {
            Some((previous, from)) => std::iter::once(previous).chain(whole[from..].iter().copied()).collect(),
            None => whole,
        };
        let expected: Vec<&str> = match self.wire.carries_reasoning {
            true => expected,
            false => expected
                .into_iter()
                .filter(|line| !line.starts_with("reasoning"))
                .collect(),
        };
        assert_eq!(told, expected, "{}", self.wire.name);
    }
}

async fn try_out(wire: Wire, trial: impl FnOnce(&Trial) + Send + 'static) {
    let upstream = Upstream::start([]).await;
    tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let (base_url, settings) = (upstream.url(), wire.settings);
        home.write_config(&format!(
            "{TOOLS}\n[providers.test]\nmodel = \"m\"\nbase_url = \"{base_url}\"\n{settings}"
        ));
        trial(&Trial {
            wire: &wire,
            upstream: &upstream,
            home,
        });
    })
    .await
    .unwrap();
}

/// The calls are under way at once and answered the other way round; a later process tells the upstream all of it.
fn a_client_calls_them(trial: &Trial) {
    trial.will_call();
    trial.will_say(2, "Sunny.");
    let mut daemon = trial.start(true);
    daemon.ask(1, "what is there?");
    let calls: Vec<Value> = (0..2)
        .map(|_| daemon.until("a call", |message| message["method"] == "tool/call"))
        .collect();
    let asked: Vec<Value> = calls
        .iter()
        .map(|call| {
            json!([
                call["params"]["callId"],
                call["params"]["name"],
                call["params"]["arguments"]
            ])
        })
        .collect();
    assert_eq!(asked, [json!(["c1", "look", { "at": "é" }]), json!(["c2", "hear", {}])]);
    for (call, output) in calls.iter().zip(["A", "B"]).rev() {
        daemon.say(&json!({ "jsonrpc": "2.0", "id": call["id"], "result": { "output": output } }));
    }
    let answer = daemon.result(1);
    assert_eq!(
        (&answer["status"], &answer["text"]),
        (&json!("completed"), &json!("Let me see. Sunny."))
    );
    trial.was_told(&[&ASKED, &ANSWERED[..2]], Some(("previous: resp_1", ASKED.len())));
    let thread = &answer["threadId"];
    let next = ["user: and then?"];
    trial.will_say(3, "Rain.");
    daemon.ask_in(2, thread, "and then?");
    daemon.result(2);
    let all = ASKED.len() + ANSWERED.len();
    trial.was_told(&[&ASKED, &ANSWERED, &next], Some(("previous: resp_2", all)));
    daemon.leave();
    trial.will_say(4, "Snow.");
    trial.send(json!({ "threadId": thread, "content": "and at last?" }));
    let last = ["reasoning: sealed 3", "assistant: Rain.", "user: and at last?"];
    trial.was_told(&[&ASKED, &ANSWERED, &next, &last], Some(("previous: resp_3", all + 3)));
}

fn outputs() -> Value {
    json!([{ "callId": "c2", "output": "B" }, { "callId": "c1", "output": "A" }])
}

/// They come with the next request, in any order, from another process; and a third tells all of it once more.
fn a_client_brings_outputs(trial: &Trial) {
    let thread = trial.leaves_calls();
    trial.will_say(2, "Sunny.");
    assert_eq!(
        trial.send(json!({ "threadId": thread, "toolOutputs": outputs() })),
        "Sunny."
    );
    trial.was_told(&[&ASKED, &ANSWERED[..2]], Some(("previous: resp_1", ASKED.len())));
    trial.will_say(3, "Rain.");
    trial.send(json!({ "threadId": thread, "content": "and then?" }));
    let all = ASKED.len() + ANSWERED.len();
    let next = ["user: and then?"];
    trial.was_told(&[&ASKED, &ANSWERED, &next], Some(("previous: resp_2", all)));
}

fn a_client_brings_outputs_and_a_message(trial: &Trial) {
    let thread = trial.leaves_calls();
    let outputs_and_message = ["output c1: A", "output c2: B", "user: be quick"];
    trial.will_say(2, "Sunny.");
    trial.send(json!({ "threadId": thread, "toolOutputs": outputs(), "content": "be quick" }));
    trial.was_told(&[&ASKED, &outputs_and_message], None);
    trial.will_say(3, "Rain.");
    trial.send(json!({ "threadId": thread, "content": "and then?" }));
    let answer = ["reasoning: sealed 2", "assistant: Sunny."];
    let next = ["user: and then?"];
    let all = ASKED.len() + outputs_and_message.len() + answer.len();
    trial.was_told(
        &[&ASKED, &outputs_and_message, &answer, &next],
        Some(("previous: resp_2", all)),
    );
}

fn a_client_brings_one_output_or_none(trial: &Trial) {
    const NONE: &str = "error: the call was not answered";
    let thread = trial.leaves_calls();
    trial.will_say(2, "Sunny.");
    let one = json!([{ "callId": "c2", "output": "no ears", "isError": true }]);
    trial.send(json!({ "threadId": thread, "toolOutputs": one }));
    let unanswered = format!("output c1: {NONE}");
    let half = [unanswered.as_str(), "output c2: no ears"];
    trial.was_told(&[&ASKED, &half], Some(("previous: resp_1", ASKED.len())));

    let thread = trial.leaves_calls();
    trial.will_say(2, "Never mind.");
    trial.send(json!({ "threadId": thread, "content": "never mind" }));
    let other = format!("output c2: {NONE}");
    let neither = [unanswered.as_str(), other.as_str(), "user: never mind"];
    trial.was_told(&[&ASKED, &neither], None);
}

macro_rules! trials {
    ($($wire:ident)*) => {
        $(mod $wire {
            use super::*;

            #[tokio::test]
            async fn a_client_calls_them() {
                try_out(wires::$wire(), super::a_client_calls_them).await;
            }

            #[tokio::test]
            async fn a_client_brings_outputs() {
                try_out(wires::$wire(), super::a_client_brings_outputs).await;
            }

            #[tokio::test]
            async fn a_client_brings_outputs_and_a_message() {
                try_out(wires::$wire(), super::a_client_brings_outputs_and_a_message).await;
            }

            #[tokio::test]
            async fn a_client_brings_one_output_or_none() {
                try_out(wires::$wire(), super::a_client_brings_one_output_or_none).await;
            }
        })*
    };
}

trials! { chat responses responses_upstream }
