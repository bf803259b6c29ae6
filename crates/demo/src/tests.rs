//! The samples beside the demo: the job of `data/batch` asks this shop, and its purpose sends to this mailbox.

use std::{path::Path, sync::Arc};

use axum::Json;
use punctual_application::{
    Handlers,
    testing::{FakeStore, item_preferring},
};
use punctual_domain::{Item, Outcome, PurposeId};
use punctual_infrastructure::HandlerKinds;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{HTTP, SMTP, mailbox::Mailbox, shop};

#[tokio::test]
async fn the_digest_of_the_samples_comes_to_the_mailbox() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(data.join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let jobs = read("batch/batch_config.json");
    let mut jobs = jobs["jobs"].as_array().unwrap().iter();
    let job = jobs.find(|job| job["job_id"] == "shop_digest").unwrap();
    assert_eq!(job["data"]["url"], format!("http://{HTTP}/activity"));

    let mut purposes = read("batch/purposes.json");
    let digest = &mut purposes["purposes"]["shop_digest"];
    assert_eq!(digest["url"], format!("smtp://{SMTP}"));
    let smtp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    digest["url"] = json!(format!("smtp://{}", smtp.local_addr().unwrap()));
    let mailbox = Mailbox::new("http://127.0.0.1:1");
    tokio::spawn(mailbox.clone().receive(smtp));
    let kinds = HandlerKinds::built_in(&data.join("templates"));
    let handlers: Handlers = kinds.handlers(&purposes).unwrap();
    let none = Arc::new(FakeStore::default());
    handlers.suppressions().connect(none);
    let purpose = PurposeId::new("shop_digest").unwrap();
    let handler = handlers.handler(&purpose).unwrap();

    let due = "2026-11-27T07:00:00Z";
    let tenant = |id: &str| json!({"tenant_id": id, "occurrence": "2026-11-27", "scheduled_at": due, "previous": null});
    let request = json!({"job": "shop_digest", "tenants": [tenant("user10"), tenant("user5")]});
    let request = serde_json::from_value(request).unwrap();
    let Json(answer) = shop::activity(Json(request)).await;
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer.as_object().unwrap().len(), 1, "user5 has no news");
    let overrides = &job["default_preferences"]["template_overrides"];
    let item = Item {
        fetched: Some(answer["user10"].clone()),
        ..item_preferring("user10", json!({ "template_overrides": overrides }))
    };
    let Outcome::Done(sent) = handler.run(&item).await.unwrap() else {
        panic!("there was nothing to do")
    };
    assert_eq!(sent["reply"], "Read it at http://127.0.0.1:1/mails/1");
    let shown = mailbox.html(1).unwrap();
    for expected in [
        "Your shop: 5 orders",
        "In the last 24 hours, <strong>179 EUR</strong> in total.",
        "Cedar candle for Amara",
        "19 EUR",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.contains("Unsubscribe"), "{shown}");
}
