//! The pages, as far as no browser is needed: who sees what, and what is refused. `bins/agent/tests` uses them in
//! Chromium.

use std::collections::BTreeSet;

use punctual_config_database::{NewKey, Scope};
use punctual_domain::TenantId;
use reqwest::{Client, Response, redirect::Policy};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::server::{Kind, Running, key, on_both_databases_and_below_a_path, start, start_in};

on_both_databases_and_below_a_path! {
    each_key_opens_its_own_pages_only
    a_session_ends_with_its_key_and_by_signing_out
    a_form_without_its_token_changes_nothing
    what_the_form_does_not_know_is_kept_and_nothing_is_overwritten_unseen
    every_address_on_a_page_is_there_and_below_the_path
    groups_show_the_interval_and_the_dates
    everything_can_be_exported_and_imported_again
}

/// A browser without eyes: it keeps its cookie and follows nothing.
pub struct Visitor {
    pub server: String,
    pub http: Client,
    pub cookie: Option<String>,
}

impl Visitor {
    pub fn new(server: &Running) -> Self {
        Self {
            server: server.url.clone(),
            http: Client::builder().redirect(Policy::none()).build().unwrap(),
            cookie: None,
        }
    }

    pub async fn signed_in(server: &Running, key: &str) -> Self {
        let mut visitor = Self::new(server);
        let response = visitor.post("/sign-in", &[("key", key)]).await;
        assert_eq!(response.status(), 303);
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
            "{cookie}"
        );
        assert!(!cookie.contains(key), "the cookie is not the key");
        let path = format!("; Path={};", address(server, "/"));
        assert!(cookie.contains(&path), "{cookie}");
        visitor.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        visitor
    }

    pub async fn get(&self, path: &str) -> Response {
        let url = format!("{}{path}", self.server);
        let mut call = self.http.get(url.trim_end_matches('/'));
        if let Some(cookie) = &self.cookie {
            call = call.header("cookie", cookie);
        }
        call.send().await.unwrap()
    }

    pub async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(response.headers()["cache-control"], "no-store");
        response.text().await.unwrap()
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let mut call = self.http.post(format!("{}{path}", self.server)).form(form);
        if let Some(cookie) = &self.cookie {
            call = call.header("cookie", cookie);
        }
        call.send().await.unwrap()
    }
}

/// The address of a page, as links and redirects name it.
pub fn address(server: &Running, path: &str) -> String {
    match server.place.root {
        "" => path.to_owned(),
        root => format!("{root}{}", path.trim_end_matches('/')),
    }
}

/// The value of a hidden field.
pub fn hidden(html: &str, name: &str) -> String {
    let (_, after) = html
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap();
    after.split('"').next().unwrap().to_owned()
}

async fn server_with_keys(kind: Kind) -> (Running, String) {
    let server = start_in(kind.place().await, Some("admin-key")).await;
    let of_a = NewKey {
        name: "page of a".into(),
        scope: Scope::Write,
        tenant_id: Some(TenantId::new("a").unwrap()),
    };
    let key = server.store.create_key(&of_a).await.unwrap();
    let url = format!(
        "{}/api/v1/tenants/a/configs/feature_preferences",
        server.url
    );
    let body =
        json!({"config_value": {"f": {"enabled": true, "frequency": "daily", "own": {"kept": 1}}}});
    let put = server
        .http
        .put(url)
        .bearer_auth("admin-key")
        .body(body.to_string());
    assert_eq!(put.send().await.unwrap().status(), 200);
    (server, key.expose_secret().to_owned())
}

async fn each_key_opens_its_own_pages_only(kind: Kind) {
    let (server, key_of_a) = server_with_keys(kind).await;
    let anonymous = Visitor::new(&server);
    let tenants = Visitor::signed_in(&server, &key_of_a).await;
    let admin = Visitor::signed_in(&server, "admin-key").await;
    let reader = server
        .store
        .create_key(&key("reader", Scope::Read))
        .await
        .unwrap();
    let reader = Visitor::signed_in(&server, reader.expose_secret()).await;
    for (path, tenants_sees, reader_sees) in [
        ("/tenants/a", 200, 200),
        ("/tenants/a/features/f", 200, 200),
        ("/tenants/a/features/f/arrival?change=1", 200, 200),
        ("/tenants/a/history", 200, 200),
        ("/tenants/b", 403, 200),
        ("/tenants/b/features/f", 403, 200),
        ("/tenants/b/features/f/arrival?change=1", 403, 200),
        ("/tenants/b/history", 403, 200),
        ("/tenants/%62", 403, 200),
        ("/tenants/..%2fb", 400, 400),
        ("/operators", 403, 200),
        ("/operators/organizations", 403, 200),
        ("/operators/groups?feature=f", 403, 200),
        ("/operators/quarantine", 403, 403),
        ("/operators/export", 403, 403),
    ] {
        assert_eq!(anonymous.status(path).await, 303, "{path} asks to sign in");
        assert_eq!(
            tenants.status(path).await,
            tenants_sees,
            "{path} for the tenant"
        );
        assert_eq!(
            reader.status(path).await,
            reader_sees,
            "{path} for who may read"
        );
        let admin_sees = if tenants_sees == 400 { 400 } else { 200 };
        assert_eq!(
            admin.status(path).await,
            admin_sees,
            "{path} for the administrator"
        );
    }
    for (visitor, start) in [(&tenants, "/tenants/a"), (&admin, "/operators")] {
        let sent_on = visitor.get("/").await;
        assert_eq!(sent_on.headers()["location"], address(&server, start));
    }
    let sent_away = anonymous.get("/tenants/a?x=1").await;
    assert_eq!(
        sent_away.headers()["location"],
        address(&server, "/sign-in?next=/tenants/a%3Fx%3D1")
    );

    let wrong = anonymous.post("/sign-in", &[("key", "canary-wrong")]).await;
    assert_eq!(wrong.status(), 401);
    assert!(!wrong.text().await.unwrap().contains("canary"));
    for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example"] {
        let form = [("key", "admin-key"), ("next", elsewhere)];
        assert_eq!(
            anonymous.post("/sign-in", &form).await.headers()["location"],
            address(&server, "/")
        );
    }
    for copied in [" admin-key", "admin-key\t", "\u{a0}admin-key\r\n"] {
        Visitor::signed_in(&server, copied).await;
    }
    // Who may read only is not asked to switch it on.
    let off = [("action", "preview"), ("frequency", "daily")];
    for (visitor, is_asked) in [(&reader, false), (&admin, true)] {
        let page = visitor.post("/tenants/a/features/f", &off).await;
        let page = page.text().await.unwrap();
        assert!(page.contains("Switched off: nothing runs."), "{page}");
        assert_eq!(page.contains("Switch it on to see"), is_asked, "{page}");
    }
    // Who may read only sees the form, and cannot send it.
    let page = reader.text("/tenants/a/features/f").await;
    let form = [
        ("csrf", hidden(&page, "csrf")),
        ("frequency", "weekly".into()),
    ];
    let form: Vec<(&str, &str)> = form
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(
        reader.post("/tenants/a/features/f", &form).await.status(),
        403
    );
}

async fn a_session_ends_with_its_key_and_by_signing_out(kind: Kind) {
    let (server, key_of_a) = server_with_keys(kind).await;
    let first = Visitor::signed_in(&server, &key_of_a).await;
    let second = Visitor::signed_in(&server, &key_of_a).await;
    let page = first.text("/tenants/a").await;
    assert_eq!(
        first.post("/sign-out", &[]).await.status(),
        403,
        "without the token"
    );
    let csrf = hidden(&page, "csrf");
    assert_eq!(
        first.post("/sign-out", &[("csrf", &csrf)]).await.status(),
        303
    );
    assert_eq!(
        (
            first.status("/tenants/a").await,
            second.status("/tenants/a").await
        ),
        (303, 200)
    );
    assert!(server.store.revoke_key("page of a").await.unwrap());
    assert_eq!(second.status("/tenants/a").await, 303);
}

async fn a_form_without_its_token_changes_nothing(kind: Kind) {
    let (server, key_of_a) = server_with_keys(kind).await;
    let visitor = Visitor::signed_in(&server, &key_of_a).await;
    let other = Visitor::signed_in(&server, &key_of_a).await;
    let others_token = hidden(&other.text("/tenants/a").await, "csrf");
    let before = visitor.text("/tenants/a/history").await;
    for csrf in ["", "wrong", &others_token] {
        for path in ["", "/switch", "/restore"] {
            let path = format!("/tenants/a/features/f{path}");
            let form = [
                ("csrf", csrf),
                ("action", "save"),
                ("version", "1"),
                ("frequency", "daily"),
                ("enabled", "true"),
            ];
            assert_eq!(visitor.post(&path, &form).await.status(), 403, "{path}");
        }
    }
    assert_eq!(visitor.text("/tenants/a/history").await, before);
    let call = visitor
        .http
        .post(format!("{}/tenants/a/features/f", server.url));
    let call = call.header("cookie", visitor.cookie.as_ref().unwrap());
    let foreign = call
        .header("origin", "https://evil.example")
        .form(&[("action", "preview")]);
    assert_eq!(foreign.send().await.unwrap().status(), 403);
}

async fn what_the_form_does_not_know_is_kept_and_nothing_is_overwritten_unseen(kind: Kind) {
    let server = start(kind).await;
    server
        .put("a", json!({"f": {"enabled": true, "frequency": "weekly", "preferred_day": ["friday", "monday"],
            "own": {"kept": 1}, "template_overrides": {"tone": "odd", "deep": {"x": [1, 2]}, "count": "many"}},
            "g": {"enabled": false}}))
        .await;
    let schema =
        json!({"properties": {"tone": {"enum": ["warm", "short"]}, "count": {"type": "integer"}}});
    let visitor = Visitor::new(&server);
    let path = "tenants/a/configs/feature_preferences";
    let stored = server.get(path).await["config_value"].clone();

    let url = format!("{}/api/v1/feature-types/f/schema", server.url);
    server
        .http
        .put(url)
        .body(schema.to_string())
        .send()
        .await
        .unwrap();
    let page = visitor.text("/tenants/a/features/f").await;
    let version = hidden(&page, "version");
    let mut form = vec![
        ("action", "save"),
        ("version", version.as_str()),
        ("enabled", "true"),
        ("frequency", "weekly"),
        ("weekday", "friday"),
        ("weekday", "monday"),
        ("time", "09:00"),
        ("zone", "UTC"),
        ("o.tone", "odd"),
        ("o.count", "\"many\""),
        ("raw", "{\"deep\": {\"x\": [1, 2]}}"),
    ];
    // The schema does not allow what is stored: nothing is lost, and the page says why it cannot be saved.
    let refused = visitor.post("/tenants/a/features/f", &form).await;
    assert_eq!(refused.status(), 422);
    let refused = refused.text().await.unwrap();
    assert!(
        refused.contains("<li>tone:") && refused.contains("<li>count:"),
        "{refused}"
    );
    assert_eq!(server.get(path).await["config_value"], stored);

    form[8].1 = "warm";
    form[9].1 = "3";
    form[6].1 = "10:00";
    let saved = visitor.post("/tenants/a/features/f", &form).await;
    assert_eq!(saved.status(), 303, "{:?}", saved.text().await);
    let now = server.get(path).await["config_value"].clone();
    let expected = json!({"enabled": true, "frequency": "weekly", "preferred_day": ["friday", "monday"],
        "preferred_time": "10:00", "timezone": "UTC", "own": {"kept": 1},
        "template_overrides": {"tone": "warm", "deep": {"x": [1, 2]}, "count": 3}});
    assert_eq!(
        (&now["f"], &now["g"]),
        (&expected, &json!({"enabled": false}))
    );

    // The form was filled from a version that has been replaced.
    form[6].1 = "11:00";
    let late = visitor.post("/tenants/a/features/f", &form).await;
    assert_eq!(late.status(), 422);
    assert!(
        late.text()
            .await
            .unwrap()
            .contains("someone else has changed this preference")
    );
    assert_eq!(server.get(path).await["config_value"], now);
    // A change of another feature does not conflict with this one.
    let page = visitor.text("/tenants/a/features/f").await;
    let version = hidden(&page, "version");
    form[1].1 = &version;
    let mut other = now.clone();
    other["g"] = json!({"enabled": true, "frequency": "daily"});
    server.put("a", other).await;
    assert_eq!(
        visitor.post("/tenants/a/features/f", &form).await.status(),
        303
    );
    assert_eq!(
        server.get(path).await["config_value"]["f"]["preferred_time"],
        "11:00"
    );
}

/// What `text` has between `before` and the next quotation mark, each time.
fn quoted<'t>(text: &'t str, before: &str) -> impl Iterator<Item = &'t str> {
    let after = text.split(before).skip(1);
    after.map(|rest| rest.split('"').next().unwrap())
}

async fn every_address_on_a_page_is_there_and_below_the_path(kind: Kind) {
    let (server, _) = server_with_keys(kind).await;
    let admin = Visitor::signed_in(&server, "admin-key").await;
    let path_of = |address: &str| {
        let path = address.strip_prefix(server.place.root);
        let path = path.filter(|path| path.is_empty() || path.starts_with('/'));
        path.unwrap_or_else(|| panic!("{address} is not below the path"))
            .replace("&amp;", "&")
    };
    let (mut found, mut sent) = (BTreeSet::new(), BTreeSet::new());
    let mut to_visit = vec![
        String::new(),
        "/sign-in".to_owned(),
        "/tenants/a/features/f?saved=1".to_owned(),
    ];
    while let Some(path) = to_visit.pop() {
        let response = admin.get(&path).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let page = response.text().await.unwrap();
        assert!(status == 200 || status == 303, "{path}: {status} {page}");
        let mut next: Vec<String> = headers
            .get("location")
            .map(|to| path_of(to.to_str().unwrap()))
            .into_iter()
            .collect();
        let html = headers.get("content-type");
        if html.is_some_and(|of| of.to_str().unwrap().starts_with("text/html")) {
            for attribute in ["href=\"", "src=\"", "data-url=\""] {
                let named = quoted(&page, attribute).filter(|to| !to.starts_with('#'));
                next.extend(named.map(path_of));
            }
            let fields = "q=a&name=f";
            let forms = quoted(&page, "method=\"get\" action=\"");
            next.extend(forms.map(|to| format!("{}?{fields}", path_of(to))));
            for attribute in ["method=\"post\" action=\"", "data-runs=\""] {
                sent.extend(quoted(&page, attribute).map(path_of));
            }
        }
        to_visit.extend(next.into_iter().filter(|path| found.insert(path.clone())));
    }
    for path in &sent {
        let status = admin.post(path, &[]).await.status().as_u16();
        assert!(![404, 405].contains(&status), "{path}: {status}");
    }
    for expected in [
        "/tenants/a/features/f",
        "/tenants/a/features/f/arrival?change=1",
        "/operators/groups?feature=f",
        "/operators/organizations",
        "/operators/export",
        "/assets/page.js",
        "/openapi.json",
    ] {
        assert!(found.contains(expected), "{expected} in {found:?}");
    }
    for expected in [
        "/sign-in",
        "/sign-out",
        "/operators/import",
        "/tenants/a/features/f/runs",
    ] {
        assert!(sent.contains(expected), "{expected} in {sent:?}");
    }
}

async fn groups_show_the_interval_and_the_dates(kind: Kind) {
    let server = start(kind).await;
    let preference =
        json!({"enabled": true, "frequency": "daily", "interval": 3, "start_date": "2026-12-01"});
    server.put("a", json!({"f": preference})).await;
    let page = Visitor::new(&server)
        .text("/operators/groups?feature=f")
        .await;
    assert!(
        page.contains("<td>interval 3, start date 2026-12-01</td>"),
        "{page}"
    );
}

async fn everything_can_be_exported_and_imported_again(kind: Kind) {
    let server = start(kind).await;
    for tenant in ["a", "b", "c"] {
        server
            .put(
                tenant,
                json!({"f": {"enabled": true, "frequency": "daily"}}),
            )
            .await;
    }
    let visitor = Visitor::new(&server);
    let exported = visitor.text("/operators/export").await;
    assert_eq!(exported.lines().count(), 3);

    let other = start(kind).await;
    let file =
        reqwest::multipart::Part::text(exported.clone() + "nonsense\n").file_name("p.ndjson");
    let form = reqwest::multipart::Form::new()
        .text("csrf", "")
        .part("file", file);
    let sent = other
        .http
        .post(format!("{}/operators/import", other.url))
        .multipart(form);
    let page = sent.send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("configurations 3 (0 of them unchanged); rejected 1"),
        "{page}"
    );
    let line = "Line 4: not a valid JSON object (column 2: expected ident); write";
    assert!(page.contains(line), "{page}");
    let again = Visitor::new(&other).text("/operators/export").await;
    let of = |text: &str| -> Vec<serde_json::Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    assert_eq!(
        of(&again),
        of(&exported),
        "with the time each was stored at"
    );
}
