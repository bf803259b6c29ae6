//! One record is one record's problem: whatever a tenant sends with a key of its own, other tenants' preferences reach a
//! new reader and a reader that follows the feed, in bounded memory. `HOSTILE_CASES=100000` asks for that many cases on
//! each store, `HOSTILE_SEED` for other ones; a failure names its case and what was sent.

mod requests;

use std::time::Duration;

use punctual_application::ports::{ConfigDatabase, ConfigDatabaseError, Cursor};
use punctual_config_database::{ConfigStore, NewKey, Scope, Server, ServerSettings};
use punctual_domain::{ChangeKind, FeatureType, TenantId};
use punctual_infrastructure::{ClientOptions, ConfigDatabaseClient};
use reqwest::{Client, Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use self::requests::{Request, hostile_request};

/// Calls with one key before the next one is made: fewer than the rate limit lets through at once.
const CALLS_PER_KEY: usize = 90;
/// Cases after which everything is read by a new client. In between, one that remembers nothing of its reads does it.
const NEW_READER_AFTER: u64 = 50;
/// Memory that the server and both readers may take more at the end than after a tenth of the cases.
const MORE_MEMORY: usize = 256 << 20;

fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_keeps_others_from_being_served_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("config.db").display());
    World::start(url).await.run().await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_keeps_others_from_being_served_on_postgres() {
    let server = std::env::var("TEST_POSTGRES_URL").expect(
        "run `make test`, or tests/with-postgres.sh cargo test: it starts a PostgreSQL server",
    );
    let name = format!("t_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap();
    let (server, _) = server.rsplit_once('/').unwrap();
    World::start(format!("{server}/{name}")).await.run().await;
}

struct World {
    url: String,
    store: ConfigStore,
    http: Client,
    /// The hostile tenant's own: the server closes its connections at times.
    hostile: Client,
    feature: FeatureType,
    calls: usize,
    key: String,
    stop: CancellationToken,
}

impl World {
    async fn start(store_url: String) -> Self {
        let server = Server::bind(ServerSettings {
            store_url,
            addr: "127.0.0.1:0".parse().unwrap(),
            admin_key: Some("an administrator's key".into()),
        });
        let server = server.await.unwrap();
        let (url, store) = (format!("http://{}", server.addr()), server.store().clone());
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(stop.clone().cancelled_owned()));
        Self {
            url,
            store,
            http: http(),
            hostile: http(),
            feature: FeatureType::new("posts").unwrap(),
            calls: 0,
            key: String::new(),
            stop,
        }
    }

    fn client(&self) -> ConfigDatabaseClient {
        ConfigDatabaseClient::new(ClientOptions {
            api_key: Some("an administrator's key".into()),
            attempts: 1,
            ..ClientOptions::new(&self.url)
        })
        .unwrap()
    }

    async fn run(mut self) {
        let (seed, cases) = (number("HOSTILE_SEED", 1), number("HOSTILE_CASES", 400));
        let mut random = fastrand::Rng::with_seed(seed);
        self.store_victim(999_999_999).await;
        let running = self.client();
        let mut cursor = running.snapshot(&self.feature).await.unwrap().cursor;
        let (mut reader, mut memory) = (self.client(), 0);
        for case in 0..cases {
            let request = hostile_request(&mut random, self.feature.as_str());
            let what = || format!("case {case} of seed {seed}: {request:?}");
            let answer = self.send(&request).await;
            assert!(!answer.is_server_error(), "{answer}: {}", what());
            self.store_victim(case).await;
            assert!(
                self.follows(&running, &mut cursor, case).await,
                "{}",
                what()
            );
            if case.is_multiple_of(NEW_READER_AFTER) {
                reader = self.client();
            }
            let fresh = async { reader.snapshot(&self.feature).await?.collect().await }.await;
            let fresh =
                fresh.unwrap_or_else(|error: ConfigDatabaseError| panic!("{error}: {}", what()));
            let victim = fresh
                .records
                .iter()
                .find(|record| record.tenant_id.as_str() == "victim");
            let victim = victim.unwrap_or_else(|| panic!("{}", what()));
            assert_eq!(victim.preference["n"], json!(case), "{}", what());
            let foreign = |id: &TenantId| !["victim", "evil"].contains(&id.as_str());
            assert!(
                !fresh
                    .records
                    .iter()
                    .any(|record| foreign(&record.tenant_id)),
                "{}",
                what()
            );
            if case == cases / 10 {
                memory = resident();
            }
        }
        let more = resident().saturating_sub(memory);
        assert!(more < MORE_MEMORY, "{more} bytes more after {cases} cases");
        self.stop.cancel();
    }

    async fn store_victim(&self, n: u64) {
        let preference = json!({"enabled": true, "frequency": "daily", "n": n});
        let body = json!({"config_value": {self.feature.as_str(): preference}}).to_string();
        let url = format!(
            "{}/api/v1/tenants/victim/configs/feature_preferences",
            self.url
        );
        let call = self.http.put(url).bearer_auth("an administrator's key");
        let answer = call.body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    /// Whether a reader that follows the feed sees the victim's change within a few pages.
    async fn follows(&self, running: &ConfigDatabaseClient, cursor: &mut Cursor, n: u64) -> bool {
        for _ in 0..20 {
            let page = running.changes(&self.feature, cursor, Duration::ZERO).await;
            let Ok(page) = page else {
                return false;
            };
            *cursor = page.cursor;
            let seen = page.changes.iter().any(|change| match &change.kind {
                ChangeKind::Upserted(preference) => {
                    change.tenant_id.as_str() == "victim" && preference.get("n") == Some(&json!(n))
                }
                ChangeKind::Deleted | ChangeKind::Erased => false,
            });
            if seen {
                return true;
            }
        }
        false
    }

    /// Sends what the hostile tenant made up, with a key that allows what a tenant may do.
    async fn send(&mut self, request: &Request) -> StatusCode {
        if self.calls.is_multiple_of(CALLS_PER_KEY) {
            let new = NewKey {
                name: format!("evil-{}", self.calls),
                scope: Scope::Write,
                tenant_id: Some(TenantId::new("evil").unwrap()),
            };
            let key = self.store.create_key(&new).await.unwrap();
            key.expose_secret().clone_into(&mut self.key);
        }
        self.calls += 1;
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let url = format!("{}/api/v1/tenants/evil/{}", self.url, request.path);
        let call = self.hostile.request(method, url).bearer_auth(&self.key);
        let answer = call.body(request.body.clone()).send().await;
        // A server may close the connection on what it does not want to read.
        answer.map_or(StatusCode::BAD_REQUEST, |answer| answer.status())
    }
}

fn http() -> Client {
    let client = Client::builder().timeout(Duration::from_secs(20));
    client.build().unwrap()
}

/// Bytes of memory that this process holds.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A JSON value of the victim's feature that every verdict of this test rests on.
#[test]
fn the_generator_makes_both_what_is_stored_and_what_is_refused() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut readable = 0;
    for _ in 0..2_000 {
        let request = hostile_request(&mut random, "posts");
        readable += usize::from(serde_json::from_slice::<Value>(&request.body).is_ok());
    }
    assert!((200..1_900).contains(&readable), "{readable} of 2000");
}
