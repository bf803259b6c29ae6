//! Versions: conditions on writes, merge patches, history and restoring from it.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::server::{Kind, Running, on_both_databases, start, start_in};

on_both_databases! {
    what_is_known_is_not_sent_again_and_what_has_changed_is_not_overwritten
    of_many_who_saw_the_same_version_one_writes
    conditions_are_read_as_the_standard_has_them_and_never_ignored
    of_many_patches_at_once_none_is_lost
    a_merge_patch_changes_what_it_names_and_nothing_else
    every_version_is_kept_with_its_actor_and_can_be_restored
    forgotten_changes_make_only_their_readers_read_anew
}

const PATH: &str = "tenants/a/configs/feature_preferences";

fn on(time: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": time})
}

async fn send(
    server: &Running,
    method: Method,
    path: &str,
    header: (&str, &str),
    value: Value,
) -> Response {
    let url = format!("{}/api/v1/{path}", server.url);
    let body = json!({ "config_value": value }).to_string();
    server
        .http
        .request(method, url)
        .header(header.0, header.1)
        .body(body)
        .send()
        .await
        .unwrap()
}

async fn what_is_known_is_not_sent_again_and_what_has_changed_is_not_overwritten(kind: Kind) {
    let server = start(kind).await;
    let put = |header: (&'static str, &'static str), time: &'static str| {
        let server = &server;
        async move { send(server, Method::PUT, PATH, header, json!({"f": on(time)})).await }
    };
    assert_eq!(
        put(("if-match", "*"), "09:00").await.status(),
        412,
        "there is nothing yet"
    );
    let created = put(("if-none-match", "*"), "09:00").await;
    assert_eq!(
        (
            created.status().as_u16(),
            created.headers()["etag"].to_str().unwrap()
        ),
        (200, "\"1\"")
    );
    assert_eq!(put(("if-none-match", "*"), "10:00").await.status(), 412);
    assert_eq!(put(("if-match", "\"1\""), "10:00").await.status(), 200);
    let stale = put(("if-match", "\"1\""), "11:00").await;
    assert_eq!(stale.status(), 412);
    let problem: Value = stale.json().await.unwrap();
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("its version is 2"),
        "{problem}"
    );
    assert_eq!(put(("if-match", "nonsense"), "11:00").await.status(), 400);

    let get = |tag: &'static str| {
        let server = &server;
        async move {
            send(
                server,
                Method::GET,
                PATH,
                ("if-none-match", tag),
                Value::Null,
            )
            .await
        }
    };
    assert_eq!(get("\"2\"").await.status(), 304);
    assert_eq!(get("\"7\", W/\"2\"").await.status(), 304);
    let read = get("\"1\"").await;
    assert_eq!(read.status(), 200);
    assert_eq!(
        read.json::<Value>().await.unwrap()["config_value"]["f"],
        on("10:00"),
        "nothing was overwritten"
    );

    assert_eq!(
        send(
            &server,
            Method::DELETE,
            PATH,
            ("if-match", "\"1\""),
            Value::Null
        )
        .await
        .status(),
        412
    );
    assert_eq!(
        send(
            &server,
            Method::DELETE,
            PATH,
            ("if-match", "\"2\""),
            Value::Null
        )
        .await
        .status(),
        204
    );
    let again = put(("if-none-match", "*"), "09:00").await;
    assert_eq!(
        again.headers()["etag"],
        "\"4\"",
        "a version never comes again, so an old ETag never fits a new value"
    );
}

async fn conditions_are_read_as_the_standard_has_them_and_never_ignored(kind: Kind) {
    let server = start(kind).await;
    server.put("a", json!({"f": on("09:00")})).await;
    server.put("a", json!({"f": on("09:01")})).await;
    let call =
        |method: Method, path: &'static str, conditions: &[(&'static str, &[u8])], body: &str| {
            let url = format!("{}/api/v1/{path}", server.url);
            let mut request = server.http.request(method, url).body(body.to_owned());
            for (name, value) in conditions {
                let value = reqwest::header::HeaderValue::from_bytes(value).unwrap();
                request = request.header(*name, value);
            }
            async move { request.send().await.unwrap().status().as_u16() }
        };
    let same = json!({"config_value": {"f": on("09:01")}}).to_string();
    for (value, if_match, if_none_match) in [
        (&b"*"[..], 200, 412),
        (b"\"2\"", 200, 412),
        (b"\"1\", \"2\"", 200, 412),
        (b",\"2\" ,", 200, 412),
        (b"W/\"2\"", 412, 412),
        (b"W/\"2\", \"7\"", 412, 412),
        (b"\"1\"", 412, 200),
        (b"\"02\"", 412, 200),
        (b"\"+2\"", 412, 200),
        (b"\"\"", 412, 200),
        (b"\"of another\"", 400, 400),
        (b"\"1,2\"", 412, 200),
        (b"\"99999999999999999999\"", 412, 200),
        (b"\"-1\"", 412, 200),
        (b"2", 400, 400),
        (b"\"2", 400, 400),
        (b"*, \"2\"", 400, 400),
        (b"w/\"2\"", 400, 400),
        (b"", 400, 400),
        (b"nonsense", 400, 400),
        (b"\xff", 400, 400),
        (b"\"2\xff\"", 400, 400),
        (b"\"999\xff\"", 400, 400),
    ] {
        let shown = String::from_utf8_lossy(value);
        let put = |name| call(Method::PUT, PATH, &[(name, value)], &same);
        assert_eq!(put("if-match").await, if_match, "If-Match: {shown}");
        assert_eq!(
            put("if-none-match").await,
            if_none_match,
            "If-None-Match: {shown}"
        );
        let read = |name| call(Method::GET, PATH, &[(name, value)], "");
        assert_eq!(
            read("if-match").await,
            if_match,
            "GET with If-Match: {shown}"
        );
        let known = if if_none_match == 412 {
            304
        } else {
            if_none_match
        };
        assert_eq!(
            read("if-none-match").await,
            known,
            "GET with If-None-Match: {shown}"
        );
    }
    let other = json!({"config_value": {"f": on("23:00")}}).to_string();
    let restore = format!("{PATH}/restore");
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        for conditions in [
            &[("if-match", &b"\"1\""[..]), ("if-match", b"\"2\"")][..],
            &[("if-none-match", b"\"7\""), ("if-none-match", b"\"8\"")],
            &[("if-match", b"\"2\""), ("if-none-match", b"\xff")],
        ] {
            assert_eq!(
                call(method.clone(), PATH, conditions, &other).await,
                400,
                "{method} {conditions:?}"
            );
        }
        let both: &[(_, &[u8])] = &[("if-match", b"\"2\""), ("if-none-match", b"\"2\"")];
        assert_eq!(
            call(method.clone(), PATH, both, &other).await,
            412,
            "both are heeded"
        );
        assert_eq!(
            call(method, PATH, &[("if-match", b"\"1\"")], &other).await,
            412
        );
    }
    let url = format!("{}/api/v1/{restore}", server.url);
    let weak = server
        .http
        .post(url)
        .header("if-match", "W/\"2\"")
        .body("{\"version\": 1}");
    assert_eq!(weak.send().await.unwrap().status(), 412);
    let now = server.get(PATH).await;
    assert_eq!(
        (&now["version"], &now["config_value"]["f"]),
        (&json!(2), &on("09:01"))
    );
    let missing = "tenants/none/configs/feature_preferences";
    assert_eq!(
        call(Method::PUT, missing, &[("if-match", b"*")], &same).await,
        412
    );
    assert_eq!(
        call(Method::PUT, missing, &[("if-match", b"\"1\"")], &same).await,
        412
    );
    assert_eq!(
        call(Method::PUT, missing, &[("if-none-match", b"\"1\"")], &same).await,
        200
    );
}

async fn of_many_patches_at_once_none_is_lost(kind: Kind) {
    const PATCHES: usize = 12;
    let server = start(kind).await;
    server.put("a", json!({})).await;
    let patches = (0..PATCHES).map(|n| {
        let value = json!({format!("f{n}"): on("09:00")});
        send(&server, Method::PATCH, PATH, ("x-none", ""), value)
    });
    for response in futures::future::join_all(patches).await {
        assert_eq!(response.status(), 200);
    }
    let config = server.get(PATH).await;
    assert_eq!(config["config_value"].as_object().unwrap().len(), PATCHES);
    assert_eq!(config["version"], 1 + PATCHES);
}

async fn of_many_who_saw_the_same_version_one_writes(kind: Kind) {
    let server = start(kind).await;
    server.put("a", json!({"f": on("09:00")})).await;
    let times: Vec<String> = (10..20).map(|minute| format!("09:{minute}")).collect();
    let writes = times.iter().map(|time| {
        let value = json!({"f": on(time)});
        send(&server, Method::PUT, PATH, ("if-match", "\"1\""), value)
    });
    let statuses: Vec<u16> = futures::future::join_all(writes)
        .await
        .iter()
        .map(|response| response.status().as_u16())
        .collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 9);
}

async fn a_merge_patch_changes_what_it_names_and_nothing_else(kind: Kind) {
    let server = start(kind).await;
    let patch = |value: Value| send(&server, Method::PATCH, PATH, ("x-none", ""), value);
    assert_eq!(patch(json!({})).await.status(), 404);
    let overrides = json!({"tone": "dry", "tags": ["a", "b"], "deep": {"x": 1, "y": 2}});
    let mut first = on("09:00");
    first["template_overrides"] = overrides;
    server.put("a", json!({"f": first, "g": on("08:00")})).await;

    let change = json!({"f": {"preferred_time": "10:00", "template_overrides": {"tone": null, "tags": ["c"], "deep": {"y": 3}}}});
    let patched: Value = patch(change).await.json().await.unwrap();
    assert_eq!(
        patched["config_value"],
        json!({"f": {"enabled": true, "frequency": "daily", "preferred_time": "10:00",
                     "template_overrides": {"tags": ["c"], "deep": {"x": 1, "y": 3}}},
               "g": on("08:00")})
    );
    assert_eq!(
        patch(json!({"g": null}))
            .await
            .json::<Value>()
            .await
            .unwrap()["config_value"]["g"],
        Value::Null
    );
    assert_eq!(
        patch(json!({"f": {"frequency": "dayly"}})).await.status(),
        422,
        "the outcome is checked, not the patch"
    );
    let feed = server.get("preferences/changes?since_id=2").await;
    let seen: Vec<String> = feed["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change["feature_type"], change["change"]))
        .collect();
    assert_eq!(seen, ["\"f\" \"upserted\"", "\"g\" \"deleted\""]);
}

async fn every_version_is_kept_with_its_actor_and_can_be_restored(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin-key")).await;
    let editor = server
        .store
        .create_key(&crate::server::key(
            "editor",
            punctual_config_database::Scope::Write,
        ))
        .await
        .unwrap();
    let call = |method: Method, path: String, key: &str, body: Value| {
        let url = format!("{}/api/v1/{path}", server.url);
        let request = server
            .http
            .request(method, url)
            .bearer_auth(key)
            .body(body.to_string());
        async move { request.send().await.unwrap() }
    };
    let editor = secrecy::ExposeSecret::expose_secret(&editor).to_owned();
    for (key, time) in [("admin-key", "09:00"), (editor.as_str(), "10:00")] {
        let body = json!({"config_value": {"f": on(time)}});
        assert_eq!(
            call(Method::PUT, PATH.into(), key, body).await.status(),
            200
        );
    }
    assert_eq!(
        call(Method::DELETE, PATH.into(), &editor, Value::Null)
            .await
            .status(),
        204
    );

    let history = |query: &str| {
        call(
            Method::GET,
            format!("{PATH}/history{query}"),
            "admin-key",
            Value::Null,
        )
    };
    let all: Value = history("").await.json().await.unwrap();
    let line = |version: &Value| {
        let time = version["config_value"]["f"]["preferred_time"]
            .as_str()
            .unwrap_or("removed");
        format!(
            "{} {} {time}",
            version["version"],
            version["actor"].as_str().unwrap()
        )
    };
    let lines: Vec<String> = all["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(line)
        .collect();
    assert_eq!(
        lines,
        ["3 editor removed", "2 editor 10:00", "1 admin 09:00"]
    );
    let page: Value = history("?limit=2").await.json().await.unwrap();
    assert_eq!(page["next_before"], 2);
    let rest: Value = history("?limit=2&before=2").await.json().await.unwrap();
    assert_eq!(
        (
            rest["versions"].as_array().unwrap().len(),
            &rest["next_before"]
        ),
        (1, &Value::Null)
    );

    let restore = |version: i64| {
        call(
            Method::POST,
            format!("{PATH}/restore"),
            &editor,
            json!({ "version": version }),
        )
    };
    assert_eq!(
        restore(3).await.status(),
        404,
        "a removal cannot be restored"
    );
    assert_eq!(restore(99).await.status(), 404);
    let restored: Value = restore(1).await.json().await.unwrap();
    assert_eq!(
        (&restored["version"], &restored["config_value"]["f"]),
        (&json!(4), &on("09:00"))
    );
}

async fn forgotten_changes_make_only_their_readers_read_anew(kind: Kind) {
    let server = start(kind).await;
    for time in ["09:00", "09:01", "09:02"] {
        server.put("a", json!({"f": on(time)})).await;
    }
    let until = "2999-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(
        server
            .store
            .purge_changes("2000-01-01T00:00:00Z".parse().unwrap())
            .await
            .unwrap(),
        0
    );
    assert_eq!(server.store.purge_changes(until).await.unwrap(), 3);
    server.put("a", json!({"f": on("09:03")})).await;
    for (since, status) in [(0, 410), (2, 410), (3, 200), (4, 200), (5, 410)] {
        let path = format!("preferences/changes?since_id={since}");
        assert_eq!(
            server.call(Method::GET, &path, "").await.status(),
            status,
            "since {since}"
        );
    }
    assert_eq!(
        server.get("preferences/changes?since_id=3").await["changes"][0]["id"],
        4
    );
    assert_eq!(
        server.get("preferences/groups?feature_type=f").await["as_of_id"],
        4
    );
    let server = start_in(server.stop().await, None).await;
    assert_eq!(
        server
            .call(Method::GET, "preferences/changes?since_id=2", "")
            .await
            .status(),
        410
    );
    assert_eq!(server.store.purge_changes(until).await.unwrap(), 1);
    assert_eq!(
        server.get("preferences/changes?since_id=4").await["last_id"],
        4,
        "ids go on where they were"
    );
}
