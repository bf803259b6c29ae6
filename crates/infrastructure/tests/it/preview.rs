//! What the handlers `webhook`, `chat` and `template` say they would send, beside what they send, on real servers on loopback.

use std::sync::Arc;

use punctual_application::ports::{HandlerErrorKind, PurposeHandler, SystemClock};
use punctual_domain::Outcome;
use punctual_infrastructure::{TemplateHandler, Templates, WebhookHandler};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::endpoint::{Script, answer, asks, chat, item, webhook};

#[tokio::test]
async fn a_webhook_is_previewed_as_it_is_posted() {
    let script = Script::default();
    script.answer(200, &[], r#"{"ok": true}"#);
    script.answer(204, &[], "");
    script.answer(500, &[], "broken");
    script.answer(200, &[], "");
    let url = script.serve().await;
    let url = format!("{}/hook?token=canary", url.trim_end_matches('/'));
    let secret = SecretString::from("canary-secret");
    let clock = Arc::new(SystemClock);
    let handler = WebhookHandler::new(&webhook(&url), Some(&secret), clock).unwrap();
    let preview = async |call: bool| handler.preview(&item(1), call).await.unwrap().unwrap();

    let rendered = preview(false).await;
    assert!(rendered.outcome.is_none());
    assert_eq!(script.calls(), 0, "nothing is called");
    let called = preview(true).await.outcome.unwrap().unwrap();
    let ok = json!({"status": 200, "body": {"ok": true}});
    assert_eq!(called, Outcome::Done(ok));
    let nothing = preview(true).await.outcome.unwrap().unwrap();
    assert!(matches!(nothing, Outcome::NothingToDo(_)), "{nothing:?}");
    let failed = preview(true).await;
    assert_eq!(failed.body, rendered.body, "a failure shows what was sent");
    let error = failed.outcome.unwrap().unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable);
    handler.run(&item(1)).await.unwrap();

    assert!(!format!("{rendered:?}").contains("canary"), "{rendered:?}");
    let got = script.got.lock().unwrap();
    let marked = |call: usize| got[call].0.get("punctual-dry-run");
    assert_eq!(marked(0).unwrap(), "1");
    assert_eq!(marked(3), None, "a run has an effect");
    assert_eq!(got[0].1, got[3].1, "the same body");
    let sent: Value = serde_json::from_slice(&got[3].1).unwrap();
    assert_eq!(rendered.body, Some(sent));
}

#[tokio::test]
async fn a_chat_is_previewed_with_the_messages_that_it_sends() {
    let script = Script::default();
    script.answer(200, &[], answer("A fine morning to you.", "stop"));
    let (url, folder) = (script.serve().await, tempfile::tempdir().unwrap());
    let handler = asks(&chat(&url), folder.path());
    let preview = async |call: bool| handler.preview(&item(1), call).await.unwrap().unwrap();

    let rendered = preview(false).await;
    assert!(rendered.outcome.is_none());
    assert_eq!(script.calls(), 0, "nothing is called");
    let called = preview(true).await.outcome.unwrap().unwrap();
    assert_eq!(handler.run(&item(1)).await.unwrap(), called);

    assert!(!format!("{rendered:?}").contains("canary"), "{rendered:?}");
    let got = script.got.lock().unwrap();
    assert_eq!(got[0].0["punctual-dry-run"], "1");
    assert!(!got[1].0.contains_key("punctual-dry-run"));
    assert_eq!(got[0].1, got[1].1, "the same body");
    let sent: Value = serde_json::from_slice(&got[1].1).unwrap();
    assert_eq!(sent["messages"][0]["content"], "You are dry.");
    assert_eq!(rendered.body, Some(sent));
}

#[tokio::test]
async fn a_template_is_previewed_with_the_text_that_is_its_result() {
    let folder = tempfile::tempdir().unwrap();
    for (name, template) in [
        ("post.j2", "A {{ tone }} hello to {{ item.tenant_id }}"),
        ("empty.j2", "{% if tone == 'warm' %}Hello{% endif %}"),
        ("broken.j2", "{{ colour }}"),
    ] {
        std::fs::write(folder.path().join(name), template).unwrap();
    }
    let templates = Templates::in_folder(folder.path());
    let of = |name: &str| TemplateHandler::new(&templates, name).unwrap();

    let handler = of("post.j2");
    let preview = handler.preview(&item(1), true).await.unwrap().unwrap();
    assert!(preview.outcome.is_none());
    let ran = handler.run(&item(1)).await.unwrap().into_output().unwrap();
    assert_eq!(preview.text.as_deref(), ran["text"].as_str());
    assert_eq!(preview.output, Some(ran));
    assert_eq!(preview.text.as_deref(), Some("A dry hello to ann"));

    let handler = of("empty.j2");
    let preview = handler.preview(&item(1), false).await.unwrap().unwrap();
    let ran = handler.run(&item(1)).await.unwrap();
    assert_eq!(preview.outcome.unwrap().unwrap(), ran);
    assert_eq!(preview.text, None);

    let handler = of("broken.j2");
    let previewed = handler.preview(&item(1), false).await.unwrap_err();
    let ran = handler.run(&item(1)).await.unwrap_err();
    assert_eq!((previewed.kind, previewed.message), (ran.kind, ran.message));
}
