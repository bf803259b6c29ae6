//! A running Config Database in a folder of its own.

use punctual_config_database::{ConfigStore, Server, ServerSettings};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

pub struct Running {
    pub folder: TempDir,
    pub url: String,
    pub store: ConfigStore,
    pub http: Client,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

pub async fn start() -> Running {
    start_in(tempfile::tempdir().unwrap(), None).await
}

pub async fn start_in(folder: TempDir, admin_key: Option<&str>) -> Running {
    let settings = ServerSettings {
        store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
        addr: "127.0.0.1:0".parse().unwrap(),
        admin_key: admin_key.map(Into::into),
    };
    let server = Server::bind(settings).await.unwrap();
    let (url, store) = (format!("http://{}", server.addr()), server.store().clone());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    Running {
        folder,
        url,
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

    /// Stops the server and gives its folder back.
    pub async fn stop(self) -> TempDir {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
        self.folder
    }
}
