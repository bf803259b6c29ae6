//! A Config Database of someone else's making, over HTTP: records that cannot be read, pages of old changes, ids that
//! begin again. The real client follows it as the feed does, and what the server says of the others must come through.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual_application::ports::{ConfigDatabase, ConfigErrorKind, Cursor};
use punctual_domain::{ChangeKind, FeatureType, PreferenceRecord};
use punctual_infrastructure::{ClientOptions, ConfigDatabaseClient};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::outcome::{Outcome, Violation};

const STEPS: usize = 10;
/// So many calls after a change, everything is known.
const CALLS: usize = 10;
const AT: &str = "2026-03-01T08:00:00Z";

#[derive(Default)]
struct Server {
    /// Whether it names its epoch and the place of its snapshots in the feed.
    says_place: bool,
    /// What the tenants chose who can be read.
    chosen: BTreeMap<String, u32>,
    odd_groups: Vec<Value>,
    odd_tenants: Vec<Value>,
    feed: Vec<Value>,
    /// It sends so many changes again that came before those asked for.
    repeats: u64,
    /// It says that there is more where there is not.
    says_more: bool,
    /// So many answers cannot be read at all.
    garbled: u32,
}

/// A change that cannot be read, or only in part.
fn odd_change(random: &mut fastrand::Rng, id: u64) -> Value {
    let mut change = json!({"id": id, "tenant_id": "odd", "feature_type": "posts", "change": "updated",
        "changed_at": AT, "preference": {"enabled": true, "frequency": "daily"}});
    match random.u8(..12) {
        0 => change["changed_at"] = json!("yesterday"),
        1 => change["changed_at"] = json!(7),
        2 => change["changed_at"] = json!("2026-01-01 00:00:00"),
        3 => change["preference"] = json!("daily"),
        4 => change["preference"] = json!([1, 2]),
        5 => change["tenant_id"] = json!(7),
        6 => change["tenant_id"] = json!("ü /"),
        7 => change["feature_type"] = json!({"posts": true}),
        8 => change["change"] = json!(5),
        9 => return Value::Null,
        10 => return json!("change"),
        _ => change["tenant_id"] = Value::Null,
    }
    change
}

/// A tenant of a group that cannot be read.
fn odd_tenant(random: &mut fastrand::Rng) -> Value {
    match random.u8(..7) {
        0 => json!(7),
        1 => Value::Null,
        2 => json!({"tenant_id": "odd", "updated_at": "2026-01-01 00:00:00"}),
        3 => json!({"tenant_id": 7, "updated_at": AT}),
        4 => json!({"updated_at": AT}),
        5 => json!(["odd"]),
        _ => json!({"tenant_id": "odd", "updated_at": 12}),
    }
}

/// A group that cannot be read.
fn odd_group(random: &mut fastrand::Rng) -> Value {
    match random.u8(..5) {
        0 => json!({"enabled": true, "frequency": "daily", "tenants": null}),
        1 => Value::Null,
        2 => json!({"enabled": true, "frequency": "daily"}),
        3 => json!("group"),
        _ => json!({"enabled": true, "frequency": "daily", "tenants": {"odd": true}}),
    }
}

impl Server {
    fn answer(&mut self, path: &str) -> String {
        if self.garbled > 0 {
            self.garbled -= 1;
            return "<html>".into();
        }
        let answer = if path.contains("/preferences/groups") {
            self.groups()
        } else if path.contains("/preferences/changes") {
            let since = path.split("since_id=").nth(1).unwrap_or_default();
            let since = since.split('&').next().and_then(|id| id.parse().ok());
            self.changes(since.unwrap_or(0))
        } else {
            let tenant = path.split('/').rev().nth(2).unwrap_or_default();
            let preference = self.chosen.get(tenant).map(|n| preference(*n));
            json!({"config_value": {"posts": preference}, "updated_at": AT})
        };
        answer.to_string()
    }

    fn groups(&self) -> Value {
        let tenant = |(tenant, n): (&String, &u32)| json!({"tenant_id": tenant, "updated_at": AT, "template_overrides": {"n": n}});
        let mut tenants = self.odd_tenants.clone();
        tenants.extend(self.chosen.iter().map(tenant));
        let mut groups = self.odd_groups.clone();
        groups.push(json!({"enabled": true, "frequency": "daily", "tenants": tenants}));
        let mut answer = json!({ "groups": groups });
        if self.says_place {
            answer["epoch"] = json!("one");
            answer["as_of_id"] = json!(self.feed.len());
        }
        answer
    }

    fn changes(&self, since: u64) -> Value {
        let last = self.feed.len() as u64;
        let from = since.min(last).saturating_sub(self.repeats) as usize;
        let page = if since < last {
            &self.feed[from..]
        } else {
            &[]
        };
        let mut answer = json!({"changes": page, "last_id": last});
        if self.says_place {
            answer["epoch"] = json!("one");
        }
        if self.says_more {
            answer["has_more"] = json!(true);
        }
        answer
    }

    /// Something happens at the server. Returns what, and whether everything must be known afterwards.
    fn step(&mut self, random: &mut fastrand::Rng) -> String {
        let id = self.feed.len() as u64 + 1;
        match random.u8(..12) {
            0 | 1 => {
                let odd = odd_change(random, id);
                let what = format!("the change {odd}");
                self.feed.push(odd);
                what
            }
            2 => {
                let odd = odd_group(random);
                let what = format!("the group {odd}");
                self.odd_groups.push(odd);
                what
            }
            3 => {
                let odd = odd_tenant(random);
                let what = format!("the tenant {odd}");
                self.odd_tenants.push(odd);
                what
            }
            4 => {
                self.repeats = random.u64(..4);
                format!("{} changes are repeated", self.repeats)
            }
            5 => {
                self.says_more = !self.says_more;
                format!("has_more: {}", self.says_more)
            }
            6 => {
                self.garbled = random.u32(1..3);
                format!("{} answers are garbled", self.garbled)
            }
            7 if !self.says_place => {
                self.feed.clear();
                "its ids begin again".into()
            }
            _ => {
                let tenant = format!("good{}", random.u8(..4));
                let n = random.u32(..);
                let mut change = json!({"id": id, "tenant_id": tenant, "feature_type": "posts",
                    "change": "updated", "changed_at": AT});
                if random.u8(..5) == 0 {
                    self.chosen.remove(&tenant);
                    change["change"] = json!("deleted");
                } else {
                    self.chosen.insert(tenant.clone(), n);
                    if self.says_place || random.bool() {
                        change["preference"] = preference(n);
                    }
                }
                let what = format!("{tenant}: {:?}", self.chosen.get(&tenant));
                self.feed.push(change);
                what
            }
        }
    }
}

fn preference(n: u32) -> Value {
    json!({"enabled": true, "frequency": "daily", "template_overrides": {"n": n}})
}

/// Answers the calls of one connection.
async fn serve(mut stream: TcpStream, server: Arc<Mutex<Server>>) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).await?;
        if count == 0 {
            return Ok(());
        }
        read.extend_from_slice(&some[..count]);
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        let call = String::from_utf8_lossy(&std::mem::take(&mut read)).into_owned();
        let path = call.split(' ').nth(1).unwrap_or_default();
        let body = server.lock().unwrap().answer(path);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
    }
}

/// The agent's side: what it knows, kept current as the feed keeps it.
struct Follower {
    client: ConfigDatabaseClient,
    feature: FeatureType,
    cursor: Option<Cursor>,
    known: BTreeMap<String, u32>,
    /// The last error.
    error: String,
}

impl Follower {
    fn set(&mut self, tenant: &str, preference: Option<&serde_json::Map<String, Value>>) {
        let n = preference.and_then(|preference| preference["template_overrides"]["n"].as_u64());
        match n.filter(|_| tenant.starts_with("good")) {
            Some(n) => self.known.insert(tenant.to_owned(), n as u32),
            None => self.known.remove(tenant),
        };
    }

    async fn call(&mut self) {
        let Some(cursor) = self.cursor.clone() else {
            let read = async { self.client.snapshot(&self.feature).await?.collect().await };
            match read.await {
                Ok(snapshot) => {
                    self.cursor = Some(snapshot.cursor);
                    self.known.clear();
                    for PreferenceRecord {
                        tenant_id,
                        preference,
                        ..
                    } in snapshot.records
                    {
                        if tenant_id.as_str().starts_with("good") {
                            self.set(tenant_id.as_str(), Some(&preference));
                        }
                    }
                }
                Err(error) => self.error = error.message,
            }
            return;
        };
        match self
            .client
            .changes(&self.feature, &cursor, Duration::ZERO)
            .await
        {
            Ok(page) => {
                self.cursor = Some(page.cursor);
                for change in page.changes {
                    match &change.kind {
                        ChangeKind::Deleted | ChangeKind::Erased => {
                            self.set(change.tenant_id.as_str(), None);
                        }
                        ChangeKind::Upserted(preference) => {
                            if change.tenant_id.as_str().starts_with("good") {
                                self.set(change.tenant_id.as_str(), Some(preference));
                            }
                        }
                    }
                }
            }
            Err(error) => {
                if error.kind == ConfigErrorKind::CursorLost {
                    self.cursor = None;
                }
                self.error = error.message;
            }
        }
    }
}

/// Follows a server of this seed through its steps.
pub fn follow(seed: u64) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run(seed))
}

async fn run(seed: u64) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Arc::new(Mutex::new(Server {
        says_place: random.bool(),
        ..Server::default()
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shared = Arc::clone(&server);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    let mut follower = Follower {
        client: ConfigDatabaseClient::new(ClientOptions {
            attempts: 1,
            cache_ttl: Duration::ZERO,
            ..ClientOptions::new(url)
        })
        .unwrap(),
        feature: FeatureType::new("posts").unwrap(),
        cursor: None,
        known: BTreeMap::new(),
        error: String::new(),
    };
    let mut outcome = Outcome::default();
    for _ in 0..STEPS {
        let what = server.lock().unwrap().step(&mut random);
        outcome.history.push(what);
        for _ in 0..CALLS {
            follower.call().await;
            if follower.known == server.lock().unwrap().chosen && follower.cursor.is_some() {
                break;
            }
        }
        outcome.required += 1;
        let chosen = server.lock().unwrap().chosen.clone();
        if follower.known != chosen || follower.cursor.is_none() {
            outcome.violations.push(Violation {
                rule: "one record is one record's problem",
                about: String::new(),
                what: format!(
                    "{CALLS} calls later the agent knows {:?} instead of {chosen:?}: {}",
                    follower.known, follower.error
                ),
            });
            break;
        }
    }
    outcome
}
