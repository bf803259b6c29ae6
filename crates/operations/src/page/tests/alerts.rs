//! The channels for alerts, and the button that tests them.

use punctual_application::{
    NamedAlertChannel,
    ports::{AlertError, MockAlertChannel},
};

use super::*;

fn channel(name: &str, answer: Result<&'static str, &'static str>) -> NamedAlertChannel {
    let mut channel = MockAlertChannel::new();
    channel
        .expect_send()
        .returning(move |_| answer.map(str::to_owned).map_err(AlertError::new));
    NamedAlertChannel {
        name: name.to_owned(),
        target: Some("https://alerts.example".to_owned()),
        channel: Arc::new(channel),
    }
}

fn visit(channels: Vec<NamedAlertChannel>) -> Visit {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = operator(&store);
    operator.alerting.channels = channels.into();
    Visit::of(operator, store)
}

#[tokio::test(start_paused = true)]
async fn a_test_alert_is_answered_on_the_page_with_what_each_channel_said() {
    let mut visit = visit(vec![
        channel("webhook", Ok("204 No Content")),
        channel("email", Err("451 later")),
    ]);
    let page = visit.open("/replicas").await;
    page.has("https://alerts.example")
        .has("Send a test alert")
        .has("No alert has gone out");
    let page = visit.submit("/replicas", &[]).await;
    page.has("was not sent by 1 channel, and was sent by 1 channel")
        .has("webhook: sent (204 No Content)")
        .has("email: not sent (451 later)");
    // What cannot be sent is a finding.
    visit
        .open("/")
        .await
        .has("alerts cannot be sent by email: 451 later");
}

#[tokio::test(start_paused = true)]
async fn without_a_channel_the_page_says_so_and_has_no_button() {
    let mut visit = visit(vec![]);
    let page = visit.open("/replicas").await;
    page.has("No alert goes out").lacks("Send a test alert");
    let page = visit.submit("/replicas", &[]).await;
    page.has("Nothing was sent: no channel for alerts is set up.");
}
