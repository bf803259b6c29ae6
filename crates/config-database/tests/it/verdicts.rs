//! What may be stored: one verdict on both databases and on every way in, about one record and no other.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Kind, Running, on_both_databases, start};

on_both_databases! {
    bytes_that_some_reader_would_lose_are_refused_and_others_are_kept
    a_wrong_line_is_rejected_for_itself_alone
    a_preference_is_limited_as_a_whole
    a_tenants_own_fields_are_under_a_key_of_their_own
    pages_are_bounded_by_bytes
    what_one_tenant_writes_does_not_stay_for_ever
    many_mistakes_are_counted_and_the_first_are_listed
    what_an_earlier_version_took_does_not_harm_others
}

const PATH: &str = "tenants/a/configs/feature_preferences";

/// A body that stores `field`, as raw bytes, in a's preference for f.
fn body(field: &[u8]) -> Vec<u8> {
    [
        br#"{"config_value": {"f": {"enabled": true, "frequency": "daily", "#,
        field,
        b"}}}",
    ]
    .concat()
}

async fn put(server: &Running, path: &str, body: Vec<u8>) -> (u16, Value) {
    let request = server
        .http
        .put(format!("{}/api/v1/{path}", server.url))
        .body(body);
    let response = request.send().await.unwrap();
    (
        response.status().as_u16(),
        response.json().await.unwrap_or_default(),
    )
}

/// Tenant b stores a preference, and it is seen in the groups and in the feed.
async fn others_go_on(server: &Running) {
    let time = format!("{:02}:{:02}", fastrand::u8(..24), fastrand::u8(..60));
    let preference = json!({"enabled": true, "frequency": "daily", "preferred_time": time});
    server.put("b", json!({"f": preference})).await;
    let groups = server
        .get("preferences/groups?feature_type=f&limit=1000")
        .await;
    let of_b = groups["groups"].as_array().unwrap().iter().find(|group| {
        let mut tenants = group["tenants"].as_array().unwrap().iter();
        tenants.any(|tenant| tenant["tenant_id"] == "b")
    });
    assert_eq!(of_b.unwrap()["preferred_time"], time);
    let mut since = 0;
    loop {
        let page = server
            .get(&format!("preferences/changes?since_id={since}"))
            .await;
        let last = page["changes"].as_array().unwrap().last();
        if page["has_more"] == false {
            assert_eq!(last.unwrap()["preference"], preference);
            return;
        }
        since = page["last_id"].as_i64().unwrap();
    }
}

const BYTES: [(&[u8], u16); 24] = [
    (br#""x": "a\u0000b""#, 422),
    (br#""template_overrides": {"note": "a\u0000b"}"#, 422),
    (br#""template_overrides": {"a\u0000b": 1}"#, 422),
    (br#""x": [{"deep": ["\u0000"]}]"#, 422),
    (br#""a\u0000b": 1"#, 422),
    (br#""x": "\u0001\u001f\u007f\ufeff\uffff\ud83d\ude00""#, 200),
    (b"\"x\": \"\x01\"", 400),
    (b"\"x\": \"\xe9\"", 400),
    (b"\"\xff\": 1", 400),
    (br#""x": "\ud800""#, 400),
    (br#""x": "\udc00\ud800""#, 400),
    (br#""x": 1, "x": 2"#, 400),
    (br#""enabled": false"#, 400),
    (br#""x": {"y": [{"z": 1, "z": 1}]}"#, 400),
    (br#""x": {"\u0061": 1, "a": 1}"#, 400),
    (br#""x": 9007199254740991"#, 200),
    (br#""x": 9007199254740992"#, 422),
    (br#""x": -9007199254740993"#, 422),
    (br#""x": {"y": [18446744073709551616]}"#, 422),
    (br#""template_overrides": {"n": 18446744073709551617}"#, 422),
    (br#""x": 1e400"#, 400),
    (br#""x": NaN"#, 400),
    (br#""x": 0.1, "y": -0.0, "z": 1e-300"#, 200),
    ("\"x\": \"日本 \u{2028} \u{e000}\"".as_bytes(), 200),
];

async fn bytes_that_some_reader_would_lose_are_refused_and_others_are_kept(kind: Kind) {
    let server = start(kind).await;
    let mut lines = Vec::new();
    for (field, status) in BYTES {
        let shown = String::from_utf8_lossy(field);
        let (answered, problem) = put(&server, PATH, body(field)).await;
        assert_eq!(answered, status, "{shown}: {problem}");
        if status == 200 {
            let sent: Value = serde_json::from_slice(&body(field)).unwrap();
            assert_eq!(
                server.get(PATH).await["config_value"],
                sent["config_value"],
                "{shown}"
            );
        }
        let line = [br#"{"tenant_id": "a", "#, &body(field)[1..]].concat();
        lines.push((line, status == 200));
    }
    let (_, problem) = put(
        &server,
        PATH,
        body(br#""template_overrides": {"note": "a\u0000b"}"#),
    )
    .await;
    assert_eq!(
        problem["errors"][0]["pointer"],
        "/config_value/f/template_overrides/note"
    );
    let (_, problem) = put(&server, PATH, body(br#""x": [{"colour": 1, "colour": 2}]"#)).await;
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("\"colour\" is given twice")
    );

    // The same by import, over HTTP and from a file.
    let import: Vec<u8> = lines
        .iter()
        .map(|(line, _)| line.as_slice())
        .collect::<Vec<_>>()
        .join(&b'\n');
    let report = server
        .http
        .post(format!("{}/api/v1/preferences/import", server.url));
    let report: Value = report
        .body(import.clone())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let expected: Vec<usize> = (1..)
        .zip(&lines)
        .filter(|(_, (_, good))| !good)
        .map(|(n, _)| n)
        .collect();
    let rejected: Vec<usize> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["line"].as_u64().unwrap() as usize)
        .collect();
    assert_eq!(rejected, expected, "{report}");
    let file = server.place.folder.path().join("import.ndjson");
    tokio::fs::write(&file, import).await.unwrap();
    let of_file = server.store.import_file(&file).await.unwrap();
    assert_eq!(json!(of_file.errors), report["errors"]);
    assert_eq!(of_file.imported, lines.len() - expected.len());

    for (path, status) in [
        ("tenants/./configs/feature_preferences", 404),
        ("tenants/%2e/configs/feature_preferences", 404),
        ("tenants/a/configs/%2e%2e%2f", 400),
        ("tenants/a%00/configs/feature_preferences", 400),
        ("tenants/a/configs/a%2fb", 400),
    ] {
        let (answered, _) = put(&server, path, body(br#""x": 1"#)).await;
        assert!([status, 400].contains(&answered), "{path}: {answered}");
    }
    for id in [".", ".."] {
        let config = json!({"config_value": {id: {"enabled": true, "frequency": "daily"}}});
        assert_eq!(put(&server, PATH, config.to_string().into()).await.0, 422);
    }
    let with_mark = [&b"\xef\xbb\xbf"[..], &body(br#""x": 1"#)].concat();
    assert_eq!(
        put(&server, PATH, with_mark).await.0,
        200,
        "a byte order mark is skipped"
    );
    others_go_on(&server).await;
}

async fn a_wrong_line_is_rejected_for_itself_alone(kind: Kind) {
    let server = start(kind).await;
    let good = |tenant: &str| {
        let value = json!({"f": {"enabled": true, "frequency": "daily"}});
        json!({"tenant_id": tenant, "config_value": value})
            .to_string()
            .into_bytes()
    };
    let of_key = |key: &str| {
        json!({"tenant_id": "k", "config_key": key, "config_value": {}})
            .to_string()
            .into_bytes()
    };
    let mark = [&b"\xef\xbb\xbf"[..], &good("first")].concat();
    let long = json!({"tenant_id": "l", "config_value": {"f": {"x": "y".repeat(3_000_000)}}});
    let lines: Vec<(Vec<u8>, bool)> = vec![
        (mark, true),
        (good("a"), true),
        (b"{\"tenant_id\": \"K\xf6ln\", \"config_value\": {}}".to_vec(), false),
        (vec![0xff; 5_000], false),
        (long.to_string().into_bytes(), false),
        (vec![0; 100], false),
        (b"[".repeat(200_000), false),
        (good("."), false),
        (good(".."), false),
        (of_key("../../x"), false),
        (of_key(""), false),
        (of_key(&"k".repeat(5_000)), false),
        (of_key("theme"), true),
        (br#"{"tenant_id": "a", "tenant_id": "b", "config_value": {}}"#.to_vec(), false),
        (br#"{"tenant_id": 7, "config_value": {}}"#.to_vec(), false),
        (br#"{"tenant_id": "u", "updated_at": "yesterday", "config_value": {}}"#.to_vec(), false),
        (br#"{"tenant_id": "u", "updated_at": "-262143-01-01T00:00:00Z", "config_value": {"f": {}}}"#.to_vec(), true),
        ([good("crlf"), b"\r".to_vec()].concat(), true),
        (good("last"), true),
    ];
    let import: Vec<u8> = lines
        .iter()
        .map(|(line, _)| line.as_slice())
        .collect::<Vec<_>>()
        .join(&b'\n');
    let request = server
        .http
        .post(format!("{}/api/v1/preferences/import", server.url));
    let answer = request.body(import.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let report: Value = answer.json().await.unwrap();
    let expected: Vec<u64> = (1..)
        .zip(&lines)
        .filter(|(_, (_, good))| !good)
        .map(|(n, _)| n)
        .collect();
    let rejected: Vec<u64> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["line"].as_u64().unwrap())
        .collect();
    assert_eq!(rejected, expected, "{report}");
    assert_eq!(report["imported"], lines.len() - expected.len());
    assert!(report.to_string().len() < 20_000);
    let early = server.get("tenants/u/configs/feature_preferences").await;
    assert_eq!(early["updated_at"], "1970-01-01T00:00:00Z");

    let file = server.place.folder.path().join("import.ndjson");
    tokio::fs::write(&file, import).await.unwrap();
    let of_file = server.store.import_file(&file).await.unwrap();
    assert_eq!(
        json!(of_file.errors),
        report["errors"],
        "a file is read in the same way"
    );
    others_go_on(&server).await;
}

async fn a_preference_is_limited_as_a_whole(kind: Kind) {
    let server = start(kind).await;
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let config = |preference: Value| {
        let mut preference = preference;
        preference["enabled"] = json!(true);
        preference["frequency"] = json!("daily");
        json!({"config_value": {"f": preference}})
            .to_string()
            .into_bytes()
    };
    for (preference, status) in [
        (json!({"x": deep(16)}), 200),
        (json!({"x": deep(17)}), 422),
        (json!({"x": deep(100)}), 422),
        (json!({"x": "y".repeat(32_000)}), 200),
        (json!({"x": "y".repeat(33_000)}), 422),
        (json!({"x".repeat(33_000): 1}), 422),
        (json!({"preferred_time": " ".repeat(30_000) + "09:00"}), 422),
        (json!({"x": vec![0; 20_000]}), 422),
    ] {
        let (answered, problem) = put(&server, PATH, config(preference)).await;
        assert_eq!(answered, status, "{problem}");
        assert!(problem.to_string().len() < 40_000);
    }
    let features = |count: usize| {
        let one = |n| {
            (
                format!("f{n}"),
                json!({"enabled": true, "frequency": "daily"}),
            )
        };
        let features: serde_json::Map<_, _> = (0..count).map(one).collect();
        json!({"config_value": features}).to_string().into_bytes()
    };
    assert_eq!(put(&server, PATH, features(100)).await.0, 200);
    assert_eq!(put(&server, PATH, features(101)).await.0, 422);
    // Nor does a patch bring more in than a put.
    let more = json!({"config_value": {"one_more": {"enabled": true, "frequency": "daily"}}});
    assert_eq!(
        server
            .call(Method::PATCH, PATH, &more.to_string())
            .await
            .status(),
        422
    );

    let other = |value: Value| {
        put(
            &server,
            "tenants/a/configs/other",
            json!({"config_value": value}).to_string().into(),
        )
    };
    assert_eq!(other(json!({"x": deep(10)})).await.0, 200);
    assert_eq!(other(json!({"x": deep(17)})).await.0, 422);
    assert_eq!(other(json!({"x": "y".repeat(33_000)})).await.0, 422);
    assert_eq!(other(json!({"x": "\0"})).await.0, 422);
    assert_eq!(other(json!({"x": 1e300})).await.0, 422);
    assert_eq!(other(json!([])).await.0, 422);
    for n in 0..98 {
        let path = format!("tenants/a/configs/k{n}");
        assert_eq!(
            put(&server, &path, b"{\"config_value\": {}}".to_vec())
                .await
                .0,
            200
        );
    }
    let (status, problem) = put(
        &server,
        "tenants/a/configs/k98",
        b"{\"config_value\": {}}".to_vec(),
    )
    .await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (422, &json!("/config_key"))
    );
    assert_eq!(
        put(&server, PATH, features(1)).await.0,
        200,
        "those there are go on"
    );
    others_go_on(&server).await;
}

async fn a_tenants_own_fields_are_under_a_key_of_their_own(kind: Kind) {
    let server = start(kind).await;
    let own = json!({"tenant_id": "victim", "updated_at": "garbage", "schedule_since": 7, "count": 99, "tenants": ["x"],
        "own_fields": {"enabled": false}, "config": {}, "groups": [], "next_cursor": "x", "feature_type": "g"});
    let mut preference = json!({"enabled": true, "frequency": "daily", "template_overrides": {"tenant_id": "victim"}});
    for (name, value) in own.as_object().unwrap() {
        preference[name] = value.clone();
    }
    server.put("evil", json!({"f": preference})).await;
    server
        .put(
            "plain",
            json!({"f": {"enabled": true, "frequency": "daily"}}),
        )
        .await;
    let text = server
        .call(Method::GET, "preferences/groups?feature_type=f", "")
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(
        text.matches("\"tenants\":[{\"tenant_id\":\"evil\"").count(),
        1,
        "{text}"
    );
    let groups: Value = serde_json::from_str(&text).unwrap();
    let group = &groups["groups"][0];
    assert_eq!(group["count"], 2);
    let (evil, plain) = (&group["tenants"][0], &group["tenants"][1]);
    assert_eq!(
        (&evil["tenant_id"], &evil["own_fields"]),
        (&json!("evil"), &own)
    );
    assert_eq!(evil["template_overrides"], json!({"tenant_id": "victim"}));
    let names: Vec<&String> = evil.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "own_fields",
            "schedule_since",
            "template_overrides",
            "tenant_id",
            "updated_at"
        ]
    );
    let names: Vec<&String> = plain.as_object().unwrap().keys().collect();
    assert_eq!(names, ["schedule_since", "tenant_id", "updated_at"]);
    others_go_on(&server).await;
}

fn large(n: usize) -> Value {
    json!({"f": {"enabled": true, "frequency": "daily", "note": format!("{n:06}{}", "x".repeat(32_000))}})
}

async fn pages_are_bounded_by_bytes(kind: Kind) {
    const TENANTS: usize = 300;
    const MOST: usize = 5 * 1024 * 1024;
    let server = start(kind).await;
    let line = |n: usize| {
        json!({"tenant_id": format!("t{n:03}"), "config_value": large(n)}).to_string() + "\n"
    };
    let import: String = (0..TENANTS).map(line).collect();
    assert_eq!(
        server
            .call(Method::POST, "preferences/import", &import)
            .await
            .status(),
        200
    );
    let (mut tenants, mut pages, mut cursor) = (0, 0, String::new());
    loop {
        let path = format!("preferences/groups?feature_type=f&limit=10000{cursor}");
        let text = server
            .call(Method::GET, &path, "")
            .await
            .text()
            .await
            .unwrap();
        assert!(text.len() < MOST);
        let page: Value = serde_json::from_str(&text).unwrap();
        tenants += page["groups"][0]["tenants"].as_array().unwrap().len();
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(tenants, TENANTS);
    assert!(pages > 2);
    let whole = server.get("preferences/groups?feature_type=f").await;
    assert_eq!(whole["groups"][0]["count"], TENANTS, "without a limit, all");

    let (mut seen, mut since) = (0, 0);
    loop {
        let path = format!("preferences/changes?since_id={since}&limit=10000");
        let text = server
            .call(Method::GET, &path, "")
            .await
            .text()
            .await
            .unwrap();
        assert!(text.len() < MOST);
        let page: Value = serde_json::from_str(&text).unwrap();
        seen += page["changes"].as_array().unwrap().len();
        since = page["last_id"].as_u64().unwrap();
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!((seen, since), (TENANTS, TENANTS as u64));
}

async fn what_one_tenant_writes_does_not_stay_for_ever(kind: Kind) {
    const WRITES: usize = 400;
    let server = start(kind).await;
    server
        .put("b", json!({"f": {"enabled": true, "frequency": "daily"}}))
        .await;
    for n in 0..WRITES {
        server.put("a", large(n)).await;
    }
    let mut versions = 0;
    let mut before = String::new();
    loop {
        let path = format!("{PATH}/history?limit=1000{before}");
        let text = server
            .call(Method::GET, &path, "")
            .await
            .text()
            .await
            .unwrap();
        assert!(text.len() < 5 * 1024 * 1024);
        let page: Value = serde_json::from_str(&text).unwrap();
        if versions == 0 {
            assert_eq!(page["versions"][0]["version"], WRITES);
        }
        versions += page["versions"].as_array().unwrap().len();
        match page["next_before"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert!(
        (100..200).contains(&versions),
        "{versions} versions are kept"
    );

    let (mut of_a, mut of_b, mut last, mut since) = (0, 0, Value::Null, 0);
    loop {
        let page = server
            .get(&format!("preferences/changes?since_id={since}"))
            .await;
        for change in page["changes"].as_array().unwrap() {
            if change["tenant_id"] == "a" {
                of_a += 1;
                last = change["preference"].clone();
            } else {
                of_b += 1;
            }
        }
        since = page["last_id"].as_u64().unwrap();
        if page["has_more"] == false {
            break;
        }
    }
    assert!((100..200).contains(&of_a), "{of_a} changes are kept");
    assert_eq!((of_b, last), (1, large(WRITES - 1)["f"].clone()));
}

async fn many_mistakes_are_counted_and_the_first_are_listed(kind: Kind) {
    let server = start(kind).await;
    let numbers =
        json!({"f": {"enabled": true, "frequency": "daily", "x": vec![json!(1e300); 3_000]}});
    let (status, problem) = put(
        &server,
        PATH,
        json!({"config_value": numbers}).to_string().into(),
    )
    .await;
    assert_eq!(status, 422);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
    assert_eq!(problem["errors_total"], 3_000);
    assert!(problem.to_string().len() < 50_000);

    let names: serde_json::Map<_, _> = (0..40_000)
        .map(|n| (format!("a b {n}"), json!({})))
        .collect();
    let (status, problem) = put(
        &server,
        PATH,
        json!({"config_value": names}).to_string().into(),
    )
    .await;
    assert_eq!(status, 422);
    assert!(problem.to_string().len() < 50_000);

    let lines = "{\"tenant_id\": \"a b\"}\n".repeat(3_000);
    let report = server
        .call(Method::POST, "preferences/import", &lines)
        .await;
    let report: Value = report.json().await.unwrap();
    assert_eq!(
        (
            &report["rejected"],
            report["errors"].as_array().unwrap().len()
        ),
        (&json!(3_000), 100)
    );
    let quoted = format!("{{\"tenant_id\": [\"{}\"]}}", "x".repeat(900_000));
    let report = server
        .call(Method::POST, "preferences/import", &quoted)
        .await;
    assert!(report.text().await.unwrap().len() < 2_000);
}

async fn what_an_earlier_version_took_does_not_harm_others(kind: Kind) {
    let server = start(kind).await;
    let on = json!({"enabled": true, "frequency": "daily"});
    for tenant in ["deep", "large", "fine"] {
        server.put(tenant, json!({"f": on})).await;
    }
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&server.place.url).await.unwrap();
    let deep = format!(
        r#"{{"enabled":true,"frequency":"daily","x":{}1{}}}"#,
        "[".repeat(120),
        "]".repeat(120)
    );
    let large =
        json!({"enabled": true, "frequency": "daily", "x": "y".repeat(1_000_000)}).to_string();
    for (tenant, preference) in [("deep", deep), ("large", large)] {
        for table in ["preferences", "changes"] {
            let sql = format!("UPDATE {table} SET preference = $1 WHERE tenant_id = $2");
            let update = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&preference)
                .bind(tenant);
            update.execute(&pool).await.unwrap();
        }
    }
    pool.close().await;
    let text = server
        .call(Method::GET, "preferences/groups?feature_type=f", "")
        .await
        .text()
        .await
        .unwrap();
    assert!(text.len() < 5_000);
    let text = server
        .call(Method::GET, "preferences/changes?since_id=0", "")
        .await
        .text()
        .await
        .unwrap();
    assert!(text.len() < 5_000);
    others_go_on(&server).await;
}
