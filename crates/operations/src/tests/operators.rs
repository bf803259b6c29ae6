//! Who may do what: each call and each form, with each role, by key, session, proxy and service around.

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    body::to_bytes,
    http::{StatusCode, header},
    response::Response,
};
use punctual_application::{
    Actor, NamedAlertChannel, NewOperatorKey,
    ports::{Fence, FenceState, MockAlertChannel},
};
use punctual_domain::{FenceMark, KnownMarks};
use serde_json::Map;

use super::*;

const OWN_KEY: &str = "an-operators-key-of-32-characters";

/// Two replicas on one store, and a key for each role.
struct Replicas {
    replicas: [Router; 2],
    operator: Operator,
    keys: Vec<(Role, String)>,
}

/// A request, from loopback.
struct Call<'c> {
    method: &'c str,
    path: &'c str,
    headers: Vec<(&'c str, String)>,
    body: String,
    peer: IpAddr,
}

impl<'c> Call<'c> {
    fn new(method: &'c str, path: &'c str) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body: String::new(),
            peer: Ipv4Addr::LOCALHOST.into(),
        }
    }

    fn with(mut self, name: &'c str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn key(self, key: &str) -> Self {
        self.with("authorization", &format!("Bearer {key}"))
    }

    fn form(self, fields: &str) -> Self {
        let body = fields.to_owned();
        let form = self.with("content-type", "application/x-www-form-urlencoded");
        Self { body, ..form }
    }

    async fn send(self, router: &Router) -> Response {
        let request = axum::http::Request::builder()
            .method(self.method)
            .uri(self.path)
            .header("host", "localhost")
            .extension(ConnectInfo(SocketAddr::new(self.peer, 9)));
        let add = |request: axum::http::request::Builder, (name, value): &(&str, String)| {
            request.header(*name, value)
        };
        let request = self.headers.iter().fold(request, add);
        let request = request.body(Body::from(self.body)).unwrap();
        let Ok(response) = router.clone().oneshot(request).await;
        response
    }
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

fn router(operator: &Operator, access: Access, sign_in: SignIn) -> Router {
    let stop = CancellationToken::new();
    // What is not over is answered at once.
    stop.cancel();
    router_until(stop, operator, access, sign_in)
}

fn router_until(
    stop: CancellationToken,
    operator: &Operator,
    access: Access,
    sign_in: SignIn,
) -> Router {
    Operations {
        operator: operator.clone(),
        stop,
        access,
        sign_in,
        metrics: None,
        words: Words::default(),
        config_database: None,
    }
    .router()
}

fn own_key() -> Access {
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    Access::key(OWN_KEY.into(), address).unwrap()
}

async fn replicas() -> Replicas {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = operator(&store);
    let mut channel = MockAlertChannel::new();
    channel.expect_send().returning(|_| Ok(String::new()));
    operator.alerting.channels = Arc::new([NamedAlertChannel {
        name: "webhook".to_owned(),
        target: None,
        channel: Arc::new(channel),
    }]);
    let mut keys = Vec::new();
    for role in Role::ALL {
        let new = NewOperatorKey {
            name: format!("{role}-er"),
            role,
            expires_in_days: None,
        };
        let made = operator.add_key(&Actor::from("a test"), &new).await;
        keys.push((role, made.unwrap().key));
    }
    let replica = || router(&operator, own_key(), SignIn::default());
    Replicas {
        replicas: [replica(), replica()],
        keys,
        operator,
    }
}

impl Replicas {
    fn key(&self, role: Role) -> &str {
        &self.keys.iter().find(|(of, _)| *of == role).unwrap().1
    }

    /// The cookie of a session that begins with this key.
    async fn sign_in(&self, key: &str) -> String {
        // A key that was copied brings a blank along.
        let form = format!("key=+{key}+&next=/jobs");
        let call = Call::new("POST", "/sign-in").form(&form);
        let answer = call.send(&self.replicas[0]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        // `punctual_session` is that of the Config Database, and a browser sends both to every port of a host.
        assert!(cookie.starts_with("punctual_operations="), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_needs_its_role() {
    let (replicas, description) = (replicas().await, json!(description()));
    let administered = [
        "/api/v1/keys",
        "/api/v1/keys/{name}",
        "/api/v1/tenants/{tenant_id}",
        "/api/v1/tenants/{tenant_id}/export",
    ];
    let mut refused = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        if !path.starts_with("/api/v1/") || path.starts_with("/api/v1/waiting/{") {
            continue;
        }
        let methods: &Map<String, Value> = methods.as_object().unwrap();
        for (method, described) in methods {
            let needed = match method.as_str() {
                _ if administered.contains(&path.as_str()) => Role::Administer,
                "get" => Role::View,
                _ => Role::Operate,
            };
            let says = described["description"].as_str().unwrap_or_default();
            let text_of_role = format!("Needs the role `{needed}`.");
            assert!(says.ends_with(&text_of_role), "{method} {path}: {says}");
            let filled = path.replace(['{', '}'], "");
            for (role, key) in &replicas.keys {
                let method = method.to_uppercase();
                let call = Call::new(&method, &filled).key(key);
                let answer = call.send(&replicas.replicas[0]).await;
                let forbidden = answer.status() == StatusCode::FORBIDDEN;
                assert_eq!(forbidden, *role < needed, "{method} {path} as {role}");
                assert_ne!(answer.status(), StatusCode::UNAUTHORIZED);
                if forbidden {
                    let text = text(answer).await;
                    for part in [needed.as_str(), role.as_str(), "-er (key)"] {
                        assert!(text.contains(part), "{part}: {text}");
                    }
                    refused += 1;
                }
            }
            let call = Call::new("GET", &filled);
            let answer = call.send(&replicas.replicas[0]).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    assert!(refused > 15, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_page_offers_and_takes_what_the_role_allows() {
    let replicas = replicas().await;
    for (role, may) in [(Role::View, false), (Role::Operate, true)] {
        let cookie = replicas.sign_in(replicas.key(role)).await;
        for path in [
            "/",
            "/jobs",
            "/jobs/posts",
            "/tenants/ann",
            "/audit-log",
            "/replicas",
        ] {
            let call = Call::new("GET", path).with("cookie", &cookie);
            let answer = call.send(&replicas.replicas[1]).await;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            let text = text(answer).await;
            let forms = text.matches("method=\"post\"").count();
            let sign_out = text.matches("/sign-out\"").count();
            assert_eq!(sign_out, 1, "{path}");
            if ["/jobs/posts", "/tenants/ann", "/replicas"].contains(&path) {
                assert_eq!(forms > sign_out, may, "{path} as {role}: {text}");
            } else if !may {
                assert_eq!(forms, sign_out, "{path}: {text}");
            }
        }
        let pause = Call::new("POST", "/jobs/posts").with("cookie", &cookie);
        let answer = pause.form("action=pause&reason=a+deploy");
        let answer = answer.send(&replicas.replicas[1]).await;
        let expected = if may {
            StatusCode::SEE_OTHER
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(answer.status(), expected, "{role}");
    }
    let filter = punctual_application::ports::AuditFilter {
        action: Some("pause".to_owned()),
        subject: None,
    };
    let page = Page {
        cursor: None,
        limit: 10,
    };
    let log = replicas.operator.operations.audit_log(&filter, &page);
    let (entries, _) = log.await.unwrap();
    assert_eq!(entries.len(), 1, "what is refused is not done");
    let entry = &entries[0];
    assert_eq!(entry.by, "operate-er (key)");
    assert_eq!(entry.reason.as_deref(), Some("a deploy"));
}

#[tokio::test(start_paused = true)]
async fn the_page_erases_and_gives_out_tenants_for_the_role_that_the_api_asks_for() {
    let replicas = replicas().await;
    for (role, key) in &replicas.keys {
        let cookie = replicas.sign_in(key).await;
        let ask = async |call: Call<'_>| {
            let call = call.with("cookie", &cookie);
            call.send(&replicas.replicas[0]).await
        };
        let may = *role == Role::Administer;
        let page = text(ask(Call::new("GET", "/tenants/ann")).await).await;
        for offered in ["/tenants/ann/export", "/tenants/ann/erase"] {
            assert_eq!(page.contains(offered), may, "{offered} as {role}");
        }
        let export = ask(Call::new("GET", "/tenants/ann/export")).await;
        assert_eq!(export.status() == StatusCode::OK, may, "{role}");
        let erase = Call::new("POST", "/tenants/ann/erase").form("confirmed=yes");
        let erased = ask(erase).await;
        assert_eq!(erased.status() == StatusCode::SEE_OTHER, may, "{role}");
        for refused in [export, erased].into_iter().filter(|_| !may) {
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{role}");
            let text = text(refused).await;
            assert!(text.contains("administer"), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_ends_its_sessions_on_every_replica_at_once() {
    let replicas = replicas().await;
    let key = replicas.key(Role::Operate);
    let (cookie, own) = (replicas.sign_in(key).await, replicas.sign_in(OWN_KEY).await);
    let look = async |cookie: &str| {
        let mut seen = Vec::new();
        for replica in &replicas.replicas {
            let call = Call::new("GET", "/jobs").with("cookie", cookie);
            seen.push(call.send(replica).await.status());
        }
        seen
    };
    assert_eq!(look(&cookie).await, [StatusCode::OK; 2]);
    let revoke = Call::new("DELETE", "/api/v1/keys/operate-er");
    let revoke = revoke.key(replicas.key(Role::Administer));
    let revoke = revoke.with("punctual-reason", "left the team");
    let answer = revoke.send(&replicas.replicas[0]).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(look(&cookie).await, [StatusCode::SEE_OTHER; 2]);
    assert_eq!(look(&own).await, [StatusCode::OK; 2]);
    let call = Call::new("GET", "/api/v1/jobs").key(key);
    let answer = call.send(&replicas.replicas[1]).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);

    // Signing out ends a session; the id that the audit log keeps of it opens nothing.
    let out = Call::new("POST", "/sign-out").with("cookie", &own).form("");
    out.send(&replicas.replicas[0]).await;
    assert_eq!(look(&own).await[0], StatusCode::SEE_OTHER);
    let export = Call::new("GET", "/api/v1/audit-log?format=ndjson&since=2026-03-01");
    let export = export.key(OWN_KEY).send(&replicas.replicas[1]).await;
    let lines = text(export).await;
    let log: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let actions: Vec<&str> = log
        .iter()
        .map(|one| one["action"].as_str().unwrap())
        .collect();
    let expected = ["sign_out", "revoke_key", "add_key", "add_key", "add_key"];
    assert_eq!(actions, expected, "the newest come first");
    assert_eq!(log[0]["by"], "operator (key)");
    assert_eq!(log[1]["by"], "administer-er (key)");
    assert_eq!(log[1]["reason"], "left the team");
    assert!(!lines.contains(key) && !lines.contains(OWN_KEY));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_ends_with_the_key_that_it_was_asked_for_with() {
    let replicas = replicas().await;
    let stop = CancellationToken::new();
    let replica = router_until(stop, &replicas.operator, own_key(), SignIn::default());
    let stream = async |key: &str| {
        let call = Call::new("GET", "/api/v1/events").key(key);
        let answer = call.send(&replica).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer
    };
    let (revoked, own) = (
        stream(replicas.key(Role::View)).await,
        stream(OWN_KEY).await,
    );
    let actor = Actor::from("a test");
    replicas
        .operator
        .revoke_key(&actor, "view-er")
        .await
        .unwrap();
    let minute = std::time::Duration::from_mins(1);
    let end = async |answer| tokio::time::timeout(minute, text(answer)).await;
    assert!(end(revoked).await.is_ok());
    assert!(end(own).await.is_err(), "it goes on");
}

#[tokio::test(start_paused = true)]
async fn who_has_a_cookie_cannot_try_keys_of_the_configuration_against_its_seal() {
    let (one, other) = (replicas().await, replicas().await);
    let cookie = one.sign_in(OWN_KEY).await;
    let elsewhere = router(&one.operator, Access::accounts(), SignIn::default());
    for (replica, expected) in [
        (&one.replicas[1], StatusCode::OK),
        // The same key is not enough without the secret of the store, nor the secret without the key.
        (&other.replicas[0], StatusCode::SEE_OTHER),
        (&elsewhere, StatusCode::SEE_OTHER),
    ] {
        let call = Call::new("GET", "/jobs").with("cookie", &cookie);
        assert_eq!(call.send(replica).await.status(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reason_is_one_line_of_limited_length_and_an_export_is_asked_for_well() {
    let replicas = replicas().await;
    let status = async |path: &str, method: &str, reason: Option<&str>| {
        let mut call = Call::new(method, path).key(OWN_KEY);
        if let Some(reason) = reason {
            call = call.with("punctual-reason", reason);
        }
        call.send(&replicas.replicas[0]).await.status()
    };
    let pause = "/api/v1/jobs/posts/pause";
    for (reason, expected) in [
        ("für den Umzug", StatusCode::OK),
        ("  ", StatusCode::OK),
        ("\u{202e}", StatusCode::BAD_REQUEST),
        (&"a".repeat(501), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(
            status(pause, "POST", Some(reason)).await,
            expected,
            "{reason}"
        );
    }
    for wrong in [
        "format=csv",
        "since=2026-03-01",
        "format=ndjson&since=monday",
    ] {
        let path = format!("/api/v1/audit-log?{wrong}");
        assert_eq!(
            status(&path, "GET", None).await,
            StatusCode::BAD_REQUEST,
            "{wrong}"
        );
    }
    let later = "/api/v1/audit-log?format=ndjson&since=2027-01-01T00:00:00Z";
    assert_eq!(status(later, "GET", None).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_trusted_proxy_names_operators_and_no_one_else_does() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let proxy = TrustedProxy {
        header: "x-forwarded-user".parse().unwrap(),
        proxies: "10.0.0.0/8".parse().unwrap(),
        roles: "view=*,operate=ann@shop.example".parse().unwrap(),
    };
    let sign_in = SignIn {
        proxy: Some(proxy),
        oidc: None,
    };
    let router = router(&operator, Access::accounts(), sign_in);
    let pause = async |peer: [u8; 4], name: &str, path: &str| {
        let call = Call::new("POST", path).with("x-forwarded-user", name);
        let call = Call {
            peer: Ipv4Addr::from(peer).into(),
            ..call.form("action=pause")
        };
        call.send(&router).await.status()
    };
    for (path, done) in [
        ("/api/v1/jobs/posts/pause", StatusCode::OK),
        ("/jobs/posts", StatusCode::SEE_OTHER),
    ] {
        assert_eq!(pause([10, 0, 0, 7], "ann@shop.example", path).await, done);
        let refused = pause([10, 0, 0, 7], "bob@shop.example", path).await;
        assert_eq!(refused, StatusCode::FORBIDDEN);
        let elsewhere = pause([192, 0, 2, 1], "ann@shop.example", path).await;
        assert_eq!(elsewhere, StatusCode::UNAUTHORIZED, "{path}");
    }
    let call = Call::new("GET", "/api/v1/jobs").send(&router).await;
    assert_eq!(call.status(), StatusCode::UNAUTHORIZED, "without a name");
    let page = Call::new("GET", "/jobs").send(&router).await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER, "to the sign-in page");
}

#[tokio::test(start_paused = true)]
async fn a_service_around_says_who_asks_and_with_which_role() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let guarded = || router(&operator, Access::guarded(), SignIn::default());
    let status = async |router: &Router, method: &str, path: &str| {
        let call = Call::new(method, path).form("action=pause");
        call.send(router).await.status()
    };
    let eve = Actor::from("eve of the night shift");
    let all = guarded().layer(axum::Extension(eve));
    assert_eq!(status(&all, "GET", "/api/v1/keys").await, StatusCode::OK);
    assert_eq!(
        status(&all, "POST", "/jobs/posts").await,
        StatusCode::SEE_OTHER
    );
    let view = all.layer(axum::Extension(Role::View));
    for (method, path, expected) in [
        ("GET", "/api/v1/jobs", StatusCode::OK),
        ("GET", "/jobs", StatusCode::OK),
        ("GET", "/api/v1/keys", StatusCode::FORBIDDEN),
        ("POST", "/api/v1/jobs/posts/pause", StatusCode::FORBIDDEN),
        ("POST", "/jobs/posts", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(
            status(&view, method, path).await,
            expected,
            "{method} {path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_only_looks_is_not_offered_to_decide_about_a_restored_store() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let (mut known, now) = (KnownMarks::default(), NOW.parse().unwrap());
    let FenceState::Marked(mark) = store.mark(&known, now).await.unwrap() else {
        panic!("the store is held");
    };
    known.note(FenceMark {
        number: mark.number + 10,
        ..mark
    });
    store.mark(&known, now).await.unwrap();
    let router = router(&operator, Access::guarded(), SignIn::default());
    for (role, may) in [(Role::View, false), (Role::Operate, true)] {
        let router = router
            .clone()
            .layer(axum::Extension(role))
            .layer(axum::Extension(Actor::from("ann")));
        let page = text(Call::new("GET", "/restore").send(&router).await).await;
        assert!(page.contains("restored from an older copy"), "{page}");
        assert_eq!(page.contains("action=\"/restore\""), may, "{role}: {page}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_leaves_signing_in_with_a_key_and_only_what_was_begun_here_ends() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let oidc = Oidc::new(OidcSettings {
        issuer: "http://127.0.0.1:9".to_owned(),
        client_id: "punctual".to_owned(),
        client_secret: None,
        groups_claim: "groups".to_owned(),
        roles: "view=staff".parse().unwrap(),
        public_url: "http://localhost".to_owned(),
        http: reqwest::Client::default(),
    });
    let sign_in = SignIn {
        oidc: Some(Arc::new(oidc.unwrap())),
        proxy: None,
    };
    let router = router(&operator, own_key(), sign_in);
    let open = async |path: &str| {
        let answer = Call::new("GET", path).send(&router).await;
        (answer.status(), text(answer).await)
    };
    let (status, page) = open("/sign-in?next=/jobs").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("/sign-in/oidc/begin?next=/jobs"), "{page}");
    let (status, page) = open("/sign-in/oidc/begin?next=/jobs").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        page.contains("does not answer") && page.contains("name=\"key\""),
        "{page}"
    );
    for query in ["code=c&state=s", "state=s", "error=access_denied", "code=c"] {
        let (status, page) = open(&format!("/sign-in/oidc?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(page.contains("Begin again"), "{page}");
    }
    let form = format!("key={OWN_KEY}&next=/jobs");
    let call = Call::new("POST", "/sign-in").form(&form);
    assert_eq!(call.send(&router).await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test(start_paused = true)]
async fn without_a_provider_no_one_signs_in_there() {
    let replicas = replicas().await;
    for path in ["/sign-in/oidc", "/sign-in/oidc/begin"] {
        let call = Call::new("GET", path).send(&replicas.replicas[0]).await;
        assert_eq!(call.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
