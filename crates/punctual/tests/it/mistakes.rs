//! Every mistake in what the builder is given is reported at once, and nothing is made.

use std::time::Duration;

use async_trait::async_trait;
use punctual::{HandlerError, Item, Job, Outcome, Punctual, PurposeHandler, StartError};
use serde_json::{Value, json};

struct Nothing;

#[async_trait]
impl PurposeHandler for Nothing {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        Ok(Value::Null.into())
    }
}

#[tokio::test]
async fn all_of_them_at_once_before_a_store_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("punctual.db");
    let builder = Punctual::builder()
        .store(format!("sqlite://{}", store.display()))
        .handler("not a name", Nothing)
        .handler("done", Nothing)
        .handler("done", Nothing)
        .chunk_size(0)
        .poll_interval(Duration::from_secs(1 << 40))
        .job(
            Job::following("posts")
                .runs("undone")
                .then("unsent")
                .fetches("nothing")
                .deliver_to("nowhere"),
        )
        .job(Job::daily("report", "06:00").runs("done"))
        .job(Job::daily("report", "07:00").runs("done"))
        .job(
            Job::daily("list", "05:00")
                .items(["a", "a", "b c"])
                .runs("done"),
        )
        .job(Job::following("news").items(["a"]).runs("done"));
    let Err(StartError::Mistakes(errors)) = builder.start().await else {
        panic!("it does not start");
    };
    let pointers: Vec<&str> = errors
        .0
        .iter()
        .map(|error| error.pointer.as_str())
        .collect();
    assert_eq!(
        pointers,
        [
            "/chunk_size",
            "/poll_interval",
            "/handlers",
            "/handlers",
            "/jobs/0/purpose_id",
            "/jobs/0/then",
            "/jobs/0/feature_type",
            "/jobs/0/data/provider",
            "/jobs/0/deliver/0/sink",
            "/jobs/2/job_id",
            "/jobs/3/source/ids/1",
            "/jobs/3/source/ids/2",
            "/jobs/4/source"
        ],
        "{errors}"
    );
    assert!(!store.exists());
}

#[tokio::test]
async fn a_job_has_the_mistakes_that_its_entry_in_a_file_would_have() {
    let job = Job::daily("report", "25:00")
        .runs("done")
        .with("retry_limit", json!(-1))
        .with("colour", json!("red"));
    let builder = Punctual::builder().handler("done", Nothing).job(job);
    let Err(StartError::Mistakes(errors)) = builder.start().await else {
        panic!("it does not start");
    };
    let mut pointers: Vec<&str> = errors
        .0
        .iter()
        .map(|error| error.pointer.as_str())
        .collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/jobs/0/colour",
            "/jobs/0/retry_limit",
            "/jobs/0/schedule/preferred_time"
        ]
    );
}
