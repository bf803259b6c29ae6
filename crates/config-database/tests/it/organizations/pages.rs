//! Pages of organizations, of their members and of operators.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ACME, join, layer, publish_job, stands, status};
use crate::{
    links::let_in,
    page::{Visitor, hidden},
    server::{Kind, on_both_databases, start},
};

on_both_databases! {
    the_page_of_a_member_says_what_comes_from_the_organization
    the_page_of_an_organization_changes_its_preferences
    what_an_organization_leaves_open_its_members_choose
    operators_find_organizations_page_by_page
}

/// The version that the button offers to bring back.
fn hidden_of_undo(page: &str) -> String {
    let (_, form) = page
        .split_once("/restore\"")
        .unwrap_or_else(|| panic!("{page}"));
    hidden(form, "version")
}

async fn the_page_of_a_member_says_what_comes_from_the_organization(kind: Kind) {
    let server = start(kind).await;
    let defaults = json!({"frequency": "weekly", "preferred_time": "10:00"});
    publish_job(&server, defaults).await;
    let visitor = Visitor::new(&server);
    let page = visitor.text("/tenants/a/features/f").await;
    assert!(!page.contains("rom your organization"), "{page}");
    join(&server, "a", json!("acme")).await;
    layer(
        &server,
        json!({"f": {"enabled": true, "preferred_time": "07:30"}}),
    )
    .await;
    let page = visitor.text("/tenants/a/features/f").await;
    assert!(page.contains("7:30"), "{page}");
    assert!(page.contains("From your organization."), "{page}");
    assert!(
        page.contains("name=\"enabled\" value=\"true\" checked"),
        "it is on"
    );
    assert_eq!(
        page.matches("From your organization.").count(),
        2,
        "time and minute"
    );
    let list = visitor.text("/tenants/a").await;
    assert!(
        list.contains("7:30") && list.contains("Switch off"),
        "{list}"
    );
    // Switched off, it is the member's own choice, and nothing else is.
    let form = [("csrf", ""), ("enabled", "false")];
    let switched = visitor.post("/tenants/a/features/f/switch", &form).await;
    assert_eq!(switched.status(), 303);
    let stored = server.get("tenants/a/configs/feature_preferences").await;
    assert_eq!(stored["config_value"], json!({"f": {"enabled": false}}));
    assert_eq!(stands(&server, "a").await.0["preferred_time"], "07:30");
    // The minute of hourly runs is usual for hourly runs only.
    layer(
        &server,
        json!({"f": {"frequency": "hourly", "preferred_time": "00:15"}}),
    )
    .await;
    let page = visitor.text("/tenants/a/features/f").await;
    let hint = |id: &str| {
        let (_, hint) = page.split_once(&format!("id=\"{id}\">")).unwrap();
        hint.split("</span>").next().unwrap().to_owned()
    };
    let (minute, time) = (hint("minute-hint"), hint("time-hint"));
    let given = "From your organization.";
    assert!(minute.contains("15") && minute.contains(given), "{minute}");
    assert!(time.contains("10:00") && !time.contains(given), "{time}");
}

async fn the_page_of_an_organization_changes_its_preferences(kind: Kind) {
    let server = start(kind).await;
    for tenant in ["a", "b"] {
        join(&server, tenant, json!("acme")).await;
    }
    server.put("b", json!({"f": {"enabled": false}})).await;
    let made = server
        .call(
            Method::POST,
            "organizations/acme/links",
            r#"{"locale": "de"}"#,
        )
        .await;
    let made: Value = made.json().await.unwrap();
    let visitor = let_in(&server, made["token"].as_str().unwrap()).await;
    // The list says that it is empty, and the navigation leads to it.
    let list = visitor.text("/organizations/acme").await;
    let empty = "<div class=\"empty\"><p>Es gibt noch nichts einzustellen.</p><p class=\"hint\">";
    assert!(list.contains(empty), "{list}");
    let path = "/organizations/acme/features/f";
    let page = visitor.text(path).await;
    let (_, menu) = page.split_once("<nav ").unwrap();
    let (menu, _) = menu.split_once("</nav>").unwrap();
    assert!(
        menu.contains("<a href=\"/organizations/acme\">Alle Einstellungen von acme</a>"),
        "{menu}"
    );
    assert!(page.contains("Für 2 Mitglieder"), "{page}");
    let (csrf, version) = (hidden(&page, "csrf"), hidden(&page, "version"));
    let form = [
        ("csrf", csrf.as_str()),
        ("version", version.as_str()),
        ("action", "save"),
        ("enabled", "true"),
        ("frequency", "daily"),
        ("time", "08:00"),
        ("zone", "Europe/Berlin"),
    ];
    let saved = visitor.post(path, &form).await;
    assert_eq!(saved.status(), 303, "{:?}", saved.text().await);
    let page = visitor
        .text(saved.headers()["location"].to_str().unwrap())
        .await;
    // The first version undoes to nothing.
    assert_eq!(hidden_of_undo(&page), "0");
    let stored = server.get(ACME).await["config_value"]["f"].clone();
    assert_eq!(
        (
            &stored["frequency"],
            &stored["preferred_time"],
            &stored["timezone"]
        ),
        (&json!("daily"), &json!("08:00"), &json!("Europe/Berlin"))
    );
    assert_eq!(stands(&server, "a").await.0["preferred_time"], "08:00");
    assert_eq!(stands(&server, "b").await.0["enabled"], false);
    // Who has the old form does not overwrite it.
    let other = form.map(|(name, value)| {
        if name == "time" {
            (name, "09:30")
        } else {
            (name, value)
        }
    });
    let refused = visitor.post(path, &other).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let without_token = visitor.post(path, &[("action", "save")]).await;
    assert_eq!(without_token.status(), 403);
    let history = server.get(&format!("{ACME}/history")).await;
    assert_eq!(history["versions"][0]["actor"], "acme (link)");

    // Another feature, a second version, and back from it: by what the page offers to undo, and from the history.
    let both = json!({"f": stored, "g": {"timezone": "Asia/Tokyo"}});
    layer(&server, both).await;
    let page = visitor.text(path).await;
    let version = hidden(&page, "version");
    let later = form.map(|(name, value)| match name {
        "version" => (name, version.as_str()),
        "time" => (name, "21:00"),
        _ => (name, value),
    });
    let saved = visitor.post(path, &later).await;
    assert_eq!(saved.status(), 303, "{:?}", saved.text().await);
    let page = visitor
        .text(saved.headers()["location"].to_str().unwrap())
        .await;
    let before = hidden_of_undo(&page);
    assert_eq!(before, "2");
    let restore = format!("{path}/restore");
    let undo = [("csrf", csrf.as_str()), ("version", before.as_str())];
    assert_eq!(
        visitor.post(&restore, &undo[1..]).await.status(),
        403,
        "without the token"
    );
    let undone = visitor.post(&restore, &undo).await;
    assert_eq!(undone.status(), 303);
    let to = undone.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        to.starts_with("/organizations/acme/features/f?saved="),
        "{to}"
    );
    assert_eq!(stands(&server, "a").await.0["preferred_time"], "08:00");
    let history = visitor.text("/organizations/acme/history").await;
    assert!(
        history.contains("Verlauf von acme") && history.contains("Von acme (Link)"),
        "{history}"
    );
    assert!(
        history.contains("action=\"/organizations/acme/features/f/restore\""),
        "{history}"
    );
    let undo = [("csrf", csrf.as_str()), ("version", "0")];
    assert_eq!(visitor.post(&restore, &undo).await.status(), 303);
    let stored = server.get(ACME).await["config_value"].clone();
    assert_eq!(
        stored,
        json!({"g": {"timezone": "Asia/Tokyo"}}),
        "g stays as it is"
    );
    let unknown = [("csrf", csrf.as_str()), ("version", "70")];
    assert_eq!(visitor.post(&restore, &unknown).await.status(), 400);
}

async fn what_an_organization_leaves_open_its_members_choose(kind: Kind) {
    let server = start(kind).await;
    publish_job(&server, json!({})).await;
    // No frequency is usual, and the organization has none.
    let open = json!({"enabled": true, "preferred_time": "07:30"});
    layer(&server, json!({ "f": open })).await;
    let visitor = Visitor::new(&server);
    let list = visitor.text("/organizations/acme").await;
    assert!(list.contains("As each member chooses"), "{list}");
    assert!(list.contains("<p>No members yet.</p>"), "{list}");
    let page = visitor.text("/organizations/acme/features/f").await;
    assert!(
        page.contains("Each member chooses what is left open."),
        "{page}"
    );
    assert!(!page.contains("usual times"), "{page}");
}

async fn operators_find_organizations_page_by_page(kind: Kind) {
    let server = start(kind).await;
    let visitor = Visitor::new(&server);
    let empty = visitor.text("/operators/organizations").await;
    assert!(empty.contains("No organizations yet."), "{empty}");
    // Three members each, in an order that is not that of the tenants.
    let line = |n: usize| {
        let profile = json!({"organization_id": format!("o{:03}", n % 130)});
        json!({"tenant_id": format!("t{n:04}"), "config_key": "profile", "config_value": profile})
            .to_string()
    };
    let lines: Vec<String> = (0..390).map(line).collect();
    let path = "preferences/import";
    let report = server.call(Method::POST, path, &lines.join("\n")).await;
    assert_eq!(report.json::<Value>().await.unwrap()["imported"], 390);
    // One without members, and one that has neither any more.
    layer(&server, json!({"f": {"timezone": "UTC"}, "g": {}})).await;
    let gone = "organizations/gone/configs/feature_preferences";
    let body = json!({"config_value": {"f": {"timezone": "UTC"}}});
    assert_eq!(status(&server, Method::PUT, gone, &body).await, 200);
    let removed = status(&server, Method::DELETE, gone, &Value::Null).await;
    assert_eq!(removed, 204);

    let (mut to, mut listed) = ("/operators/organizations".to_owned(), Vec::new());
    let mut pages = 0;
    loop {
        let page = visitor.text(&to).await;
        pages += 1;
        let rows = page.split("<tr><th scope=\"row\">").skip(1);
        listed.extend(rows.map(|row| {
            let (_, link) = row.split_once("href=\"/organizations/").unwrap();
            let (id, _) = link.split_once('"').unwrap();
            let (_, members) = row.split_once("<td class=\"number\">").unwrap();
            let (members, features) = members.split_once("</td><td>").unwrap();
            let (features, _) = features.split_once("</td>").unwrap();
            (id.to_owned(), members.to_owned(), features.to_owned())
        }));
        let Some((before, _)) = page.split_once("\">Next</a>") else {
            break;
        };
        let (_, next) = before.rsplit_once("href=\"").unwrap();
        to = next.replace("&amp;", "&").replace("&#38;", "&");
    }
    assert_eq!(pages, 3);
    let expected = |n: usize| (format!("o{n:03}"), "3".to_owned(), "–".to_owned());
    let of_acme = ("acme".to_owned(), "0".to_owned(), "f".to_owned());
    let expected: Vec<_> = std::iter::once(of_acme)
        .chain((0..130).map(expected))
        .collect();
    assert_eq!(listed, expected);

    let found = visitor.text("/operators/organizations?q=o12").await;
    assert_eq!(found.matches("<th scope=\"row\">").count(), 10, "{found}");
    for q in ["nothing", "%00", "%7E", "o130"] {
        let page = visitor
            .text(&format!("/operators/organizations?q={q}"))
            .await;
        assert!(
            page.contains("No id of an organization begins"),
            "{q}: {page}"
        );
    }
    // A tenant's page leads to the organization, for operators.
    let page = visitor.text("/tenants/t0131").await;
    assert!(page.contains("href=\"/organizations/o001\""), "{page}");
    let of_tenant = server.call(Method::POST, "tenants/t0131/links", "{}").await;
    let made: Value = of_tenant.json().await.unwrap();
    let tenant = let_in(&server, made["token"].as_str().unwrap()).await;
    let page = tenant.text("/tenants/t0131").await;
    assert!(!page.contains("o001"), "{page}");
}
