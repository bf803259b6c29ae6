//! The service on a real server, with a clock that the test sets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use async_trait::async_trait;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    Alerting, Handlers,
    ports::{
        Alert, AlertAgent, AlertChannel, AlertKind, Alerts, Clock, Fence, FenceState, HandlerError,
        Mailer, Page, PauseCause, PurposeHandler, StoredAlert, SystemClock, WorkQueue,
    },
    testing::{FakeStore, operator, schedule},
};
use punctual_domain::{EmailAddress, FenceMark, Item, JobId, KnownMarks, Outcome, PurposeId, Zone};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A clock that a test sets.
struct SetClock(StdMutex<DateTime<Utc>>);

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server has got, and the status that it answers with.
#[derive(Default)]
struct Server {
    got: StdMutex<Vec<(HeaderMap, Bytes)>>,
    status: StdMutex<StatusCode>,
}

impl Server {
    async fn start(self: &Arc<Self>) -> String {
        let router = Router::new()
            .fallback(
                async |State(server): State<Arc<Self>>, headers: HeaderMap, body: Bytes| {
                    server.got.lock().unwrap().push((headers, body));
                    *server.status.lock().unwrap()
                },
            )
            .with_state(Arc::clone(self));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/alerts?token=abc")
    }

    fn answer(&self, status: StatusCode) {
        *self.status.lock().unwrap() = status;
    }

    fn got(&self) -> Vec<(HeaderMap, Bytes)> {
        self.got.lock().unwrap().clone()
    }
}

fn posts() -> JobId {
    JobId::new("posts").unwrap()
}

/// A service and what is around it.
struct World {
    service: AlertService,
    desk: Mutex<AlertDesk>,
    clock: Arc<SetClock>,
    store: Arc<FakeStore>,
}

impl World {
    fn new(channels: Vec<NamedAlertChannel>) -> Self {
        let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
            "preference_based": true, "feature_type": "posts", "default_preferences": {"frequency": "daily"}}]});
        let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
        let store: Arc<FakeStore> = Arc::default();
        let begin = "2026-03-01T09:00:00Z";
        let mut operator = operator(&store, jobs, begin);
        let clock = Arc::new(SetClock(StdMutex::new(begin.parse().unwrap())));
        operator.clock = clock.clone();
        operator.alerting = Alerting {
            channels: channels.into(),
            page_url: Some("https://punctual.example".to_owned()),
            ..Alerting::none(store.clone())
        };
        let (_, leads) = watch::channel(true);
        Self {
            desk: Mutex::new(AlertDesk::new(operator.clone())),
            service: AlertService::new(operator, leads),
            clock,
            store,
        }
    }

    async fn pause(&self) {
        let cause = PauseCause::Failures("9 of 10 items failed".to_owned());
        let now = self.clock.now();
        let job = posts();
        let paused = self.store.set_paused(&job, Some(cause), now);
        paused.await.unwrap();
    }

    /// Lets so much time pass, and looks.
    async fn look_after(&self, time: TimeDelta) {
        *self.clock.0.lock().unwrap() += time;
        schedule(&self.service.operator, &posts(), &[]);
        self.service.look(&self.desk).await;
    }

    async fn stored(&self) -> Vec<StoredAlert> {
        let page = Page::default();
        Alerts::alerts(&*self.store, &page).await.unwrap().0
    }
}

fn webhook(url: &str) -> NamedAlertChannel {
    let channel = WebhookAlerts::new(
        url,
        &SecretString::from(SECRET),
        true,
        Arc::new(SystemClock),
    );
    NamedAlertChannel {
        name: "webhook".to_owned(),
        target: None,
        channel: Arc::new(channel.unwrap()),
    }
}

#[tokio::test]
async fn a_finding_is_posted_signed_and_with_one_id_for_all_attempts() {
    let server: Arc<Server> = Arc::default();
    let world = World::new(vec![webhook(&server.start().await)]);
    world.pause().await;
    world.look_after(TimeDelta::zero()).await;
    server.answer(StatusCode::SERVICE_UNAVAILABLE);
    world.look_after(TimeDelta::minutes(1)).await;
    server.answer(StatusCode::NO_CONTENT);
    world.look_after(TimeDelta::seconds(5)).await;
    assert_eq!(server.got().len(), 1, "it waits before it retries");
    world.look_after(TimeDelta::seconds(10)).await;
    world.look_after(TimeDelta::minutes(5)).await;
    let got = server.got();
    assert_eq!(got.len(), 2);
    let receiver = standardwebhooks::Webhook::new(SECRET).unwrap();
    for (headers, body) in &got {
        receiver.verify(body, headers).unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(headers["webhook-id"], body["id"].as_str().unwrap());
        assert_eq!(body["type"], "finding.opened");
        let finding = &body["finding"];
        assert_eq!(finding["id"], "paused/posts");
        assert_eq!(finding["kind"], "paused");
        assert_eq!(finding["severity"], "warning");
        assert_eq!(finding["url"], "https://punctual.example/");
        assert_eq!(body["agent"]["shard"], "1/1");
    }
    assert_eq!(got[0].0["webhook-id"], got[1].0["webhook-id"]);
    let stored = world.stored().await;
    let delivery = &stored[0].deliveries[0];
    assert_eq!(
        (
            delivery.state,
            delivery.attempts,
            delivery.answer.as_deref()
        ),
        (AlertDeliveryState::Sent, 2, Some("204 No Content"))
    );
    // It is over.
    let now = world.clock.now();
    world.store.set_paused(&posts(), None, now).await.unwrap();
    world.look_after(TimeDelta::seconds(15)).await;
    world.look_after(TimeDelta::minutes(2)).await;
    let last: Value = serde_json::from_slice(&server.got()[2].1).unwrap();
    assert_eq!(last["type"], "finding.recovered");
}

#[tokio::test]
async fn a_held_store_is_alerted_although_no_process_leads() {
    let server: Arc<Server> = Arc::default();
    let mut world = World::new(vec![webhook(&server.start().await)]);
    let (_, leads) = watch::channel(false);
    world.service.leads = leads;
    world.pause().await;
    for _ in 0..2 {
        world.look_after(TimeDelta::minutes(1)).await;
    }
    assert_eq!(server.got().len(), 0, "another process leads");
    let (mut known, now) = (KnownMarks::default(), world.clock.now());
    let FenceState::Marked(mark) = world.store.mark(&known, now).await.unwrap() else {
        panic!("the store is held");
    };
    known.note(FenceMark {
        number: mark.number + 10,
        ..mark
    });
    world.store.mark(&known, now).await.unwrap();
    for _ in 0..2 {
        world.look_after(TimeDelta::minutes(1)).await;
    }
    let bodies = server.got().into_iter().map(|(_, body)| body);
    let bodies = bodies.map(|body| serde_json::from_slice::<Value>(&body).unwrap());
    let about: Vec<Value> = bodies.map(|body| body["finding"]["id"].clone()).collect();
    assert!(about.contains(&json!("restored")), "{about:?}");
}

#[tokio::test]
async fn an_endpoint_that_fails_for_an_hour_is_a_finding_and_keeps_no_other_channel_waiting() {
    let (bad, good): (Arc<Server>, Arc<Server>) = Default::default();
    bad.answer(StatusCode::INTERNAL_SERVER_ERROR);
    let other = NamedAlertChannel {
        name: "other".to_owned(),
        ..webhook(&good.start().await)
    };
    let world = World::new(vec![webhook(&bad.start().await), other]);
    world.pause().await;
    world.look_after(TimeDelta::zero()).await;
    world.look_after(TimeDelta::minutes(1)).await;
    assert_eq!(good.got().len(), 1);
    for _ in 0..16 {
        world.look_after(TimeDelta::minutes(5)).await;
    }
    let calls = bad.got().len();
    assert!((7..20).contains(&calls), "{calls}");
    let findings = world.service.operator.findings().await.unwrap();
    let about = findings.all().into_iter();
    let about = about.map(|finding| (finding.id(), finding.what.clone()));
    let failing: Vec<_> = about
        .filter(|one| one.0 == "alerts-failing/webhook")
        .collect();
    assert_eq!(failing.len(), 1);
    assert!(failing[0].1.contains("500 Internal Server Error"));
    assert!(!failing[0].1.contains("abc"), "the URL may be secret");
    // The other channel says so, and a success ends it.
    let last: Value = serde_json::from_slice(&good.got()[1].1).unwrap();
    assert_eq!(last["finding"]["id"], "alerts-failing/webhook");
    bad.answer(StatusCode::OK);
    for _ in 0..3 {
        world.look_after(TimeDelta::minutes(10)).await;
    }
    let findings = world.service.operator.findings().await.unwrap();
    assert!(
        findings
            .all()
            .iter()
            .all(|one| one.kind.id() == "paused/posts")
    );
}

#[tokio::test]
async fn a_private_address_is_refused_unless_it_is_allowed() {
    let secret = SecretString::from(SECRET);
    let url = "http://127.0.0.1:1/alerts";
    let clock = || Arc::new(SystemClock);
    let refused = WebhookAlerts::new(url, &secret, false, clock()).unwrap_err();
    assert!(refused.to_string().contains("not public"), "{refused}");
    assert!(WebhookAlerts::new(url, &secret, true, clock()).is_ok());
    let bad = SecretString::from("whsec_!");
    let refused = WebhookAlerts::new(url, &bad, true, clock()).unwrap_err();
    assert!(!refused.to_string().contains("whsec_!"), "{refused}");
}

/// What was sent: the id, the address, the subject and the text.
type Mails = Arc<StdMutex<Vec<[String; 4]>>>;

/// Sends e-mails to all addresses but one, for now.
#[derive(Clone, Default)]
struct Mailbox {
    sent: Mails,
    refuses: Arc<StdMutex<Option<&'static str>>>,
}

#[async_trait]
impl PurposeHandler for Mailbox {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        Ok(json!(null).into())
    }

    fn mailer(&self) -> Option<Arc<dyn Mailer>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Mailer for Mailbox {
    async fn send(
        &self,
        id: &str,
        to: &EmailAddress,
        subject: &str,
        text: &str,
    ) -> Result<String, HandlerError> {
        if *self.refuses.lock().unwrap() == Some(to.as_str()) {
            return Err(HandlerError::retryable("451 later"));
        }
        let mail = [id, to.as_str(), subject, text].map(str::to_owned);
        self.sent.lock().unwrap().push(mail);
        Ok("250 OK".to_owned())
    }
}

fn test_alert() -> Alert {
    Alert {
        id: uuid::Uuid::from_u128(7),
        kind: AlertKind::Test,
        timestamp: DateTime::UNIX_EPOCH,
        finding: None,
        more: None,
        agent: AlertAgent {
            name: "punctual.example".to_owned(),
            shard: "1/1".to_owned(),
            version: "1.0.0".to_owned(),
        },
    }
}

#[tokio::test]
async fn each_address_gets_an_alert_once_however_often_others_fail() {
    let mails = Mailbox::default();
    let (mut handlers, purpose) = (Handlers::default(), PurposeId::new("mail").unwrap());
    let addresses = ["ann@shop.example", "bob@shop.example"].map(|one| one.parse().unwrap());
    let channel = EmailAlerts::new(handlers.clone(), purpose.clone(), addresses.to_vec());
    let unbound = channel.send(&test_alert()).await.unwrap_err().to_string();
    assert!(
        unbound.contains("purpose `mail` sends no e-mails"),
        "{unbound}"
    );
    let binding = std::time::Duration::from_secs(5);
    handlers.bind(purpose, Arc::new(mails.clone()), binding);
    *mails.refuses.lock().unwrap() = Some("bob@shop.example");
    let failed = channel.send(&test_alert()).await.unwrap_err().to_string();
    assert_eq!(failed, "1 of 2 addresses did not get it: 451 later");
    *mails.refuses.lock().unwrap() = None;
    assert_eq!(channel.send(&test_alert()).await.unwrap(), "250 OK");
    let sent = mails.sent.lock().unwrap().clone();
    let to: Vec<&str> = sent.iter().map(|mail| mail[1].as_str()).collect();
    assert_eq!(to, ["ann@shop.example", "bob@shop.example"]);
    assert_eq!(sent[0][2], "[punctual.example] test alert");
    assert!(sent[0][3].contains("This is a test."));
    assert_ne!(sent[0][0], sent[1][0]);
}
