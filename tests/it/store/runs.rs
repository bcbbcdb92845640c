//! Runs: what they are given, and what they leave.

use assistd::error::{Error, Kind};
use assistd::protocol::{
    Annotation, Image, PartKind, Role as Speaker, RunStatus, RunStep, StepCall, StopReason, Usage,
};
use assistd::store::{NewRun, Target};
use assistd::transcript::{Entry, Outcome, RunEnd, Transcript};
use serde_json::json;

use super::{answer, at, cancelled, existing, in_memory, message, run, texts, thread};

#[tokio::test]
async fn a_first_run_makes_its_thread_and_the_next_one_gets_the_history() {
    let store = in_memory();
    let begun = store
        .begin(run("r1", Target::New(thread("t")), "\nHello there\nmore"))
        .await
        .unwrap();
    assert_eq!(begun.thread.title.as_deref(), Some("Hello there"));
    assert_eq!(begun.thread.assistant.as_deref(), Some("work"));
    assert_eq!(begun.thread.active_run.as_deref(), Some("r1"));
    let snapshot = begun.snapshot.unwrap();
    assert_eq!(snapshot.anchor, None);
    assert_eq!(snapshot.conversation.messages.len(), 1);
    assert_eq!(snapshot.conversation.messages[0].id, "r1-question");

    let mut partial = Transcript::default();
    partial.apply(1, message("r1-answer"));
    partial.delta(2, 0, PartKind::Text, "Half an ans");
    partial.apply(
        3,
        Entry::Anchor {
            anchor: json!({"at": 1}),
        },
    );
    let end = RunEnd::new(RunStatus::Cancelled, StopReason::Cancelled);
    store.finish("r1".into(), partial.finish(end.clone())).await.unwrap();

    let mut nothing = Transcript::default();
    nothing.apply(1, message("r2-answer"));
    let second = store.begin(run("r2", existing("t"), "And?")).await.unwrap();
    assert_eq!(second.thread.title.as_deref(), Some("Hello there"));
    store.finish("r2".into(), nothing.finish(end)).await.unwrap();

    let third = store.begin(run("r3", existing("t"), "Well?")).await.unwrap();
    let snapshot = third.snapshot.unwrap();
    assert_eq!(snapshot.anchor, Some(json!({"at": 1})));
    let statuses: Vec<RunStatus> = snapshot.conversation.messages.iter().map(|m| m.status).collect();
    assert_eq!(statuses[1], RunStatus::Cancelled);
    assert_eq!(
        snapshot.conversation.turns(),
        [
            (Speaker::User, "\nHello there\nmore".to_owned()),
            (Speaker::Assistant, "Half an ans".to_owned()),
            (Speaker::User, "And?\n\nWell?".to_owned()),
        ]
    );
}

#[tokio::test]
async fn an_anchor_belongs_to_its_provider() {
    let store = in_memory();
    store.begin(run("r1", Target::New(thread("t")), "a")).await.unwrap();
    let outcome = Outcome {
        anchor: Some(json!("mine")),
        ..answer("r1", "b")
    };
    store.finish("r1".into(), outcome).await.unwrap();
    let other = NewRun {
        provider: "other".into(),
        ..run("r2", existing("t"), "c")
    };
    let begun = store.begin(other).await.unwrap();
    assert_eq!(begun.snapshot.unwrap().anchor, None);
}

/// A transcript with one of everything.
fn rich() -> Transcript {
    let mut transcript = Transcript::default();
    transcript.apply(1, message("m1"));
    transcript.delta(2, 0, PartKind::Text, "Grüße ");
    transcript.delta(3, 0, PartKind::Text, "aus 🦀");
    let annotation = Annotation {
        kind: "urlCitation".into(),
        url: Some("https://example.org".into()),
        start: Some(0),
        end: Some(5),
        ..Annotation::default()
    };
    transcript.apply(4, Entry::Annotation { index: 0, annotation });
    let image = Image {
        file_id: Some("file-1".into()),
        ..Image::default()
    };
    transcript.apply(5, Entry::Image { index: 1, image });
    transcript.apply(6, Entry::MessageDone);
    let step = RunStep {
        id: "s".into(),
        kind: "toolCalls".into(),
        status: "completed".into(),
        calls: vec![StepCall {
            call_id: "c".into(),
            kind: "codeInterpreter".into(),
            outputs: vec![json!({"logs": "1"})],
            ..StepCall::default()
        }],
        error: None,
        usage: None,
    };
    transcript.apply(7, Entry::Step { step });
    transcript.apply(8, message("m2"));
    transcript.delta(9, 0, PartKind::Refusal, "No.");
    let usage = Usage {
        input_tokens: 3,
        output_tokens: 4,
        total_tokens: 7,
        cached_tokens: Some(1),
        reasoning_tokens: None,
    };
    transcript.apply(10, Entry::Usage { usage });
    transcript
}

#[tokio::test]
async fn a_run_comes_back_as_it_was_finished() {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path());
    store.begin(run("r", Target::New(thread("t")), "hi")).await.unwrap();
    let error = Error::new(Kind::Network, "the connection broke").with_provider("local");
    let outcome = rich().finish(RunEnd::failed(error.clone()));
    store.finish("r".into(), outcome.clone()).await.unwrap();
    // Folding twice is harmless, and the first end stays.
    store.finish("r".into(), cancelled()).await.unwrap();
    store.close().await.unwrap();

    let store = at(place.path());
    let found = store.run("r".into()).await.unwrap();
    assert_eq!(
        (found.status, found.stop_reason),
        (RunStatus::Failed, Some(StopReason::Error))
    );
    assert_eq!(found.error, Some(error));
    assert_eq!(found.messages, ["m1", "m2"]);
    assert_eq!(found.text.as_deref(), Some("Grüße aus 🦀No."));
    assert_eq!(
        (found.steps, found.usage, found.seq),
        (outcome.steps, outcome.usage, 10)
    );
    assert_eq!(
        (found.provider.as_str(), found.model.as_deref()),
        ("local", Some("small"))
    );
    assert!(found.ended_at.unwrap() >= found.created_at);
    for said in outcome.messages {
        let kept = store.message(said.id.clone()).await.unwrap();
        assert_eq!((kept.content, kept.status), (Some(said.content), said.status));
        assert_eq!((kept.role, kept.run_id.as_deref()), (Speaker::Assistant, Some("r")));
        assert_eq!(store.marks(said.id).await.unwrap(), said.marks);
    }
    assert_eq!(store.thread("t".into()).await.unwrap().active_run, None);
}

#[tokio::test]
async fn a_thread_has_one_run_under_way() {
    let store = in_memory();
    store.begin(run("r1", Target::New(thread("t")), "a")).await.unwrap();
    let error = store.begin(run("r2", existing("t"), "b")).await.unwrap_err();
    assert_eq!(error.message, "thread `t` already has a run under way");
    assert_eq!((error.kind(), error.data.run_id.as_deref()), (Kind::Busy, Some("r1")));
    // Nothing of the refused one was kept.
    assert_eq!(store.run("r2".into()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(texts(&store, "t").await, ["a"]);
}

#[tokio::test]
async fn a_queued_runs_message_enters_the_thread_when_it_starts() {
    let store = in_memory();
    let queued = |id: &str, text: &str| NewRun {
        queued: true,
        ..run(id, existing("t"), text)
    };
    store.begin(run("r1", Target::New(thread("t")), "a")).await.unwrap();
    assert!(store.begin(queued("r2", "c")).await.unwrap().snapshot.is_none());
    store.begin(queued("r3", "never")).await.unwrap();
    assert_eq!(store.run("r2".into()).await.unwrap().status, RunStatus::Queued);
    assert_eq!(store.start("r2".into()).await.unwrap_err().kind(), Kind::Busy);
    store.finish("r1".into(), answer("r1", "b")).await.unwrap();
    let snapshot = store.start("r2".into()).await.unwrap();
    let last = snapshot.conversation.messages.last().unwrap();
    assert_eq!((last.id.as_str(), last.joined().as_str()), ("r2-question", "c"));
    assert_eq!(snapshot.conversation.messages.len(), 3);
    store.finish("r3".into(), cancelled()).await.unwrap();
    store.finish("r2".into(), answer("r2", "d")).await.unwrap();
    assert_eq!(texts(&store, "t").await, ["a", "b", "c", "d"]);
    assert_eq!(store.run("r3".into()).await.unwrap().status, RunStatus::Cancelled);
    let error = store.start("r3".into()).await.unwrap_err();
    assert_eq!(error.message, "run `r3` has ended as `cancelled` and cannot start");
}
