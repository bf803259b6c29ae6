use proptest::prelude::*;

use super::*;
use AlertDeliveryState::{GivenUp, Pending, Sent};
use AlertKind::{Changed, More, Opened, Recovered, Reminder};
use Severity::{Critical, Notice, Warning};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn begin() -> DateTime<Utc> {
    at("2026-03-01T09:00:00Z")
}

fn finding(id: &str, severity: Severity) -> SeenFinding {
    SeenFinding {
        finding: AlertFinding {
            id: id.to_owned(),
            kind: "paused".to_owned(),
            severity,
            title: format!("{id} is paused"),
            detail: String::new(),
            remedy: String::new(),
            since: None,
            url: None,
        },
        state: state(severity, 0),
        is_acknowledged: false,
        reported_after: TimeDelta::minutes(1),
    }
}

fn state(severity: Severity, cause: u8) -> Uuid {
    let name = format!("{}\n{cause}", severity.as_str());
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

/// What is remembered, and the time.
struct World {
    book: AlertBook,
    now: DateTime<Utc>,
    is_quiet: bool,
}

impl World {
    fn new() -> Self {
        Self {
            book: AlertBook::default(),
            now: begin(),
            is_quiet: false,
        }
    }

    /// Looks at what is wrong, and returns the messages that go out: their kinds, and the ids of their findings.
    fn see(&mut self, findings: &[SeenFinding]) -> Vec<(AlertKind, String)> {
        self.look(findings, true)
    }

    fn look(&mut self, findings: &[SeenFinding], is_whole: bool) -> Vec<(AlertKind, String)> {
        let agent = AlertAgent {
            name: "punctual.example".to_owned(),
            shard: "1/1".to_owned(),
            version: "1.0.0".to_owned(),
        };
        let sender = Sender {
            agent: &agent,
            channels: &["webhook"],
        };
        let seen = Seen {
            findings: findings.to_vec(),
            is_whole,
        };
        let change = change(&self.book, &seen, &sender, self.now, self.is_quiet);
        self.book.apply(&change);
        let sent = change.alerts.iter().map(|stored| {
            let alert = &stored.alert;
            let about = alert.finding.as_ref().map(|finding| finding.id.clone());
            let more = alert.more.map(|more| more.to_string());
            (alert.kind, about.or(more).unwrap_or_default())
        });
        sent.collect()
    }

    /// Sees the same every 15 seconds for so long, and returns the kinds of the messages.
    fn see_for(&mut self, length: TimeDelta, findings: &[SeenFinding]) -> Vec<AlertKind> {
        let (end, mut kinds) = (self.now + length, Vec::new());
        while self.now < end {
            self.now += TimeDelta::seconds(15);
            kinds.extend(self.see(findings).into_iter().map(|(kind, _)| kind));
        }
        kinds
    }
}

#[test]
fn a_finding_is_reported_once_it_lasts_then_daily_and_once_it_is_over() {
    let mut world = World::new();
    let one = [finding("paused/a", Warning)];
    assert_eq!(world.see_for(TimeDelta::minutes(1), &one), []);
    assert_eq!(world.see_for(TimeDelta::hours(24), &one), [Opened]);
    assert_eq!(world.see_for(TimeDelta::hours(24), &one), [Reminder]);
    assert_eq!(world.see_for(TimeDelta::minutes(2), &[]), []);
    assert_eq!(world.see_for(TimeDelta::hours(48), &[]), [Recovered]);
    assert!(world.book.findings.is_empty());
}

#[test]
fn a_blip_is_not_reported_and_a_flapping_finding_once() {
    let mut world = World::new();
    let one = [finding("paused/a", Warning)];
    for _ in 0..20 {
        assert_eq!(world.see_for(TimeDelta::seconds(45), &one), []);
        assert_eq!(world.see_for(TimeDelta::seconds(45), &[]), []);
    }
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.extend(world.see_for(TimeDelta::seconds(90), &one));
        sent.extend(world.see_for(TimeDelta::seconds(90), &[]));
    }
    assert_eq!(sent, [Opened]);
    assert_eq!(world.see_for(TimeDelta::minutes(3), &[]), [Recovered]);
}

#[test]
fn what_gets_worse_is_reported_and_what_gets_milder_is_not() {
    let mut world = World::new();
    let day = TimeDelta::hours(23);
    let one = |severity, cause| {
        [SeenFinding {
            state: state(severity, cause),
            ..finding("paused/a", severity)
        }]
    };
    let short = TimeDelta::minutes(5);
    assert_eq!(world.see_for(short, &one(Warning, 0)), [Opened]);
    assert_eq!(world.see_for(short, &one(Critical, 0)), [Changed]);
    assert_eq!(world.see_for(short, &one(Warning, 0)), []);
    assert_eq!(world.see_for(short, &one(Notice, 0)), []);
    assert_eq!(world.see_for(short, &one(Warning, 0)), [Changed]);
    // Another cause, which comes and goes.
    let mut sent = Vec::new();
    for cause in [1, 2].into_iter().cycle().take(24) {
        sent.extend(world.see_for(short, &one(Warning, cause)));
    }
    assert!(sent.len() <= 2, "{sent:?}");
    assert!(sent.iter().all(|kind| *kind == Changed));
    let last = world.see_for(day, &one(Warning, 2));
    assert!(last.len() <= 1, "{last:?}");
}

#[test]
fn of_what_an_operator_knows_only_the_recovery_is_reported() {
    let mut world = World::new();
    let mut one = [finding("paused/a", Warning)];
    assert_eq!(world.see_for(TimeDelta::minutes(5), &one), [Opened]);
    one[0].is_acknowledged = true;
    one[0].state = state(Warning, 9);
    assert_eq!(world.see_for(TimeDelta::days(5), &one), []);
    one[0].is_acknowledged = false;
    assert_eq!(world.see_for(TimeDelta::hours(23), &one), [Reminder]);
    one[0].is_acknowledged = true;
    assert_eq!(world.see_for(TimeDelta::minutes(5), &[]), [Recovered]);
    assert_eq!(world.see_for(TimeDelta::days(5), &one), [], "known at once");
}

#[test]
fn in_quiet_hours_only_the_worst_is_reported_and_the_rest_afterwards() {
    let mut world = World::new();
    let both = [finding("paused/a", Warning), finding("store", Critical)];
    let a = &both[..1];
    world.is_quiet = true;
    assert_eq!(world.see_for(TimeDelta::hours(8), &both), [Opened]);
    assert_eq!(world.see_for(TimeDelta::minutes(5), a), [Recovered]);
    world.is_quiet = false;
    assert_eq!(world.see(a), [(Opened, "paused/a".to_owned())]);
    // What is over within the hours is never reported, and what was reported before ends after them.
    world.is_quiet = true;
    let other = [finding("paused/b", Warning)];
    assert_eq!(world.see_for(TimeDelta::hours(1), &other), []);
    assert_eq!(world.see_for(TimeDelta::hours(7), &[]), []);
    world.is_quiet = false;
    assert_eq!(world.see(&[]), [(Recovered, "paused/a".to_owned())]);
    assert!(world.book.findings.is_empty());
}

#[test]
fn a_storm_is_fifteen_messages_and_one_about_the_rest() {
    let mut world = World::new();
    let many: Vec<_> = (0..50)
        .map(|n| finding(&format!("paused/{n:02}"), Warning))
        .collect();
    let late: Vec<_> = (0..55)
        .map(|n| finding(&format!("paused/{n:02}"), Warning))
        .collect();
    world.see(&many);
    world.now += TimeDelta::minutes(1);
    let sent = world.see(&many);
    assert_eq!(sent.len(), 16);
    assert_eq!(sent[15], (More, "35".to_owned()));
    assert_eq!(world.see_for(TimeDelta::minutes(9), &late), []);
    let after = world.see_for(TimeDelta::minutes(3), &late);
    assert_eq!(after, [Opened; 5], "they have waited");
    // All of them are over at once.
    let over = world.see_for(TimeDelta::minutes(20), &[]);
    let mores = over.iter().filter(|kind| **kind == More).count();
    assert_eq!((over.len(), mores), (11, 1));
    assert!(world.book.findings.is_empty());
}

#[test]
fn a_storm_hides_nothing_critical_and_is_twenty_messages_at_most() {
    let mut world = World::new();
    let mut many: Vec<_> = (0..50)
        .map(|n| finding(&format!("paused/{n:02}"), Warning))
        .collect();
    assert_eq!(world.see_for(TimeDelta::minutes(2), &many).len(), 16);
    many.extend((0..9).map(|n| finding(&format!("critical/{n}"), Critical)));
    world.see(&many);
    world.now += TimeDelta::minutes(1);
    let sent: Vec<String> = world.see(&many).into_iter().map(|(_, id)| id).collect();
    let expected: Vec<String> = (0..5).map(|n| format!("critical/{n}")).collect();
    assert_eq!(sent, expected);
}

#[test]
fn what_waits_for_a_channel_that_is_gone_is_given_up() {
    let mut world = World::new();
    let one = [finding("paused/a", Warning)];
    assert_eq!(world.see_for(TimeDelta::minutes(2), &one), [Opened]);
    let deliveries = &mut world.book.alerts[0].deliveries;
    deliveries.push(AlertDelivery::by("email"));
    let states = |world: &World| {
        let deliveries = world.book.alerts[0].deliveries.iter();
        deliveries
            .map(|delivery| delivery.state)
            .collect::<Vec<_>>()
    };
    world.see_for(TimeDelta::minutes(50), &one);
    assert_eq!(states(&world), [Pending, Pending]);
    world.see_for(TimeDelta::minutes(20), &one);
    assert_eq!(states(&world), [Pending, GivenUp]);
    assert_eq!(world.see(&one), []);
}

#[test]
fn while_only_a_part_is_known_nothing_recovers() {
    let mut world = World::new();
    let one = [finding("paused/a", Warning)];
    assert_eq!(world.see_for(TimeDelta::minutes(2), &one), [Opened]);
    for _ in 0..20 {
        world.now += TimeDelta::minutes(1);
        assert_eq!(world.look(&[], false), []);
    }
    assert_eq!(world.see_for(TimeDelta::minutes(2), &one), []);
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up_and_repeats_nothing() {
    let mut world = World::new();
    let one = [finding("paused/a", Warning)];
    world.see(&one);
    world.now -= TimeDelta::days(30);
    assert_eq!(world.see_for(TimeDelta::minutes(2), &one), [Opened]);
    world.now -= TimeDelta::days(30);
    assert_eq!(world.see_for(TimeDelta::hours(23), &one), []);
    assert_eq!(world.see_for(TimeDelta::hours(2), &one), [Reminder]);
    assert_eq!(world.see_for(TimeDelta::minutes(1), &[]), []);
    world.now -= TimeDelta::days(30);
    assert_eq!(world.see_for(TimeDelta::minutes(3), &[]), [Recovered]);
    // Set forward, a finding is reminded of once.
    assert_eq!(world.see_for(TimeDelta::minutes(2), &one), [Opened]);
    world.now += TimeDelta::days(30);
    assert_eq!(world.see_for(TimeDelta::hours(1), &one), [Reminder]);
}

#[test]
fn an_attempt_is_retried_with_growing_waits_for_an_hour() {
    let mut delivery = AlertDelivery::by("webhook");
    let (mut now, mut attempts) = (begin(), 0);
    while delivery.state == AlertDeliveryState::Pending {
        if is_due(&delivery, now) {
            delivery = attempted(&delivery, begin(), Err("503\u{1b}".to_owned()), now);
            attempts += 1;
        }
        now += TimeDelta::seconds(15);
    }
    assert_eq!(delivery.state, AlertDeliveryState::GivenUp);
    assert!((8..=14).contains(&attempts), "{attempts}");
    let lasted = now - begin();
    assert!(lasted >= TimeDelta::hours(1) && lasted < TimeDelta::minutes(75));
    assert_eq!(delivery.answer.as_deref(), Some("503\\u001b"));
    let failed = attempted(
        &AlertDelivery::by("webhook"),
        begin(),
        Err("503".to_owned()),
        begin(),
    );
    assert!(!is_due(&failed, begin()));
    assert!(is_due(&failed, begin() - TimeDelta::days(1)), "set back");
    let sent = attempted(&failed, begin(), Ok("204 No Content".to_owned()), now);
    assert_eq!((sent.state, sent.attempts), (AlertDeliveryState::Sent, 2));
    assert!(!is_due(&sent, now));
}

#[test]
fn a_channel_fails_until_something_is_sent_after_what_was_given_up() {
    let stored = |minutes: i64, state| {
        let agent = AlertAgent {
            name: String::new(),
            shard: String::new(),
            version: String::new(),
        };
        let sender = Sender {
            agent: &agent,
            channels: &["webhook"],
        };
        let mut stored = message(Opened, None, None, &sender, begin());
        stored.deliveries[0].state = state;
        stored.deliveries[0].attempted_at = Some(begin() + TimeDelta::minutes(minutes));
        stored
    };
    let now = begin() + TimeDelta::hours(1);
    let fails = |newest: &[StoredAlert]| {
        let found = given_up("webhook", newest, now);
        found.map(|(at, _)| at - begin())
    };
    assert_eq!(fails(&[]), None);
    assert_eq!(fails(&[stored(9, Pending)]), None);
    let old = stored(5, GivenUp);
    let minutes = TimeDelta::minutes;
    assert_eq!(fails(&[stored(9, Pending), old.clone()]), Some(minutes(5)));
    assert_eq!(fails(&[stored(4, Sent), old.clone()]), Some(minutes(5)));
    assert_eq!(fails(&[stored(6, Sent), old.clone()]), None);
    // It was noted before the clock was set back.
    let ahead = stored(120, GivenUp);
    assert_eq!(fails(&[stored(6, Sent), ahead]), None);
    assert_eq!(fails(&[stored(120, Sent), old.clone()]), Some(minutes(5)));
    assert_eq!(given_up("email", &[old], now), None);
}

/// What is wrong at a look: a severity, a cause and whether an operator knows of it, of each of five findings.
type Look = Vec<Option<(u8, u8, bool)>>;

fn looks() -> impl Strategy<Value = Vec<(Look, i64, bool)>> {
    let one = prop::option::of((0_u8..3, 0_u8..2, prop::bool::weighted(0.2)));
    let look = prop::collection::vec(one, 5);
    prop::collection::vec((look, 15_i64..4_000, prop::bool::ANY), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever comes and goes: of each finding the first message says that it has begun and the last that it is over, nothing milder
    /// goes out in quiet hours, and never more than a window takes.
    #[test]
    fn the_messages_about_a_finding_tell_one_story(looks in looks()) {
        let mut world = World::new();
        let mut open = std::collections::BTreeSet::new();
        let mut times = Vec::new();
        for (look, seconds, is_quiet) in looks {
            world.now += TimeDelta::seconds(seconds);
            world.is_quiet = is_quiet;
            let of = |(n, one): (usize, &Option<(u8, u8, bool)>)| {
                let (severity, cause, is_acknowledged) = (*one)?;
                let severity = [Critical, Warning, Notice][usize::from(severity)];
                Some(SeenFinding {
                    state: state(severity, cause),
                    is_acknowledged,
                    ..finding(&format!("paused/{n}"), severity)
                })
            };
            let findings: Vec<SeenFinding> = look.iter().enumerate().filter_map(of).collect();
            let before = world.book.clone();
            for (kind, id) in world.see(&findings) {
                times.push(world.now);
                match kind {
                    Opened => prop_assert!(open.insert(id.clone())),
                    Changed | Reminder => prop_assert!(open.contains(&id)),
                    Recovered => prop_assert!(open.remove(&id)),
                    // Too many for one story.
                    More | AlertKind::Test => return Ok(()),
                }
                let known = findings.iter().find(|one| one.finding.id == id);
                if let Some(one) = known {
                    prop_assert!(kind != Recovered && !one.is_acknowledged);
                    prop_assert!(!is_quiet || one.finding.severity == Critical);
                } else {
                    let sent = before.findings[&id].sent.as_ref().map(|sent| sent.severity);
                    prop_assert!(kind == Recovered && (!is_quiet || sent == Some(Critical)));
                }
            }
            for last in &times {
                let within = times.iter().filter(|time| (*last - WINDOW..=*last).contains(time));
                prop_assert!(within.count() <= MAX_MESSAGES + 1);
            }
            // The same look again sends nothing twice.
            prop_assert_eq!(world.see(&findings), vec![]);
        }
    }
}
