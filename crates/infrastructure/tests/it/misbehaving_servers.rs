//! Servers that are slow, broken, overloaded, lying or huge: each gives a clear error, and what was known
//! before stays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{body::Body, http::Response};
use punctual_application::ports::{ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor};
use punctual_infrastructure::{ClientOptions, ConfigDatabaseClient};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::server::{client, feature, json as answer, options, start, tenant, whole};

async fn snapshot_error(options: ClientOptions) -> ConfigDatabaseError {
    let client = ConfigDatabaseClient::new(options).unwrap();
    whole(&client).await.unwrap_err()
}

/// A server that sends these bytes to every client and then waits or closes.
async fn raw(bytes: &'static [u8], close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(bytes).await;
                if !close {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn an_unreachable_server() {
    let url = "http://127.0.0.1:1";
    let error = snapshot_error(options(url)).await;
    assert_eq!(error.kind, ConfigErrorKind::Unavailable);
    assert!(
        error
            .message
            .starts_with(&format!("Error connecting to Config Database at {url}: ")),
        "{error}"
    );
    assert!(
        error.message.contains("refused") && error.message.contains("ClientOptions::url"),
        "{error}"
    );
}

#[tokio::test]
async fn silent_and_dripping_servers_end_in_time() {
    let silent = raw(b"", false).await;
    let dripping = raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{",
        false,
    )
    .await;
    for url in [silent, dripping] {
        let began = Instant::now();
        let options = ClientOptions {
            timeout: Duration::from_millis(300),
            ..options(&url)
        };
        let error = snapshot_error(options).await;
        assert_eq!(error.kind, ConfigErrorKind::Unavailable);
        assert!(error.message.contains("no answer in time"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn truncated_answers_are_no_answers() {
    let url = raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"groups\": [", true).await;
    let error = snapshot_error(options(&url)).await;
    assert_eq!(error.kind, ConfigErrorKind::Unavailable);
    assert!(
        error
            .message
            .starts_with("Error connecting to Config Database"),
        "{error}"
    );
}

#[tokio::test]
async fn a_500_is_tried_again_and_reported_when_it_stays() {
    let left = Arc::new(AtomicUsize::new(1));
    let (url, calls) = start(move |_| {
        if left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            return answer(500, &json!({}));
        }
        answer(200, &json!({"epoch": "e", "as_of_id": 1, "groups": []}))
    })
    .await;
    whole(&client(&url)).await.unwrap();
    assert_eq!(calls.lock().unwrap().len(), 2);

    let (url, calls) = start(|_| answer(503, &json!({}))).await;
    let error = snapshot_error(options(&url)).await;
    assert!(
        error
            .message
            .contains("it answered 503 Service Unavailable"),
        "{error}"
    );
    assert_eq!(
        (error.kind, calls.lock().unwrap().len()),
        (ConfigErrorKind::Unavailable, 2)
    );
}

#[tokio::test]
async fn a_429_is_not_tried_before_its_time_and_not_for_ever() {
    let asked = [
        ("0", 0),
        ("2", 2),
        ("Tue, 24 Nov 2026 08:00:02 GMT", 2),
        ("soon", 0),
        ("-1", 0),
    ];
    let tried = asked.map(|(retry_after, seconds)| async move {
        let (url, calls) = start(move |_| {
            let mut response = answer(429, &json!({}));
            let headers = response.headers_mut();
            headers.insert("retry-after", retry_after.parse().unwrap());
            let now = "Tue, 24 Nov 2026 08:00:00 GMT".parse().unwrap();
            headers.insert("date", now);
            response
        })
        .await;
        let began = Instant::now();
        let error = snapshot_error(options(&url)).await;
        assert_eq!(error.kind, ConfigErrorKind::Unavailable, "{retry_after}");
        let calls = calls.lock().unwrap().len();
        assert_eq!(calls, 2, "Retry-After: {retry_after}");
        assert!(
            began.elapsed() >= Duration::from_secs(seconds),
            "Retry-After: {retry_after}"
        );
    });
    futures::future::join_all(tried).await;
}

#[tokio::test]
async fn another_server_is_reported_as_not_a_config_database() {
    for (status, content_type, body) in [
        (200, "application/json", "{\"groups\": [}"),
        (200, "application/json", "[]"),
        (200, "application/json", "{}"),
        (200, "text/html", "<html>Welcome</html>"),
        (404, "text/html", "<html>Not here</html>"),
        (302, "text/html", ""),
    ] {
        let (url, calls) = start(move |_| {
            Response::builder()
                .status(status)
                .header("content-type", content_type)
                .header("location", "/elsewhere")
                .body(Body::from(body))
                .unwrap()
        })
        .await;
        let error = snapshot_error(options(&url)).await;
        assert_eq!(
            error.kind,
            ConfigErrorKind::Malformed,
            "{status} {body}: {error}"
        );
        assert!(error.message.contains("ClientOptions::url"), "{error}");
        assert_eq!(
            calls.lock().unwrap().len(),
            1,
            "trying again, or elsewhere, would not help"
        );

        // A tenant is not taken to be without a preference because a wrong server says so.
        let error = client(&url)
            .preferences(&feature(), &[tenant("a")])
            .await
            .unwrap_err();
        assert_eq!(error.kind, ConfigErrorKind::Malformed);
    }
}

#[tokio::test]
async fn a_huge_answer_is_dropped_also_when_it_travels_small() {
    let (url, _) =
        start(|_| answer(200, &json!({"groups": [], "padding": "x".repeat(100_000)}))).await;
    let limited = |url: &str| ClientOptions {
        max_answer_bytes: 50_000,
        ..options(url)
    };
    let error = snapshot_error(limited(&url)).await;
    assert!(error.message.contains("more than 50000 bytes"), "{error}");

    // 1 MiB of zeros in a thousandth of it.
    let bomb: &[u8] = &gzip_of_zeros(1024 * 1024);
    assert!(bomb.len() < 5_000);
    let bomb = bomb.to_vec();
    let (url, _) = start(move |_| {
        Response::builder()
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .body(Body::from(bomb.clone()))
            .unwrap()
    })
    .await;
    let error = snapshot_error(limited(&url)).await;
    assert!(error.message.contains("more than 50000 bytes"), "{error}");
}

fn gzip_of_zeros(bytes: usize) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b'0'; bytes]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_refused_key_is_named_as_the_cause_and_shown_nowhere() {
    let (url, calls) = start(|request| {
        let sent = request
            .headers()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(sent.as_deref(), Some("Bearer canary-4711"));
        answer(401, &json!({}))
    })
    .await;
    let with_key = ClientOptions {
        api_key: Some("canary-4711".into()),
        ..options(&url)
    };
    let error = snapshot_error(with_key.clone()).await;
    assert_eq!(
        (error.kind, calls.lock().unwrap().len()),
        (ConfigErrorKind::Unauthorized, 1)
    );
    assert!(
        error.message.contains("refused the key")
            && error.message.contains("ClientOptions::api_key")
    );
    let shown = format!(
        "{error} {error:?} {with_key:?} {:?}",
        ConfigDatabaseClient::new(with_key.clone()).unwrap()
    );
    assert!(!shown.contains("canary"), "{shown}");

    let in_url = url.replace("http://", "http://user:canary@");
    let error = snapshot_error(options(&in_url)).await;
    assert!(!format!("{error:?}").contains("canary"), "{error}");
}

#[tokio::test]
async fn what_was_known_stays_while_the_server_is_down_and_a_410_asks_for_a_new_snapshot() {
    let up = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&up);
    let (url, _) = start(move |request| {
        if switch.load(Ordering::SeqCst) == 0 {
            return answer(500, &json!({}));
        }
        if request.uri().path().ends_with("changes") {
            return answer(410, &json!({}));
        }
        answer(
            200,
            &json!({"epoch": "e", "as_of_id": 7, "groups": [
                {"frequency": "daily", "tenants": [{"tenant_id": "a"}]}
            ]}),
        )
    })
    .await;
    let client = ConfigDatabaseClient::new(ClientOptions {
        cache_ttl: Duration::from_millis(1),
        ..options(&url)
    })
    .unwrap();
    let snapshot = whole(&client).await.unwrap();
    assert_eq!(
        snapshot.cursor,
        Cursor {
            since_id: 7,
            epoch: Some("e".into())
        }
    );
    let lost = client
        .changes(&feature(), &snapshot.cursor, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(lost.kind, ConfigErrorKind::CursorLost);

    up.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let known = client
        .preferences(&feature(), &[tenant("a")])
        .await
        .unwrap();
    assert_eq!(known[&tenant("a")].preference["frequency"], "daily");
    let unknown = client
        .preferences(&feature(), &[tenant("never_seen")])
        .await
        .unwrap_err();
    assert_eq!(
        unknown.kind,
        ConfigErrorKind::Unavailable,
        "not known is not the same as none"
    );
}

#[tokio::test]
async fn another_epoch_means_another_database() {
    let (url, _) =
        start(|_| answer(200, &json!({"epoch": "new", "changes": [], "last_id": 3}))).await;
    let cursor = Cursor {
        since_id: 3,
        epoch: Some("old".into()),
    };
    let error = client(&url)
        .changes(&feature(), &cursor, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ConfigErrorKind::CursorLost);
}

#[tokio::test]
async fn urls_that_are_none_are_refused_at_once() {
    for url in ["", "localhost:8000", "ftp://x", "not a url"] {
        let error = ConfigDatabaseClient::new(ClientOptions::new(url)).unwrap_err();
        assert!(error.message.contains("ClientOptions::url"), "{error}");
    }
}

#[tokio::test]
async fn a_dead_server_sees_little_more_than_the_calls_that_were_meant_for_it() {
    const CALLS: usize = 300;
    let (url, calls) = start(|_| answer(503, &json!({}))).await;
    let patient = ClientOptions {
        attempts: 10,
        ..options(&url)
    };
    let client = Arc::new(ConfigDatabaseClient::new(patient).unwrap());
    let call = || {
        let client = Arc::clone(&client);
        async move { whole(&client).await.unwrap_err() }
    };
    futures::future::join_all((0..CALLS).map(|_| call())).await;
    let seen = calls.lock().unwrap().len();
    // A tenth of the calls, and the ten retries that ten seconds allow anyone, twice as the calls may last.
    assert!(
        (CALLS..=CALLS + CALLS / 10 + 20).contains(&seen),
        "{seen} calls were seen for {CALLS}"
    );
}

/// A server whose answers to `groups` and `changes` are these texts.
async fn texts(groups: &'static str, changes: &'static str) -> (String, crate::server::Calls) {
    start(move |request| {
        let path = request.uri().path();
        let text = match path.rsplit('/').next() {
            Some("groups") => groups,
            Some("changes") => changes,
            _ => return answer(404, &json!({})),
        };
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from(text))
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn an_entry_of_the_groups_that_does_not_fit_is_named_and_spoils_no_other() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let large = "x".repeat(70_000);
    let groups = format!(
        r#"{{"epoch": "e", "as_of_id": 7, "groups": [
            {{"frequency": "daily", "tenants": [
                {{"tenant_id": "good1", "x": "\u00fc", "updated_at": null}}, "good2", 17, null, {{"tenant_id": 4711}},
                {{"tenant_id": "date", "updated_at": "2026-01-01 00:00:00"}},
                {{"tenant_id": "since", "schedule_since": "soon"}},
                {{"tenant_id": "deep", "x": {deep}}}, {{"tenant_id": "large", "x": "{large}"}},
                {{"tenant_id": "twice", "tenant_id": "victim"}}, {{"tenant_id": "twice", "x": 1, "x": 2}},
                {{"tenant_id": "nan", "x": NaN}}, {{"tenant_id": "control", "x": "{control}"}},
                {{"tenant_id": ".."}}, {{}}, , {{"tenant_id": "huge", "x": 1e999}}
            ]}},
            {{"frequency": "daily", "tenants": null}}, 7, {{"frequency": "daily"}},
            {{"frequency": {deep}, "tenants": ["shared"]}},
            {{"frequency": "weekly", "preferred_day": "monday", "tenants": [{{"tenant_id": "good3"}}], "count": 1}}
        ]}}"#,
        control = '\u{1}',
    );
    let (url, _) = texts(groups.leak(), "{}").await;
    let client = client(&url);
    let snapshot = whole(&client).await.unwrap();
    let read: Vec<&str> = snapshot
        .records
        .iter()
        .map(|record| record.tenant_id.as_str())
        .collect();
    assert_eq!(read, ["good1", "good2", "good3"]);
    let unreadable = client.unreadable(&feature());
    let named: Vec<&str> = unreadable
        .tenants
        .keys()
        .map(punctual_domain::TenantId::as_str)
        .collect();
    assert_eq!(
        named,
        [
            "control", "date", "deep", "huge", "large", "nan", "shared", "since", "twice"
        ]
    );
    let reason = |id: &str| unreadable.tenants[&tenant(id)].to_string();
    assert!(
        reason("date")
            .contains(r#"/groups/0/tenants/5/updated_at: "2026-01-01 00:00:00" cannot be read"#),
        "{}",
        reason("date")
    );
    assert!(
        reason("deep").contains("nests more than"),
        "{}",
        reason("deep")
    );
    assert!(
        reason("large").contains("is too large"),
        "{}",
        reason("large")
    );
    let others: Vec<&str> = unreadable
        .others
        .iter()
        .map(|error| error.pointer.as_str())
        .collect();
    assert_eq!(
        others,
        [
            "/groups/0/tenants/2",
            "/groups/0/tenants/3",
            "/groups/0/tenants/4/tenant_id",
            "/groups/0/tenants/9",
            "/groups/0/tenants/13/tenant_id",
            "/groups/0/tenants/14/tenant_id",
            "/groups/0/tenants/15",
            "/groups/1/tenants",
            "/groups/2",
            "/groups/3/tenants",
        ]
    );
    assert_eq!(unreadable.others[0].value.as_deref(), Some("17"));
    assert!(
        unreadable.others[3]
            .to_string()
            .contains("\"tenant_id\" twice")
    );
}

#[tokio::test]
async fn an_entry_of_the_changes_that_does_not_fit_is_named_and_stops_no_other() {
    let changes = r#"{"last_id": 30, "changes": [
        {"id": 11, "tenant_id": "date", "changed_at": "yesterday", "preference": {"enabled": true}},
        {"id": 12, "tenant_id": "text", "preference": "daily"},
        {"id": "13", "tenant_id": "number", "preference": {}},
        {"id": 14, "tenant_id": 14, "preference": {}}, {"id": 15}, null,
        {"id": 16, "tenant_id": "mended", "preference": []},
        {"id": 17, "tenant_id": "mended", "preference": {"enabled": true}},
        {"id": 18, "tenant_id": "spoilt", "preference": {"enabled": true}},
        {"id": 19, "tenant_id": "spoilt", "preference": {"enabled": true, "enabled": false}},
        {"id": 23, "tenant_id": "double", "preference": {"a": 1}, "preference": {}}, {"id": 24, "tenant_id": "cut", 5},
        {"id": 20, "tenant_id": "x", "feature_type": "another", "preference": 5},
        {"id": 21, "tenant_id": "gone", "change": "deleted", "preference": null},
        {"id": 22, "tenant_id": "good", "preference": {"enabled": true, "x": {"y": []}}}
    ]}"#;
    let (url, _) = texts("{}", changes).await;
    let client = client(&url);
    let cursor = Cursor {
        since_id: 10,
        epoch: None,
    };
    let page = client
        .changes(&feature(), &cursor, Duration::ZERO)
        .await
        .unwrap();
    let seen: Vec<String> = page
        .changes
        .iter()
        .map(|change| {
            let on = matches!(change.kind, punctual_domain::ChangeKind::Upserted(_));
            format!("{} {on}", change.tenant_id)
        })
        .collect();
    assert_eq!(
        seen,
        [
            "date false",
            "text false",
            "number false",
            "mended false",
            "mended true",
            "spoilt true",
            "spoilt false",
            "double false",
            "cut false",
            "gone false",
            "good true"
        ],
        "what cannot be read leaves no stale preference"
    );
    assert_eq!(page.cursor.since_id, 30);
    let unreadable = client.unreadable(&feature());
    let named: Vec<&str> = unreadable
        .tenants
        .keys()
        .map(punctual_domain::TenantId::as_str)
        .collect();
    assert_eq!(named, ["cut", "date", "double", "number", "spoilt", "text"]);
    assert_eq!(unreadable.others.len(), 3);
    let reason = unreadable.tenants[&tenant("date")].to_string();
    assert!(
        reason.contains("\"yesterday\" cannot be read") && reason.contains("(change 11)"),
        "{reason}"
    );
    // A full read that fails releases none.
    whole(&client).await.unwrap_err();
    assert_eq!(client.unreadable(&feature()).count(), 9);
}

#[tokio::test]
async fn a_tenant_that_cannot_be_fetched_is_retried_aside() {
    let works = Arc::new(AtomicUsize::new(0));
    let switch = Arc::clone(&works);
    let (url, _) = start(move |request| {
        let query = request.uri().query().unwrap_or_default();
        match request.uri().path().rsplit('/').nth(2) {
            Some("bad") if switch.load(Ordering::SeqCst) == 0 => answer(500, &json!({})),
            Some("odd") => answer(200, &json!({"config_value": {"instagram_posts": "daily"}})),
            Some("bad") => answer(
                200,
                &json!({"config_value": {"instagram_posts": {"enabled": false}}}),
            ),
            _ if query.contains("since_id=0") => answer(
                200,
                &json!({"changes": [
                    {"id": 1, "tenant_id": "bad", "changed_at": "2026-03-01T09:00:00Z"},
                    {"id": 2, "tenant_id": "odd"},
                    {"id": 3, "tenant_id": "good", "preference": {"enabled": true}}
                ]}),
            ),
            _ => answer(200, &json!({"changes": []})),
        }
    })
    .await;
    let client = client(&url);
    let page = client
        .changes(&feature(), &Cursor::default(), Duration::ZERO)
        .await
        .unwrap();
    let ids: Vec<&str> = page
        .changes
        .iter()
        .map(|change| change.tenant_id.as_str())
        .collect();
    assert_eq!(
        (ids.as_slice(), page.cursor.since_id),
        (["odd", "good"].as_slice(), 3)
    );
    let shown = client.unreadable(&feature());
    assert!(
        shown.tenants[&tenant("bad")]
            .to_string()
            .contains("cannot be fetched"),
        "{shown:?}"
    );
    assert!(shown.tenants.contains_key(&tenant("odd")));

    works.store(1, Ordering::SeqCst);
    let began = Instant::now();
    let fetched = loop {
        let page = client
            .changes(&feature(), &page.cursor, Duration::ZERO)
            .await
            .unwrap();
        if let Some(change) = page.changes.into_iter().next() {
            break change;
        }
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(fetched.tenant_id, tenant("bad"));
    assert_eq!(
        fetched.changed_at,
        Some("2026-03-01T09:00:00Z".parse().unwrap())
    );
    assert!(
        !client
            .unreadable(&feature())
            .tenants
            .contains_key(&tenant("bad"))
    );
}

#[tokio::test]
async fn groups_without_end_are_given_up() {
    type Page = fn(usize) -> serde_json::Value;
    let pages: [(&str, Page); 4] = [
        (
            "a cursor comes twice",
            |n| json!({"next_cursor": "same", "groups": [{"tenants": [format!("t{n}")]}]}),
        ),
        (
            "a page comes twice",
            |n| json!({"next_cursor": format!("{n}"), "groups": [{"tenants": ["a"]}]}),
        ),
        (
            "101 pages in a row bring nothing",
            |n| json!({"next_cursor": format!("{n}"), "groups": []}),
        ),
        (
            "a cursor has",
            |_| json!({"next_cursor": "x".repeat(10_000), "groups": []}),
        ),
    ];
    for (why, page) in pages {
        let count = AtomicUsize::new(0);
        let count = Arc::new(count);
        let served = Arc::clone(&count);
        let (url, _) =
            start(move |_| answer(200, &page(served.fetch_add(1, Ordering::SeqCst)))).await;
        let error = snapshot_error(options(&url)).await;
        assert_eq!(error.kind, ConfigErrorKind::Malformed);
        assert!(
            error.message.contains("without end") && error.message.contains(why),
            "{error}"
        );
        // A server that does not say where its snapshot stands is asked for the first page, then for the end of its feed,
        // and then for all pages.
        assert!(count.load(Ordering::SeqCst) <= 103);
    }
    // Some empty pages on the way are none of that.
    let count = Arc::new(AtomicUsize::new(0));
    let (url, _) = start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let tenants = if n.is_multiple_of(50) { json!([format!("t{n}")]) } else { json!([]) };
        let next = (n < 200).then(|| n.to_string());
        answer(200, &json!({"epoch": "e", "as_of_id": 1, "next_cursor": next, "groups": [{"tenants": tenants}]}))
    })
    .await;
    assert_eq!(whole(&client(&url)).await.unwrap().records.len(), 5);
}

#[tokio::test]
async fn pages_are_given_as_they_come_and_an_error_ends_them() {
    let (url, calls) = start(|request| {
        let query = request.uri().query().unwrap_or_default();
        let place = query.split("cursor=").nth(1).unwrap_or("0");
        let n: usize = place.parse().unwrap();
        match n {
            3 => answer(404, &json!({})),
            _ => answer(
                200,
                &json!({"epoch": "e", "as_of_id": n + 1, "next_cursor": (n + 1).to_string(),
                "groups": [{"tenants": [format!("t{n}")]}]}),
            ),
        }
    })
    .await;
    let mut snapshot = client(&url).snapshot(&feature()).await.unwrap();
    assert_eq!(snapshot.cursor.since_id, 1, "that of the first page");
    for n in 0..3 {
        let page = snapshot.next().await.unwrap().unwrap();
        assert_eq!(page[0].tenant_id.as_str(), format!("t{n}"));
        assert_eq!(
            calls.lock().unwrap().len(),
            n + 1,
            "no page is asked for ahead"
        );
    }
    snapshot.next().await.unwrap_err();
    assert_eq!(snapshot.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_feed_that_goes_backwards_or_repeats_itself_is_not_followed() {
    let cursor = Cursor {
        since_id: 16,
        epoch: None,
    };
    let change =
        |id: u64| json!({"id": id, "tenant_id": format!("t{id}"), "preference": {"enabled": true}});
    let read = async |page: serde_json::Value| {
        let (url, _) = start(move |_| answer(200, &page)).await;
        client(&url)
            .changes(&feature(), &cursor, Duration::ZERO)
            .await
    };
    for lost in [
        json!({"changes": [], "last_id": 3}),
        json!({"changes": [change(3)], "last_id": 3}),
        json!({"changes": [change(3), change(5)]}),
        json!({"changes": [change(3)], "last_id": 15, "has_more": true}),
    ] {
        assert_eq!(
            read(lost).await.unwrap_err().kind,
            ConfigErrorKind::CursorLost
        );
    }
    let page = read(json!({"changes": [change(3), change(16), change(17)]}))
        .await
        .unwrap();
    let ids: Vec<&str> = page
        .changes
        .iter()
        .map(|change| change.tenant_id.as_str())
        .collect();
    assert_eq!(
        (ids.as_slice(), page.cursor.since_id),
        (["t17"].as_slice(), 17)
    );
    for nothing_new in [
        json!({"changes": [], "last_id": 16, "has_more": true}),
        json!({"changes": [], "last_id": 20, "has_more": true}),
        json!({"changes": [change(16)], "has_more": true}),
        json!({"changes": [change(2)], "last_id": 16, "has_more": true}),
    ] {
        let page = read(nothing_new).await.unwrap();
        assert!(page.changes.is_empty() && !page.has_more, "{page:?}");
    }
}
