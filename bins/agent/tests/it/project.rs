//! Jobs, purposes, templates and preferences of a test's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use punctual_config_database::{Server, ServerSettings};
use serde_json::{Value, json};

use crate::agent::Agent;

/// A folder with `batch_config.json` and the rest in it.
pub struct Project {
    pub folder: tempfile::TempDir,
}

impl Project {
    /// One job, `posts`, for the feature `posts`, whose purpose is `purpose`, with these fields more.
    pub fn new(purpose: Value, job: Value) -> Self {
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let mut posts = json!({"job_id": "posts", "type": "individual_batch", "purpose_id": "write",
            "preference_based": true, "feature_type": "posts"});
        let fields = posts.as_object_mut().unwrap();
        fields.extend(job.as_object().unwrap().clone());
        project.write(
            "batch/batch_config.json",
            &json!({"jobs": [posts]}).to_string(),
        );
        let purposes = json!({"purposes": {"write": purpose}});
        project.write("batch/purposes.json", &purposes.to_string());
        project
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file to import, with the preference of each tenant.
    pub fn preferences(&self, tenants: impl Iterator<Item = (String, Value)>) -> PathBuf {
        let line = |(tenant, preference): (String, Value)| {
            json!({"tenant_id": tenant, "config_key": "feature_preferences",
                "updated_at": "2026-01-01T00:00:00Z",
                "config_value": {"posts": preference}})
            .to_string()
        };
        let lines: Vec<String> = tenants.map(line).collect();
        self.write("preferences.ndjson", &lines.join("\n"))
    }

    /// Runs the agent by this command on the preferences of these tenants, and waits until it knows all who are on.
    pub async fn run(
        &self,
        mut command: Command,
        tenants: impl IntoIterator<Item = (String, Value)>,
    ) -> Agent {
        let tenants: Vec<(String, Value)> = tenants.into_iter().collect();
        let on = tenants
            .iter()
            .filter(|(_, preference)| preference["enabled"] == true);
        let on = on.count();
        let preferences = self.preferences(tenants.into_iter());
        command.args(["run", "--import"]).arg(preferences);
        let agent = Agent::start(command);
        agent
            .until("/api/v1/jobs/posts", |job| job["tenants"] == on)
            .await;
        agent
    }

    /// A Config Database outside the agents, with the preferences of a file. Returns its URL.
    pub async fn serve(&self, preferences: &Path) -> String {
        let settings = ServerSettings {
            store_url: format!("sqlite://{}", self.path().join("shared.db").display()),
            addr: "127.0.0.1:0".parse().unwrap(),
            admin_key: None,
        };
        let server = Server::bind(settings).await.unwrap();
        server.store().import_file(preferences).await.unwrap();
        let url = format!("http://{}", server.addr());
        tokio::spawn(server.serve(std::future::pending()));
        url
    }

    /// A command that runs the agent on chunks of 100, in this store or in the folder's; with `preferences`, it imports them.
    pub fn run_in(&self, store_url: Option<&str>, preferences: Option<&Path>) -> Command {
        let mut command = self.command();
        command
            .env("BATCH_CHUNK_SIZE", "100")
            .env("BATCH_LOG", "warn,punctual=info")
            .arg("run");
        if let Some(url) = store_url {
            command.env("BATCH_STORE_URL", url);
        }
        if let Some(preferences) = preferences {
            command.arg("--import").arg(preferences);
        }
        command
    }

    /// The agent's command line in this project, with its stores in the folder.
    pub fn command(&self) -> Command {
        let mut command = crate::agent::command(self.path());
        let file = |name: &str| self.path().join(name);
        command
            .env("BATCH_CONFIG_PATH", file("batch/batch_config.json"))
            .env("BATCH_PURPOSES_PATH", file("batch/purposes.json"));
        command
    }
}
