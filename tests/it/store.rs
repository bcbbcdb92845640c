//! The store by its public face: real files, several handles on one folder, and journals of the dead.

mod death;
mod orphans;
mod place;
mod rounds;
mod runs;

use std::path::Path;

use assistd::error::Kind;
use assistd::protocol::{Part, PartKind, RunStatus, StopReason, ThreadUpdateParams, Truncation};
use assistd::store::{NewRun, NewThread, Place, Role, Store, Target};
use assistd::transcript::{Entry, Outcome, RunEnd, Transcript};

fn at(path: &Path) -> Store {
    Store::open(Place::Folder(path.to_owned()), Role::Daemon)
}

fn in_memory() -> Store {
    Store::open(Place::Memory, Role::Daemon)
}

fn thread(id: &str) -> NewThread {
    NewThread {
        id: id.into(),
        ..NewThread::default()
    }
}

fn run(id: &str, thread: Target, text: &str) -> NewRun {
    NewRun {
        run_id: id.into(),
        thread,
        message_id: format!("{id}-question"),
        content: Some(vec![Part::text(text)]),
        outputs: Vec::new(),
        provider: "local".into(),
        model: Some("small".into()),
        assistant: Some("work".into()),
        queued: false,
        background: None,
    }
}

fn existing(id: &str) -> Target {
    Target::Existing(id.into())
}

fn message(id: &str) -> Entry {
    Entry::Message { message_id: id.into() }
}

/// The answer `text`, whole.
fn answer(run_id: &str, text: &str) -> Outcome {
    let mut transcript = Transcript::default();
    transcript.apply(1, message(&format!("{run_id}-answer")));
    transcript.delta(2, 0, PartKind::Text, text);
    transcript.apply(3, Entry::MessageDone);
    transcript.finish(RunEnd::new(RunStatus::Completed, StopReason::EndTurn))
}

fn cancelled() -> Outcome {
    Transcript::default().finish(RunEnd::new(RunStatus::Cancelled, StopReason::Cancelled))
}

async fn texts(store: &Store, thread: &str) -> Vec<String> {
    let (_, mut messages, _) = store.read_thread(thread.into(), None, 200).await.unwrap();
    messages.reverse();
    let joined = |parts: Vec<Part>| {
        let mut text = String::new();
        parts.iter().for_each(|part| part.append_text(&mut text));
        text
    };
    messages.into_iter().map(|m| joined(m.content.unwrap())).collect()
}

#[tokio::test]
async fn calls_take_effect_in_their_order_whoever_awaits_them() {
    let store = in_memory();
    let made = store.create_thread(thread("t"));
    let renamed = store.update_thread(update("t", "two"));
    let read = store.thread("t".into());
    let deleted = store.delete_thread("t".into());
    let gone = store.thread("t".into());
    assert_eq!(gone.await.unwrap_err().message, "no thread `t`");
    deleted.await.unwrap();
    assert_eq!(read.await.unwrap().title.as_deref(), Some("two"));
    renamed.await.unwrap();
    assert_eq!(made.await.unwrap().title, None);
}

fn update(thread: &str, title: &str) -> ThreadUpdateParams {
    ThreadUpdateParams {
        thread_id: thread.into(),
        title: Some(title.into()),
        assistant: None,
        metadata: None,
        truncation: None,
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let store = in_memory();
    let messages = [
        store.thread("x".into()).await.unwrap_err(),
        store.read_thread("x".into(), None, 1).await.unwrap_err(),
        store.update_thread(update("x", "")).await.unwrap_err(),
        store.delete_thread("x".into()).await.unwrap_err(),
        store.begin(run("r", existing("x"), "hi")).await.unwrap_err(),
        store.run("x".into()).await.unwrap_err(),
        store.start("x".into()).await.unwrap_err(),
        store.message("x".into()).await.unwrap_err(),
        store.marks("x".into()).await.unwrap_err(),
    ];
    for error in messages {
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        assert!(error.message.ends_with(" `x`"), "{error}");
    }
    store.finish("x".into(), cancelled()).await.unwrap();
}

#[tokio::test]
async fn a_thread_keeps_what_it_was_made_with() {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path());
    let new = NewThread {
        title: Some("Title".into()),
        assistant: Some("a".into()),
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        truncation: Truncation::Error,
        ..thread("t")
    };
    let made = store.create_thread(new).await.unwrap();
    store.close().await.unwrap();
    let store = at(place.path());
    assert_eq!(store.thread("t".into()).await.unwrap(), made);
    assert_eq!(made.metadata["k"], "v");
    let changed = store
        .update_thread(ThreadUpdateParams {
            metadata: Some([("n".to_owned(), "w".to_owned())].into()),
            ..update("t", "Other")
        })
        .await
        .unwrap();
    assert_eq!(
        (changed.title.as_deref(), changed.assistant.as_deref()),
        (Some("Other"), Some("a"))
    );
    assert_eq!(changed.metadata.len(), 1);
    assert_eq!(changed.truncation, Truncation::Error);
}

#[tokio::test]
async fn a_list_stays_right_while_threads_are_added_and_written_to() {
    let store = in_memory();
    for number in 0..10 {
        store.create_thread(thread(&format!("t{number}"))).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    for page in 0.. {
        let (threads, next) = store.list_threads(cursor, 3).await.unwrap();
        seen.extend(threads.into_iter().map(|thread| thread.thread_id));
        store.create_thread(thread(&format!("new{page}"))).await.unwrap();
        store.update_thread(update("t9", "written to again")).await.unwrap();
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..10).rev().map(|number| format!("t{number}")).collect();
    assert_eq!(seen, expected);
    let (first, _) = store.list_threads(None, 1).await.unwrap();
    assert_eq!(first[0].thread_id, "t9");
    let error = store.list_threads(Some("rubbish".into()), 3).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidParams);
}

#[tokio::test]
async fn messages_are_read_newest_first_in_pages() {
    let store = in_memory();
    store.create_thread(thread("t")).await.unwrap();
    for number in 0..4 {
        let id = format!("r{number}");
        store.begin(run(&id, existing("t"), "question")).await.unwrap();
        store.finish(id.clone(), answer(&id, "answer")).await.unwrap();
    }
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let (thread, messages, next) = store.read_thread("t".into(), cursor, 3).await.unwrap();
        assert_eq!(thread.messages, 8);
        ids.extend(messages.into_iter().map(|message| message.message_id));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..4)
        .rev()
        .flat_map(|number| [format!("r{number}-answer"), format!("r{number}-question")])
        .collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn deleting_a_thread_takes_everything_with_it() {
    let store = in_memory();
    store.begin(run("r1", Target::New(thread("t")), "a")).await.unwrap();
    store.delete_thread("t".into()).await.unwrap();
    store.finish("r1".into(), answer("r1", "b")).await.unwrap();
    assert_eq!(store.run("r1".into()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(
        store.message("r1-question".into()).await.unwrap_err().kind(),
        Kind::NotFound
    );
    store.begin(run("r2", Target::New(thread("t")), "a")).await.unwrap();
    assert_eq!(texts(&store, "t").await, ["a"]);
}
