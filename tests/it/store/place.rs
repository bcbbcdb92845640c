//! The folder: who may share it, what may be wrong with it, and who may read it.

use std::fs;
use std::path::Path;

use assistd::error::Kind;
use assistd::protocol::RunStatus;
use assistd::store::{Batch, Store, Target};

use super::{answer, at, existing, message, run, texts, thread};

#[tokio::test]
async fn a_store_that_is_asked_nothing_makes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    at(&folder).close().await.unwrap();
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_living_process_keeps_its_runs() {
    let place = tempfile::tempdir().unwrap();
    let first = at(place.path());
    first.begin(run("r1", Target::New(thread("t")), "a")).await.unwrap();
    let second = at(place.path());
    assert_eq!(second.run("r1".into()).await.unwrap().status, RunStatus::InProgress);
    let error = second.begin(run("r2", existing("t"), "b")).await.unwrap_err();
    assert!(error.message.contains("in another process"), "{error}");
    assert_eq!(error.data.run_id.as_deref(), Some("r1"));
    assert_eq!(second.delete_thread("t".into()).await.unwrap_err().kind(), Kind::Busy);
    first.finish("r1".into(), answer("r1", "b")).await.unwrap();
    second.begin(run("r2", existing("t"), "c")).await.unwrap();
    assert_eq!(texts(&first, "t").await, ["a", "b", "c"]);
}

#[test]
fn eight_writers_on_one_folder_wait_in_turn_and_none_fails() {
    let place = tempfile::tempdir().unwrap();
    let begin_together = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (path, begin_together) = (place.path(), &begin_together);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                begin_together.wait();
                runtime.block_on(write_conversation(at(path), writer));
            });
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = at(place.path());
        for writer in 0..8 {
            let expected: Vec<String> = (0..20)
                .flat_map(|turn| [format!("q{turn}"), format!("a{turn}")])
                .collect();
            assert_eq!(texts(&store, &format!("t{writer}")).await, expected);
        }
        assert_eq!(store.list_threads(None, 200).await.unwrap().0.len(), 8);
    });
}

async fn write_conversation(store: Store, writer: u32) {
    let id = format!("t{writer}");
    store.create_thread(thread(&id)).await.unwrap();
    for turn in 0..20 {
        let run_id = format!("r{writer}-{turn}");
        let begun = store
            .begin(run(&run_id, existing(&id), &format!("q{turn}")))
            .await
            .unwrap();
        let mut batch = Batch::default();
        batch.entry(&run_id, 1, &message(&format!("{run_id}-answer")));
        begun.snapshot.unwrap().journal.append(&batch).unwrap();
        store
            .finish(run_id.clone(), answer(&run_id, &format!("a{turn}")))
            .await
            .unwrap();
        store.list_threads(None, 50).await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_says_why_to_every_call() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("taken"), "").unwrap();
    let store = at(&place.path().join("taken"));
    for error in [
        store.thread("t".into()).await.unwrap_err(),
        store.begin(run("r", existing("t"), "a")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Storage);
        assert!(error.message.starts_with("failed to open data folder `"), "{error}");
        assert!(error.data.hint.is_some());
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("assistd.db");
    let rubbish = b"not a database, whatever its name says. ".repeat(200);
    fs::write(&path, &rubbish).unwrap();
    let error = at(place.path()).thread("t".into()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.message.contains("is damaged; put a copy in its place"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), rubbish);
}

#[tokio::test]
async fn a_page_damaged_later_is_an_error_of_the_call() {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path());
    store.begin(run("r", Target::New(thread("t")), "a")).await.unwrap();
    store.finish("r".into(), answer("r", "b")).await.unwrap();
    store.close().await.unwrap();
    let path = place.path().join("assistd.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let store = at(place.path());
    let error = store.thread("t".into()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.message.contains("is damaged"), "{error}");
    store.close().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("one").join("two");
    let store = at(&folder);
    store.begin(run("r", Target::New(thread("t")), "a")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        assert_eq!(mode(&name), 0o600, "{}", name.display());
    }
}
