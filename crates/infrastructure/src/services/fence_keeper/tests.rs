use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use punctual_application::{
    ports::{AuditFilter, Fence, OperatorStore, Page},
    testing::{self, FakeStore},
};
use punctual_domain::{BatchConfig, RestoreChoice};

use super::*;

const NOW: &str = "2026-03-01T09:00:00Z";

fn keeper(store: &Arc<FakeStore>, after_restore: AfterRestore, folder: &Path) -> FenceKeeper {
    let operator = testing::operator(store, BatchConfig { jobs: vec![] }, NOW);
    FenceKeeper::new(operator, after_restore, Some(folder.to_owned()))
}

/// A mark of the store, made by a process that remembers nothing.
async fn mark_of(store: &FakeStore) -> FenceMark {
    let now = NOW.parse().unwrap();
    match store.mark(&KnownMarks::default(), now).await.unwrap() {
        FenceState::Marked(mark) => mark,
        FenceState::Held(hold) => panic!("{hold:?}"),
    }
}

/// Lets the file say that the store had come further.
fn remember_more(folder: &Path, mark: FenceMark) {
    let mut known = KnownMarks::default();
    known.note(FenceMark {
        number: mark.number + 100,
        ..mark
    });
    FenceFile::in_folder(folder).write(&known).unwrap();
}

#[tokio::test]
async fn a_process_remembers_its_marks_in_a_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("new/folder");
    let store: Arc<FakeStore> = Arc::default();
    for number in 1..4 {
        keeper(&store, AfterRestore::Ask, &inner)
            .begin()
            .await
            .unwrap();
        let file = FenceFile::in_folder(&inner);
        let mut expected = KnownMarks::default();
        expected.note(FenceMark {
            number,
            ..file_mark(&file)
        });
        assert_eq!(file.read().unwrap(), expected);
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1, "no rests");
    assert_eq!(store.hold().await.unwrap(), None);
}

/// The one mark of a file.
fn file_mark(file: &FenceFile) -> FenceMark {
    let text = std::fs::read_to_string(file.path()).unwrap();
    let marks: Vec<FenceMark> = serde_json::from_str(&text).unwrap();
    marks[0]
}

#[tokio::test]
async fn an_older_copy_is_held_until_somebody_decides() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<FakeStore> = Arc::default();
    remember_more(folder.path(), mark_of(&store).await);
    let mut keeper = keeper(&store, AfterRestore::Ask, folder.path());
    keeper.begin().await.unwrap();
    assert!(store.hold().await.unwrap().is_some());
    let known = FenceFile::in_folder(folder.path()).read().unwrap();
    let ann = "ann".into();
    let skip = || keeper.operator.settle_restore(&ann, RestoreChoice::Skip);
    skip().await.unwrap();
    assert!(matches!(skip().await, Err(OperatorError::Conflict(_))));
    // A process that dies now finds no older copy.
    let mark = mark_of(&store).await;
    let recognised = known.recognise(&mark, MarksMade::default());
    assert_eq!(recognised, Recognition::Same);
    keeper.mark().await.unwrap();
    assert!(file_mark(&FenceFile::in_folder(folder.path())).number > mark.number);
}

#[tokio::test]
async fn what_was_decided_beforehand_is_done_at_once_and_audited() {
    for (after_restore, choice) in [
        (AfterRestore::Skip, "skip"),
        (AfterRestore::Repeat, "repeat"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<FakeStore> = Arc::default();
        remember_more(folder.path(), mark_of(&store).await);
        keeper(&store, after_restore, folder.path())
            .begin()
            .await
            .unwrap();
        assert_eq!(store.hold().await.unwrap(), None);
        let all = Page {
            cursor: None,
            limit: 10,
        };
        let (log, _) = store
            .audit_log(&AuditFilter::default(), &all)
            .await
            .unwrap();
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!(log[0].action, "restore");
        assert!(log[0].detail.starts_with(choice), "{log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_back_while_the_process_runs_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<FakeStore> = Arc::default();
    let mut keeper = keeper(&store, AfterRestore::Ask, folder.path());
    keeper.begin().await.unwrap();
    // As a process that has seen the marks that are lost.
    keeper.known.note(FenceMark {
        number: 50,
        ..mark_of(&store).await
    });
    let stop = CancellationToken::new();
    let running = tokio::spawn(keeper.run(stop.clone()));
    sleep(IDLE_INTERVAL + BUSY_INTERVAL).await;
    assert!(store.hold().await.unwrap().is_some());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_costs_the_memory_and_not_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = FenceFile::in_folder(folder.path());
    std::fs::write(file.path(), "{").unwrap();
    let store: Arc<FakeStore> = Arc::default();
    keeper(&store, AfterRestore::Ask, folder.path())
        .begin()
        .await
        .unwrap();
    assert_eq!(file_mark(&file).number, 1);
}
