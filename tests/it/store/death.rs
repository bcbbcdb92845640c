//! What a dead process leaves, and what becomes of it.

use std::fs;
use std::path::{Path, PathBuf};

use assistd::protocol::{PartKind, RunStatus, StopReason};
use assistd::store::{Batch, NewRun, Place, Role, Store, Target};
use assistd::transcript::{Entry, RunEnd};

use super::{answer, at, existing, message, run, texts, thread};

/// Journals `rich` for the run `r`, gives where each record ends, and leaves as if killed.
async fn die_in_the_middle(place: &Path) -> Vec<u64> {
    let store = at(place);
    let begun = store.begin(run("r", Target::New(thread("t")), "hi")).await.unwrap();
    let queued = NewRun {
        queued: true,
        ..run("q", existing("t"), "and then?")
    };
    store.begin(queued).await.unwrap();
    let journal = begun.snapshot.unwrap().journal;
    let mut batch = Batch::default();
    let mut ends = vec![0];
    let mut append = |fill: &dyn Fn(&mut Batch)| {
        batch.clear();
        fill(&mut batch);
        journal.append(&batch).unwrap();
        ends.push(journal.size());
    };
    append(&|batch| batch.entry("r", 1, &message("m")));
    append(&|batch| batch.delta("r", 2, 0, PartKind::Text, "Hello"));
    append(&|batch| batch.delta("r", 3, 0, PartKind::Text, ", wörld"));
    store.close().await.unwrap();
    ends
}

fn journals(place: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "journal"))
        .collect()
}

#[tokio::test]
async fn what_a_dead_process_said_is_recovered_once() {
    let place = tempfile::tempdir().unwrap();
    die_in_the_middle(place.path()).await;
    let journal = journals(place.path()).remove(0);
    let copy = fs::read(&journal).unwrap();
    for _ in 0..2 {
        let store = at(place.path());
        let found = store.run("r".into()).await.unwrap();
        assert_eq!(
            (found.status, found.stop_reason),
            (RunStatus::Interrupted, Some(StopReason::DaemonKilled))
        );
        assert_eq!((found.text.as_deref(), found.seq), (Some("Hello, wörld"), 3));
        let message = store.message("m".into()).await.unwrap();
        assert_eq!(message.status, RunStatus::Interrupted);
        assert_eq!(store.marks("m".into()).await.unwrap().len(), 2);
        let queued = store.run("q".into()).await.unwrap();
        assert_eq!(queued.status, RunStatus::Interrupted);
        assert_eq!(texts(&store, "t").await, ["hi", "Hello, wörld", "and then?"]);
        assert_eq!(journals(place.path()), [] as [PathBuf; 0]);
        store.close().await.unwrap();
        // As if the process that recovered had died before it deleted the journal.
        fs::write(&journal, &copy).unwrap();
    }
}

#[tokio::test]
async fn a_daemon_recovers_without_being_asked_anything() {
    let place = tempfile::tempdir().unwrap();
    die_in_the_middle(place.path()).await;
    at(place.path()).close().await.unwrap();
    assert_eq!(journals(place.path()).len(), 0);
    let store = Store::open(Place::Folder(place.path().to_owned()), Role::OneShot);
    assert_eq!(store.run("r".into()).await.unwrap().status, RunStatus::Interrupted);
}

#[tokio::test]
async fn a_journal_cut_anywhere_in_its_last_record_loses_only_that() {
    let place = tempfile::tempdir().unwrap();
    let ends = die_in_the_middle(place.path()).await;
    let journal = journals(place.path()).remove(0);
    let bytes = fs::read(&journal).unwrap();
    let header = bytes.len() - *ends.last().unwrap() as usize;
    for cut in header + ends[2] as usize..=bytes.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(place.path().join("assistd.db"), copy.path().join("assistd.db")).unwrap();
        fs::write(copy.path().join(journal.file_name().unwrap()), &bytes[..cut]).unwrap();
        let store = at(copy.path());
        let expected = if cut == bytes.len() { "Hello, wörld" } else { "Hello" };
        let found = store.run("r".into()).await.unwrap();
        assert_eq!(found.text.as_deref(), Some(expected), "cut at {cut}");
        assert_eq!(texts(&store, "t").await.len(), 3);
    }
}

#[tokio::test]
async fn an_end_that_was_journaled_stays() {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path());
    let begun = store.begin(run("r", Target::New(thread("t")), "hi")).await.unwrap();
    let journal = begun.snapshot.unwrap().journal;
    let mut batch = Batch::default();
    batch.entry("r", 1, &message("m"));
    batch.delta("r", 2, 0, PartKind::Text, "all");
    batch.entry("r", 3, &Entry::MessageDone);
    let end = RunEnd::new(RunStatus::Completed, StopReason::EndTurn);
    batch.entry("r", 4, &Entry::End { end });
    journal.append(&batch).unwrap();
    store.close().await.unwrap();
    drop(journal);
    let store = at(place.path());
    let found = store.run("r".into()).await.unwrap();
    assert_eq!(
        (found.status, found.stop_reason),
        (RunStatus::Completed, Some(StopReason::EndTurn))
    );
    assert_eq!(store.message("m".into()).await.unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn a_run_whose_journal_is_gone_is_interrupted() {
    let place = tempfile::tempdir().unwrap();
    die_in_the_middle(place.path()).await;
    fs::remove_file(&journals(place.path())[0]).unwrap();
    let store = at(place.path());
    assert_eq!(store.run("r".into()).await.unwrap().status, RunStatus::Interrupted);
    assert_eq!(texts(&store, "t").await, ["hi", "and then?"]);
}

#[tokio::test]
async fn only_a_daemon_recovers_but_nobody_waits_for_the_dead() {
    let place = tempfile::tempdir().unwrap();
    die_in_the_middle(place.path()).await;
    let store = Store::open(Place::Folder(place.path().to_owned()), Role::OneShot);
    assert_eq!(store.run("r".into()).await.unwrap().status, RunStatus::InProgress);
    let begun = store.begin(run("r2", existing("t"), "Still there?")).await.unwrap();
    let said: Vec<String> = begun
        .snapshot
        .unwrap()
        .conversation
        .messages
        .iter()
        .map(|m| m.joined())
        .collect();
    assert_eq!(said, ["hi", "Hello, wörld", "and then?", "Still there?"]);
}

#[tokio::test]
async fn a_journal_that_nobody_needs_is_deleted_at_the_end() {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path());
    let begun = store.begin(run("r", Target::New(thread("t")), "a")).await.unwrap();
    assert_eq!(journals(place.path()).len(), 1);
    store.finish("r".into(), answer("r", "b")).await.unwrap();
    begun.snapshot.unwrap().journal.reset().unwrap();
    store.close().await.unwrap();
    assert_eq!(journals(place.path()).len(), 0);
}

#[tokio::test]
async fn daemons_that_recover_at_the_same_time_do_not_fight() {
    let place = tempfile::tempdir().unwrap();
    die_in_the_middle(place.path()).await;
    let stores: Vec<Store> = (0..8).map(|_| at(place.path())).collect();
    for store in &stores {
        store.thread("t".into()).await.unwrap();
    }
    assert_eq!(texts(&stores[0], "t").await, ["hi", "Hello, wörld", "and then?"]);
    assert_eq!(stores[0].run("r".into()).await.unwrap().status, RunStatus::Interrupted);
}
