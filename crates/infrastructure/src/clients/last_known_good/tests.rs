//! What is kept on disk, what is given back, and what is held back.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use punctual_application::{
    ports::{MockConfigDatabase, Snapshot},
    testing::ManualClock,
};
use punctual_domain::{Change, Membership};
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
        schedule_since: None,
        organization: None,
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
    ConfigDatabaseError::new(ConfigErrorKind::Unavailable, message)
}

/// What the Config Database answers to `snapshot`, call by call; the last for ever.
fn answering(answers: Vec<Result<Snapshot, ConfigDatabaseError>>) -> MockConfigDatabase {
    let mut inner = MockConfigDatabase::new();
    let answers = std::sync::Mutex::new(answers);
    inner.expect_snapshot().returning(move |_| {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 {
            answers.remove(0).map(Into::into)
        } else {
            answers[0].clone().map(Into::into)
        }
    });
    inner.expect_preferences().returning(|_, _| Err(down()));
    inner
}

/// The snapshot, read to its end.
async fn whole(database: &impl ConfigDatabase) -> Result<Snapshot, ConfigDatabaseError> {
    database.snapshot(&feature()).await?.collect().await
}

fn around(inner: MockConfigDatabase, folder: &tempfile::TempDir, source: &str) -> LastKnownGood {
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    LastKnownGood::new(Arc::new(inner), clock, folder.path().join("new"), source).unwrap()
}

/// The tenants of the last whole state, and what is wrong behind it.
async fn kept(path: &std::path::Path) -> Result<Option<(Vec<String>, Option<Damage>)>, String> {
    let take = |records: &mut BTreeMap<TenantId, PreferenceRecord>, kept, _| match kept {
        JournalRecord::Set(record) => {
            records.insert(record.tenant_id.clone(), record);
        }
        JournalRecord::Remove(tenant) => {
            records.remove(&tenant);
        }
    };
    let read = journal::read(path, "server", take).await?;
    Ok(read.map(|(found, records)| {
        (
            records.keys().map(ToString::to_string).collect(),
            found.damage,
        )
    }))
}

fn changed(tenant: &str, preference: Option<Value>, changed_at: &str) -> Change {
    Change {
        tenant_id: TenantId::new(tenant).unwrap(),
        feature_type: feature(),
        kind: preference.map_or(ChangeKind::Deleted, |preference| {
            ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone()))
        }),
        changed_at: Some(changed_at.parse().unwrap()),
        schedule_since: None,
        organization: None,
    }
}

/// What the Config Database answers to `changes`, call by call; then nothing.
fn then_changes(mut inner: MockConfigDatabase, pages: Vec<Vec<Change>>) -> MockConfigDatabase {
    let pages = std::sync::Mutex::new(std::collections::VecDeque::from(pages));
    inner.expect_changes().returning(move |_, cursor, _| {
        Ok(ChangePage {
            changes: pages.lock().unwrap().pop_front().unwrap_or_default(),
            cursor: cursor.clone(),
            has_more: false,
            waited: true,
        })
    });
    inner
}

/// Tenants who were erased at eight.
fn erased<const N: usize>(tenants: [&TenantId; N]) -> BTreeMap<TenantId, DateTime<Utc>> {
    let at: DateTime<Utc> = "2026-03-01T08:00:00Z".parse().unwrap();
    tenants.map(|tenant| (tenant.clone(), at)).into()
}

async fn next_changes(known: &LastKnownGood) -> Vec<Change> {
    known
        .changes(&feature(), &Cursor::default(), Duration::ZERO)
        .await
        .unwrap()
        .changes
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
            schedule_since: None,
            organization: None,
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
    let read = whole(&first).await.unwrap();
    first
        .changes(&feature(), &read.cursor, Duration::ZERO)
        .await
        .unwrap();
    drop(first);

    let second = around(
        answering(vec![Err(down()), Err(down()), Ok(snapshot(3))]),
        &folder,
        "server",
    );
    let restored = whole(&second).await.unwrap();
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

    // It is given once; then the error is returned, until the server is back.
    assert_eq!(
        whole(&second).await.unwrap_err().kind,
        ConfigErrorKind::Unavailable
    );
    assert_eq!(whole(&second).await.unwrap().known_at, None);
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
    let error = whole(&cold).await.unwrap_err();
    assert_eq!(error.kind, ConfigErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        down().to_string(),
        "nothing is wrong with the disk"
    );
    drop(cold);
    around(answering(vec![Ok(snapshot(3))]), &folder, "server")
        .snapshot(&feature())
        .await
        .unwrap();
    let other = around(answering(vec![Err(down())]), &folder, "another server");
    assert!(whole(&other).await.is_err());
    drop(other);

    for damage in [
        "",
        "nonsense\n",
        "{\"line\":\"head\",\"source\":\"server\"}\n",
    ] {
        std::fs::write(folder.path().join("new/posts.ndjson"), damage).unwrap();
        let damaged = around(answering(vec![Err(down())]), &folder, "server");
        let error = whole(&damaged).await.unwrap_err();
        assert_eq!(error.kind, ConfigErrorKind::Unavailable);
        let both = format!(
            "{}; and the last known preferences on disk cannot be used: ",
            down()
        );
        assert!(
            error.message.starts_with(&both) && error.message.contains("new/posts.ndjson: "),
            "{damage:?}: {error}"
        );
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
        let read = kept(&path).await.ok().flatten();
        // All but the line's end is there.
        let complete = cut == whole.len() - 1;
        assert_eq!(
            read.map(|(records, damage)| (records.len(), damage)),
            complete.then_some((12, None)),
            "cut at {cut}"
        );
    }
    for half in [
        "{\"line\":\"remove\",\"tenant_id\":\"t001\"}\n{\"li",
        "\0\0\0\0\0\0",
        "{\"line\":\"seal\",\"ha",
    ] {
        std::fs::write(&path, [&whole[..], half.as_bytes()].concat()).unwrap();
        let (records, damage) = kept(&path).await.unwrap().unwrap();
        assert_eq!(
            (records.len(), damage),
            (12, Some(Damage::CutOff)),
            "half a page of changes does not count"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_with_one_bit_changed_is_never_used_behind_the_change() {
    let folder = tempfile::tempdir().unwrap();
    let on = json!({"enabled": true, "frequency": "daily"});
    let pages = vec![
        vec![changed("t000", None, "2026-03-01T09:00:00Z")],
        vec![changed("t009", Some(on), "2026-03-01T09:00:00Z")],
    ];
    let known = around(
        then_changes(answering(vec![Ok(snapshot(3))]), pages),
        &folder,
        "server",
    );
    whole(&known).await.unwrap();
    let path = folder.path().join("new/posts.ndjson");
    let first = std::fs::read(&path).unwrap().len();
    next_changes(&known).await;
    let second = std::fs::read(&path).unwrap().len();
    next_changes(&known).await;
    let whole = std::fs::read(&path).unwrap();
    let states = [
        (whole.len(), vec!["t001", "t002", "t009"]),
        (second, vec!["t001", "t002"]),
        (first, vec!["t000", "t001", "t002"]),
        (0, vec![]),
    ];
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let (_, expected) = states.iter().find(|(ends, _)| *ends <= at).unwrap();
        match kept(&path).await {
            Ok(Some((records, damage))) => {
                assert_eq!(&records, expected, "byte {at}");
                assert!(damage.is_some(), "byte {at} is reported");
            }
            Ok(None) => panic!("byte {at}: taken for another server's"),
            Err(_) => assert!(expected.is_empty(), "byte {at}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_version_before_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let old = concat!(
        "{\"line\":\"head\",\"source\":\"server\"}\n",
        "{\"line\":\"set\",\"tenant_id\":\"a\",\"preference\":{\"enabled\":true,\"frequency\":\"daily\"},\"updated_at\":null}\n",
        "{\"line\":\"set\",\"tenant_id\":\"b\",\"preference\":{\"enabled\":true},\"updated_at\":\"2026-01-01T00:00:00Z\"}\n",
        "{\"line\":\"until\",\"cursor\":{\"since_id\":7,\"epoch\":null},\"known_at\":\"2026-03-01T08:00:00Z\"}\n",
        "{\"line\":\"remove\",\"tenant_id\":\"b\"}\n",
        "{\"line\":\"until\",\"cursor\":{\"since_id\":8,\"epoch\":null},\"known_at\":\"2026-03-01T08:30:00Z\"}\n",
    );
    std::fs::create_dir(folder.path().join("new")).unwrap();
    let path = folder.path().join("new/posts.ndjson");
    std::fs::write(&path, old).unwrap();
    let down = around(answering(vec![Err(down())]), &folder, "server");
    let restored = whole(&down).await.unwrap();
    assert_eq!((restored.records.len(), restored.cursor.since_id), (1, 8));
    drop(down);
    // A broken line before good ones is damage: b, who is gone, is back, and it is reported.
    std::fs::write(
        &path,
        old.replace("{\"line\":\"remove\"", "{\"line\":\"remo"),
    )
    .unwrap();
    let (records, damage) = kept(&path).await.unwrap().unwrap();
    assert_eq!((records.len(), damage), (2, Some(Damage::Changed)));
    // A full read writes it anew.
    let up = around(answering(vec![Ok(snapshot(3))]), &folder, "server");
    assert_eq!(whole(&up).await.unwrap().records.len(), 2, "held back");
    tokio::time::advance(CONFIRM_SNAPSHOT_AFTER).await;
    whole(&up).await.unwrap();
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("\"line\":\"seal\"")
    );
}

#[tokio::test(start_paused = true)]
async fn the_folder_is_for_one_agent_and_for_no_other_user() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let first = around(answering(vec![Ok(snapshot(3))]), &folder, "server");
    whole(&first).await.unwrap();
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    let inner = Arc::new(answering(vec![Ok(snapshot(3))]));
    let path = folder.path().join("new");
    let second = LastKnownGood::new(inner, clock, &path, "server")
        .err()
        .unwrap()
        .to_string();
    assert!(
        second.contains(&format!("process {}", std::process::id()))
            && second.contains("a folder of its own"),
        "{second}"
    );
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in [".lock", "posts.ndjson"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    drop(first);
    std::fs::write(path.join("posts.ndjson.1.new"), "left by a crash").unwrap();
    around(answering(vec![Ok(snapshot(3))]), &folder, "server");
    assert!(!path.join("posts.ndjson.1.new").exists());
}

#[test]
fn no_feature_leads_out_of_the_folder_or_shares_a_file() {
    let names = [".", "..", ".lock", "a", "a.", "a.new", ".a", "%2E"];
    let paths: std::collections::HashSet<PathBuf> = names
        .iter()
        .filter_map(|name| FeatureType::new(name).ok())
        .map(|name| folder::path(std::path::Path::new("f"), &name))
        .collect();
    assert_eq!(paths.len(), 5, "{paths:?}");
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            !name.starts_with('.') && path.parent() == Some(std::path::Path::new("f")),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_stays_the_same_keeps_its_time_also_over_restarts() {
    let preference = |time: &str, tone: &str| {
        json!({"enabled": true, "frequency": "daily",
        "preferred_time": time, "template_overrides": {"tone": tone}})
    };
    let read = |time: &str, tone: &str, updated_at: Option<&str>| {
        let record = PreferenceRecord {
            tenant_id: TenantId::new("t").unwrap(),
            preference: Arc::new(preference(time, tone).as_object().unwrap().clone()),
            updated_at: updated_at.map(|at| at.parse().unwrap()),
            schedule_since: None,
            organization: None,
        };
        Ok(Snapshot {
            records: vec![record],
            ..snapshot(0)
        })
    };
    let since = |snapshot: Snapshot| {
        snapshot.records[0]
            .schedule_since
            .map(|since| since.to_rfc3339())
    };
    let folder = tempfile::tempdir().unwrap();
    let answers = vec![
        read("09:00", "dry", Some("2026-01-01T00:00:00Z")),
        read("9:00", "bold", Some("2026-01-02T00:00:00Z")),
        read("10:00", "bold", Some("2026-01-03T00:00:00Z")),
    ];
    let pages = vec![
        vec![changed(
            "t",
            Some(preference("10:00", "soft")),
            "2026-01-04T00:00:00Z",
        )],
        vec![changed(
            "t",
            Some(preference("11:00", "soft")),
            "2026-01-05T00:00:00Z",
        )],
        vec![changed(
            "t",
            Some(preference("11:00", "loud")),
            "2026-01-06T00:00:00Z",
        )],
    ];
    let known = around(then_changes(answering(answers), pages), &folder, "server");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(since(whole(&known).await.unwrap()).unwrap());
    }
    for _ in 0..3 {
        let change = next_changes(&known).await.remove(0);
        seen.push(change.schedule_since.unwrap().to_rfc3339());
    }
    let days: Vec<&str> = seen.iter().map(|since| &since[8..10]).collect();
    let expected = match preference("9:00", "") {
        // A time without its zero is the same time, where it is one at all.
        one if punctual_domain::Preference::parse(one.as_object().unwrap()).is_ok() => "01",
        _ => "02",
    };
    assert_eq!(days, ["01", expected, "03", "03", "05", "05"]);
    drop(known);

    let restarted = around(answering(vec![Err(down())]), &folder, "server");
    let restored = whole(&restarted).await.unwrap();
    assert_eq!(since(restored).unwrap(), "2026-01-05T00:00:00+00:00");
    drop(restarted);
    let answers = vec![
        read("11:00", "new", Some("2026-01-07T00:00:00Z")),
        read("12:00", "new", None),
        read("12:00", "new", Some("2026-01-08T00:00:00Z")),
    ];
    let restarted = around(answering(answers), &folder, "server");
    assert_eq!(
        since(whole(&restarted).await.unwrap()).unwrap(),
        "2026-01-05T00:00:00+00:00"
    );
    assert_eq!(since(whole(&restarted).await.unwrap()), None, "long ago");
    assert_eq!(
        since(whole(&restarted).await.unwrap()).unwrap(),
        "1970-01-01T00:00:00+00:00",
        "still long ago"
    );
}

#[tokio::test(start_paused = true)]
async fn the_organization_of_a_tenant_is_known_after_a_restart() {
    let membership = |id: &str| {
        let membership = json!({"id": id, "fields": ["frequency"]});
        Some(Arc::new(
            serde_json::from_value::<Membership>(membership).unwrap(),
        ))
    };
    let folder = tempfile::tempdir().unwrap();
    let mut said = snapshot(4);
    for record in &mut said.records[..3] {
        record.organization = membership("acme");
    }
    let stored = said.records[1].preference.as_ref().clone();
    let change = |tenant: &str, organization| Change {
        organization,
        ..changed(tenant, Some(json!(stored)), "2026-03-01T08:00:00Z")
    };
    let ids: Vec<TenantId> = said
        .records
        .iter()
        .map(|one| one.tenant_id.clone())
        .collect();
    let pages = vec![vec![
        change(ids[1].as_str(), membership("umbrella")),
        change(ids[2].as_str(), None),
    ]];
    let known = around(
        then_changes(answering(vec![Ok(said)]), pages),
        &folder,
        "server",
    );
    let expected = [membership("acme"), membership("umbrella"), None, None];
    assert_eq!(
        whole(&known).await.unwrap().records[0].organization,
        expected[0]
    );
    assert_eq!(next_changes(&known).await[0].organization, expected[1]);
    drop(known);
    let restarted = around(answering(vec![Err(down())]), &folder, "server");
    let restored = whole(&restarted).await.unwrap().records;
    let restored: HashMap<TenantId, PreferenceRecord> = restored
        .into_iter()
        .map(|record| (record.tenant_id.clone(), record))
        .collect();
    let single = restarted.preferences(&feature(), &ids).await.unwrap();
    for records in [&restored, &single] {
        let found = ids.iter().map(|id| records[id].organization.clone());
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_of_a_schedule_is_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = snapshot(1);
    let at = Some("2026-02-03T04:05:06.789Z".parse().unwrap());
    said.records[0].schedule_since = at;
    let known = around(
        answering(vec![Ok(snapshot(1)), Ok(said)]),
        &folder,
        "server",
    );
    whole(&known).await.unwrap();
    assert_eq!(whole(&known).await.unwrap().records[0].schedule_since, at);
}

#[tokio::test(start_paused = true)]
async fn a_collapse_is_held_back_until_a_later_read_confirms_it() {
    for (before, left) in [(10, 0), (10, 4), (9, 0), (9, 4), (3, 1), (2, 0), (1, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let guarded = around(
            answering(vec![Ok(snapshot(before)), Ok(snapshot(left))]),
            &folder,
            "server",
        );
        whole(&guarded).await.unwrap();
        for _ in 0..5 {
            let error = whole(&guarded).await.unwrap_err();
            assert_eq!(error.kind, ConfigErrorKind::Suspicious);
            let lost = format!("lost {} of the {before} tenants", before - left);
            assert!(
                error.message.contains(&lost) && error.message.contains("deleted by mistake"),
                "{error}"
            );
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(whole(&guarded).await.unwrap().records.len(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_collapse_that_heals_or_is_none_is_not_held_back() {
    let folder = tempfile::tempdir().unwrap();
    let answers = vec![
        Ok(snapshot(10)),
        Ok(snapshot(5)),
        Ok(snapshot(3)),
        Ok(snapshot(10)),
        Ok(snapshot(4)),
    ];
    let guarded = around(answering(answers), &folder, "server");
    for expected in [10, 5, 3, 10] {
        assert_eq!(whole(&guarded).await.unwrap().records.len(), expected);
    }
    assert!(whole(&guarded).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_guard_counts_who_is_on_now() {
    let on = || Some(json!({"enabled": true, "frequency": "daily"}));
    let off = || Some(json!({"enabled": false, "frequency": "daily"}));
    let at = "2026-03-01T09:00:00Z";
    // 1 in the snapshot, and 200 who come with changes: a full read that has the 1 again has lost them.
    let grown: Vec<Change> = (0..200)
        .map(|n| changed(&format!("new{n}"), on(), at))
        .collect();
    // Changed again, they are no more of them.
    let again = grown.clone();
    let folder = tempfile::tempdir().unwrap();
    let guarded = around(
        then_changes(answering(vec![Ok(snapshot(1))]), vec![grown, again]),
        &folder,
        "server",
    );
    whole(&guarded).await.unwrap();
    next_changes(&guarded).await;
    next_changes(&guarded).await;
    let held = whole(&guarded).await.unwrap_err();
    assert!(
        held.message.contains("lost 200 of the 201 tenants"),
        "{held}"
    );
    drop(guarded);
    // Also after a restart.
    let restarted = around(answering(vec![Ok(snapshot(1))]), &folder, "server");
    assert_eq!(whole(&restarted).await.unwrap().records.len(), 201);
    drop(restarted);

    // Those whom changes have switched off or removed are not lost.
    let folder = tempfile::tempdir().unwrap();
    let gone = (0..9).map(|n| {
        changed(
            &format!("t{n:03}"),
            if n % 2 == 0 { off() } else { None },
            at,
        )
    });
    let guarded = around(
        then_changes(
            answering(vec![
                Ok(snapshot(10)),
                Ok(Snapshot {
                    records: vec![record("t009", "dry")],
                    ..snapshot(0)
                }),
            ]),
            vec![gone.collect()],
        ),
        &folder,
        "server",
    );
    whole(&guarded).await.unwrap();
    next_changes(&guarded).await;
    assert_eq!(whole(&guarded).await.unwrap().records.len(), 1);

    // Others in their place do not make up for those who are lost.
    let folder = tempfile::tempdir().unwrap();
    let others = Snapshot {
        records: (0..10)
            .map(|n| record(&format!("other{n}"), "dry"))
            .collect(),
        ..snapshot(0)
    };
    let guarded = around(
        answering(vec![Ok(snapshot(10)), Ok(others)]),
        &folder,
        "server",
    );
    whole(&guarded).await.unwrap();
    assert!(whole(&guarded).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_collapse_is_measured_against_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    around(answering(vec![Ok(snapshot(20))]), &folder, "server")
        .snapshot(&feature())
        .await
        .unwrap();
    let restarted = around(answering(vec![Ok(snapshot(0))]), &folder, "server");
    let held = whole(&restarted).await.unwrap();
    assert_eq!(
        (held.records.len(), held.known_at.is_some()),
        (20, true),
        "what was known stays in effect"
    );
    assert_eq!(
        whole(&restarted).await.unwrap_err().kind,
        ConfigErrorKind::Suspicious
    );
    tokio::time::advance(CONFIRM_SNAPSHOT_AFTER).await;
    assert_eq!(whole(&restarted).await.unwrap().records.len(), 0);
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
    whole(&known).await.unwrap();
    let [failure] = failures.list(now).try_into().unwrap();
    assert_eq!(failure.operation, Operation::WriteLastKnownGood(feature()));
    std::fs::remove_file(folder.path().join("new")).unwrap();
    whole(&known).await.unwrap();
    assert_eq!(failures.list(now), []);
}

#[tokio::test]
async fn a_schedule_stored_while_the_server_held_the_call_dates_from_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    let mut inner = answering(vec![Ok(snapshot(1))]);
    let held = Arc::clone(&clock);
    inner.expect_changes().returning(move |_, cursor, _| {
        held.step(TimeDelta::seconds(28));
        let preference = json!({"enabled": true, "frequency": "hourly"});
        let mut change = changed("t000", Some(preference), "2026-03-01T09:00:00Z");
        change.changed_at = None;
        Ok(ChangePage {
            changes: vec![change],
            cursor: cursor.clone(),
            has_more: false,
            waited: true,
        })
    });
    let reading = LastKnownGood::new(Arc::new(inner), clock, folder.path(), "server").unwrap();
    let cursor = whole(&reading).await.unwrap().cursor;
    let wait = std::time::Duration::from_secs(30);
    let page = reading.changes(&feature(), &cursor, wait).await.unwrap();
    let since = page.changes[0].schedule_since.unwrap();
    let answered_at = "2026-03-01T09:00:28Z".parse::<DateTime<Utc>>().unwrap();
    assert!(since >= answered_at, "{since}");
}

/// A snapshot of so many tenants in pages of two, with an error in place of the last page if it `breaks`.
fn in_pages(tenants: usize, breaks: bool) -> SnapshotPages {
    let all = snapshot(tenants);
    let pages = all.records.chunks(2).map(|page| Ok(page.to_vec()));
    let mut pages: Vec<_> = pages.collect();
    if breaks {
        pages.pop();
        pages.push(Err(down()));
    }
    SnapshotPages::new(all.cursor, stream::iter(pages))
}

fn paging(answers: Vec<(usize, bool)>) -> MockConfigDatabase {
    let mut inner = MockConfigDatabase::new();
    let answers = StdMutex::new(answers.into_iter());
    inner.expect_snapshot().returning(move |_| {
        let (tenants, breaks) = answers.lock().unwrap().next().unwrap();
        Ok(in_pages(tenants, breaks))
    });
    inner
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_goes_over_the_disk_and_one_that_breaks_off_leaves_what_was_known() {
    let folder = tempfile::tempdir().unwrap();
    let inner = paging(vec![(21, false), (21, true), (22, false)]);
    let inner = then_changes(
        inner,
        vec![vec![changed("t001", None, "2026-03-01T08:00:00Z")]],
    );
    let known = around(inner, &folder, "server");
    let mut first = known.snapshot(&feature()).await.unwrap();
    // A change that comes before the pages are read is behind them in the file, and not among them.
    next_changes(&known).await;
    let mut ids = Vec::new();
    while let Some(page) = first.next().await.unwrap() {
        ids.extend(page.into_iter().map(|record| record.tenant_id.to_string()));
    }
    let expected: Vec<String> = (0..21).map(|n| format!("t{n:03}")).collect();
    assert_eq!(ids, expected);

    assert_eq!(
        whole(&known).await.unwrap_err().kind,
        ConfigErrorKind::Unavailable
    );
    let path = folder::path(&folder.path().join("new"), &feature());
    let (ids, damage) = kept(&path).await.unwrap().unwrap();
    assert_eq!((ids.len(), damage), (20, None), "the file is as it was");
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(files, 2, "the file and the lock");
    assert_eq!(whole(&known).await.unwrap().records.len(), 22);
    drop(known);

    // A process that starts anew, and whose first read breaks off, goes on from the disk.
    let restarted = around(paging(vec![(22, true)]), &folder, "server");
    let restored = whole(&restarted).await.unwrap();
    assert_eq!(restored.records.len(), 22);
    assert!(restored.known_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_is_read_anew_into_memory_when_the_disk_fails() {
    let folder = tempfile::tempdir().unwrap();
    let known = around(paging(vec![(21, false); 4]), &folder, "server");
    let path = folder.path().join("new");
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::write(&path, "not a folder").unwrap();
    assert_eq!(whole(&known).await.unwrap().records.len(), 21);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(whole(&known).await.unwrap().records.len(), 21);
    assert_eq!(
        kept(&folder::path(&path, &feature()))
            .await
            .unwrap()
            .unwrap()
            .0
            .len(),
        21
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_knows_better_does_not_go_back_to_an_older_file() {
    let folder = tempfile::tempdir().unwrap();
    let inner = answering(vec![Ok(snapshot(3)), Ok(snapshot(4)), Err(down())]);
    let known = around(inner, &folder, "server");
    whole(&known).await.unwrap();
    let (path, aside) = (folder.path().join("new"), folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::fs::write(&path, "not a folder").unwrap();
    assert_eq!(whole(&known).await.unwrap().records.len(), 4);
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    let error = whole(&known).await.unwrap_err();
    assert_eq!(error.kind, ConfigErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_becomes_shorter_while_it_is_read_back_is_no_whole_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let known = around(paging(vec![(21, false)]), &folder, "server");
    let pages = known.snapshot(&feature()).await.unwrap();
    let path = folder::path(&folder.path().join("new"), &feature());
    let text = std::fs::read_to_string(&path).unwrap();
    let ten_lines: usize = text.split_inclusive('\n').take(10).map(str::len).sum();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(ten_lines as u64).unwrap();
    let error = pages.collect().await.unwrap_err();
    assert!(error.to_string().contains("end of file"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_who_is_forgotten_is_in_no_file_and_all_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let at = "2026-03-01T08:00:00Z";
    let loud = || Some(json!({"enabled": true, "frequency": "daily", "note": "loud"}));
    let calm = || Some(json!({"enabled": true, "frequency": "daily"}));
    let pages = vec![
        vec![changed("t001", loud(), at), changed("t009", calm(), at)],
        vec![changed("t010", calm(), at)],
    ];
    let mut inner = then_changes(answering(vec![Ok(snapshot(3))]), pages);
    inner.expect_forget().times(1).returning(|_| Ok(()));
    let known = around(inner, &folder, "server");
    let cursor = whole(&known).await.unwrap().cursor;
    let wait = Duration::ZERO;
    let page = known.changes(&feature(), &cursor, wait).await.unwrap();
    let path = folder::path(&folder.path().join("new"), &feature());
    let text = || std::fs::read_to_string(&path).unwrap();
    assert!(text().contains("t001") && text().contains("loud"));

    let [first, ninth, tenth] = ["t001", "t009", "t010"].map(|id| TenantId::new(id).unwrap());
    known.forget(&erased([&first])).await.unwrap();
    assert!(!text().contains("t001") && !text().contains("loud"));
    // Changes go on in the new file.
    known.changes(&feature(), &page.cursor, wait).await.unwrap();
    let (tenants, damage) = kept(&path).await.unwrap().unwrap();
    assert_eq!(tenants, ["t000", "t002", "t009", "t010"]);
    assert_eq!(damage, None);
    drop(known);

    // Also for one that has started from the disk, and knows where the records stand.
    let mut inner = answering(vec![Err(down())]);
    inner.expect_forget().returning(|_| Ok(()));
    let known = around(inner, &folder, "server");
    assert_eq!(whole(&known).await.unwrap().records.len(), 4);
    // Several go at one time.
    let second = TenantId::new("t002").unwrap();
    known.forget(&erased([&ninth, &second])).await.unwrap();
    assert!(!text().contains("t009") && !text().contains("t002"));
    let both = [ninth, tenth.clone()];
    let found = known.preferences(&feature(), &both).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&tenth]);
    // Nothing is known of this one, and nothing is written.
    let before = text();
    known.forget(&erased([&first])).await.unwrap();
    assert_eq!(text(), before);
}

#[tokio::test]
async fn nothing_of_a_tenant_that_was_erased_stays_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = snapshot(3);
    held.records.push(record("canary", "canary at first"));
    let of = |tenant: &str, kind| Change {
        kind,
        ..changed(tenant, None, "2026-03-01T08:00:00Z")
    };
    let later = record("canary", "canary later").preference;
    let pages = vec![
        vec![of("canary", ChangeKind::Upserted(later))],
        vec![of("t001", ChangeKind::Deleted)],
        vec![of("canary", ChangeKind::Erased)],
        vec![of(
            "t000",
            ChangeKind::Upserted(record("t000", "bold").preference),
        )],
    ];
    let inner = then_changes(answering(vec![Ok(held)]), pages);
    let known = around(inner, &folder, "server");
    whole(&known).await.unwrap();
    next_changes(&known).await;
    next_changes(&known).await;
    let path = folder::path(&folder.path().join("new"), &feature());
    let has_canary = || {
        let text = std::fs::read_to_string(&path).unwrap();
        text.contains("canary")
    };
    assert!(has_canary());
    assert_eq!(next_changes(&known).await[0].kind, ChangeKind::Erased);
    assert!(!has_canary());
    // It goes on with what comes next.
    next_changes(&known).await;
    let (tenants, damage) = kept(&path).await.unwrap().unwrap();
    assert_eq!(tenants, ["t000", "t002"]);
    assert_eq!(damage, None);
    assert!(std::fs::read_to_string(&path).unwrap().contains("bold"));
}

#[tokio::test]
async fn a_tenant_that_is_erased_while_the_last_known_preferences_are_used_is_not_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let first = around(answering(vec![Ok(snapshot(3))]), &folder, "server");
    whole(&first).await.unwrap();
    drop(first);
    let erased = Change {
        kind: ChangeKind::Erased,
        ..changed("t001", None, "2026-03-01T08:00:00Z")
    };
    let inner = then_changes(answering(vec![Err(down())]), vec![vec![erased]]);
    let second = around(inner, &folder, "server");
    whole(&second).await.unwrap();
    next_changes(&second).await;
    let tenants = ["t000", "t001", "t002"].map(|tenant| TenantId::new(tenant).unwrap());
    let records = second.preferences(&feature(), &tenants).await.unwrap();
    assert_eq!(tone(&records, "t001"), None);
    assert_eq!(records.len(), 2);
}

#[tokio::test]
async fn all_who_are_erased_at_once_go_and_so_does_a_record_that_a_crash_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let gone = |tenant: &str| Change {
        kind: ChangeKind::Erased,
        ..changed(tenant, None, "2026-03-01T08:00:00Z")
    };
    let pages = vec![vec![gone("t001"), gone("t003")]];
    let inner = then_changes(answering(vec![Ok(snapshot(5))]), pages);
    let known = around(inner, &folder, "server");
    whole(&known).await.unwrap();
    next_changes(&known).await;
    let path = folder::path(&folder.path().join("new"), &feature());
    let text = || std::fs::read_to_string(&path).unwrap();
    assert!(!text().contains("t001") && !text().contains("t003"));
    let left = ["t000", "t002", "t004"];
    let (tenants, damage) = kept(&path).await.unwrap().unwrap();
    assert_eq!((tenants, damage), (left.map(String::from).to_vec(), None));
    drop(known);

    let cut_off = text() + r#"{"line":"set","tenant_id":"t009"#;
    std::fs::write(&path, cut_off).unwrap();
    let mut inner = answering(vec![Err(down())]);
    inner.expect_forget().returning(|_| Ok(()));
    let known = around(inner, &folder, "server");
    let ninth = TenantId::new("t009").unwrap();
    known.forget(&erased([&ninth])).await.unwrap();
    assert!(!text().contains("t009"));
    let (tenants, damage) = kept(&path).await.unwrap().unwrap();
    assert_eq!((tenants, damage), (left.map(String::from).to_vec(), None));
}

#[tokio::test]
async fn what_is_stored_after_an_erasure_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let at = "2026-03-01T08:00:00Z";
    let gone = |tenant: &str| Change {
        kind: ChangeKind::Erased,
        ..changed(tenant, None, at)
    };
    let stored = |tenant: &str, tone: &str| Change {
        kind: ChangeKind::Upserted(record(tenant, tone).preference),
        ..changed(tenant, None, at)
    };
    let pages = vec![
        // One page, and two.
        vec![
            stored("t000", "before"),
            gone("t000"),
            stored("t000", "after"),
            gone("t001"),
        ],
        vec![stored("t001", "after"), stored("listed", "after")],
    ];
    let mut inner = then_changes(answering(vec![Ok(snapshot(5))]), pages);
    inner.expect_forget().returning(|_| Ok(()));
    let tenants = ["t000", "t001", "t002", "listed"].map(|id| TenantId::new(id).unwrap());
    let [zeroth, first, second, listed] = &tenants;
    let list = [listed, second].map(|tenant_id| ErasedTenant {
        tenant_id: tenant_id.clone(),
        erased_at: at.parse().unwrap(),
    });
    inner
        .expect_erased()
        .returning(move |_| Ok(list.clone().into()));
    let known = around(inner, &folder, "server");
    whole(&known).await.unwrap();
    known.erased(&feature()).await.unwrap();
    next_changes(&known).await;
    next_changes(&known).await;
    // Who erases comes later. The snapshot has the second, although the list names this tenant.
    let all = erased([zeroth, first, second, listed]);
    known.forget(&all).await.unwrap();
    let path = folder::path(&folder.path().join("new"), &feature());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("before") && !text.contains("t002"), "{text}");
    drop(known);

    let mut inner = answering(vec![Err(down())]);
    inner.expect_forget().returning(|_| Ok(()));
    let known = around(inner, &folder, "server");
    whole(&known).await.unwrap();
    let records = known.preferences(&feature(), &tenants).await.unwrap();
    let tones = ["t000", "t001", "t002", "listed"].map(|id| tone(&records, id));
    let after = || Some(json!("after"));
    assert_eq!(tones, [after(), after(), None, after()]);
    // What this process knows from the disk alone may be older than an erasure.
    known.forget(&erased([zeroth])).await.unwrap();
    let records = known.preferences(&feature(), &tenants).await.unwrap();
    assert_eq!(tone(&records, "t000"), None);
}
