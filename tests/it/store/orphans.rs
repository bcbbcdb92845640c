//! Runs of dead processes that go on upstream.

use std::path::Path;

use assistd::error::Kind;
use assistd::protocol::{PartKind, RunStatus};
use assistd::store::{Background, Batch, Begun, NewRun, Orphan, Place, Role, Store, Target};
use assistd::transcript::Entry;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{answer, at, existing, message, run, thread};

fn heir(place: &Path, role: Role) -> (Store, UnboundedReceiver<Orphan>) {
    Store::open_for_orphans(Place::Folder(place.to_owned()), role)
}

/// How often a test tries again. A child that another test is just starting holds copies of this process's locks until
/// it is the other program, and a dead journal passes for a live one meanwhile.
const TRIES: usize = 100;

/// A daemon that has inherited the run `on`.
async fn inherit(place: &Path) -> (Store, UnboundedReceiver<Orphan>, Orphan) {
    for _ in 0..TRIES {
        let (store, mut orphans) = heir(place, Role::Daemon);
        store.run("on".into()).await.unwrap();
        if let Ok(orphan) = orphans.try_recv() {
            return (store, orphans, orphan);
        }
        store.close().await.unwrap();
    }
    panic!("the journal of a process that is gone is locked");
}

/// A run of this thread, begun though the process that had the thread is dead.
async fn begin(store: &Store, id: &str, thread: &str) -> Begun {
    for _ in 0..TRIES {
        match store.begin(run(id, existing(thread), "And?")).await {
            Err(error) if error.kind() == Kind::Busy => {}
            begun => return begun.unwrap(),
        }
    }
    panic!("the journal of a process that is gone is locked");
}

fn background(id: &str) -> NewRun {
    NewRun {
        background: Some(Background {
            instructions: Some("Be brief.".into()),
            ..Background::default()
        }),
        ..run(id, Target::New(thread(&format!("t-{id}"))), "hi")
    }
}

/// Runs that were killed: `on` goes on upstream, `silent` had not begun there, `plain` goes on nowhere.
async fn die(place: &Path) {
    let store = at(place);
    let begun = store.begin(background("on")).await.unwrap();
    store.begin(background("silent")).await.unwrap();
    let plain = run("plain", Target::New(thread("t-plain")), "hi");
    store.begin(plain).await.unwrap();
    let journal = begun.snapshot.unwrap().journal;
    let mut batch = Batch::default();
    for id in ["on", "plain"] {
        let anchor = json!({ "upstream": id });
        batch.entry(id, 1, &Entry::Anchor { anchor });
        batch.entry(id, 2, &message(&format!("{id}-m")));
        batch.delta(id, 3, 0, PartKind::Text, "Hello");
    }
    journal.append(&batch).unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_daemon_inherits_what_goes_on_upstream_and_ends_the_rest() {
    let place = tempfile::tempdir().unwrap();
    die(place.path()).await;
    // Each heir dies in its turn, and the next one finds the same.
    for _ in 0..3 {
        let (store, mut orphans, orphan) = inherit(place.path()).await;
        assert_eq!(store.run("on".into()).await.unwrap().status, RunStatus::InProgress);
        assert_eq!((&*orphan.run.run_id, &*orphan.run.thread_id), ("on", "t-on"));
        assert_eq!(orphan.background.instructions.as_deref(), Some("Be brief."));
        assert_eq!(orphan.snapshot.conversation.messages.len(), 1);
        let transcript = orphan.transcript();
        assert_eq!((transcript.text().as_str(), transcript.seq()), ("Hello", 3));
        assert_eq!(transcript.anchor_of_round(), Some(&json!({ "upstream": "on" })));
        for id in ["silent", "plain"] {
            assert_eq!(store.run(id.into()).await.unwrap().status, RunStatus::Interrupted);
        }
        assert!(orphans.try_recv().is_err());
        drop((orphan, transcript));
        store.close().await.unwrap();
    }
    let (store, _orphans, _) = inherit(place.path()).await;
    store.finish("on".into(), answer("on", "Hello, world")).await.unwrap();
    store.close().await.unwrap();
    let (store, mut orphans) = heir(place.path(), Role::Daemon);
    assert_eq!(
        store.run("on".into()).await.unwrap().text.as_deref(),
        Some("Hello, world")
    );
    assert!(orphans.try_recv().is_err());
}

/// As if the heir had died between writing its journal and deleting the other: both have the records.
#[tokio::test]
async fn records_that_were_copied_twice_count_once() {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path());
    let begun = store.begin(background("on")).await.unwrap();
    let journal = begun.snapshot.unwrap().journal;
    let mut batch = Batch::default();
    let anchor = json!(1);
    batch.entry("on", 1, &Entry::Anchor { anchor });
    batch.entry("on", 2, &message("m"));
    batch.delta("on", 3, 0, PartKind::Text, "Hello");
    journal.append(&batch).unwrap();
    journal.append(&batch).unwrap();
    store.close().await.unwrap();
    drop(journal);
    let (_store, _orphans, orphan) = inherit(place.path()).await;
    assert_eq!(orphan.transcript().text(), "Hello");
}

/// A command that asks once cannot go on with an answer; it is not held up by it either.
#[tokio::test]
async fn only_a_daemon_inherits() {
    let place = tempfile::tempdir().unwrap();
    die(place.path()).await;
    let (store, mut orphans) = heir(place.path(), Role::OneShot);
    let begun = begin(&store, "r", "t-on").await;
    assert_eq!(begun.snapshot.unwrap().conversation.messages.len(), 3);
    assert_eq!(store.run("on".into()).await.unwrap().status, RunStatus::Interrupted);
    assert!(orphans.try_recv().is_err());
}

/// A process dies while another is there: its run is found when it is in the way, and what was asked waits behind it.
#[tokio::test]
async fn a_run_that_is_in_the_way_is_inherited_and_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let (store, mut orphans) = heir(place.path(), Role::Daemon);
    store.create_thread(thread("t")).await.unwrap();
    die(place.path()).await;
    let begun = begin(&store, "r", "t-on").await;
    assert!(begun.snapshot.is_none(), "it waits");
    assert_eq!(orphans.recv().await.unwrap().run.run_id, "on");
    store.finish("on".into(), answer("on", "Hello, world")).await.unwrap();
    let snapshot = store.start("r".into()).await.unwrap();
    assert_eq!(snapshot.conversation.turns().len(), 3);
}
