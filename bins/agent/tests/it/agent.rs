//! An agent under test: its folder, its process, its two addresses. Its clock can be set through libfaketime,
//! which fakes the wall clock of that process only and leaves its timers alone.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// How long anything that must happen may take on a busy machine.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The agent's command line, with the repository's jobs and with stores in `folder`.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_punctual-agent"));
    let store = |name: &str| format!("sqlite://{}", folder.join(name).display());
    command
        .current_dir(repository())
        .env_remove("CONFIG_SERVICE_URL")
        .env_remove("CONFIG_SERVICE_API_KEY")
        .env_remove("BATCH_API_KEY")
        .env_remove("BATCH_LOG")
        .env("CONFIG_STORE_URL", store("config.db"))
        .env("CONFIG_LAST_KNOWN_GOOD_PATH", folder.join("known"))
        .env("BATCH_STORE_URL", store("punctual.db"))
        .env("CONFIG_HTTP_ADDR", "127.0.0.1:0")
        .env("BATCH_HTTP_ADDR", "127.0.0.1:0");
    command
}

/// Leaves out the jobs whose data comes from the shop of the demo, which does not run beside tests. Their files are in `folder`.
pub fn without_shop(command: &mut Command, folder: &Path) {
    let data = repository().join("data");
    let jobs = std::fs::read_to_string(data.join("batch/batch_config.json")).unwrap();
    let mut jobs: Value = serde_json::from_str(&jobs).unwrap();
    let all = jobs["jobs"].as_array_mut().unwrap();
    all.retain(|job| job.get("data").is_none());
    for part in ["batch", "items"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let items = "items/products.ndjson";
    std::fs::copy(data.join(items), folder.join(items)).unwrap();
    let file = folder.join("batch/batch_config.json");
    std::fs::write(&file, jobs.to_string()).unwrap();
    command.env("BATCH_CONFIG_PATH", file);
}

/// Makes the process believe that it starts at `instant`, as `2026-03-02 08:59:57` UTC.
pub fn at_time(command: &mut Command, instant: &str) {
    let library = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ]
    .into_iter()
    .map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"))
    .find(|path| path.exists())
    .expect("libfaketime is not installed; run `make setup`");
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", format!("@{instant}"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("TZ", "UTC");
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    api: String,
    config_database: String,
    config_key: Option<&'static str>,
    api_key: Option<&'static str>,
    http: Client,
}

impl Agent {
    /// Starts an agent, and waits until it is ready.
    pub fn start(mut command: Command) -> Self {
        if command.get_args().next().is_none() {
            command.arg("run");
        }
        command.args(["--ready-file", "/dev/stdout"]);
        let (mut agent, ready) = Self::launch(command);
        let Ok(addresses) = ready.recv_timeout(TEST_TIMEOUT) else {
            panic!("the agent is not ready:\n{}", agent.log().join("\n"));
        };
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        agent.api = address("api");
        agent.config_database = address("config_database");
        agent
    }

    /// Starts an agent, and waits for nothing.
    #[cfg(feature = "failpoints")]
    pub fn spawn(command: Command) -> Self {
        Self::launch(command).0
    }

    /// Starts an agent. Its addresses come when it is ready, and never if it ends before.
    fn launch(mut command: Command) -> (Self, Receiver<Value>) {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, ready) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let addresses = serde_json::from_str(&line);
                let _ = addresses.map(|addresses| sender.send(addresses));
            }
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        let agent = Self {
            child,
            log,
            api: String::new(),
            config_database: String::new(),
            config_key: None,
            api_key: None,
            http: Client::new(),
        };
        (agent, ready)
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// GETs a path of the API, unless it cannot be answered.
    pub async fn try_get(&self, path: &str) -> Option<Value> {
        let response = self.request(Method::GET, path).send().await;
        let response = response.ok()?.error_for_status().ok()?;
        response.json().await.ok()
    }

    /// GETs a path of the agent's API.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        let not_ready =
            path == "/health/ready" && response.status() == StatusCode::SERVICE_UNAVAILABLE;
        assert!(
            not_ready || response.status() == StatusCode::OK,
            "{path}: {}",
            response.status()
        );
        response.json().await.unwrap()
    }

    /// Waits for its end, whatever that is.
    pub async fn ended(mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < TEST_TIMEOUT, "{}", self.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls the API with a body, expects success and returns what it answers.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let call = self.request(method, path).body(body.to_string());
        let response = call.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let answer = self.request(Method::GET, "/metrics").send().await.unwrap();
        let text = answer.text().await.unwrap();
        let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        text.lines().find_map(value)
    }

    /// A call of the API, with the key if one was given.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let call = self.http.request(method, format!("{}{path}", self.api));
        match self.api_key {
            Some(key) => call.bearer_auth(key),
            None => call,
        }
    }

    /// Calls the API with this key from now on.
    pub fn with_api_key(mut self, key: &'static str) -> Self {
        self.api_key = Some(key);
        self
    }

    pub fn api(&self) -> &str {
        &self.api
    }

    /// The embedded Config Database's address.
    pub fn config_url(&self) -> &str {
        &self.config_database
    }

    /// Calls the embedded Config Database with this key from now on.
    pub fn with_config_key(mut self, key: &'static str) -> Self {
        self.config_key = Some(key);
        self
    }

    /// A call of the embedded Config Database, with the key if one was given.
    pub fn config_request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1/{path}", self.config_database);
        let call = self.http.request(method, url);
        match self.config_key {
            Some(key) => call.bearer_auth(key),
            None => call,
        }
    }

    /// A page of the embedded Config Database, which asks for no key.
    pub async fn config_page(&self, path: &str) -> String {
        let url = format!("{}{path}", self.config_database);
        let response = self.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }

    /// Asks a path of the embedded Config Database until the answer fulfils the condition.
    pub async fn until_config(&self, path: &str, condition: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        loop {
            let answer = self.config(Method::GET, path, &Value::Null).await;
            if condition(&answer) {
                return;
            }
            assert!(began.elapsed() < TEST_TIMEOUT, "{path}: {answer:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Calls the embedded Config Database, expects success and returns what it answers, if anything.
    pub async fn config(&self, method: Method, path: &str, body: &Value) -> Value {
        let call = self.config_request(method, path).body(body.to_string());
        let response = call.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Lets the embedded Config Database forget what a feature's jobs are, so that it takes what they cannot run.
    pub async fn forget_jobs(&self, feature: &str) {
        let path = format!("feature-types/{feature}/jobs");
        self.config(Method::PUT, &path, &json!({"jobs": {}})).await;
    }

    /// Asks a path of the API until the answer fulfils the condition, and returns it.
    pub async fn until(&self, path: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.until_within(TEST_TIMEOUT, path, condition).await
    }

    pub async fn until_within(
        &self,
        patience: Duration,
        path: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.get(path).await;
            if condition(&answer) {
                return answer;
            }
            assert!(
                began.elapsed() < patience,
                "{path} did not come to what was waited for:\n{answer:#}\n{}",
                self.log().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a line of the log contains this.
    pub async fn until_logged(&self, part: &str) {
        let began = Instant::now();
        while !self.log().iter().any(|line| line.contains(part)) {
            assert!(
                began.elapsed() < TEST_TIMEOUT,
                "the log does not contain {part}:\n{}",
                self.log().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every entry of a paged list.
    pub async fn all(&self, path: &str, list: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut cursor = String::new();
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = self
                .get(&format!("{path}{separator}limit=1000{cursor}"))
                .await;
            entries.extend(page[list].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return entries,
            }
        }
    }

    /// kill -9: the process gets no chance to do anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(self) -> ExitStatus {
        self.terminate_within(TEST_TIMEOUT)
    }

    /// SIGTERM, and how it ended, which it has to within this time.
    pub fn terminate_within(mut self, patience: Duration) -> ExitStatus {
        self.ask_to_end();
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                began.elapsed() < patience,
                "still running {patience:?} after SIGTERM:\n{}",
                self.log().join("\n")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
