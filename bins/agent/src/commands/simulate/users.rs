//! Whose schedule is simulated: the users of the Config Database, of a file, or generated ones.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader},
    path::Path,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use punctual_application::{
    amount,
    ports::{ConfigDatabase, ConfigDatabaseError},
};
use punctual_domain::{FeatureType, Mirror, OrganizationId, PreferenceRecord, Reading, TenantId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{commands::Failure, settings::Settings, wiring};

/// A simulation begins with everything known.
const FIRST_READING: Reading = Reading::first(DateTime::<Utc>::MAX_UTC);

/// Reads them from the Config Database; returns where that is.
pub(super) async fn live(
    mirror: &mut Mirror,
    settings: &Settings,
    feature_type: &FeatureType,
) -> Result<String, Failure> {
    let client = wiring::client_of_agent(settings)?;
    let failed = |error: ConfigDatabaseError| {
        Failure::failed(format!(
            "{error}. To simulate without the Config Database, give --file FILE or --users N"
        ))
    };
    let mut snapshot = client.snapshot(feature_type).await.map_err(failed)?;
    mirror.begin_full_read();
    while let Some(page) = snapshot.next().await.map_err(failed)? {
        mirror.take_page(page, FIRST_READING);
    }
    mirror.end_full_read();
    Ok(format!("the Config Database at {}", client.url()))
}

/// A line as an import takes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum ImportLine {
    User {
        tenant_id: TenantId,
        config_key: Option<String>,
        config_value: Map<String, Value>,
    },
    Organization {
        organization_id: OrganizationId,
        config_value: Map<String, Value>,
    },
    Feature {
        #[expect(dead_code, reason = "tells a feature from a user")]
        feature_type: FeatureType,
    },
}

/// What a file has that a simulation does not apply: preferences of organizations, which the Config Database puts together with those
/// of their members.
#[derive(Debug, Default)]
pub(super) struct NotApplied {
    /// Organizations with a preference for the feature.
    pub(super) organizations: usize,
    /// Their members, by the profiles in the file.
    pub(super) members: usize,
}

impl NotApplied {
    /// A sentence about it; `None`: everything is applied.
    pub(super) fn in_words(&self) -> Option<String> {
        let organizations = amount(self.organizations as u64, "organization");
        let members = amount(self.members as u64, "member");
        (self.organizations > 0).then(|| {
            format!(
                "Preferences of {organizations} are not applied: {members} may fall due otherwise than simulated. To \
                 apply them, simulate the users in the Config Database, without --file"
            )
        })
    }
}

/// Reads them from a file of imports, one JSON object per line. Returns where that is, too.
pub(super) fn of_file(
    mirror: &mut Mirror,
    file: &Path,
    feature_type: &FeatureType,
) -> Result<(String, NotApplied), Failure> {
    let fail = |problem: String| Failure::bad_input(format!("{}: {problem}", file.display()));
    let lines = BufReader::new(std::fs::File::open(file).map_err(|error| fail(error.to_string()))?);
    let mut problem = None;
    let mut organizations = HashSet::new();
    let mut members: HashMap<TenantId, String> = HashMap::new();
    let records = lines.lines().enumerate().filter_map(|(number, line)| {
        let line = line
            .map_err(|error| error.to_string())
            .and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()));
        let (tenant_id, config_key, mut config_value) = match line {
            Ok(ImportLine::User {
                tenant_id,
                config_key,
                config_value,
            }) => (tenant_id, config_key, config_value),
            Ok(ImportLine::Organization {
                organization_id,
                config_value,
            }) => {
                let preference = config_value.get(feature_type.as_str());
                if preference.is_some_and(Value::is_object) {
                    organizations.insert(organization_id.as_str().to_owned());
                }
                return None;
            }
            Ok(ImportLine::Feature { .. }) => return None,
            Err(error) => {
                problem.get_or_insert(format!("line {}: {error}", number + 1));
                return None;
            }
        };
        match config_key.as_deref() {
            None | Some("feature_preferences") => {}
            Some("profile") => {
                let organization = config_value.get("organization_id").and_then(Value::as_str);
                members.extend(organization.map(|id| (tenant_id, id.to_owned())));
                return None;
            }
            Some(_) => return None,
        }
        match config_value.remove(feature_type.as_str())? {
            Value::Object(preference) => Some(PreferenceRecord {
                tenant_id,
                preference: Arc::new(preference),
                updated_at: None,
                schedule_since: None,
                organization: None,
            }),
            _ => None,
        }
    });
    mirror.replace(records, FIRST_READING);
    let of_these = members.values().filter(|id| organizations.contains(*id));
    let not_applied = NotApplied {
        members: of_these.count(),
        organizations: organizations.len(),
    };
    match problem {
        Some(problem) => Err(fail(problem)),
        None => Ok((file.display().to_string(), not_applied)),
    }
}

/// Where people live, roughly by how many use such a product.
const ZONES: [(&str, u32); 12] = [
    ("America/New_York", 20),
    ("America/Los_Angeles", 11),
    ("America/Chicago", 9),
    ("Europe/London", 12),
    ("Europe/Berlin", 14),
    ("Europe/Paris", 8),
    ("America/Sao_Paulo", 6),
    ("Asia/Kolkata", 8),
    ("Asia/Tokyo", 4),
    ("Australia/Sydney", 4),
    ("Africa/Lagos", 2),
    ("UTC", 2),
];
/// Hours of the day that generated users choose, each with its weight.
const HOURS: [(u32, u32); 12] = [
    (6, 4),
    (7, 8),
    (8, 14),
    (9, 30),
    (10, 10),
    (12, 8),
    (14, 4),
    (16, 4),
    (17, 6),
    (18, 6),
    (20, 4),
    (21, 2),
];
const MINUTES: [(u32, u32); 4] = [(0, 70), (30, 20), (15, 5), (45, 5)];
const FREQUENCIES: [(&str, u32); 5] = [
    ("daily", 70),
    ("weekly", 20),
    ("monthly", 6),
    ("biweekly", 3),
    ("hourly", 1),
];
const WEEKDAYS: [(&str, u32); 7] = [
    ("monday", 35),
    ("tuesday", 12),
    ("wednesday", 12),
    ("thursday", 12),
    ("friday", 17),
    ("saturday", 5),
    ("sunday", 7),
];

/// Makes users up: most want full hours, and most of those nine o'clock. A seed gives the same users every time.
pub(super) fn generated(mirror: &mut Mirror, count: usize, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let records = (0..count).filter_map(|n| {
        let hour = *weighted(&mut random, &HOURS);
        let minute = *weighted(&mut random, &MINUTES);
        let frequency = *weighted(&mut random, &FREQUENCIES);
        let mut preference = Map::new();
        preference.insert("enabled".into(), json!(true));
        preference.insert("frequency".into(), json!(frequency));
        preference.insert(
            "preferred_time".into(),
            json!(format!("{hour:02}:{minute:02}")),
        );
        preference.insert("timezone".into(), json!(*weighted(&mut random, &ZONES)));
        match frequency {
            "weekly" | "biweekly" => {
                let day = *weighted(&mut random, &WEEKDAYS);
                preference.insert("preferred_day".into(), json!(day));
            }
            "monthly" => {
                preference.insert(
                    "preferred_day".into(),
                    json!([1, 1, 15, 28, 31][random.usize(..5)]),
                );
            }
            _ => {}
        }
        Some(PreferenceRecord {
            tenant_id: TenantId::new(format!("user{n}")).ok()?,
            preference: Arc::new(preference),
            updated_at: None,
            schedule_since: None,
            organization: None,
        })
    });
    mirror.replace(records, FIRST_READING);
    format!("generated users, seed {seed}")
}

fn weighted<'c, T>(random: &mut fastrand::Rng, choices: &'c [(T, u32)]) -> &'c T {
    let all: u32 = choices.iter().map(|(_, weight)| weight).sum();
    let mut drawn = random.u32(..all);
    for (choice, weight) in choices {
        match drawn.checked_sub(*weight) {
            Some(rest) => drawn = rest,
            None => return choice,
        }
    }
    unreachable!("less than the sum of all weights is drawn")
}
