//! Unsubscribing by the link of an e-mail, as mail programs and people do it.

use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use punctual_config_database::EmbeddingSettings;
use reqwest::{Method, multipart};
use serde_json::{Value, json};

use crate::{
    links::call,
    page::Visitor,
    server::{Kind, Running, on_both_databases_and_below_a_path, start_embeddable, start_in},
};

on_both_databases_and_below_a_path! {
    one_click_switches_one_feature_off_and_the_page_undoes_it
    a_look_at_the_link_changes_nothing
    it_works_whatever_else_the_tenant_has_stored
    it_works_however_much_the_tenant_has_stored
}

const ADMIN: &str = "admin-key";
const PREFERENCES: &str = "tenants/a/configs/feature_preferences";
const ONE_CLICK: [(&str, &str); 1] = [("List-Unsubscribe", "One-Click")];
const UNDO: [(&str, &str); 1] = [("action", "undo")];

async fn stored(server: &Running) -> Value {
    let answer = call(server, ADMIN, Method::GET, PREFERENCES, &Value::Null).await;
    answer.json::<Value>().await.unwrap()["config_value"].clone()
}

async fn put(server: &Running, preferences: &Value) {
    let body = json!({ "config_value": preferences });
    let answer = call(server, ADMIN, Method::PUT, PREFERENCES, &body).await;
    assert_eq!(answer.status(), 200);
}

/// The path of a link's page.
async fn link(server: &Running, feature: &str) -> String {
    let wanted = json!({ "feature": feature });
    let answer = call(
        server,
        ADMIN,
        Method::POST,
        "tenants/a/unsubscribe-links",
        &wanted,
    )
    .await;
    assert_eq!(answer.status(), 201);
    let made: Value = answer.json().await.unwrap();
    let url = made["url"].as_str().unwrap();
    assert_eq!(made["headers"]["List-Unsubscribe"], format!("<{url}>"));
    assert_eq!(
        made["headers"]["List-Unsubscribe-Post"],
        "List-Unsubscribe=One-Click"
    );
    url.strip_prefix(&server.url).unwrap().to_owned()
}

async fn one_click_switches_one_feature_off_and_the_page_undoes_it(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let before = json!({"f": {"enabled": true, "frequency": "weekly", "own": {"kept": 1}},
        "g": {"enabled": true, "frequency": "daily"}});
    put(&server, &before).await;
    let path = link(&server, "f").await;
    // As a mail program does it: without a cookie, from another site's page, in the encoding that the standard prefers.
    let program = Visitor::new(&server);
    let form = multipart::Form::new().text("List-Unsubscribe", "One-Click");
    let call_of_program = program.http.post(format!("{}{path}", server.url));
    let call_of_program = call_of_program
        .header("origin", "https://mail.example")
        .header("sec-fetch-site", "cross-site");
    let answer = call_of_program.multipart(form).send().await.unwrap();
    assert_eq!(answer.status(), 200, "no redirect");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    assert!(!answer.headers().contains_key("set-cookie"));
    let page = answer.text().await.unwrap();
    assert!(
        page.contains("You are unsubscribed") && page.contains("Undo"),
        "{page}"
    );
    let mut off = before.clone();
    off["f"]["enabled"] = json!(false);
    assert_eq!(stored(&server).await, off);
    // Again, in the other encoding: nothing more happens.
    let again = program.post(&path, &ONE_CLICK).await;
    assert_eq!(again.status(), 200);
    let history = format!("{PREFERENCES}/history");
    let history = call(&server, ADMIN, Method::GET, &history, &Value::Null).await;
    let history: Value = history.json().await.unwrap();
    assert_eq!(
        history["versions"].as_array().unwrap().len(),
        2,
        "{history}"
    );
    assert_eq!(history["versions"][0]["actor"], "a (unsubscribe link)");

    let undone = program.post(&path, &UNDO).await;
    assert_eq!(undone.status(), 200);
    assert!(
        undone
            .text()
            .await
            .unwrap()
            .contains("You are subscribed again")
    );
    assert_eq!(stored(&server).await, before);
    // The feed brings it to agents.
    let changes = call(
        &server,
        ADMIN,
        Method::GET,
        "preferences/changes?since_id=0&feature_type=f",
        &Value::Null,
    )
    .await;
    let changes: Value = changes.json().await.unwrap();
    let changes = changes["changes"].as_array().unwrap().clone();
    let enabled = changes
        .iter()
        .map(|change| change["preference"]["enabled"].clone());
    assert_eq!(enabled.collect::<Vec<_>>(), [true, false, true]);
}

async fn a_look_at_the_link_changes_nothing(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let before = json!({"f": {"enabled": true, "frequency": "daily"}});
    put(&server, &before).await;
    let path = link(&server, "f").await;
    let visitor = Visitor::new(&server);
    let page = visitor.text(&path).await;
    assert!(
        page.contains("Unsubscribe from f?") && !page.contains("Undo"),
        "{page}"
    );
    let head = visitor.http.head(format!("{}{path}", server.url));
    assert_eq!(head.send().await.unwrap().status(), 200);
    for form in [
        &[][..],
        &[("List-Unsubscribe", "Two-Clicks")],
        &[("List-Unsubscribe", "One-Click"), ("action", "undo")],
        &[("action", "delete")],
    ] {
        assert_eq!(visitor.post(&path, form).await.status(), 400, "{form:?}");
    }
    let large = visitor
        .post(&path, &[("List-Unsubscribe", &"x".repeat(5_000))])
        .await;
    assert_eq!(large.status(), 413);
    assert_eq!(stored(&server).await, before);
    let policy = visitor.get(&path).await;
    let policy = policy.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    // The form of the page, and afterwards the page says how it stands.
    assert_eq!(visitor.post(&path, &ONE_CLICK).await.status(), 200);
    assert!(visitor.text(&path).await.contains("You are unsubscribed"));
}

async fn it_works_whatever_else_the_tenant_has_stored(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    // Nothing is stored: it is off from now on, until that is undone.
    let path = link(&server, "f").await;
    let visitor = Visitor::new(&server);
    assert!(visitor.text(&path).await.contains("Unsubscribe from f?"));
    assert_eq!(visitor.post(&path, &UNDO).await.status(), 200);
    let answer = call(&server, ADMIN, Method::GET, PREFERENCES, &Value::Null).await;
    assert_eq!(answer.status(), 404, "there is nothing to undo");
    assert_eq!(visitor.post(&path, &ONE_CLICK).await.status(), 200);
    assert_eq!(stored(&server).await, json!({"f": {"enabled": false}}));
    assert_eq!(visitor.post(&path, &UNDO).await.status(), 200);
    assert_eq!(stored(&server).await, json!({}));
    // A schema has come that what is stored does not fit.
    let odd = json!({"f": {"enabled": true, "template_overrides": {"tone": "odd"}},
        "g": {"enabled": true, "template_overrides": {"tone": "odd"}}});
    put(&server, &odd).await;
    for feature in ["f", "g"] {
        let path = format!("feature-types/{feature}/schema");
        let schema = json!({"properties": {"tone": {"enum": ["warm"]}}});
        let answer = call(&server, ADMIN, Method::PUT, &path, &schema).await;
        assert!(answer.status().is_success());
    }
    assert_eq!(visitor.post(&path, &ONE_CLICK).await.status(), 200);
    let mut off = odd.clone();
    off["f"]["enabled"] = json!(false);
    assert_eq!(stored(&server).await, off);
}

async fn it_works_however_much_the_tenant_has_stored(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let all: Value = (0..100)
        .map(|n| {
            (
                format!("f{n}"),
                json!({"enabled": true, "frequency": "daily"}),
            )
        })
        .collect();
    put(&server, &all).await;
    let path = link(&server, "never-stored").await;
    let visitor = Visitor::new(&server);
    assert_eq!(visitor.post(&path, &ONE_CLICK).await.status(), 200);
    let mut off = all.clone();
    off["never-stored"] = json!({"enabled": false});
    assert_eq!(stored(&server).await, off);
    // What is stored now is taken again, from a form and from a copy.
    off["f0"] = json!({"enabled": true, "frequency": "weekly"});
    put(&server, &off).await;
    assert_eq!(stored(&server).await, off);
}

#[tokio::test]
async fn a_link_of_another_purpose_or_key_unsubscribes_from_nothing() {
    let secret = "the-shared-key-of-more-than-32-characters";
    let settings = EmbeddingSettings {
        link_keys: Some(format!("k:{secret}").into()),
        ..EmbeddingSettings::default()
    };
    let server = start_embeddable(Kind::Sqlite.place().await, Some(ADMIN), settings).await;
    let before = json!({"f": {"enabled": true, "frequency": "daily"}});
    put(&server, &before).await;
    let visitor = Visitor::new(&server);
    let sign = |key: &str, secret: &str, claims: &Value| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.to_owned());
        encode(
            &header,
            claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap()
    };
    let now = Utc::now().timestamp();
    let claims = |aud: &str, exp: i64| json!({"aud": aud, "sub": "a", "feature": "f", "exp": exp});
    let own = "punctual-unsubscribe";
    let good = claims(own, now + 600);
    let mut of_all = good.clone();
    of_all.as_object_mut().unwrap().remove("feature");
    for (token, status) in [
        (
            sign("k", secret, &claims("punctual-preferences", now + 600)),
            401,
        ),
        (sign("k", secret, &claims(own, now + 3 * 366 * 86_400)), 401),
        (sign("k", secret, &of_all), 401),
        (
            sign("k", "another-key-of-more-than-32-characters-x", &good),
            401,
        ),
        (sign("other", secret, &good), 401),
        (sign("k", secret, &claims(own, now - 1)), 410),
        ("nonsense".to_owned(), 401),
    ] {
        let path = format!("/unsubscribe/{token}");
        assert_eq!(visitor.status(&path).await, status, "{token}");
        assert_eq!(
            visitor.post(&path, &ONE_CLICK).await.status(),
            status,
            "{token}"
        );
    }
    // A link that opens the pages does not unsubscribe, and the other way around.
    let made = call(
        &server,
        ADMIN,
        Method::POST,
        "tenants/a/links",
        &Value::Null,
    )
    .await;
    let made: Value = made.json().await.unwrap();
    let opens = format!("/unsubscribe/{}", made["token"].as_str().unwrap());
    assert_eq!(visitor.post(&opens, &ONE_CLICK).await.status(), 401);
    assert_eq!(stored(&server).await, before);
    let token = sign("k", secret, &good);
    assert_eq!(visitor.status(&format!("/open/{token}")).await, 401);
    assert_eq!(
        call(&server, &token, Method::GET, PREFERENCES, &Value::Null)
            .await
            .status(),
        401
    );
    // Signed by the product, without a call before.
    let path = format!("/unsubscribe/{token}");
    assert_eq!(visitor.post(&path, &ONE_CLICK).await.status(), 200);
    assert_eq!(stored(&server).await["f"]["enabled"], false);
}
