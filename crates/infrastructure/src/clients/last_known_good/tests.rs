//! What is kept on disk, what is given back, and what is held back.

use punctual_application::{ports::MockConfigDatabase, testing::ManualClock};
use punctual_domain::Change;
use serde_json::{Value, json};

use super::*;

fn feature() -> FeatureType {
    FeatureType::new("posts").unwrap()
}

fn record(tenant: &str, tone: &str) -> PreferenceRecord {
    let preference =
        json!({"enabled": true, "frequency": "daily", "template_overrides": {"tone": tone}});
    PreferenceRecord {
        tenant_id: TenantId::new(tenant).unwrap(),
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: Some("2026-01-01T00:00:00Z".parse().unwrap()),
    }
}

fn snapshot(tenants: usize) -> Snapshot {
    Snapshot {
        records: (0..tenants)
            .map(|n| record(&format!("t{n:03}"), "dry"))
            .collect(),
        cursor: Cursor {
            since_id: 7,
            epoch: Some("e".into()),
        },
        known_at: None,
    }
}

fn down() -> ConfigDatabaseError {
    let message = "Error connecting to Config Database at http://x: refused".to_owned();
    ConfigDatabaseError {
        kind: ConfigErrorKind::Unavailable,
        message,
        retry_after: None,
    }
}

/// What the Config Database answers to `snapshot`, call by call; the last for ever.
fn answering(answers: Vec<Result<Snapshot, ConfigDatabaseError>>) -> MockConfigDatabase {
    let mut inner = MockConfigDatabase::new();
    let answers = std::sync::Mutex::new(answers);
    inner.expect_snapshot().returning(move |_| {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        }
    });
    inner.expect_preferences().returning(|_, _| Err(down()));
    inner
}

fn around(inner: MockConfigDatabase, folder: &tempfile::TempDir, source: &str) -> LastKnownGood {
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    LastKnownGood::new(Arc::new(inner), clock, folder.path().join("new"), source)
}

fn tone(records: &HashMap<TenantId, PreferenceRecord>, tenant: &str) -> Option<Value> {
    let record = records.get(&TenantId::new(tenant).unwrap())?;
    Some(record.preference["template_overrides"]["tone"].clone())
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_while_the_server_is_down_goes_on_with_what_was_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = answering(vec![Ok(snapshot(3))]);
    up.expect_changes().returning(|_, _, _| {
        let change = |tenant: &str, kind| Change {
            tenant_id: TenantId::new(tenant).unwrap(),
            feature_type: feature(),
            kind,
            changed_at: Some("2026-03-01T08:00:00Z".parse().unwrap()),
        };
        let bold = record("t001", "bold").preference;
        Ok(ChangePage {
            changes: vec![
                change("t001", ChangeKind::Upserted(bold)),
                change("t002", ChangeKind::Deleted),
            ],
            cursor: Cursor {
                since_id: 9,
                epoch: Some("e".into()),
            },
            has_more: false,
            waited: true,
        })
    });
    let first = around(up, &folder, "server");
    let read = first.snapshot(&feature()).await.unwrap();
    first
        .changes(&feature(), &read.cursor, Duration::ZERO)
        .await
        .unwrap();

    let second = around(
        answering(vec![Err(down()), Err(down()), Ok(snapshot(3))]),
        &folder,
        "server",
    );
    let restored = second.snapshot(&feature()).await.unwrap();
    assert_eq!(
        restored.known_at,
        Some("2026-03-01T09:00:00Z".parse().unwrap())
    );
    assert_eq!(
        restored.cursor,
        Cursor {
            since_id: 9,
            epoch: Some("e".into())
        },
        "the feed goes on where it was"
    );
    let ids: Vec<&str> = restored
        .records
        .iter()
        .map(|record| record.tenant_id.as_str())
        .collect();
    assert_eq!(ids, ["t000", "t001"]);
    let ask = ["t001", "t002"].map(|tenant| TenantId::new(tenant).unwrap());
    let known = second.preferences(&feature(), &ask).await.unwrap();
    assert_eq!(
        (tone(&known, "t001"), tone(&known, "t002")),
        (Some(json!("bold")), None)
    );

    // It is given once; then the error is told, until the server is back.
    assert_eq!(
        second.snapshot(&feature()).await.unwrap_err().kind,
        ConfigErrorKind::Unavailable
    );
    assert_eq!(second.snapshot(&feature()).await.unwrap().known_at, None);
    let error = second.preferences(&feature(), &ask).await.unwrap_err();
    assert_eq!(
        error.kind,
        ConfigErrorKind::Unavailable,
        "what is newer than the disk is not answered from it"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_file_of_this_very_server_nothing_is_invented() {
    let folder = tempfile::tempdir().unwrap();
    let cold = around(answering(vec![Err(down())]), &folder, "server");
    assert_eq!(
        cold.snapshot(&feature()).await.unwrap_err().kind,
        ConfigErrorKind::Unavailable
    );
    around(answering(vec![Ok(snapshot(3))]), &folder, "server")
        .snapshot(&feature())
        .await
        .unwrap();
    let other = around(answering(vec![Err(down())]), &folder, "another server");
    assert!(other.snapshot(&feature()).await.is_err());

    for damage in [
        "",
        "nonsense\n",
        "{\"line\":\"head\",\"source\":\"server\"}\n",
    ] {
        std::fs::write(folder.path().join("new/posts.ndjson"), damage).unwrap();
        let damaged = around(answering(vec![Err(down())]), &folder, "server");
        assert!(damaged.snapshot(&feature()).await.is_err(), "{damage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_a_crash_cut_off_anywhere_gives_a_whole_state_or_none() {
    let folder = tempfile::tempdir().unwrap();
    around(answering(vec![Ok(snapshot(12))]), &folder, "server")
        .snapshot(&feature())
        .await
        .unwrap();
    let path = folder.path().join("new/posts.ndjson");
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let read = journal::read(&path, "server").await.ok().flatten();
        let complete = cut == whole.len() - 1;
        assert_eq!(
            read.map(|read| read.records.len()),
            complete.then_some(12),
            "cut at {cut}"
        );
    }
    std::fs::write(
        &path,
        [
            &whole[..],
            b"{\"line\":\"remove\",\"tenant_id\":\"t001\"}\n{\"li",
        ]
        .concat(),
    )
    .unwrap();
    let read = journal::read(&path, "server").await.unwrap().unwrap();
    assert_eq!(read.records.len(), 12, "half a page of changes is no page");
}

#[tokio::test(start_paused = true)]
async fn a_collapse_is_held_back_until_a_later_read_confirms_it() {
    for left in [0, 4] {
        let folder = tempfile::tempdir().unwrap();
        let guarded = around(
            answering(vec![Ok(snapshot(10)), Ok(snapshot(left))]),
            &folder,
            "server",
        );
        guarded.snapshot(&feature()).await.unwrap();
        for _ in 0..5 {
            let error = guarded.snapshot(&feature()).await.unwrap_err();
            assert_eq!(error.kind, ConfigErrorKind::Suspicious);
            assert!(
                error.message.contains("10") && error.message.contains("deleted by mistake"),
                "{error}"
            );
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(
            guarded.snapshot(&feature()).await.unwrap().records.len(),
            left
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_collapse_that_heals_or_is_none_is_not_held_back() {
    let folder = tempfile::tempdir().unwrap();
    let answers = vec![
        Ok(snapshot(10)),
        Ok(snapshot(5)),
        Ok(snapshot(2)),
        Ok(snapshot(10)),
        Ok(snapshot(4)),
    ];
    let guarded = around(answering(answers), &folder, "server");
    for expected in [10, 5, 2, 10] {
        assert_eq!(
            guarded.snapshot(&feature()).await.unwrap().records.len(),
            expected
        );
    }
    assert!(guarded.snapshot(&feature()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_collapse_is_measured_against_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    around(answering(vec![Ok(snapshot(20))]), &folder, "server")
        .snapshot(&feature())
        .await
        .unwrap();
    let restarted = around(answering(vec![Ok(snapshot(0))]), &folder, "server");
    let held = restarted.snapshot(&feature()).await.unwrap();
    assert_eq!(
        (held.records.len(), held.known_at.is_some()),
        (20, true),
        "what was known stays in force"
    );
    assert_eq!(
        restarted.snapshot(&feature()).await.unwrap_err().kind,
        ConfigErrorKind::Suspicious
    );
    tokio::time::advance(CONFIRM_AFTER).await;
    assert_eq!(
        restarted.snapshot(&feature()).await.unwrap().records.len(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_written_is_noted_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("new"),
        "a file where the folder should be",
    )
    .unwrap();
    let failures = ActiveFailures::default();
    let known = around(answering(vec![Ok(snapshot(3))]), &folder, "server");
    let known = known.with_failures(failures.clone());
    let now = "2026-03-01T09:00:00Z".parse().unwrap();
    known.snapshot(&feature()).await.unwrap();
    let [failure] = failures.list(now).try_into().unwrap();
    assert_eq!(failure.operation, Operation::WriteLastKnownGood(feature()));
    std::fs::remove_file(folder.path().join("new")).unwrap();
    known.snapshot(&feature()).await.unwrap();
    assert_eq!(failures.list(now), []);
}
