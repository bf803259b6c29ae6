use punctual_application::testing;
use punctual_domain::PurposeId;
use serde_json::{Value, json};

use super::*;

fn read(options: &Value) -> Result<Arc<dyn PurposeHandler>, Vec<String>> {
    let mut fields = Fields::new(options.as_object().unwrap(), "/purposes/write.digest");
    let handler = NatsKind.read(&mut fields, Duration::from_secs(30));
    fields.deny_others();
    let read = fields.finish(|| handler);
    read.map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

#[test]
fn every_mistake_in_the_options_is_reported() {
    let good = json!({"servers": ["nats://127.0.0.1:4222", "tls://nats.example"], "stream": "ITEMS",
        "subject": "shop.reports", "completes_within": "2h", "on_deadline": "fail"});
    assert!(read(&good).is_ok());
    let found = read(
        &json!({"stream": "a.b", "subject": "a.*", "completes_within": "40d", "colour": 1,
        "token_env": "NOT_SET_ANYWHERE"}),
    );
    let Err(found) = found else {
        panic!("it was taken")
    };
    let expected = [
        "/purposes/write.digest/stream: \"a.b\" is not a valid name of a stream",
        "/purposes/write.digest/subject: \"a.*\" is not a subject to publish to",
        "/purposes/write.digest/completes_within: \"40d\" is not a valid duration",
        "/purposes/write.digest/servers: is missing",
        "/purposes/write.digest/token_env: \"NOT_SET_ANYWHERE\" is not set in the environment",
        "/purposes/write.digest/colour: 1 is not a known field",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected} in {found}");
    }
    for servers in [
        json!([]),
        json!("nats://x"),
        json!(["http://x"]),
        json!(["nats://"]),
        json!([1]),
    ] {
        assert!(read(&json!({ "servers": servers })).is_err(), "{servers}");
    }
}

#[tokio::test]
async fn an_item_is_retried_while_no_server_answers_and_shown_without_one() {
    // Nothing listens at port 1.
    let Ok(handler) = read(&json!({"servers": ["nats://127.0.0.1:1"]})) else {
        panic!("it was refused")
    };
    let mut item = testing::item("ann");
    item.purpose_id = PurposeId::new("write.digest").unwrap();
    let shown = handler.preview(&item, true).await.unwrap().unwrap();
    assert_eq!(shown.to.as_deref(), Some("punctual.items.write=2Edigest"));
    assert_eq!(shown.outcome.is_none(), shown.body.is_some());

    let without_id = handler.run(&item).await.unwrap_err();
    assert!(without_id.message.contains("no id"), "{without_id}");
    item.completion = Some(punctual_domain::Completion {
        call_id: uuid::Uuid::nil(),
        url: None,
    });
    let error = handler.run(&item).await.unwrap_err();
    assert_eq!(
        error.kind,
        punctual_application::ports::HandlerErrorKind::Retryable
    );
    assert!(
        error.message.starts_with("NATS at 127.0.0.1:1: "),
        "{error}"
    );
}
