//! What a run called: where it stands in the history, and outputs that come later.

use assistd::error::Kind;
use assistd::protocol::{PartKind, RunStatus, RunStep, StepCall, StopReason, ToolOutput};
use assistd::store::{NewRun, Snapshot, Store, Target};
use assistd::thread::{Message, Round};
use assistd::transcript::{Entry, Outcome, RunEnd, Transcript};
use serde_json::{Value, json};

use super::{answer, existing, in_memory, message, run, thread};

/// A run being told, entry by entry.
#[derive(Default)]
struct Telling(Transcript);

impl Telling {
    fn entry(mut self, entry: Entry) -> Self {
        self.0.apply(self.0.seq() + 1, entry);
        self
    }

    fn says(mut self, id: &str, text: &str) -> Self {
        self = self.entry(message(id));
        let seq = self.0.seq() + 1;
        self.0.delta(seq, 0, PartKind::Text, text);
        self.entry(Entry::MessageDone)
    }

    /// A round that ends with these calls, each `id` or `id=output`.
    fn calls(self, step_id: &str, calls: &[&str], carry: Option<Value>) -> Self {
        let calls = calls.iter().map(|call| {
            let (id, output) = call
                .split_once('=')
                .map_or((*call, None), |(id, output)| (id, Some(output)));
            StepCall {
                call_id: id.into(),
                kind: "function".into(),
                name: Some("look".into()),
                arguments: Some("{}".into()),
                output: output.map(str::to_owned),
                outputs: Vec::new(),
                ..StepCall::default()
            }
        });
        let calls: Vec<StepCall> = calls.collect();
        let step = RunStep {
            id: step_id.into(),
            kind: "toolCalls".into(),
            status: "inProgress".into(),
            calls: calls.clone(),
            error: None,
            usage: None,
        };
        let calls = calls.into_iter().map(|call| call.call_id).collect();
        self.entry(Entry::Step { step }).entry(Entry::Round { calls, carry })
    }

    fn ends(self, reason: StopReason) -> Outcome {
        let mut end = RunEnd::new(RunStatus::Completed, reason);
        if reason == StopReason::ToolCalls {
            end.tool_calls = self.0.open_calls();
        }
        self.0.finish(end)
    }
}

/// What a run that begins at once is given.
async fn given(store: &Store, new: NewRun) -> Snapshot {
    store.begin(new).await.unwrap().snapshot.unwrap()
}

/// `role: text [call=output …] carry`, one for each message.
fn told(messages: &[Message]) -> Vec<String> {
    let line = |message: &Message| {
        let round = message.round.as_ref().map(shown).unwrap_or_default();
        format!("{}{round}", message.joined())
    };
    messages.iter().map(line).collect()
}

fn shown(round: &Round) -> String {
    let calls = round
        .calls
        .iter()
        .map(|call| format!("{}={}", call.id, round.output(call)));
    let carry = round.carry.as_ref().map(|carry| format!(" {carry}"));
    format!("[{}]{}", calls.collect::<Vec<_>>().join(" "), carry.unwrap_or_default())
}

fn outputs(outputs: &[(&str, &str)]) -> Vec<ToolOutput> {
    let output = |(call_id, output): &(&str, &str)| ToolOutput {
        call_id: (*call_id).to_owned(),
        output: (*output).to_owned(),
        is_error: false,
    };
    outputs.iter().map(output).collect()
}

fn going_on(id: &str, given: &[(&str, &str)]) -> NewRun {
    NewRun {
        content: None,
        outputs: outputs(given),
        ..run(id, existing("t"), "")
    }
}

#[tokio::test]
async fn rounds_stand_between_the_texts_that_were_said_around_them() {
    let store = in_memory();
    store.begin(run("r1", Target::New(thread("t")), "q1")).await.unwrap();
    let outcome = Telling::default()
        .calls("s1", &["a=1"], None)
        .says("m1", "one")
        .says("m2", "two")
        .calls("s2", &["b=2", "c=3"], Some(json!("sealed")))
        .calls("s3", &["d=4"], None)
        .says("m3", "end")
        .entry(Entry::Round {
            calls: Vec::new(),
            carry: Some(json!("last")),
        })
        .ends(StopReason::EndTurn);
    store.finish("r1".into(), outcome).await.unwrap();

    let begun = store.begin(run("r2", existing("t"), "q2")).await.unwrap();
    let snapshot = begun.snapshot.unwrap();
    assert_eq!(
        told(&snapshot.conversation.messages),
        [
            "q1",
            "[a=1]",
            "one",
            "two[b=2 c=3] \"sealed\"",
            "[d=4]",
            "end[] \"last\"",
            "q2"
        ]
    );
    assert_eq!(snapshot.conversation.messages[3].round.as_ref().unwrap().text, "two");
    assert!(snapshot.rounds.is_empty());
    store.finish("r2".into(), answer("r2", "a2")).await.unwrap();

    // What one provider left is not for another.
    let other = NewRun {
        provider: "other".into(),
        ..run("r3", existing("t"), "q3")
    };
    let snapshot = given(&store, other).await;
    assert_eq!(
        told(&snapshot.conversation.messages),
        ["q1", "[a=1]", "one", "two[b=2 c=3]", "[d=4]", "end", "q2", "a2", "q3"]
    );
    let ids: std::collections::HashSet<&str> = snapshot.conversation.messages.iter().map(|m| &*m.id).collect();
    assert_eq!(ids.len(), 9, "each message has an id of its own");
}

/// Some upstreams begin to count anew in each round.
#[tokio::test]
async fn calls_of_one_name_in_different_rounds_keep_their_own_outputs() {
    let store = in_memory();
    store.begin(run("r1", Target::New(thread("t")), "q1")).await.unwrap();
    let outcome = Telling::default()
        .calls("s1", &["call_0=first"], None)
        .calls("s2", &["call_0=second"], None)
        .ends(StopReason::EndTurn);
    store.finish("r1".into(), outcome).await.unwrap();
    let snapshot = given(&store, run("r2", existing("t"), "q2")).await;
    assert_eq!(
        told(&snapshot.conversation.messages),
        ["q1", "[call_0=first]", "[call_0=second]", "q2"]
    );
}

#[tokio::test]
async fn a_run_goes_on_from_those_whose_calls_were_answered_later() {
    let store = in_memory();
    store.begin(run("r1", Target::New(thread("t")), "q1")).await.unwrap();
    let outcome = Telling::default()
        .says("m1", "one")
        .says("m2", "two")
        .calls("s1", &["a=1"], None)
        .calls("s2", &["b", "c"], None)
        .ends(StopReason::ToolCalls);
    store.finish("r1".into(), outcome).await.unwrap();

    let snapshot = given(&store, going_on("r2", &[("b", "2")])).await;
    assert_eq!(told(&snapshot.conversation.messages), ["q1"]);
    let rounds: Vec<String> = snapshot
        .rounds
        .iter()
        .map(|round| format!("{}{}", round.text, shown(round)))
        .collect();
    assert_eq!(rounds, ["onetwo[a=1]", "[b=2 c=error: the call was not answered]"]);
    let earlier = store.run("r1".into()).await.unwrap();
    assert_eq!(earlier.tool_calls.len(), 1);
    assert_eq!(earlier.tool_calls[0].call_id, "c");
    assert_eq!(store.run("r2".into()).await.unwrap().continues.as_deref(), Some("r1"));

    // Without a message of its own, and again.
    let outcome = Telling::default().calls("s1", &["d"], None).ends(StopReason::ToolCalls);
    store.finish("r2".into(), outcome).await.unwrap();
    let snapshot = given(&store, going_on("r3", &[("d", "4")])).await;
    assert_eq!(told(&snapshot.conversation.messages), ["q1"]);
    assert_eq!(snapshot.rounds.len(), 3);
    let outcome = Telling::default().says("m3", "three").ends(StopReason::EndTurn);
    store.finish("r3".into(), outcome).await.unwrap();

    let snapshot = given(&store, run("r4", existing("t"), "q2")).await;
    assert_eq!(
        told(&snapshot.conversation.messages),
        [
            "q1",
            "one",
            "two[a=1]",
            "[b=2 c=error: the call was not answered]",
            "[d=4]",
            "three",
            "q2"
        ]
    );
    assert!(snapshot.rounds.is_empty());
    let (read, _, _) = store.read_thread("t".into(), None, 10).await.unwrap();
    assert_eq!(read.messages, 5, "what was called is no message of the thread");
}

#[tokio::test]
async fn outputs_that_nothing_waits_for_change_nothing() {
    let store = in_memory();
    store.begin(run("r1", Target::New(thread("t")), "q1")).await.unwrap();
    let busy = store.begin(going_on("r2", &[("a", "1")])).await.unwrap_err();
    assert_eq!(busy.kind(), Kind::InvalidParams);
    let outcome = Telling::default()
        .calls("s1", &["a", "b"], None)
        .ends(StopReason::ToolCalls);
    store.finish("r1".into(), outcome).await.unwrap();
    for given in [&[("a", "1"), ("x", "2")][..], &[("a", "1"), ("a", "2")]] {
        let error = store.begin(going_on("r2", given)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidParams);
        assert!(error.message.contains("run `r1` left open (`a`, `b`)"), "{error}");
    }
    assert_eq!(store.run("r1".into()).await.unwrap().tool_calls.len(), 2);
    assert_eq!(store.run("r2".into()).await.unwrap_err().kind(), Kind::NotFound);
    // Whoever goes on with a message alone has closed them.
    store.begin(run("r2", existing("t"), "q2")).await.unwrap();
    store.finish("r2".into(), answer("r2", "a2")).await.unwrap();
    let error = store.begin(going_on("r3", &[("a", "1")])).await.unwrap_err();
    assert_eq!(
        error.message,
        "thread `t` waits for no tool outputs: its last run left no calls open"
    );
}
