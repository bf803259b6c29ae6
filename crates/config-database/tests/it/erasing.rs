//! A tenant that is erased: nothing of it stays, agents learn of it, and nothing else changes. And what goes by its age.

use chrono::DateTime;
use punctual_application::ports::ConfigDatabase;
use punctual_config_database::{ConfigStore, Expiring};
use punctual_domain::{FeatureType, TenantId};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sqlx::AnyPool;

use crate::{
    counts::{counted, pool},
    links::call,
    page::{Visitor, hidden},
    server::{Kind, Running, on_both_databases, start, start_in},
};

on_both_databases! {
    nothing_is_left_of_a_tenant_that_was_erased
    the_feed_brings_an_erasure_and_lists_it_until_the_tenant_is_there_again
    an_erasure_is_listed_for_its_days_however_many_changes_follow
    no_version_of_an_erased_configuration_comes_again
    administrators_erase_and_no_other_key
    the_page_erases_whose_id_is_typed
    what_is_older_than_it_is_kept_goes_and_the_newest_versions_stay
}

const ADMIN: &str = "admin-key-of-16-chars";
/// The tenant. Everything that is stored of it contains `canary`, and nothing else does.
const TENANT: &str = "canary-tenant";

async fn change(server: &Running, key: &str, method: Method, path: &str, body: Value) -> Value {
    let answer = call(server, key, method, path, &body).await;
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

async fn read(server: &Running, path: &str) -> Value {
    change(server, ADMIN, Method::GET, path, Value::Null).await
}

async fn erase(server: &Running, tenant: &str) -> Value {
    let reason = Some("request of the person");
    erased(ask_to_erase(server, Some(ADMIN), tenant, reason).await).await
}

/// Asks for an erasure, with a key where the server needs one.
async fn ask_to_erase(
    server: &Running,
    key: Option<&str>,
    tenant: &str,
    reason: Option<&str>,
) -> Response {
    let url = format!("{}/api/v1/tenants/{tenant}", server.url);
    let mut call = server.http.delete(url);
    if let Some(key) = key {
        call = call.bearer_auth(key);
    }
    if let Some(reason) = reason {
        call = call.header("Punctual-Reason", reason);
    }
    call.send().await.unwrap()
}

/// What an erasure that succeeds answers.
async fn erased(answer: Response) -> Value {
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

fn daily(time: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": time})
}

/// Stores something of every kind for the tenant, and a preference for another.
async fn store_canaries(server: &Running, pool: &AnyPool) {
    let schema = "feature-types/mail/schema";
    change(
        server,
        ADMIN,
        Method::PUT,
        schema,
        json!({"properties": {"tone": {}}}),
    )
    .await;
    let of_acme = json!({"config_value": {"posts": {"frequency": "daily"}}});
    let acme = "organizations/acme/configs/feature_preferences";
    change(server, ADMIN, Method::PUT, acme, of_acme).await;
    let profile = json!({"config_value": {"organization_id": "acme", "name": "canary"}});
    let path = format!("tenants/{TENANT}/configs/profile");
    change(server, ADMIN, Method::PUT, &path, profile).await;
    let other = json!({"config_value": {"note": "canary"}});
    let path = format!("tenants/{TENANT}/configs/other");
    change(server, ADMIN, Method::PUT, &path, other).await;
    change(server, ADMIN, Method::DELETE, &path, Value::Null).await;

    let key = json!({"name": "canary key", "scope": "write", "tenant_id": TENANT});
    let key = change(server, ADMIN, Method::POST, "keys", key).await;
    let key = key["key"].as_str().unwrap();
    let path = format!("tenants/{TENANT}/configs/feature_preferences");
    for time in ["09:00", "10:00", "11:00"] {
        let mut posts = daily(time);
        posts["template_overrides"] = json!({"tone": format!("canary at {time}")});
        posts["own"] = json!(["canary"]);
        let body = json!({"config_value": {"posts": posts}});
        change(server, key, Method::PUT, &path, body).await;
    }
    Visitor::signed_in(server, key).await;
    sqlx::query(
        "INSERT INTO invalid_preferences (feature_type, tenant_id, reason) VALUES ('posts', $1, 'canary')",
    )
    .bind(TENANT)
    .execute(pool)
    .await
    .unwrap();

    let bob = json!({"config_value": {"posts": daily("09:00")}});
    let path = "tenants/bob/configs/feature_preferences";
    change(server, ADMIN, Method::PUT, path, bob).await;
}

/// Number of records of each kind that are held of the tenant.
async fn held(server: &Running) -> Vec<(String, usize)> {
    let export = read(server, &format!("tenants/{TENANT}/export")).await;
    let kinds = export.as_object().unwrap().iter();
    kinds
        .map(|(kind, records)| (kind.clone(), records.as_array().unwrap().len()))
        .collect()
}

/// Where the database holds a text.
async fn places(kind: Kind, server: &Running, pool: &AnyPool, text: &str) -> Vec<String> {
    if kind == Kind::Postgres {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public'",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        assert!(tables.len() > 10, "{tables:?}");
        let mut found = Vec::new();
        for table in tables {
            let count = format!(
                "SELECT count(*) FROM \"{table}\" AS held WHERE CAST(held AS TEXT) LIKE '%{text}%'"
            );
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
                .fetch_one(pool)
                .await
                .unwrap();
            if count > 0 {
                found.push(table);
            }
        }
        return found;
    }
    for statement in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        sqlx::query(statement).fetch_all(pool).await.unwrap();
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(server.place.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

async fn nothing_is_left_of_a_tenant_that_was_erased(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let pool = pool(&server).await;
    store_canaries(&server, &pool).await;
    let before = held(&server).await;
    assert!(before.iter().all(|(_, records)| *records > 0), "{before:?}");
    assert!(!places(kind, &server, &pool, "canary").await.is_empty());

    let erased = erase(&server, TENANT).await;
    for (field, count) in [
        ("configurations", 3),
        ("preferences", 1),
        ("api_keys", 1),
        ("versions", 6),
    ] {
        assert_eq!(erased[field], count, "{field}: {erased}");
    }
    counted(&pool).await;
    // What is left says that the tenant is gone, until the feed forgets it.
    let left: Vec<_> = held(&server)
        .await
        .into_iter()
        .filter(|(_, records)| *records > 0)
        .collect();
    assert_eq!(left, [("changes".to_owned(), 2)]);
    let export = read(&server, &format!("tenants/{TENANT}/export")).await;
    for change in export["changes"].as_array().unwrap() {
        assert_eq!(change["change"], "erased");
        assert_eq!(change["preference"], Value::Null);
    }
    let until = "2999-01-01T00:00:00Z".parse().unwrap();
    server.store.purge_changes(until).await.unwrap();
    assert!(held(&server).await.iter().all(|(_, records)| *records == 0));
    assert_eq!(
        places(kind, &server, &pool, "canary").await,
        [] as [String; 0]
    );

    // The list names no tenant, and everything of others is there.
    let erasures = read(&server, "erasures").await;
    assert_eq!(erasures["next_before"], Value::Null);
    let listed = &erasures["erasures"][0];
    for (field, expected) in [
        ("tenant_hash", &erased["tenant_hash"]),
        ("erased_at", &erased["erased_at"]),
        ("actor", &json!("admin")),
        ("reason", &json!("request of the person")),
    ] {
        assert_eq!(&listed[field], expected, "{field}");
    }
    let groups = read(&server, "preferences/groups?feature_type=posts").await;
    assert_eq!(groups["groups"][0]["tenants"][0]["tenant_id"], "bob");
    let acme = read(&server, "organizations/acme").await;
    assert_eq!(
        (&acme["members"], &acme["features"]),
        (&json!(0), &json!(["posts"]))
    );
    // It may be repeated, also where nothing is held.
    let again = erase(&server, TENANT).await;
    assert_eq!(again["configurations"], 0);
    pool.close().await;
}

async fn the_feed_brings_an_erasure_and_lists_it_until_the_tenant_is_there_again(kind: Kind) {
    let server = start(kind).await;
    server
        .put("ann", json!({"f": daily("09:00"), "g": daily("09:00")}))
        .await;
    server.put("bob", json!({"f": daily("09:00")})).await;
    // A reader of `g` must learn of it although Ann has left the feature.
    server.put("ann", json!({"f": daily("09:00")})).await;
    let head = server.get("preferences/changes?since_id=0").await["last_id"].clone();
    let waiting = format!("preferences/changes?since_id={head}&feature_type=f&wait=30");
    let erase = ask_to_erase(&server, None, "ann", Some("asked"));
    let (page, erased) = tokio::join!(server.get(&waiting), erase);
    assert_eq!(erased.status(), 200);
    let change = &page["changes"][0];
    assert_eq!(
        (
            &change["tenant_id"],
            &change["change"],
            &change["preference"]
        ),
        (&json!("ann"), &json!("erased"), &Value::Null)
    );
    let of_g = server
        .get(&format!(
            "preferences/changes?since_id={head}&feature_type=g"
        ))
        .await;
    assert_eq!(of_g["changes"][0]["change"], "erased");
    assert_eq!(of_g["changes"][0]["changed_at"], change["changed_at"]);
    // Who comes late finds no other change of hers, and no value.
    let all = server.get("preferences/changes?since_id=0").await;
    let of_ann: Vec<&Value> = all["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["tenant_id"] == "ann")
        .collect();
    assert_eq!(of_ann.len(), 2);
    assert!(of_ann.iter().all(|change| change["change"] == "erased"));

    let erased = async |query: &str| server.get(&format!("preferences/erased?{query}")).await;
    let listed = erased("feature_type=f").await;
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 1);
    assert_eq!(listed["tenants"][0]["tenant_id"], "ann");
    assert_eq!(listed["tenants"][0]["erased_at"], change["changed_at"]);
    assert_eq!(listed["has_more"], false);
    let after = format!("feature_type=f&since_id={}", listed["last_id"]);
    assert_eq!(erased(&after).await["tenants"], json!([]));
    let shards = [1, 2].map(|shard| format!("feature_type=f&shard={shard}/2"));
    let mut of_shards = 0;
    for shard in shards {
        of_shards += erased(&shard).await["tenants"].as_array().unwrap().len();
    }
    assert_eq!(of_shards, 1);
    assert_eq!(
        server
            .call(Method::GET, "preferences/erased", "")
            .await
            .status(),
        400
    );
    // She is a tenant again: what agents hold of her now is not to be erased.
    server.put("ann", json!({"f": daily("10:00")})).await;
    assert_eq!(erased("feature_type=f").await["tenants"], json!([]));
    // Also once she has removed what she had stored since.
    let preferences = "tenants/ann/configs/feature_preferences";
    let removed = server.call(Method::DELETE, preferences, "").await;
    assert!(removed.status().is_success());
    assert_eq!(erased("feature_type=f").await["tenants"], json!([]));
}

async fn an_erasure_is_listed_for_its_days_however_many_changes_follow(kind: Kind) {
    let place = kind.place().await;
    let store = ConfigStore::open(&place.url).await.unwrap();
    let posts = FeatureType::new("posts").unwrap();
    let ann = TenantId::new("ann").unwrap();
    let preference = daily("09:00").as_object().unwrap().clone();
    store.put(&ann, &posts, preference).await.unwrap();
    let reason = "asked".parse().unwrap();
    let erased = store.erase(&ann, "admin", &reason).await.unwrap();
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(&place.url).await.unwrap();
    // As if millions had followed.
    sqlx::query("UPDATE feed SET head = head + 5000000")
        .execute(&pool)
        .await
        .unwrap();
    let bob = TenantId::new("bob").unwrap();
    let preference = daily("09:00").as_object().unwrap().clone();
    store.put(&bob, &posts, preference).await.unwrap();
    let changes: Vec<String> = sqlx::query_scalar("SELECT change FROM changes ORDER BY id")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(changes, ["erased", "upserted"]);
    assert_eq!(store.purge_changes(DateTime::UNIX_EPOCH).await.unwrap(), 0);
    let listed = ConfigDatabase::erased(&store, &posts).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].erased_at, erased.erased_at);
    let until = "2999-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(store.purge_changes(until).await.unwrap(), 2);
    let listed = ConfigDatabase::erased(&store, &posts).await.unwrap();
    assert!(listed.is_empty());
    pool.close().await;
}

async fn no_version_of_an_erased_configuration_comes_again(kind: Kind) {
    let server = start(kind).await;
    for time in ["09:00", "10:00", "11:00"] {
        server.put("ann", json!({"f": daily(time)})).await;
    }
    server.put("bob", json!({"f": daily("09:00")})).await;
    erased(ask_to_erase(&server, None, "ann", Some("asked")).await).await;
    // An ETag of before must not let its holder overwrite what is stored now.
    for tenant in ["ann", "new"] {
        let stored = server.put(tenant, json!({"f": daily("09:00")})).await;
        assert_eq!(stored["version"], 4, "{tenant}");
    }
    let bob = server.put("bob", json!({"f": daily("10:00")})).await;
    assert_eq!(bob["version"], 2);
    let history = server
        .get("tenants/ann/configs/feature_preferences/history")
        .await;
    assert_eq!(history["versions"].as_array().unwrap().len(), 1);
    // The floor survives a restart, and an erasure of a tenant with lower versions.
    let server = start_in(server.stop().await, None).await;
    erased(ask_to_erase(&server, None, "bob", Some("asked")).await).await;
    let bob = server.put("bob", json!({"f": daily("09:00")})).await;
    assert_eq!(bob["version"], 4);
}

async fn administrators_erase_and_no_other_key(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let asked = Some("asked");
    for (name, tenant) in [("all", Value::Null), ("own", json!("ann"))] {
        for scope in ["read", "agent", "write"] {
            let key =
                json!({"name": format!("{name} {scope}"), "scope": scope, "tenant_id": tenant});
            let key = change(&server, ADMIN, Method::POST, "keys", key).await;
            let key = key["key"].as_str().unwrap();
            let answer = ask_to_erase(&server, Some(key), "ann", asked).await;
            assert_eq!(answer.status(), 403, "{name} {scope}");
            for path in ["tenants/ann/export", "erasures"] {
                let answer = call(&server, key, Method::GET, path, &Value::Null).await;
                assert_eq!(answer.status(), 403, "{name} {scope} {path}");
            }
        }
    }
    let long = "x".repeat(501);
    for (tenant, reason) in [
        ("ann", None),
        // As other calls, it takes the reason in the header only.
        ("ann?reason=asked", None),
        ("ann", Some("")),
        ("ann", Some("a\tb")),
        ("ann", Some(long.as_str())),
        ("a%20b", asked),
    ] {
        let answer = ask_to_erase(&server, Some(ADMIN), tenant, reason).await;
        assert_eq!(answer.status(), 400, "{tenant} {reason:?}");
    }
    assert_eq!(read(&server, "erasures").await["erasures"], json!([]));
    // The keys for the tenant go, and the others stay.
    let of_ann = erased(ask_to_erase(&server, Some(ADMIN), "ann", asked).await).await;
    assert_eq!(of_ann["api_keys"], 3);
    let keys = read(&server, "keys").await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 3);
    for reason in ["second", "third"] {
        erased(ask_to_erase(&server, Some(ADMIN), "bob", Some(reason)).await).await;
    }
    let mut page = read(&server, "erasures?limit=1").await;
    for reason in ["third", "second", "asked"] {
        assert_eq!(page["erasures"][0]["reason"], reason);
        if let Some(before) = page["next_before"].as_str() {
            page = read(&server, &format!("erasures?limit=1&before={before}")).await;
        } else {
            assert_eq!(reason, "asked");
        }
    }
}

async fn the_page_erases_whose_id_is_typed(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let stored = json!({"config_value": {"posts": daily("09:00")}});
    let preferences = "tenants/ann/configs/feature_preferences";
    change(&server, ADMIN, Method::PUT, preferences, stored).await;
    let key = json!({"name": "ann", "scope": "admin", "tenant_id": "ann"});
    let key = change(&server, ADMIN, Method::POST, "keys", key).await;
    let ann = Visitor::signed_in(&server, key["key"].as_str().unwrap()).await;
    assert_eq!(ann.status("/operators/erasures").await, 403);
    assert!(!ann.text("/tenants/ann").await.contains("/operators/"));

    let admin = Visitor::signed_in(&server, ADMIN).await;
    let page = admin.text("/tenants/ann").await;
    assert!(page.contains("/operators/erasures?tenant=ann"), "{page}");
    let page = admin.text("/operators/erasures?tenant=ann").await;
    let csrf = hidden(&page, "csrf");
    assert!(page.contains("Type ann to confirm"), "{page}");
    let copy = admin.get("/operators/erasures/export?tenant=ann").await;
    let copy: Value = copy.json().await.unwrap();
    assert_eq!(copy["preferences"][0]["feature_type"], "posts");
    let erase = async |form: &[(&str, &str)]| {
        let mut form = form.to_vec();
        form.push(("reason", "asked"));
        admin.post("/operators/erasures", &form).await
    };
    let without_token = [("tenant", "ann"), ("typed", "ann")];
    assert_eq!(erase(&without_token).await.status(), 403);
    // The form is there again, with what was put in and the mistake at its field.
    for (tenant, typed, again, shown) in [
        ("ann", "bob", "", "Not erased: this is not ann."),
        ("", "ann", "an", "Not erased: the two ids are not the same."),
        (
            "",
            "a b",
            "a b",
            "Not erased: `a b` is not a valid tenant_id",
        ),
    ] {
        let form = [
            ("csrf", csrf.as_str()),
            ("tenant", tenant),
            ("typed", typed),
            ("again", again),
        ];
        let answer = erase(&form).await;
        assert_eq!(answer.status(), 422, "{form:?}");
        let page = answer.text().await.unwrap();
        assert!(page.contains(shown), "{page}");
        assert_eq!(hidden(&page, "tenant"), tenant);
        assert_eq!(hidden(&page, "typed"), typed);
        assert_eq!(hidden(&page, "reason"), "asked");
        assert_eq!(page.matches("aria-invalid").count(), 1, "{page}");
    }
    read(&server, preferences).await;
    let done = erase(&[("csrf", csrf.as_str()), ("tenant", "ann"), ("typed", "ann")]).await;
    assert_eq!(done.status(), 303);
    let gone = call(&server, ADMIN, Method::GET, preferences, &Value::Null).await;
    assert_eq!(gone.status(), 404);
    let listed = admin
        .text(done.headers()["location"].to_str().unwrap())
        .await;
    let erasures = read(&server, "erasures").await;
    let hash = erasures["erasures"][0]["tenant_hash"].as_str().unwrap();
    assert_eq!(listed.matches(hash).count(), 2, "{listed}");
    assert!(!listed.contains("ann<"), "{listed}");
    assert!(listed.contains("Erased. "), "{listed}");
    let time = erasures["erasures"][0]["erased_at"].as_str().unwrap();
    let time = format!("{} UTC", time[..19].replace('T', " "));
    assert!(listed.contains(&time), "{time}: {listed}");
    // Without a page that led there, the id is typed twice.
    let twice = [("csrf", csrf.as_str()), ("typed", "bob"), ("again", "bob")];
    let done = erase(&twice).await;
    assert_eq!(done.status(), 303);
    let listed = admin
        .text(done.headers()["location"].to_str().unwrap())
        .await;
    let nothing = "Nothing was stored of this tenant here.";
    assert!(listed.contains(nothing), "{listed}");
}

async fn what_is_older_than_it_is_kept_goes_and_the_newest_versions_stay(kind: Kind) {
    // No server, which would remove by itself.
    let place = kind.place().await;
    let store = ConfigStore::open(&place.url).await.unwrap();
    let posts = FeatureType::new("posts").unwrap();
    for (tenant, time) in [
        ("ann", "09:00"),
        ("ann", "10:00"),
        ("ann", "11:00"),
        ("ann", "12:00"),
        ("bob", "09:00"),
        ("eve", "09:00"),
        ("eve", "10:00"),
    ] {
        let tenant = TenantId::new(tenant).unwrap();
        let preference = daily(time).as_object().unwrap().clone();
        store.put(&tenant, &posts, preference).await.unwrap();
    }
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(&place.url).await.unwrap();
    let now = now_in_micros(&pool, kind).await;
    let days_ago = |days: i64| now - days * 86_400_000_000;
    for statement in [
        format!("UPDATE config_history SET changed_at = {}", days_ago(3)),
        format!(
            "UPDATE config_history SET changed_at = {} WHERE version = 4 OR tenant_id = 'eve' AND version = 2",
            days_ago(1)
        ),
        format!(
            "UPDATE changes SET recorded_at = {} WHERE id <= 2",
            days_ago(31)
        ),
        format!(
            "INSERT INTO sessions VALUES ('old', 'k', {}), ('new', 'k', {})",
            days_ago(1),
            days_ago(-1)
        ),
        format!(
            "INSERT INTO used_links VALUES ('old', {}), ('new', {})",
            days_ago(1),
            days_ago(-1)
        ),
        format!(
            "INSERT INTO api_keys VALUES ('a', 'old', 'read', NULL, 0, {}), ('b', 'ended', 'read', NULL, 0, {}), \
             ('c', 'active', 'read', NULL, 0, NULL)",
            days_ago(91),
            days_ago(89)
        ),
        format!(
            "INSERT INTO readers VALUES ('old', 'posts', 0, {}), ('new', 'posts', 0, {})",
            days_ago(91),
            days_ago(1)
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&pool)
            .await
            .unwrap();
    }
    let store = store.keeping_history(2);
    let expected = [
        ("history", 2, Some(3)),
        ("history of organizations", 0, None),
        ("changes", 2, Some(31)),
        ("sessions", 1, Some(1)),
        ("used links", 1, Some(1)),
        ("API keys", 1, Some(91)),
        ("readers", 1, Some(91)),
    ];
    let expected = expected.map(|(kind, rows, oldest)| Expiring {
        kind,
        rows,
        oldest: oldest.map(|days| DateTime::from_timestamp_micros(days_ago(days)).unwrap()),
    });
    assert_eq!(store.expiring().await.unwrap(), expected);
    let removed = store.remove_expired().await.unwrap();
    let some = expected.iter().filter(|expiring| expiring.rows > 0);
    let some: Vec<_> = some
        .map(|expiring| (expiring.kind, expiring.rows))
        .collect();
    assert_eq!(removed, some);
    assert_eq!(store.remove_expired().await.unwrap(), []);
    let versions: Vec<String> = sqlx::query_scalar(
        "SELECT tenant_id || ' ' || CAST(version AS TEXT) FROM config_history ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    // Eve's first version was in effect until a day ago, and can be brought back.
    assert_eq!(versions, ["ann 3", "ann 4", "bob 1", "eve 1", "eve 2"]);
    pool.close().await;
}

/// The time of the database.
async fn now_in_micros(pool: &AnyPool, kind: Kind) -> i64 {
    let seconds = match kind {
        Kind::Postgres => "SELECT CAST(extract(epoch FROM now()) AS BIGINT)",
        Kind::Sqlite | Kind::BelowAPath => "SELECT CAST(strftime('%s', 'now') AS INTEGER)",
    };
    let seconds: i64 = sqlx::query_scalar(seconds).fetch_one(pool).await.unwrap();
    seconds * 1_000_000
}
