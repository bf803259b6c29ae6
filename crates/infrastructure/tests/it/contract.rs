//! The contract of the port `ConfigDatabase`, over the client of a real server and over what stands before it.

use std::sync::Arc;

use async_trait::async_trait;
use punctual_application::{
    ports::SystemClock,
    testing::contract::{self, FEATURE, Writable},
};
use punctual_config_database::{Server, ServerSettings};
use punctual_domain::{PreferenceRecord, TenantId};
use punctual_infrastructure::LastKnownGood;
use serde_json::json;

use crate::server::client;

/// A reference server, written to as the preference centre of somebody would.
struct Reference {
    url: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Reference {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = ServerSettings {
            store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
            addr: "127.0.0.1:0".parse().unwrap(),
            admin_key: None,
        };
        let server = Server::bind(settings).await.unwrap();
        let url = format!("http://{}", server.addr());
        tokio::spawn(server.serve(std::future::pending()));
        Self {
            url,
            http: reqwest::Client::new(),
            _folder: folder,
        }
    }

    fn of(&self, tenant_id: &TenantId) -> String {
        let url = &self.url;
        format!("{url}/api/v1/tenants/{tenant_id}/configs/feature_preferences")
    }
}

#[async_trait]
impl Writable for Reference {
    async fn put(&self, record: PreferenceRecord) {
        let body = json!({"config_value": {FEATURE: &*record.preference}}).to_string();
        let put = self.http.put(self.of(&record.tenant_id)).body(body);
        let answer = put.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn remove(&self, tenant_id: &TenantId) {
        let answer = self.http.delete(self.of(tenant_id)).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

#[tokio::test]
async fn the_client_of_the_reference_server_keeps_the_contract() {
    let reference = Reference::start().await;
    contract::config_database(&client(&reference.url), &reference).await;
}

#[tokio::test]
async fn the_last_known_good_before_it_keeps_the_contract() {
    let reference = Reference::start().await;
    let folder = tempfile::tempdir().unwrap();
    let client = Arc::new(client(&reference.url));
    let known = LastKnownGood::new(client, Arc::new(SystemClock), folder.path(), "reference");
    contract::config_database(&known.unwrap(), &reference).await;
}
