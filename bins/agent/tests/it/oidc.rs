//! Operators who sign in at a real identity provider (`tests/with-oidc.sh`), over plain HTTP, as a browser would.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect::Policy};
use serde_json::{Value, json};

use crate::{
    agent::{Agent, command, repository, without_shop},
    common::free_port,
};

const SECRET: &str = "canary-secret-of-the-client";
const JOB: &str = "etsy_analysis";

/// The provider; killed when dropped.
struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    fn start(redirect: &str, in_id_token: bool) -> Self {
        let node = std::env::var("TEST_NODE").expect("run it under tests/with-oidc.sh");
        let mut child = Command::new(node)
            .arg(repository().join("tests/oidc/provider.mjs"))
            .env("CLIENT_SECRET", SECRET)
            .env("REDIRECT_URL", redirect)
            .env("IN_ID_TOKEN", if in_id_token { "yes" } else { "no" })
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let issuer = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("Listening on ").map(str::to_owned)
        });
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            issuer: issuer.expect("the provider tells its address"),
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser: it keeps cookies, by host as browsers do, and follows redirects.
struct Visitor {
    http: Client,
    cookies: BTreeMap<String, String>,
    url: Url,
}

impl Visitor {
    fn new() -> Self {
        let http = Client::builder().redirect(Policy::none()).no_proxy();
        Self {
            http: http.build().unwrap(),
            cookies: BTreeMap::new(),
            url: "http://127.0.0.1/".parse().unwrap(),
        }
    }

    async fn open(&mut self, url: &str) -> (StatusCode, String) {
        let url = self.url.join(url).unwrap();
        let request = self.http.get(url.clone());
        self.follow(url, request).await
    }

    async fn submit(&mut self, url: &str, form: &str) -> (StatusCode, String) {
        let url = self.url.join(url).unwrap();
        let request = self.http.post(url.clone()).body(form.to_owned());
        let kind = "application/x-www-form-urlencoded";
        self.follow(url, request.header("content-type", kind)).await
    }

    async fn follow(&mut self, mut url: Url, mut request: RequestBuilder) -> (StatusCode, String) {
        for _ in 0..10 {
            let answer = self.send(request).await;
            self.url = url.clone();
            let Some(to) = answer.headers().get("location") else {
                let status = answer.status();
                return (status, answer.text().await.unwrap());
            };
            url = url.join(to.to_str().unwrap()).unwrap();
            request = self.http.get(url.clone());
        }
        panic!("{url} leads in circles");
    }

    async fn send(&mut self, request: RequestBuilder) -> Response {
        let pairs = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let cookies: Vec<String> = pairs.collect();
        let answer = request.header("cookie", cookies.join("; ")).send().await;
        let answer = answer.unwrap();
        for set in answer.headers().get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    /// Signs in at the provider, from the page of the agent on.
    async fn sign_in(&mut self, agent: &Agent, name: &str) -> (StatusCode, String) {
        let begin = format!("{}/sign-in/oidc/begin?next=/jobs", agent.api());
        let (status, form) = self.open(&begin).await;
        assert_eq!(status, StatusCode::OK, "{form}");
        let action = form.split("action=\"").nth(1).expect("a form");
        let action = action.split('"').next().unwrap().to_owned();
        let filled = format!("prompt=login&login={name}&password=any");
        self.submit(&action, &filled).await
    }
}

async fn signs_in_with_the_role_of_the_groups(in_id_token: bool) {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let base = format!("http://127.0.0.1:{port}");
    let provider = Provider::start(&format!("{base}/sign-in/oidc"), in_id_token);
    let mut command = command(folder.path());
    without_shop(&mut command, folder.path());
    command
        .env("BATCH_HTTP_ADDR", format!("127.0.0.1:{port}"))
        .env("BATCH_PUBLIC_URL", &base)
        .env("BATCH_OIDC_ISSUER", &provider.issuer)
        .env("BATCH_OIDC_CLIENT_ID", "punctual")
        .env("BATCH_OIDC_CLIENT_SECRET", SECRET)
        .env(
            "BATCH_OIDC_ROLES",
            "view=staff,operate=oncall,administer=admins",
        );
    let agent = Agent::start(command);
    let refused = Client::new()
        .get(format!("{base}/api/v1/jobs"))
        .send()
        .await;
    assert_eq!(refused.unwrap().status(), StatusCode::UNAUTHORIZED);

    let page = format!("{base}/jobs/{JOB}");
    for (name, may_operate) in [
        ("eve.staff", false),
        ("bob.staff.oncall", true),
        ("ann.admins", true),
    ] {
        let mut visitor = Visitor::new();
        let (status, text) = visitor.sign_in(&agent, name).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert!(text.contains("You are signed in"), "{text}");
        let (status, text) = visitor.open(&page).await;
        assert_eq!(status, StatusCode::OK, "{name}");
        assert_eq!(text.contains("id=\"run\""), may_operate, "{name}: {text}");
        let (status, _) = visitor.submit(&page, "action=pause&reason=a+deploy").await;
        assert_eq!(status == StatusCode::OK, may_operate, "{name}: {status}");
        let (_, log) = visitor.open(&format!("{base}/audit-log")).await;
        let person = name.split('.').next().unwrap();
        let by = format!("{person}@shop.example (OIDC)");
        assert_eq!(log.contains(&by), may_operate, "{name}: {log}");
        visitor.submit(&format!("{base}/sign-out"), "").await;
        visitor.open(&page).await;
        assert_eq!(visitor.url.path(), "/sign-in", "{name} has signed out");
    }

    let mut stranger = Visitor::new();
    let (status, text) = stranger.sign_in(&agent, "mallory.visitors").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        text.contains("mallory@shop.example is in none of the groups"),
        "{text}"
    );

    // What was begun in one browser does not end in another.
    let mut victim = Visitor::new();
    let (status, text) = victim
        .open(&format!("{base}/sign-in/oidc?code=c&state=s"))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");

    assert!(!agent.log().join("\n").contains(SECRET));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn operators_sign_in_at_an_identity_provider_that_tells_groups_at_its_userinfo_endpoint() {
    signs_in_with_the_role_of_the_groups(false).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn operators_sign_in_at_an_identity_provider_that_tells_groups_in_its_tokens() {
    signs_in_with_the_role_of_the_groups(true).await;
}

/// The agent that an operator's key opens, from the command line.
#[tokio::test]
async fn keys_are_made_used_and_revoked_on_the_command_line() {
    const KEY: &str = "an-operators-key-of-32-characters";
    let folder = tempfile::tempdir().unwrap();
    let mut run = command(folder.path());
    without_shop(&mut run, folder.path());
    run.env("BATCH_API_KEY", KEY);
    let agent = Agent::start(run).with_api_key(KEY);
    let address = agent.api().trim_start_matches("http://").to_owned();
    let ask = |key: &str, arguments: &[&str]| {
        let mut ask = command(folder.path());
        let asked = ask
            .env("BATCH_HTTP_ADDR", &address)
            .env("BATCH_API_KEY", key)
            .args(arguments)
            .output()
            .unwrap();
        let (out, wrong) = (asked.stdout, asked.stderr);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (asked.status.code(), text(out), text(wrong))
    };
    let add = [
        "keys",
        "add",
        "ann",
        "--role",
        "view",
        "--expires-in",
        "30",
        "--json",
    ];
    let (code, made, wrong) = ask(KEY, &add);
    assert_eq!(code, Some(0), "{wrong}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let ann = made["key"].as_str().unwrap();
    let (code, _, wrong) = ask(ann, &["pause", JOB]);
    assert_eq!(code, Some(2));
    assert!(
        wrong.contains("role `operate`") && wrong.contains("ann (key)"),
        "{wrong}"
    );
    let (code, listed, _) = ask(KEY, &["keys", "list"]);
    assert_eq!(code, Some(0));
    assert!(listed.contains("ann") && !listed.contains(ann), "{listed}");
    let (code, ..) = ask(KEY, &["pause", JOB, "--reason", "ein Umzug nach Köln"]);
    assert_eq!(code, Some(0));
    let (code, revoked, wrong) = ask(KEY, &["keys", "revoke", "ann"]);
    assert_eq!(code, Some(0), "{revoked}{wrong}");
    assert_eq!(ask(ann, &["jobs"]).0, Some(2));
    let (_, log, _) = ask(KEY, &["audit-log", "--export", "--since", "2020-01-01"]);
    let entries: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let actions: Vec<&str> = entries
        .iter()
        .map(|one| one["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["revoke_key", "pause", "add_key"]);
    assert_eq!(entries[1]["by"], "operator (key)");
    assert_eq!(entries[1]["reason"], "ein Umzug nach Köln");
    let keys = agent.call(Method::GET, "/api/v1/keys", &json!({})).await;
    assert_eq!(keys["keys"], json!([]));
}
