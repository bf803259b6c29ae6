//! What people at the doors of the Config Database can do: those who guess keys, sign in without end, name keys to
//! deceive, or say that they are agents.

use punctual_config_database::{NewKey, Scope, Server, ServerSettings};
use reqwest::{Client, Method, redirect::Policy};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::server::{Kind, Running, key, on_both_databases, start_in};

on_both_databases! {
    who_guesses_is_refused_before_keys_are_looked_up
    a_key_has_so_many_sessions_and_no_more
    readers_are_distinguished_by_key_and_need_a_cursor_of_the_feed
}

const KEY: &str = "the-administrators-key";
const FORM: &str = "application/x-www-form-urlencoded";

fn client() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

async fn sign_in(server: &Running, key: &str) -> reqwest::Response {
    let call = client().post(format!("{}/sign-in", server.url));
    let call = call.header("content-type", FORM).body(format!("key={key}"));
    call.send().await.unwrap()
}

fn cookie(response: &reqwest::Response) -> String {
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn who_guesses_is_refused_before_keys_are_looked_up(kind: Kind) {
    let server = start_in(kind.place().await, Some(KEY)).await;
    let tenant = NewKey {
        name: "t".into(),
        scope: Scope::Write,
        tenant_id: Some("t".parse().unwrap()),
    };
    let tenant = server.store.create_key(&tenant).await.unwrap();
    let call = async |key: &str| {
        let url = format!(
            "{}/api/v1/tenants/t/configs/feature_preferences",
            server.url
        );
        server.http.get(url).bearer_auth(key).send().await.unwrap()
    };
    // A session and a key that are right, before anybody guesses.
    assert_eq!(call(KEY).await.status(), 404);
    let session = cookie(&sign_in(&server, KEY).await);
    let look = async |cookie: &str| {
        let call = client().get(format!("{}/operators", server.url));
        call.header("cookie", cookie).send().await.unwrap().status()
    };
    assert_eq!(look(&session).await, 200);
    let mut refused = 0;
    for n in 0..300 {
        let status = match n % 3 {
            0 => call(&format!("pk_guess{n}")).await.status(),
            1 => sign_in(&server, &format!("guess{n}")).await.status(),
            _ => look(&format!("punctual_session=guess{n}")).await,
        };
        refused += usize::from(status == 429);
    }
    assert!(refused > 100, "{refused}");
    // Nothing was right with the tenant's key from here, so it is refused amid the guesses; the others go on.
    let mut answer = call(tenant.expose_secret()).await;
    for _ in 0..10 {
        if answer.status() == 429 {
            break;
        }
        server.store.revoke_key("t").await.unwrap();
        answer = call("pk_another_guess").await;
    }
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(call(KEY).await.status(), 404);
    assert_eq!(look(&session).await, 200);
}

async fn a_key_has_so_many_sessions_and_no_more(kind: Kind) {
    let server = start_in(kind.place().await, Some(KEY)).await;
    let mut sessions = vec![];
    for _ in 0..60 {
        sessions.push(cookie(&sign_in(&server, KEY).await));
    }
    let mut open = 0;
    for session in &sessions {
        let call = client().get(format!("{}/operators", server.url));
        let status = call
            .header("cookie", session)
            .send()
            .await
            .unwrap()
            .status();
        // The ends of sessions are no guesses without end: some may be refused for that.
        open += usize::from(status == 200);
    }
    assert_eq!(open, 50);
}

async fn readers_are_distinguished_by_key_and_need_a_cursor_of_the_feed(kind: Kind) {
    let server = start_in(kind.place().await, Some(KEY)).await;
    let agent = server
        .store
        .create_key(&key("agent", Scope::Read))
        .await
        .unwrap();
    let fake = server
        .store
        .create_key(&key("fake", Scope::Read))
        .await
        .unwrap();
    let put = |n: u32| {
        let url = format!(
            "{}/api/v1/tenants/t/configs/feature_preferences",
            server.url
        );
        let value = json!({"config_value": {"f": {"enabled": true, "frequency": "daily", "n": n}}});
        server
            .http
            .put(url)
            .bearer_auth(KEY)
            .body(value.to_string())
            .send()
    };
    for n in 0..3 {
        assert_eq!(put(n).await.unwrap().status(), 200);
    }
    let read = async |key: &str, name: &str, since: i64| {
        let url = format!(
            "{}/api/v1/preferences/changes?feature_type=f&since_id={since}",
            server.url
        );
        let call = server
            .http
            .get(url)
            .bearer_auth(key)
            .header("user-agent", name);
        call.send().await.unwrap().status().as_u16()
    };
    let session = cookie(&sign_in(&server, KEY).await);
    let arrival = async || {
        let url = format!("{}/tenants/t/features/f/arrival?change=3", server.url);
        let call = client().get(url).header("cookie", &session);
        call.send()
            .await
            .unwrap()
            .json::<serde_json::Value>()
            .await
            .unwrap()
    };
    assert_eq!(
        read(fake.expose_secret(), "punctual/9 (fake)", 999).await,
        410
    );
    assert_eq!(
        arrival().await["arrived"],
        false,
        "a cursor that is ahead is noted nowhere"
    );
    assert_eq!(read(agent.expose_secret(), "punctual/1 (a)", 3).await, 200);
    assert_eq!(arrival().await["text"], "Saved.");
    // Another process with the same key that is behind: the agent as a whole is.
    assert_eq!(read(agent.expose_secret(), "punctual/1 (b)", 2).await, 200);
    assert_eq!(arrival().await["arrived"], false);
    assert_eq!(read(agent.expose_secret(), "punctual/1 (b)", 3).await, 200);
    // However many names one key gives itself, it is one.
    for n in 0..100 {
        let name = format!("punctual/9 ({n})");
        assert_eq!(read(fake.expose_secret(), &name, 3).await, 200);
    }
    assert_eq!(arrival().await["text"], "Saved.");
}

#[tokio::test]
async fn keys_that_cannot_be_sent_or_guessed_too_easily_are_refused_at_the_start() {
    let place = Kind::Sqlite.place().await;
    let bind = async |key: &str, addr: &str| {
        let settings = ServerSettings {
            store_url: place.url.clone(),
            addr: addr.parse().unwrap(),
            admin_key: Some(key.into()),
        };
        let bound = Server::bind(settings).await;
        bound.map(drop).map_err(|error| error.to_string())
    };
    for (key, addr) in [
        (" ", "127.0.0.1:0"),
        ("k\u{e9}y", "127.0.0.1:0"),
        ("k", "0.0.0.0:0"),
    ] {
        let error = bind(key, addr).await.unwrap_err();
        assert!(error.starts_with("the API key "), "{error}");
    }
    assert!(bind("k", "127.0.0.1:0").await.is_ok());
    assert!(bind("0123456789abcdef", "0.0.0.0:0").await.is_ok());
}

#[tokio::test]
async fn names_of_keys_hold_nothing_that_is_not_seen() {
    let server = start_in(Kind::Sqlite.place().await, None).await;
    for name in ["a\nb", "a\tb", "\u{1b}[2J", "a\u{202e}b", "\u{0}", " "] {
        let body = json!({"name": name, "scope": "read"}).to_string();
        let answer = server.call(Method::POST, "keys", &body).await;
        assert_eq!(answer.status(), 400, "{name:?}");
    }
    let body = json!({"name": "Größe 1/2", "scope": "read"}).to_string();
    assert_eq!(server.call(Method::POST, "keys", &body).await.status(), 201);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_also_without_an_origin() {
    let server = start_in(Kind::Sqlite.place().await, None).await;
    let url = format!("{}/api/v1/preferences/import", server.url);
    for site in ["cross-site", "same-site"] {
        let call = server
            .http
            .post(&url)
            .header("sec-fetch-site", site)
            .body("");
        assert_eq!(call.send().await.unwrap().status(), 403, "{site}");
    }
    let call = server
        .http
        .post(&url)
        .header("sec-fetch-site", "same-origin")
        .body("");
    assert_eq!(call.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_form_field_beside_a_file_is_bounded() {
    let server = start_in(Kind::Sqlite.place().await, Some(KEY)).await;
    let session = cookie(&sign_in(&server, KEY).await);
    let form = reqwest::multipart::Form::new().text("csrf", "x".repeat(1024 * 1024));
    let call = client().post(format!("{}/operators/import", server.url));
    let answer = call
        .header("cookie", session)
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("too long"));
}
