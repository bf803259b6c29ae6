//! A digest: each user's own data, since the last time, and nothing where there is nothing to say.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
};
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::{daily, serve, until_beside},
    control::stdout_of,
    failures::{completed, trigger},
    project::Project,
};

/// A shop that knows of one busy user, and what it was asked.
#[derive(Clone, Default)]
struct Shop(Arc<Mutex<Vec<(Uri, Value)>>>);

async fn activity(State(shop): State<Shop>, method: Method, uri: Uri, body: Bytes) -> Json<Value> {
    let asked = serde_json::from_slice(&body).unwrap_or_default();
    let orders = json!(["a mug", "a cup"]);
    let answer = match method {
        Method::POST => json!({"activity": {"busy": orders}}),
        _ if uri.path() == "/users/busy" => json!({"activity": orders}),
        _ => json!({"activity": []}),
    };
    shop.0.lock().unwrap().push((uri, asked));
    Json(answer)
}

async fn shop() -> (Shop, String) {
    let shop = Shop::default();
    let router = Router::new().fallback(activity).with_state(shop.clone());
    (shop, serve(router).await)
}

/// Runs the job now, and returns its batch when it is over.
async fn run(agent: &Agent) -> Value {
    completed(agent, &trigger(agent).await).await
}

#[tokio::test]
async fn users_get_their_own_news_since_the_last_digest_or_none() {
    for (path, per) in [
        (
            "/users/{tenant_id}?since={previous.scheduled_at}&until={scheduled_at}",
            "tenant",
        ),
        ("/activity", "chunk"),
    ] {
        let (shop, url) = shop().await;
        let job = json!({"default_preferences": {"frequency": "daily"},
            "data": {"url": format!("{url}{path}"), "per": per, "items": "/activity", "allow_private_addresses": true},
            "deliver": [{"file": "../out/results.ndjson"}]});
        let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
        project.write(
            "templates/t.j2",
            "{{ data | join(', ') }} since {% if previous %}{{ previous.occurrence }}{% else %}the beginning{% endif %}",
        );
        let tenants = ["busy", "quiet"].map(|tenant| (tenant.to_owned(), daily()));
        let agent = project.run(project.command(), tenants).await;

        let first = run(&agent).await;
        let progress = &first["progress"];
        assert_eq!(
            (
                &progress["succeeded"],
                &progress["nothing_to_do"],
                &progress["failed"]
            ),
            (&json!(1), &json!(1), &json!(0)),
            "{per}: {first}"
        );
        run(&agent).await;
        let texts = agent.get("/api/v1/tenants/busy/runs").await;
        let texts = texts["runs"].as_array().unwrap();
        let earlier = texts[1]["occurrence"].as_str().unwrap();
        let texts = [&texts[0], &texts[1]].map(|run| run["result"]["text"].as_str().unwrap());
        assert_eq!(texts[1], "a mug, a cup since the beginning");
        assert_eq!(texts[0], format!("a mug, a cup since {earlier}"));
        let quiet = agent.get("/api/v1/tenants/quiet/runs").await;
        let quiet = &quiet["runs"][0];
        assert_eq!(
            (&quiet["status"], &quiet["error"]),
            (&json!("nothing_to_do"), &json!("no data"))
        );

        // The shop was asked for what is new, of both tenants at once or of each.
        let asked = shop.0.lock().unwrap().clone();
        let (uri, body) = asked.last().unwrap();
        if per == "chunk" {
            assert_eq!(asked.len(), 2, "{asked:?}");
            let tenants = body["tenants"].as_array().unwrap();
            let busy = tenants.iter().find(|one| one["tenant_id"] == "busy");
            let busy = busy.unwrap();
            assert_eq!(
                (&body["job"], &busy["tenant_id"]),
                (&json!("posts"), &json!("busy"))
            );
            assert_eq!(busy["previous"]["occurrence"], earlier);
        } else {
            assert_eq!(asked.len(), 4, "{asked:?}");
            let busy = |(uri, _): &&(Uri, Value)| uri.path() == "/users/busy";
            let since: Vec<_> = asked
                .iter()
                .filter(busy)
                .map(|(uri, _)| uri.query())
                .collect();
            // The windows lie side by side.
            let until = since[0].unwrap().strip_prefix("since=&until=");
            let second = format!("since={}&until=20", until.expect("no earlier run"));
            assert!(since[1].unwrap().starts_with(&second), "{uri}: {since:?}");
        }

        let delivered = || {
            let lines = std::fs::read_to_string(project.path().join("out/results.ndjson"));
            let lines = lines.unwrap_or_default();
            let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
            lines.lines().map(line).collect::<Vec<_>>()
        };
        until_beside(&agent, || delivered().len() >= 2).await;
        let delivered = delivered();
        assert!(delivered.iter().all(|line| line["tenant_id"] == "busy"));
    }
}

#[tokio::test]
async fn a_shop_that_knows_no_user_is_a_failure_of_data() {
    let router = Router::new().fallback(async || (StatusCode::NOT_FOUND, "who?"));
    let url = serve(router).await + "/users/{tenant_id}";
    let job = json!({"default_preferences": {"frequency": "daily"},
        "data": {"url": url, "allow_private_addresses": true}});
    let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
    project.write("templates/t.j2", "{{ data }}");
    let tenants = [("ann".to_owned(), daily())];
    let agent = project.run(project.command(), tenants).await;
    let batch = run(&agent).await;
    assert_eq!(batch["progress"]["failed"], 1, "{batch}");

    let runs = agent.get("/api/v1/tenants/ann/runs").await;
    assert_eq!(runs["runs"][0]["failure_kind"], "data", "{runs}");
    let letters = agent.get("/api/v1/dead-letters?failure_kind=handler").await;
    assert_eq!(letters["dead_letters"], json!([]));
    let letters = agent.get("/api/v1/dead-letters?failure_kind=data").await;
    assert_eq!(letters["dead_letters"][0]["failure_kind"], "data");
    let replay = ["dead-letters", "replay", "--failure-kind", "data", "--yes"];
    let shown = stdout_of(&agent, &replay);
    assert!(shown.contains("1 dead letter is replayed"), "{shown}");
}
