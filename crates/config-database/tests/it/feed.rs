//! The feed of changes: complete, in order, and held open until there is one.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Kind, on_both_databases, start, start_in};

on_both_databases! {
    only_differences_enter_the_feed_feature_by_feature
    a_held_call_ends_with_the_first_change_of_its_feature
    shards_divide_groups_and_changes
    a_held_call_does_not_hold_up_the_end_of_the_server
    a_reader_loses_nothing_while_many_write
    epoch_ids_and_data_survive_a_restart_and_a_new_database_has_another_epoch
}

fn on(time: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": time})
}

/// The feed after `since`, as `id tenant feature change`.
fn lines(page: &Value) -> Vec<String> {
    let word = |change: &Value, field: &str| change[field].as_str().unwrap().to_owned();
    page["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            format!(
                "{} {} {} {}",
                c["id"],
                word(c, "tenant_id"),
                word(c, "feature_type"),
                word(c, "change")
            )
        })
        .collect()
}

async fn only_differences_enter_the_feed_feature_by_feature(kind: Kind) {
    let server = start(kind).await;
    server
        .put("a", json!({"f": on("09:00"), "g": on("09:00")}))
        .await;
    server
        .put("a", json!({"f": on("10:00"), "g": on("09:00")}))
        .await;
    server.put("a", json!({"f": on("10:00")})).await;
    server
        .call(Method::DELETE, "tenants/a/configs/feature_preferences", "")
        .await;
    server
        .call(
            Method::PUT,
            "tenants/a/configs/other",
            r#"{"config_value": {"f": 1}}"#,
        )
        .await;

    let all = server.get("preferences/changes?since_id=0").await;
    assert_eq!(
        lines(&all),
        [
            "1 a f upserted",
            "2 a g upserted",
            "3 a f upserted",
            "4 a g deleted",
            "5 a f deleted"
        ]
    );
    assert_eq!(
        (&all["last_id"], &all["has_more"]),
        (&json!(5), &json!(false))
    );
    assert_eq!(all["changes"][2]["preference"], on("10:00"));
    assert_eq!(all["changes"][3]["preference"], Value::Null);
    assert_eq!(all["changes"][0]["config_key"], "feature_preferences");
    assert!(all["epoch"].as_str().unwrap().len() >= 16);

    let page = server.get("preferences/changes?since_id=1&limit=2").await;
    assert_eq!(
        (lines(&page).len(), &page["last_id"], &page["has_more"]),
        (2, &json!(3), &json!(true))
    );
    let of_g = server
        .get("preferences/changes?since_id=0&feature_type=g")
        .await;
    assert_eq!(lines(&of_g), ["2 a g upserted", "4 a g deleted"]);
    assert_eq!(
        of_g["last_id"], 5,
        "a reader of one feature need not look at the others' again"
    );

    assert_eq!(
        server
            .call(Method::GET, "preferences/changes?since_id=6", "")
            .await
            .status(),
        410
    );
    for path in [
        "preferences/changes",
        "preferences/changes?since_id=-1",
        "preferences/changes?since_id=x",
    ] {
        assert_eq!(
            server.call(Method::GET, path, "").await.status(),
            400,
            "{path}"
        );
    }
}

async fn a_held_call_ends_with_the_first_change_of_its_feature(kind: Kind) {
    let server = start(kind).await;
    let waiting = server.get("preferences/changes?since_id=0&feature_type=f&wait=30");
    let storing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.put("a", json!({"g": on("09:00")})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.put("b", json!({"f": on("09:00")})).await;
    };
    let began = Instant::now();
    let (page, ()) = tokio::join!(waiting, storing);
    assert_eq!(lines(&page), ["2 b f upserted"]);
    assert!(began.elapsed() < Duration::from_secs(10));

    let empty = server.get("preferences/changes?since_id=2&wait=1").await;
    assert_eq!((lines(&empty).len(), &empty["last_id"]), (0, &json!(2)));
}

async fn a_held_call_does_not_hold_up_the_end_of_the_server(kind: Kind) {
    let server = start(kind).await;
    let url = format!(
        "{}/api/v1/preferences/changes?since_id=0&wait=60",
        server.url
    );
    let waiting = tokio::spawn(server.http.get(url).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let stopped = waiting.await.unwrap().unwrap();
    assert_eq!(
        (stopped.status().as_u16(), &stopped.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
}

async fn a_reader_loses_nothing_while_many_write(kind: Kind) {
    const WRITERS: usize = 8;
    const WRITES: usize = 25;
    let server = start(kind).await;
    let write = async {
        let writer = |n: usize| {
            let server = &server;
            async move {
                for i in 0..WRITES {
                    server
                        .put(&format!("w{n}"), json!({"f": on(&format!("09:{i:02}"))}))
                        .await;
                }
            }
        };
        futures::future::join_all((0..WRITERS).map(writer)).await;
    };
    let read = async {
        let mut since = 0;
        let mut seen = Vec::new();
        while seen.len() < WRITERS * WRITES {
            let page = server
                .get(&format!("preferences/changes?since_id={since}&wait=5"))
                .await;
            let new: Vec<u64> = page["changes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|change| change["id"].as_u64().unwrap())
                .collect();
            assert!(
                !new.is_empty(),
                "{} of {} seen, and nothing more comes",
                seen.len(),
                WRITERS * WRITES
            );
            seen.extend(new);
            since = page["last_id"].as_u64().unwrap();
        }
        seen
    };
    let ((), seen) = tokio::join!(write, read);
    let expected: Vec<u64> = (1..=(WRITERS * WRITES) as u64).collect();
    assert_eq!(seen, expected);
}

async fn epoch_ids_and_data_survive_a_restart_and_a_new_database_has_another_epoch(kind: Kind) {
    let server = start(kind).await;
    server.put("a", json!({"f": on("09:00")})).await;
    let before = server.get("preferences/changes?since_id=0").await;
    let server = start_in(server.stop().await, None).await;
    assert_eq!(server.get("preferences/changes?since_id=0").await, before);
    let other = start(kind).await;
    assert_ne!(
        other.get("preferences/changes?since_id=0").await["epoch"],
        before["epoch"]
    );
}

async fn shards_divide_groups_and_changes(kind: Kind) {
    let server = start(kind).await;
    for n in 0..30 {
        server
            .put(&format!("t{n:02}"), json!({"f": on("09:00")}))
            .await;
    }
    let tenants = |page: &Value| -> Vec<String> {
        let groups = page["groups"].as_array().unwrap().iter();
        let tenants = groups.flat_map(|group| group["tenants"].as_array().unwrap());
        let ids = tenants.map(|tenant| tenant["tenant_id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    let (mut all, mut changed) = (Vec::new(), Vec::new());
    for shard in ["1/3", "2/3", "3/3"] {
        let whole = server
            .get(&format!("preferences/groups?feature_type=f&shard={shard}"))
            .await;
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("preferences/groups?feature_type=f&limit=2&shard={shard}{cursor}");
            let page = server.get(&path).await;
            assert!(tenants(&page).len() <= 2);
            paged.extend(tenants(&page));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(paged, tenants(&whole), "{shard}");
        all.extend(paged);

        let (mut since, mut more) = (0, true);
        while more {
            let path = format!("preferences/changes?since_id={since}&limit=4&shard={shard}");
            let page = server.get(&path).await;
            changed.extend(lines(&page));
            (since, more) = (page["last_id"].as_i64().unwrap(), page["has_more"] == true);
        }
        assert_eq!(since, 30, "{shard}");
    }
    assert_eq!((all.len(), changed.len()), (30, 30));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 30);
    let both = "preferences/groups?feature_type=f&shard=1/3,3/3";
    let second = "preferences/groups?feature_type=f&shard=2/3";
    let sizes = [both, second].map(async |path| tenants(&server.get(path).await).len());
    let [both, second] = sizes;
    assert_eq!(both.await + second.await, 30);
    // A held call sleeps through changes of others.
    let theirs = tenants(
        &server
            .get("preferences/groups?feature_type=f&shard=2/2")
            .await,
    );
    let (held, _) = tokio::join!(
        server.get("preferences/changes?since_id=30&shard=1/2&wait=1"),
        server.put(&theirs[0], json!({"f": on("10:00")})),
    );
    assert_eq!((lines(&held).len(), &held["last_id"]), (0, &json!(31)));
    let many = ["1/2"; 9].join(",");
    for shard in ["0/2", "3/2", "1", "", "1/2,", &many] {
        for path in ["groups?feature_type=f", "changes?since_id=0"] {
            let path = format!("preferences/{path}&shard={shard}");
            let answer = server.call(Method::GET, &path, "").await;
            assert_eq!(answer.status(), 400, "{path}");
        }
    }
}
