//! A real browser: headless Chromium, driven through `ChromeDriver`.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a page may take on a busy machine to become what it must.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A browser with a profile of its own; both processes end with it.
pub struct Browser {
    pub client: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Opens a window of this size.
    pub async fn open(width: u32, height: u32) -> Self {
        Self::open_with(width, height, &[], &json!({})).await
    }

    /// The same, with more arguments and with preferences of Chromium.
    pub async fn open_with(width: u32, height: u32, more: &[&str], preferences: &Value) -> Self {
        Self::launch(width, height, more, json!({"prefs": preferences})).await
    }

    /// Opens a screen of this width, which may be narrower than any window: that of a phone, or of one that shows all at 200 %.
    pub async fn screen(width: u32) -> Self {
        let metrics = json!({"width": width, "height": 844, "pixelRatio": 1.0, "touch": false});
        let emulation = json!({"mobileEmulation": {"deviceMetrics": metrics}});
        Self::launch(1200, 1000, &[], emulation).await
    }

    async fn launch(width: u32, height: u32, more: &[&str], mut options: Value) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("ChromeDriver is not installed; run `make setup`");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once("started successfully on port ")?;
                Some(rest.trim_end_matches('.').to_owned())
            })
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let own = [
            format!("--user-data-dir={}", profile.path().display()),
            format!("--window-size={width},{height}"),
        ];
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        let arguments = arguments
            .iter()
            .chain(more)
            .map(|argument| (*argument).to_owned());
        let arguments: Vec<String> = arguments.chain(own).collect();
        options["binary"] = json!("/usr/bin/chromium");
        options["args"] = json!(arguments);
        let capabilities = json!({"goog:chromeOptions": options});
        let Value::Object(capabilities) = capabilities else {
            unreachable!("an object")
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium is not installed; run `make setup`");
        Self {
            client,
            driver,
            _profile: profile,
        }
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub async fn find(&self, selector: &str) -> Element {
        let found = self.client.find(Locator::Css(selector)).await;
        found.unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    pub async fn text(&self, selector: &str) -> String {
        self.find(selector).await.text().await.unwrap()
    }

    /// Clicks what leads to another page, and waits until it is there.
    pub async fn press(&self, selector: &str) {
        self.run("window.leaving = true").await;
        self.find(selector).await.click().await.unwrap();
        self.until("return !window.leaving && document.readyState === 'complete'")
            .await;
    }

    /// Puts a value in as a person does, by its events.
    pub async fn fill(&self, selector: &str, value: &str) {
        let script =
            "const field = document.querySelector(arguments[0]); field.value = arguments[1];
            field.dispatchEvent(new Event('input', {bubbles: true}));";
        let found = self
            .client
            .execute(script, vec![json!(selector), json!(value)])
            .await;
        found.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap()
    }

    /// How much of what was in sight has moved by itself since the page began to show, as browsers measure it: up to 0.1 is
    /// called good.
    pub async fn moved(&self) -> f64 {
        let script = "const observer = new PerformanceObserver(() => {});
            observer.observe({type: 'layout-shift', buffered: true});
            return observer.takeRecords().reduce((sum, shift) => sum + shift.value, 0);";
        self.run(script).await.as_f64().unwrap()
    }

    /// Runs a script until it returns true.
    pub async fn until(&self, script: &str) {
        let began = Instant::now();
        // While a page goes and another comes, there is nothing to run it in.
        while !matches!(
            self.client.execute(script, vec![]).await,
            Ok(Value::Bool(true))
        ) {
            if began.elapsed() > TEST_TIMEOUT {
                let page = self.client.source().await.unwrap_or_default();
                panic!("`{script}` does not become true on\n{page}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn close(self) {
        let _ = self.client.clone().close().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver's group: also the browser, when a test has failed and not closed it.
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.driver.wait();
    }
}
