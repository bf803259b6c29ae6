//! A shop that each user has, made up: which orders it had in the time of a digest. What it had at a time never changes, so
//! digests whose times lie side by side have each order once.

use std::collections::BTreeMap;

use axum::Json;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// The time of a user's first digest.
const FIRST: TimeDelta = TimeDelta::days(1);
/// The longest time of a digest.
const LONGEST: TimeDelta = TimeDelta::days(31);

/// What can be bought, with its price in euros.
const ITEMS: [(&str, u32); 8] = [
    ("Speckled mug", 24),
    ("Tall mug", 28),
    ("Merino scarf", 59),
    ("Harbour print", 35),
    ("Cedar candle", 19),
    ("Linen apron", 42),
    ("Oak coaster", 12),
    ("Felt slippers", 38),
];
const BUYERS: [&str; 8] = [
    "Amara", "Bruno", "Chiyo", "Dalia", "Emil", "Farah", "Goran", "Hana",
];

/// What the agent posts for a job whose data is fetched for many tenants at once.
#[derive(Deserialize)]
pub(crate) struct Request {
    tenants: Vec<Tenant>,
}

/// A user who is about to get a digest.
#[derive(Deserialize)]
struct Tenant {
    tenant_id: String,
    scheduled_at: DateTime<Utc>,
    previous: Option<Previous>,
}

/// The last digest that the user got.
#[derive(Deserialize)]
struct Previous {
    scheduled_at: DateTime<Utc>,
}

/// What a digest is about.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Activity {
    email: String,
    /// In euros.
    total: u32,
    orders: Vec<Order>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Order {
    at: DateTime<Utc>,
    item: &'static str,
    /// In euros.
    price: u32,
    buyer: &'static str,
}

/// Answers with what is new for each user; those without news are left out.
pub(crate) async fn activity(Json(request): Json<Request>) -> Json<BTreeMap<String, Activity>> {
    let news = |tenant: Tenant| Some((tenant.tenant_id.clone(), tenant.activity()?));
    Json(request.tenants.into_iter().filter_map(news).collect())
}

impl Tenant {
    /// What is new between the last digest, included, and this one, excluded.
    fn activity(&self) -> Option<Activity> {
        let until = self.scheduled_at;
        let since = match &self.previous {
            Some(previous) => previous.scheduled_at,
            None => until.checked_sub_signed(FIRST)?,
        };
        let since = since.max(until.checked_sub_signed(LONGEST)?);
        let days = since.date_naive().iter_days();
        let days = days.take_while(|day| *day <= until.date_naive());
        let orders = days.flat_map(|day| orders(&self.tenant_id, day));
        let mut orders: Vec<Order> = orders
            .filter(|order| (since..until).contains(&order.at))
            .collect();
        orders.sort_by_key(|order| order.at);
        (!orders.is_empty()).then(|| Activity {
            email: format!("{}@mail.example", self.tenant_id),
            total: orders.iter().map(|order| order.price).sum(),
            orders,
        })
    }
}

/// The orders of a user's shop on a day in UTC. One shop in four has none, ever.
fn orders(tenant_id: &str, day: NaiveDate) -> Vec<Order> {
    if dice(tenant_id).u32(..4) == 0 {
        return Vec::new();
    }
    let mut dice = dice(&format!("{tenant_id} {day}"));
    let count = dice.usize(1..=8);
    let order = |_| {
        let minute = TimeDelta::minutes(dice.i64(0..24 * 60));
        let (item, price) = ITEMS[dice.usize(..ITEMS.len())];
        Order {
            at: day.and_time(NaiveTime::MIN).and_utc() + minute,
            item,
            price,
            buyer: BUYERS[dice.usize(..BUYERS.len())],
        }
    };
    (0..count).map(order).collect()
}

/// Chance that is the same for the same text: seeded with its FNV-1a hash.
fn dice(text: &str) -> Rng {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Rng::with_seed(hash)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(tenant_id: &str, until: &str, since: Option<&str>) -> Tenant {
        let previous = since
            .map(|since| json!({"occurrence": "x", "scheduled_at": since, "finished_at": since}));
        serde_json::from_value(
            json!({"tenant_id": tenant_id, "occurrence": "x", "scheduled_at": until,
            "previous": previous}),
        )
        .unwrap()
    }

    #[test]
    fn each_order_is_in_exactly_one_of_the_digests_that_lie_side_by_side() {
        let (start, middle, end) = (
            "2026-03-01T08:00:00Z",
            "2026-03-04T06:30:00Z",
            "2026-03-09T08:00:00Z",
        );
        for number in 1..=200 {
            let tenant = format!("user{number}");
            let orders = |since, until| {
                let activity = request(&tenant, until, Some(since)).activity();
                activity.map_or_else(Vec::new, |activity| activity.orders)
            };
            let whole = orders(start, end);
            let mut parts = orders(start, middle);
            parts.extend(orders(middle, end));
            assert_eq!(whole, parts, "{tenant}");
        }
    }

    #[test]
    fn one_user_in_four_has_no_news_and_all_others_have_some_in_a_week() {
        let has_news = |number: &u32| {
            let tenant = format!("user{number}");
            let week = request(
                &tenant,
                "2026-03-09T08:00:00Z",
                Some("2026-03-02T08:00:00Z"),
            );
            week.activity().is_some()
        };
        let busy = (1..=3000).filter(has_news).count();
        assert!((2150..=2350).contains(&busy), "{busy}");
    }

    #[test]
    fn a_first_digest_is_about_a_day_and_one_after_years_about_a_month() {
        let tenants = || (1..=50).map(|number| format!("user{number}"));
        let until = "2026-03-09T08:00:00Z";
        let orders = |since: Option<&str>| -> Vec<Order> {
            let all = tenants().filter_map(|tenant| request(&tenant, until, since).activity());
            all.flat_map(|activity| activity.orders).collect()
        };
        assert_eq!(orders(None), orders(Some("2026-03-08T08:00:00Z")));
        assert_eq!(
            orders(Some("2006-03-08T08:00:00Z")),
            orders(Some("2026-02-06T08:00:00Z"))
        );
    }
}
