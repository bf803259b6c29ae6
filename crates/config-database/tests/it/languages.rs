//! The pages in the language of who reads them, over HTTP; and from right to left in Chromium.

use punctual_config_database::{NewKey, Scope};
use punctual_domain::TenantId;
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    links::call,
    page::{Visitor, hidden},
    server::{Kind, Running, on_both_databases_and_below_a_path, start, start_in},
};

on_both_databases_and_below_a_path! {
    a_german_reads_german_from_the_list_to_the_history
    the_language_of_a_link_wins
    a_tenant_has_a_language
    a_language_is_chosen_at_the_foot_of_a_page
}

const ADMIN: &str = "admin-key";
const POSTS: &str = "feature-types/posts";

fn posts() -> Value {
    json!({"title": "Posts", "description": "One a day", "earliest_time": "06:00",
        "locales": {"de": {"title": "Beiträge"}, "pt-BR": {"title": "Postagens"}},
        "schema": {"properties": {
            "tone": {"title": "Tone", "enum": ["dry", "warm"],
                "x-locales": {"de": {"title": "Tonfall", "choices": {"dry": "trocken"}}}},
            "topic": {"type": "string", "maxLength": 5, "title": "Topic", "x-locales": {"de": {"title": "Thema"}}},
            "code": {"type": "string", "pattern": "^[a-z]+$", "title": "Code", "x-locales": {"de": {"title": "Kürzel"}}}}}})
}

fn jobs() -> Value {
    json!({"jobs": {"posts": {"timezone": "Europe/Vienna", "defaults": {"frequency": "weekly",
        "preferred_day": ["friday", "tuesday"], "preferred_time": "15:30"}}}})
}

/// A feature with texts of its own, and a tenant who has switched it on.
async fn prepare(server: &Running) {
    for (path, body) in [
        (POSTS.to_owned(), posts()),
        (format!("{POSTS}/jobs"), jobs()),
        (
            "tenants/ann/configs/feature_preferences".to_owned(),
            json!({"config_value": {"posts": {"enabled": true}}}),
        ),
    ] {
        let stored = call(server, ADMIN, Method::PUT, &path, &body).await;
        assert!(stored.status().is_success(), "{path}");
    }
}

/// The token of a link to Ann's pages.
async fn link_token(server: &Running, wanted: &Value) -> String {
    let made = call(server, ADMIN, Method::POST, "tenants/ann/links", wanted).await;
    let made: Value = made.json().await.unwrap();
    made["token"].as_str().unwrap().to_owned()
}

/// The path of a link that unsubscribes Ann.
async fn unsubscribe_path(server: &Running, wanted: &Value) -> String {
    let path = "tenants/ann/unsubscribe-links";
    let made = call(server, ADMIN, Method::POST, path, wanted).await;
    let made: Value = made.json().await.unwrap();
    let url = made["url"].as_str().unwrap();
    url.strip_prefix(&server.url).unwrap().to_owned()
}

/// A page as a browser with these languages gets it.
async fn get(visitor: &Visitor, accepted: &str, path: &str) -> Response {
    let call = visitor.http.get(format!("{}{path}", visitor.server));
    let mut call = call
        .header("accept-language", accepted)
        .header("accept", "text/html");
    if let Some(cookie) = &visitor.cookie {
        call = call.header("cookie", cookie);
    }
    call.send().await.unwrap()
}

async fn text(visitor: &Visitor, accepted: &str, path: &str) -> String {
    get(visitor, accepted, path).await.text().await.unwrap()
}

/// Sends a form as a browser with these languages does.
async fn post(visitor: &Visitor, accepted: &str, path: &str, form: &[(&str, &str)]) -> Response {
    let call = visitor
        .http
        .post(format!("{}{path}", visitor.server))
        .form(form);
    let mut call = call.header("accept-language", accepted);
    if let Some(cookie) = &visitor.cookie {
        call = call.header("cookie", cookie);
    }
    call.send().await.unwrap()
}

fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part}: {page}");
    }
}

/// Adds a cookie to those of a visitor.
fn remember(visitor: &mut Visitor, answer: &Response) {
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    let set = set.split(';').next().unwrap();
    visitor.cookie = Some(match &visitor.cookie {
        Some(before) => format!("{before}; {set}"),
        None => set.to_owned(),
    });
}

async fn a_german_reads_german_from_the_list_to_the_history(kind: Kind) {
    let server = start(kind).await;
    prepare(&server).await;
    let visitor = Visitor::new(&server);
    let german = "de-AT,de;q=0.9,en;q=0.8";
    let list = text(&visitor, german, "/tenants/ann").await;
    has(
        &list,
        &[
            "<html lang=\"de\" dir=\"ltr\">",
            "<a class=\"skip\" href=\"#main\">Zum Inhalt springen</a>",
            "Einstellungen von ann",
            "><bdi>Beiträge</bdi></a>",
            "<p class=\"hint\">One a day</p>",
            "Jeden Dienstag und Freitag um 15:30 Uhr, Ortszeit Wien",
            "Als Nächstes: ",
            "aria-label=\"Ausschalten: „Beiträge“\">Ausschalten<",
        ],
    );
    let path = "/tenants/ann/features/posts";
    let form = text(&visitor, german, path).await;
    has(
        &form,
        &[
            "<h1><bdi>Beiträge</bdi></h1>",
            "Üblich: Jeden Dienstag und Freitag um 15:30 Uhr, Ortszeit Wien.",
            "<option value=\"\">Wie üblich (jede Woche)</option>",
            "<option value=\"daily\" >Jeden Tag</option>",
            "Wenn nichts angekreuzt ist: Dienstag und Freitag, wie üblich.",
            "Wenn leer: 15:30 Uhr, wie üblich.",
            "Nicht vor 06:00 Uhr.",
            ">Tonfall</label>",
            ">trocken</option>",
            "data-failed=\"Die nächsten Termine können nicht angezeigt werden.",
            "data-another-time=\"Weitere Uhrzeit\"",
            "<option value=\"second\" >Am zweiten</option>",
            ">Abstand in Wochen</span>",
            ">Erster Tag</label>",
            ">Pause bis</label>",
            ">Speichern</button>",
            "<h2 id=\"next-runs\">Nächste Termine</h2>",
        ],
    );
    // The week begins on Monday; in the United States and in Brazil, on Sunday.
    let first_day = |page: &str| hidden(page, "weekday");
    assert_eq!(first_day(&form), "monday");
    for (accepted, time, day) in [
        (
            "en-US",
            "Left empty: 3:30\u{202f}PM, as usual.",
            "> Sunday</label>",
        ),
        (
            "pt-BR",
            "Se ficar vazio: 15:30, o padrão.",
            "> domingo</label>",
        ),
    ] {
        let page = text(&visitor, accepted, path).await;
        has(&page, &[time, day]);
        assert_eq!(first_day(&page), "sunday", "{accepted}");
    }
    // The value of the field stays as HTML has it.
    let runs = format!("{path}/runs");
    let chosen = [
        ("frequency", "daily"),
        ("time", "15:45"),
        ("enabled", "true"),
    ];
    let shown = post(&visitor, "en-US", &runs, &chosen).await.text().await;
    has(
        &shown.unwrap(),
        &["Every day at 3:45\u{202f}PM, Vienna time"],
    );
    let chosen = [
        ("frequency", "monthly"),
        ("interval", "2"),
        ("nth", "last"),
        ("nth_day", "weekday"),
        ("time", "15:45"),
        ("time", "18:00"),
        ("start_date", "2026-12-01"),
        ("enabled", "true"),
    ];
    let shown = post(&visitor, german, &runs, &chosen).await.text().await;
    has(
        &shown.unwrap(),
        &[
            "Alle zwei Monate am letzten Werktag (Mo.–Fr.) um 15:45 und 18:00 Uhr, Ortszeit Wien, ab dem 1. Dezember 2026",
        ],
    );
    let chosen = [
        ("frequency", "once"),
        ("date", "2020-03-01"),
        ("paused_until", "2019-12-01"),
        ("enabled", "true"),
    ];
    let shown = post(&visitor, german, &runs, &chosen).await.text().await;
    has(
        &shown.unwrap(),
        &[
            ">Einmal am 1. März 2020 um 15:30 Uhr, Ortszeit Wien</p>",
            "<p>Keine weiteren Termine.</p>",
        ],
    );

    let version = hidden(&form, "version");
    let sent = [
        ("action", "save"),
        ("version", version.as_str()),
        ("enabled", "true"),
        ("time", "05:00"),
        ("zone", "Nirgendwo"),
        ("o.topic", "too long"),
    ];
    let refused = post(&visitor, german, path, &sent).await;
    assert_eq!(refused.status(), 422);
    has(
        &refused.text().await.unwrap(),
        &[
            "<p>Nicht gespeichert:</p>",
            "<li>Zeitzone: Die Zeitzone „Nirgendwo“ kennen wir nicht.",
            "value=\"05:00\"",
        ],
    );
    let long = [&sent[..3], &[("o.topic", "too long")][..]].concat();
    let refused = post(&visitor, german, path, &long).await;
    has(
        &refused.text().await.unwrap(),
        &["<li>Thema: Bitte höchstens 5 Zeichen.</li>"],
    );
    let odd = [&sent[..3], &[("o.code", "X 1")][..]].concat();
    let refused = post(&visitor, german, path, &odd).await;
    has(
        &refused.text().await.unwrap(),
        &["<li>Kürzel: „X 1“ hat nicht die verlangte Form.</li>"],
    );
    let early = [&sent[..3], &[("time", "05:00")][..]].concat();
    let refused = post(&visitor, german, path, &early).await;
    has(
        &refused.text().await.unwrap(),
        &["<li>Uhrzeit: 05:00 Uhr wird hier nicht angeboten. Nicht vor 06:00 Uhr.</li>"],
    );
    let later = [&sent[..3], &[("time", "16:00")][..]].concat();
    let saved = post(&visitor, german, path, &later).await;
    assert_eq!(saved.status(), 303);
    let to = saved.headers()["location"].to_str().unwrap();
    let to = to.strip_prefix(server.place.root).unwrap();
    has(
        &text(&visitor, german, to).await,
        &[
            "Gespeichert. Die Änderung wird wirksam, sobald der Dienst läuft.",
            ">Rückgängig machen<",
        ],
    );
    let (_, change) = to.split_once("saved=").unwrap();
    let change = change.split('&').next().unwrap();
    let arrival = text(&visitor, german, &format!("{path}/arrival?change={change}")).await;
    has(&arrival, &["Gespeichert."]);
    has(
        &text(&visitor, german, "/tenants/ann/history").await,
        &[
            "<h1>Verlauf</h1>",
            " um 15:30 Uhr, Ortszeit Wien → Jeden Dienstag und Freitag um 16:00 Uhr, Ortszeit Wien",
            ">Wiederherstellen: Jeden Dienstag",
        ],
    );
    // What cannot be brought back any more says why, and to operators in the words of the API as well.
    let restore = format!("{path}/restore");
    let undone = post(&visitor, german, &restore, &[("version", "1")]).await;
    assert_eq!(undone.status(), 303);
    let mut at_night = posts();
    at_night["earliest_time"] = json!("17:00");
    let stored = call(&server, ADMIN, Method::PUT, POSTS, &at_night).await;
    assert!(stored.status().is_success());
    let refused = post(&visitor, german, &restore, &[("version", "2")]).await;
    assert_eq!(refused.status(), 422);
    has(
        &refused.text().await.unwrap(),
        &[
            "<h1>Nicht gespeichert</h1>",
            ">Uhrzeit: 16:00 Uhr wird hier nicht angeboten. Nicht vor 17:00 Uhr.</p>",
            "lang=\"en\" dir=\"ltr\">/config_value/posts/preferred_time: ",
        ],
    );
    let stored = call(&server, ADMIN, Method::PUT, POSTS, &posts()).await;
    assert!(stored.status().is_success());
    // For programs of the product, the sentence is in the language of its user, and errors stay English.
    let ask = async |preference: Value| {
        let url = format!("{}/api/v1/tenants/ann/features/posts/preview", server.url);
        let call = server.http.post(url).header("accept-language", german);
        let call = call.body(json!({ "preference": preference }).to_string());
        call.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let preview = ask(json!({"enabled": true, "frequency": "daily"})).await;
    assert_eq!(
        preview["jobs"][0]["sentence"],
        "Jeden Tag um 15:30 Uhr, Ortszeit Wien"
    );
    let wrong = ask(json!({"timezone": "Nirgendwo"})).await;
    let detail = wrong["errors"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("is not a time zone; use an IANA name"),
        "{wrong}"
    );
}

async fn the_language_of_a_link_wins(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    prepare(&server).await;
    let open = async |wanted: Value| {
        let path = format!("/open/{}", link_token(&server, &wanted).await);
        let mut visitor = Visitor::new(&server);
        let opened = visitor.get(&path).await;
        remember(&mut visitor, &opened);
        visitor
    };
    let linked = open(json!({"locale": "pt-BR"})).await;
    let page = text(&linked, "de", "/tenants/ann").await;
    has(
        &page,
        &[
            "<html lang=\"pt\" dir=\"ltr\">",
            "><bdi>Postagens</bdi></a>",
            "horário de Viena",
        ],
    );
    assert!(!page.contains("/language?"), "the product decides: {page}");
    // Also at an address without a page, and for programs that call with the link.
    let nowhere = get(&linked, "de", "/tenants/ann/nowhere").await;
    assert_eq!(nowhere.status(), 404);
    has(
        &nowhere.text().await.unwrap(),
        &["<html lang=\"pt\" dir=\"ltr\">"],
    );
    let japanese = json!({"locale": "ja"});
    let token = &link_token(&server, &japanese).await;
    let asked = json!({"preference": {"enabled": true, "frequency": "daily"}});
    let preview = "tenants/ann/features/posts/preview";
    let preview = call(&server, token, Method::POST, preview, &asked).await;
    assert_eq!(preview.headers()["content-language"], "ja");
    let preview: Value = preview.json().await.unwrap();
    assert_eq!(preview["jobs"][0]["sentence"], "毎日 15:30（ウィーン時間）");
    // The history says in every language that it was a link, and keeps it in English.
    let config = "tenants/ann/configs/feature_preferences";
    let later = json!({"config_value": {"posts": {"preferred_time": "16:00"}}});
    let changed = call(&server, token, Method::PATCH, config, &later).await;
    assert_eq!(changed.status(), 200);
    let visitor = open(japanese).await;
    has(
        &text(&visitor, "de", "/tenants/ann/history").await,
        &["変更者：ann（リンク）"],
    );
    let undo = json!({"config_value": {"posts": {"preferred_time": null}}});
    let undone = call(&server, ADMIN, Method::PATCH, config, &undo).await;
    assert_eq!(undone.status(), 200);
    // It is of this tenant's pages only.
    has(
        &text(&linked, "de", "/sign-in").await,
        &["<html lang=\"de\""],
    );
    for wanted in [Value::Null, json!({"locale": "nl-NL"})] {
        let visitor = open(wanted).await;
        let page = text(&visitor, "fr-FR", "/tenants/ann").await;
        has(
            &page,
            &[
                "<html lang=\"fr\"",
                "Chaque mardi et vendredi à 15:30",
                "/language?to=de&amp;next=/tenants/ann\"",
            ],
        );
    }
    // A link that is used up speaks its own language, others that of the browser.
    let once = json!({"locale": "ja", "once": true});
    let path = format!("/open/{}", link_token(&server, &once).await);
    let visitor = Visitor::new(&server);
    assert_eq!(visitor.status(&path).await, 303);
    let used = text(&visitor, "de", &path).await;
    has(
        &used,
        &[
            "<html lang=\"ja\"",
            "このリンクはすでに使用されています",
            "data-problem=\"used\"",
        ],
    );
    has(
        &text(&visitor, "de", "/open/wrong").await,
        &["Dieser Link ist ungültig"],
    );
    has(
        &text(&visitor, "es", "/open").await,
        &["Abriendo las preferencias…"],
    );
    has(
        &text(&visitor, "ja", "/unsubscribe/wrong").await,
        &["このリンクは無効です"],
    );
    let path = unsubscribe_path(&server, &json!({"feature": "posts"})).await;
    has(
        &text(&visitor, "de", &path).await,
        &["<h1>„Beiträge“ abbestellen?</h1>"],
    );
    let large = [("List-Unsubscribe", "x".repeat(5_000))];
    let large = large
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let refused = post(&visitor, "de", &path, &large).await;
    assert_eq!(refused.status(), 413);
    has(&refused.text().await.unwrap(), &["<h1>Zu groß</h1>"]);
    let path = unsubscribe_path(&server, &json!({"feature": "posts", "locale": "fr"})).await;
    let asks = text(&visitor, "de", &path).await;
    has(&asks, &["<html lang=\"fr\"", "Posts"]);
    let refused = post(&visitor, "de", &path, &[("action", "delete")]).await;
    assert_eq!(refused.status(), 400);
    has(&refused.text().await.unwrap(), &["<html lang=\"fr\""]);
}

async fn a_tenant_has_a_language(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    prepare(&server).await;
    let profile = "tenants/ann/configs/profile";
    for (locale, wrong) in [
        (json!("german"), "is not a valid language tag"),
        (json!(["de"]), "has the wrong type"),
    ] {
        let body = json!({"config_value": {"locale": locale}});
        let refused = call(&server, ADMIN, Method::PUT, profile, &body).await;
        assert_eq!(refused.status(), 422);
        let refused = refused.text().await.unwrap();
        has(&refused, &["/config_value/locale", wrong]);
    }
    let body = json!({"config_value": {"locale": "de-AT", "name": "Ann"}});
    let stored = call(&server, ADMIN, Method::PUT, profile, &body).await;
    assert_eq!(stored.status(), 200);

    // The link says no language, or one that the pages do not have.
    let open = async |wanted: Value| {
        let path = format!("/open/{}", link_token(&server, &wanted).await);
        let mut visitor = Visitor::new(&server);
        let opened = visitor.get(&path).await;
        remember(&mut visitor, &opened);
        (visitor, path)
    };
    for (wanted, language) in [
        (Value::Null, "de"),
        (json!({"locale": "nl"}), "de"),
        (json!({"locale": "ja"}), "ja"),
    ] {
        let (visitor, _) = open(wanted).await;
        let page = text(&visitor, "fr", "/tenants/ann").await;
        has(&page, &[&format!("<html lang=\"{language}\"")]);
    }
    let (mut visitor, path) = open(json!({"once": true})).await;
    let used = text(&visitor, "fr", &path).await;
    has(&used, &["Dieser Link wurde schon verwendet"]);
    // What the person chooses on a page comes first.
    let chosen = get(&visitor, "fr", "/language?to=es").await;
    remember(&mut visitor, &chosen);
    let page = text(&visitor, "fr", "/tenants/ann").await;
    has(&page, &["<html lang=\"es\""]);

    let of_ann = NewKey {
        name: "page of ann".into(),
        scope: Scope::Write,
        tenant_id: Some(TenantId::new("ann").unwrap()),
    };
    let key = server.store.create_key(&of_ann).await.unwrap();
    let signed_in = Visitor::signed_in(&server, key.expose_secret()).await;
    let page = text(&signed_in, "fr", "/tenants/ann").await;
    has(&page, &["<html lang=\"de\"", "Ihre Einstellungen"]);
    let refused = get(&signed_in, "fr", "/tenants/bob").await;
    assert_eq!(refused.status(), 403);
    let refused = refused.text().await.unwrap();
    let own = "Ihr Schlüssel gehört zu anderen Einstellungen.";
    has(&refused, &["<html lang=\"de\"", "Nicht erlaubt", own]);

    let unsubscribe = unsubscribe_path(&server, &json!({"feature": "posts"})).await;
    let stranger = Visitor::new(&server);
    has(
        &text(&stranger, "fr", &unsubscribe).await,
        &["<html lang=\"de\"", "<h1>„Beiträge“ abbestellen?</h1>"],
    );
    let off = [("List-Unsubscribe", "One-Click")];
    let off = post(&stranger, "fr", &unsubscribe, &off).await;
    has(&off.text().await.unwrap(), &["<h1>Abbestellt</h1>"]);

    // Strangers do not get to know it, and operators read their own language.
    let asked = text(&stranger, "fr", "/sign-in?next=/tenants/ann").await;
    has(&asked, &["<html lang=\"fr\""]);
    let operator = Visitor::signed_in(&server, ADMIN).await;
    let page = text(&operator, "fr", "/tenants/ann").await;
    has(&page, &["<html lang=\"fr\"", "Préférences de ann"]);

    let removed = call(&server, ADMIN, Method::DELETE, profile, &Value::Null).await;
    assert_eq!(removed.status(), 204);
    let page = text(&signed_in, "fr", "/tenants/ann").await;
    has(&page, &["<html lang=\"fr\""]);
}

async fn a_language_is_chosen_at_the_foot_of_a_page(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    prepare(&server).await;
    let of_ann = NewKey {
        name: "page of ann".into(),
        scope: Scope::Read,
        tenant_id: Some(TenantId::new("ann").unwrap()),
    };
    let key = server.store.create_key(&of_ann).await.unwrap();
    let mut visitor = Visitor::new(&server);
    let page = text(&visitor, "es", "/sign-in?next=/tenants/ann").await;
    let link = "/language?to=fr&amp;next=/sign-in%3Fnext%3D/tenants/ann\" lang=\"fr\" hreflang=\"fr\">Français</a>";
    has(&page, &["<h1>Iniciar sesión</h1>", link]);
    let chosen = get(
        &visitor,
        "es",
        "/language?to=fr&next=/sign-in%3Fnext%3D/tenants/ann",
    )
    .await;
    assert_eq!(chosen.status(), 303);
    let to = format!("{}/sign-in?next=/tenants/ann", server.place.root);
    assert_eq!(chosen.headers()["location"], to);
    let set = chosen.headers()["set-cookie"].to_str().unwrap();
    let path = if server.place.root.is_empty() {
        "/"
    } else {
        server.place.root
    };
    assert!(
        set.starts_with(&format!(
            "punctual_language=fr; Path={path}; HttpOnly; SameSite=Lax"
        )),
        "{set}"
    );
    remember(&mut visitor, &chosen);
    let page = text(&visitor, "es", "/sign-in").await;
    has(
        &page,
        &["<html lang=\"fr\"", "Collez la clé que vous avez reçue."],
    );
    let wrong = [("key", "wrong"), ("next", "/tenants/ann")];
    let wrong = post(&visitor, "es", "/sign-in", &wrong).await;
    has(
        &wrong.text().await.unwrap(),
        &[
            "Cette clé n’est pas valable ou a été révoquée.",
            "/language?to=de&amp;next=/sign-in%3Fnext%3D/tenants/ann\"",
        ],
    );
    let signed_in = post(&visitor, "es", "/sign-in", &[("key", key.expose_secret())]).await;
    remember(&mut visitor, &signed_in);
    has(
        &text(&visitor, "es", "/tenants/ann").await,
        &["Vos préférences", ">Se déconnecter<"],
    );
    has(
        &text(&visitor, "es", "/tenants/ann/features/posts").await,
        &["Vous pouvez consulter ces paramètres, mais pas les modifier."],
    );
    // What went wrong is a page in that language, with the reason where it helps.
    for (path, status, parts) in [
        (
            "/tenants/bob",
            403,
            [
                "Accès refusé",
                "Votre clé donne accès à d’autres préférences.",
            ],
        ),
        (
            "/nothing-here",
            404,
            ["Page introuvable", "Il n’y a pas de page à cette adresse."],
        ),
    ] {
        let answer = get(&visitor, "es", path).await;
        assert_eq!(answer.status(), status);
        let page = answer.text().await.unwrap();
        has(&page, &parts);
        has(&page, &["<html lang=\"fr\"", "Retour à l’accueil"]);
    }
    let outdated = post(
        &visitor,
        "es",
        "/tenants/ann/features/posts/switch",
        &[("enabled", "true")],
    )
    .await;
    assert_eq!(outdated.status(), 403);
    has(
        &outdated.text().await.unwrap(),
        &[
            "Ce formulaire n’est plus à jour.",
            "/language?to=de&amp;next=/\"",
        ],
    );
    // Its languages lead back to the page of the form; an address of forms alone says on a page that it has none.
    let switch = format!("{}/tenants/ann/features/posts/switch", server.url);
    let sent = visitor.http.post(&switch).form(&[("enabled", "true")]);
    let sent = sent
        .header("cookie", visitor.cookie.as_deref().unwrap())
        .header("referer", format!("{}/tenants/ann?x=1", server.url));
    let outdated = sent.send().await.unwrap();
    assert_eq!(outdated.status(), 403);
    has(
        &outdated.text().await.unwrap(),
        &["/language?to=de&amp;next=/tenants/ann%3Fx%3D1\""],
    );
    let no_page = get(&visitor, "es", "/tenants/ann/features/posts/switch").await;
    assert_eq!(no_page.status(), 405);
    has(
        &no_page.text().await.unwrap(),
        &["<html lang=\"fr\"", "<h1>Page introuvable</h1>"],
    );
    // Nothing else is remembered, nor leads elsewhere.
    for to in ["xx", "", "fr;x=y", "DE"] {
        let answer = visitor.http.get(format!("{}/language", server.url));
        let answer = answer.query(&[("to", to), ("next", "https://evil.example")]);
        let answer = answer.send().await.unwrap();
        assert!(!answer.headers().contains_key("set-cookie"), "{to}");
        let start = if server.place.root.is_empty() {
            "/"
        } else {
            server.place.root
        };
        assert_eq!(answer.headers()["location"], start);
    }
    // Pages of operators are in English.
    let mut operator = Visitor::signed_in(&server, ADMIN).await;
    let cookie = operator.cookie.take().unwrap();
    operator.cookie = Some(format!("{cookie}; punctual_language=fr"));
    let page = text(&operator, "fr", "/operators").await;
    has(
        &page,
        &["<html lang=\"en\"", "<h1>Overview</h1>", ">Sign out<"],
    );
    assert!(!page.contains("/language?"), "{page}");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_layout_holds_from_right_to_left_and_with_long_words() {
    let server = start(Kind::Sqlite).await;
    prepare(&server).await;
    for (width, height) in [(1200, 1000), (500, 900)] {
        let browser = Browser::open(width, height).await;
        for path in [
            "/tenants/ann",
            "/tenants/ann/features/posts",
            "/tenants/ann/history",
            "/sign-in",
        ] {
            browser.goto(&format!("{}{path}", server.url)).await;
            let crooked = browser
                .run("const shown = [...document.querySelectorAll('.brand, .card, main fieldset, main button, main select, main table')]
                        .filter((one) => one.checkVisibility() && one.getBoundingClientRect().width > 0);
                    const boxes = () => shown.map((one) => one.getBoundingClientRect());
                    const width = document.documentElement.clientWidth;
                    const before = boxes();
                    document.documentElement.dir = 'rtl';
                    const after = boxes();
                    const moved = after.some((box, at) => Math.abs(box.left - before[at].left) > 50);
                    const names = shown
                        .filter((one, at) => Math.abs(width - before[at].right - after[at].left) > 2)
                        .map((one) => one.outerHTML.slice(0, 100));
                    return moved && names.length === 0 ? null : [moved, ...names]")
                .await;
            assert_eq!(crooked, Value::Null, "{path} at {width} is not mirrored");
            // As with a language that is written so, and whose words are longer.
            browser
                .run("const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
                    while (texts.nextNode()) {
                        const text = texts.currentNode;
                        if (text.data.trim()) text.data = '\\u202b' + text.data + ' \\u05e9\\u05dc\\u05d5\\u05dd';
                    }")
                .await;
            let broken = browser
                .run("const wide = document.documentElement.scrollWidth > innerWidth;
                    const names = [...document.querySelectorAll('main *')]
                        .filter((one) => !one.closest('.visually-hidden, datalist, select') && one.checkVisibility())
                        .filter((one) => {
                            const box = one.getBoundingClientRect();
                            return box.width > 0 && (box.left < -1 || box.right > innerWidth + 1);
                        })
                        .map((one) => one.outerHTML.slice(0, 100));
                    return wide || names.length ? [wide, ...names] : null")
                .await;
            assert_eq!(broken, Value::Null, "{path} at {width}");
        }
        browser.close().await;
    }
}
