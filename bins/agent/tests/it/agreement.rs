//! The pages of the Config Database, its call that previews a preference, the agent's explanation and the command line say the same of
//! any preference: when it runs next, or that it cannot.

use std::process::Command;

use chrono::{DateTime, Utc};
use punctual_domain::Zone;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{agent::Agent, project::Project};

/// Values for the fields of a preference; each may be left out.
const FIELDS: [(&str, &[&str]); 5] = [
    ("enabled", &["true", "false"]),
    (
        "frequency",
        &[
            "\"hourly\"",
            "\"daily\"",
            "\"weekly\"",
            "\"biweekly\"",
            "\"Monthly\"",
        ],
    ),
    (
        "preferred_day",
        &["\"Friday\"", "[\"tue\", \"monday\"]", "31", "[1, \"last\"]"],
    ),
    ("preferred_time", &["\"7:30\"", "\"02:30\"", "\"23:59\""]),
    (
        "timezone",
        &[
            "\"europe/berlin\"",
            "\"America/New_York\"",
            "\"Asia/Kolkata\"",
            "\"Australia/Lord_Howe\"",
        ],
    ),
];

/// A preference that says some of what there is to say; `known` is the share of fields that it says.
fn preference(random: &mut fastrand::Rng, known: f64) -> Value {
    let mut preference = Map::new();
    for (name, values) in FIELDS {
        if random.f64() < known {
            let value = random.choice(values).unwrap();
            preference.insert(name.to_owned(), serde_json::from_str(value).unwrap());
        }
    }
    Value::Object(preference)
}

/// The same, where the server takes it.
async fn stored(agent: &Agent, random: &mut fastrand::Rng, tenant: &str) -> Value {
    loop {
        let preference = preference(random, 0.6);
        let body = json!({"config_value": {"posts": preference}});
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let put = agent.config_request(Method::PUT, &path).json(&body);
        if put.send().await.unwrap().status() == 200 {
            return preference;
        }
    }
}

#[tokio::test]
async fn pages_previews_the_agent_and_the_command_line_agree() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let defaults = loop {
            let defaults = preference(&mut random, 0.5);
            let parsed = punctual_domain::Preference::parse(defaults.as_object().unwrap());
            if parsed.is_ok() {
                break defaults;
            }
        };
        let job = json!({"default_preferences": defaults, "spread_minutes": seed * 20});
        let project = Project::new(
            json!({"handler": "template", "template": "posts.txt.j2"}),
            job,
        );
        project.write("templates/posts.txt.j2", "A post.");
        let mut command = project.command();
        command.env("BATCH_DEFAULT_TIMEZONE", "Asia/Tokyo");
        let agent = Agent::start(command);
        agent
            .until_config("feature-types/posts", |feature| {
                feature["jobs"].get("posts").is_some()
            })
            .await;
        for number in 0..25 {
            let tenant = format!("user{number}");
            let preference = stored(&agent, &mut random, &tenant).await;
            let agree = async || agree(&agent, &project, &tenant, &preference).await;
            // Where a run falls due between two answers, the next two agree.
            if agree().await.is_err()
                && let Err(problem) = agree().await
            {
                panic!("seed {seed}: {preference} over {defaults}: {problem}");
            }
        }
    }
}

async fn agree(
    agent: &Agent,
    project: &Project,
    tenant: &str,
    preference: &Value,
) -> Result<(), String> {
    let path = format!("tenants/{tenant}/features/posts/preview");
    let body = json!({ "preference": preference });
    let preview = agent.config(Method::POST, &path, &body).await;
    let job = &preview["jobs"][0];
    let list = agent.config_page(&format!("/tenants/{tenant}")).await;
    let form = agent
        .config_page(&format!("/tenants/{tenant}/features/posts"))
        .await;
    let explained = agent
        .until(
            &format!("/api/v1/tenants/{tenant}/explain?job_id=posts"),
            |explained| {
                !["never_seen", "unknown"]
                    .map(Value::from)
                    .contains(&explained["verdict"])
            },
        )
        .await;
    let shown = |what: &str, page: &str, text: &str| {
        if page.contains(text) {
            return Ok(());
        }
        Err(format!("{what} does not show {text}: {preview}\n{page}"))
    };
    let wrong = preview["errors"]
        .as_array()
        .is_some_and(|errors| !errors.is_empty());
    if wrong {
        shown("the list", &list, "Needs your attention")?;
        shown("the explanation", &explained.to_string(), "quarantined")?;
        shown("the form", &form, "class=\"problem\"")?;
        return Ok(());
    }
    if job["enabled"] == json!(false) {
        shown("the list", &list, ">Off<")?;
        shown("the form", &form, "Switched off")?;
        return shown("the explanation", &explained.to_string(), "disabled");
    }
    let printed = command_line(agent, project, tenant);
    if explained["slot"] != printed["slot"] {
        return Err(format!("{explained} and {printed} differ"));
    }
    let next = job["next"].as_array().unwrap();
    let instants: Vec<&Value> = next.iter().map(|run| &run["at"]).collect();
    let of_command_line: Vec<&Value> = printed["occurrences"].as_array().unwrap().iter().collect();
    if instants.len() != 5 || instants != of_command_line {
        return Err(format!("{preview} and {printed} differ"));
    }
    let sentence = job["sentence"].as_str().unwrap();
    shown("the list", &list, sentence)?;
    shown("the form", &form, sentence)?;
    let fields = job["fields"].as_array().unwrap();
    let zone = fields.iter().find(|field| field["name"] == "timezone");
    let zone: Zone = zone.unwrap()["value"].as_str().unwrap().parse().unwrap();
    for (place, instant) in instants.iter().enumerate() {
        let instant: DateTime<Utc> = instant.as_str().unwrap().parse().unwrap();
        let local = zone.local(instant).unwrap();
        let local = local.format("%A, %-d %B %Y at %H:%M").to_string();
        shown("the form", &form, &local)?;
        if place == 0 {
            shown("the list", &list, &local)?;
        }
    }
    Ok(())
}

fn command_line(agent: &Agent, project: &Project, tenant: &str) -> Value {
    let mut command: Command = project.command();
    command
        .env("BATCH_DEFAULT_TIMEZONE", "Asia/Tokyo")
        .env("CONFIG_SERVICE_URL", agent.config_url())
        .args(["preview", "--tenant", tenant, "--feature", "posts"])
        .args(["--count", "5", "--json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
