//! Several processes on one database, one that is put back to an older state, and callers who go away.

use std::time::{Duration, Instant};

use punctual_config_database::{ConfigStore, Server, ServerSettings};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Executor, PgConnection};

use crate::server::{Kind, Place, Running, on_both_databases, start, start_in};

on_both_databases! {
    what_another_process_stores_wakes_those_who_wait_here
    a_schema_set_by_another_process_holds_here
    a_database_put_back_to_an_older_state_goes_on_under_another_epoch
}

fn on(time: &str) -> Value {
    json!({"f": {"enabled": true, "frequency": "daily", "preferred_time": time}})
}

/// A second server on the same database.
async fn beside(server: &Running) -> String {
    let other = Server::bind(ServerSettings {
        store_url: server.place.url.clone(),
        addr: "127.0.0.1:0".parse().unwrap(),
        admin_key: None,
    })
    .await
    .unwrap();
    let url = format!("http://{}", other.addr());
    tokio::spawn(other.serve(std::future::pending()));
    url
}

async fn what_another_process_stores_wakes_those_who_wait_here(kind: Kind) {
    let server = start(kind).await;
    let other = beside(&server).await;
    let began = Instant::now();
    let waiting = server.get("preferences/changes?since_id=0&wait=30");
    let storing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let body = json!({"config_value": on("09:00")}).to_string();
        let url = format!("{other}/api/v1/tenants/a/configs/feature_preferences");
        assert_eq!(
            server
                .http
                .put(url)
                .body(body)
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    };
    let (page, ()) = tokio::join!(waiting, storing);
    assert_eq!(page["changes"][0]["tenant_id"], "a");
    assert!(began.elapsed() < Duration::from_secs(15));
}

async fn a_schema_set_by_another_process_holds_here(kind: Kind) {
    let server = start(kind).await;
    let other = beside(&server).await;
    let schema = json!({"properties": {"tone": {"type": "string"}}}).to_string();
    let put = server
        .http
        .put(format!("{other}/api/v1/feature-types/f/schema"));
    assert_eq!(put.body(schema).send().await.unwrap().status(), 204);
    let wrong =
        json!({"config_value": {"f": {"enabled": true, "template_overrides": {"tone": 1}}}});
    let path = "tenants/a/configs/feature_preferences";
    let deadline = Instant::now() + Duration::from_secs(15);
    while server
        .call(Method::PUT, path, &wrong.to_string())
        .await
        .status()
        != 422
    {
        assert!(Instant::now() < deadline, "the schema does not hold here");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn a_database_put_back_to_an_older_state_goes_on_under_another_epoch(kind: Kind) {
    let server = start(kind).await;
    for time in ["09:00", "10:00", "11:00"] {
        server.put("a", on(time)).await;
    }
    let before = server.get("preferences/changes?since_id=0").await;
    assert_eq!(before["last_id"], 3);
    // What restoring a dump of after the first change leaves.
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&server.place.url).await.unwrap();
    for statement in [
        "DELETE FROM changes WHERE id > 1",
        "UPDATE feed SET head = 1",
        "DELETE FROM configs",
    ] {
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let since_3 = server
        .call(Method::GET, "preferences/changes?since_id=3", "")
        .await;
    assert_eq!(since_3.status(), 410);
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let now = server.get("preferences/changes?since_id=0").await;
        if now["epoch"] != before["epoch"] {
            assert_eq!(now["last_id"], 1);
            break;
        }
        assert!(Instant::now() < deadline, "the epoch stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn callers_who_go_away_leave_no_transaction_open() {
    let server = start(Kind::Postgres).await;
    let url = format!(
        "{}/api/v1/tenants/a/configs/feature_preferences",
        server.url
    );
    let call = |n: u64| {
        let body = json!({"config_value": on(&format!("{:02}:{:02}", n / 60, n % 60))});
        server.http.put(&url).body(body.to_string()).send()
    };
    // How long one takes here when all is connected, so that callers go away at every stage of theirs.
    call(0).await.unwrap();
    let began = Instant::now();
    call(1).await.unwrap();
    let usual = began.elapsed().as_micros() as u64;
    let mut gone = 0;
    for n in 0..200 {
        let patience = Duration::from_micros(fastrand::u64(0..usual));
        gone += usize::from(tokio::time::timeout(patience, call(n)).await.is_err());
    }
    assert!(gone > 5, "only {gone} went away: the test tests nothing");
    let mut connection = PgConnection::connect(&server.place.url).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND state LIKE 'idle in transaction%'",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        if open == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{open} transactions stay open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.put("a", on("23:59")).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn two_processes_may_open_a_new_database_at_the_same_time() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let place = kind.place().await;
        let opened = futures::future::join_all((0..4).map(|_| ConfigStore::open(&place.url))).await;
        for store in opened {
            store.unwrap();
        }
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn agents_may_have_their_schema_in_the_same_database_whichever_is_first() {
    const OF_AGENTS: &str =
        "CREATE SCHEMA punctual; CREATE TABLE punctual.preferences (hash BYTEA)";
    let put_one = async |place: Place| {
        let server = start_in(place, None).await;
        server.put("a", on("09:00")).await;
        server.stop().await
    };
    for agents_first in [true, false] {
        let place = Kind::Postgres.place().await;
        let mut database = PgConnection::connect(&place.url).await.unwrap();
        let role: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&mut database)
            .await
            .unwrap();
        assert_eq!(role, "punctual", "another role has another search path");
        let place = if agents_first {
            place
        } else {
            put_one(place).await
        };
        database.execute(OF_AGENTS).await.unwrap();
        put_one(place).await;
    }
    // A role that had a schema of its own before has the tables there.
    let place = Kind::Postgres.place().await;
    let mut database = PgConnection::connect(&place.url).await.unwrap();
    let made = "CREATE SCHEMA punctual; CREATE TABLE punctual.config_history (id BIGINT)";
    database.execute(made).await.unwrap();
    let error = ConfigStore::open(&place.url).await.unwrap_err().to_string();
    assert!(error.contains("config_history"), "{error}");
}
