//! A running Config Database with a database of its own, of either kind.

use std::net::SocketAddr;

use axum::Router;
use punctual_config_database::{
    Access, ConfigStore, Embedding, EmbeddingSettings, NewKey, Scope, Server, ServerSettings,
};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Runs the same tests over both kinds of database.
macro_rules! on_both_databases {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::server::Kind::Sqlite).await; })*
        }
        mod postgres {
            $(
                #[cfg_attr(
                    not(feature = "servers"),
                    ignore = "needs what `make setup` installs; run `make test`"
                )]
                #[tokio::test]
                async fn $test() { super::$test(crate::server::Kind::Postgres).await; }
            )*
        }
    };
}
pub(crate) use on_both_databases;

/// The same, and on `SQLite` once more, below a path of another service.
macro_rules! on_both_databases_and_below_a_path {
    ($($test:ident)*) => {
        crate::server::on_both_databases! { $($test)* }
        mod below_a_path {
            $(#[tokio::test] async fn $test() { super::$test(crate::server::Kind::BelowAPath).await; })*
        }
    };
}
pub(crate) use on_both_databases_and_below_a_path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    BelowAPath,
}

impl Kind {
    /// A new database.
    pub async fn place(self) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let url = match self {
            Self::Sqlite | Self::BelowAPath => {
                format!("sqlite://{}", folder.path().join("config.db").display())
            }
            Self::Postgres => new_postgres_database().await,
        };
        let root = match self {
            Self::BelowAPath => "/own/preferences",
            Self::Sqlite | Self::Postgres => "",
        };
        Place { url, folder, root }
    }
}

async fn new_postgres_database() -> String {
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
    format!("{server}/{name}")
}

/// Where a database is, and below which path it is served.
pub struct Place {
    pub url: String,
    pub folder: TempDir,
    pub root: &'static str,
}

pub struct Running {
    pub place: Place,
    pub url: String,
    pub store: ConfigStore,
    pub http: Client,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

pub async fn start(kind: Kind) -> Running {
    start_in(kind.place().await, None).await
}

pub async fn start_in(place: Place, admin_key: Option<&str>) -> Running {
    start_embeddable(place, admin_key, EmbeddingSettings::default()).await
}

/// The same, whose pages others embed.
pub async fn start_embeddable(
    place: Place,
    admin_key: Option<&str>,
    embedding: EmbeddingSettings,
) -> Running {
    start_with(place, admin_key, Embedding::new(embedding).unwrap()).await
}

pub async fn start_with(place: Place, admin_key: Option<&str>, embedding: Embedding) -> Running {
    if !place.root.is_empty() {
        return start_below(place, admin_key, embedding).await;
    }
    let settings = ServerSettings {
        store_url: place.url.clone(),
        addr: "127.0.0.1:0".parse().unwrap(),
        admin_key: admin_key.map(Into::into),
    };
    let server = Server::bind(settings).await.unwrap();
    let server = server.with_embedding(embedding);
    let (url, store) = (format!("http://{}", server.addr()), server.store().clone());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    Running {
        place,
        url,
        store,
        http: Client::new(),
        stop,
        served,
    }
}

/// As a part of another service.
async fn start_below(place: Place, admin_key: Option<&str>, embedding: Embedding) -> Running {
    let store = ConfigStore::open(&place.url).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let access = match admin_key {
        Some(key) => Access::key(key.into(), addr).unwrap(),
        None => Access::this_machine("THE_KEY"),
    };
    let stopping = CancellationToken::new();
    let router = store.embeddable_router(access, stopping.clone(), embedding);
    let service: Router = Router::new().nest(place.root, router);
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = oneshot::channel();
    let upkeep = store.clone().upkeep();
    let served = tokio::spawn(async move {
        let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
            let _ = stopped.await;
            stopping.cancel();
        });
        tokio::select! {
            served = serving.into_future() => served,
            () = upkeep => Ok(()),
        }
    });
    Running {
        url: format!("http://{addr}{}", place.root),
        place,
        store,
        http: Client::new(),
        stop,
        served,
    }
}

impl Running {
    pub async fn call(&self, method: Method, path: &str, body: &str) -> Response {
        let url = format!("{}/api/v1/{path}", self.url);
        self.http
            .request(method, url)
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    /// GETs a path and expects success.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.call(Method::GET, path, "").await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// Stores a tenant's preferences and expects success.
    pub async fn put(&self, tenant: &str, value: Value) -> Value {
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let body = json!({ "config_value": value }).to_string();
        let response = self.call(Method::PUT, &path, &body).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// Stops the server and gives its place back.
    pub async fn stop(self) -> Place {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
        self.place
    }
}

/// A key for all tenants.
pub fn key(name: &str, scope: Scope) -> NewKey {
    NewKey {
        name: name.to_owned(),
        scope,
        tenant_id: None,
    }
}
