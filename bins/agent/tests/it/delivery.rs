//! Results on their way out: to a file and to URLs, all of them, signed, also when the endpoint fails for a while.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    routing::post,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{daily, serve, until_beside},
    project::Project,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What came, by path; the first two calls are refused.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>, Arc<Mutex<u32>>);

async fn receive(
    State(inbox): State<Inbox>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let mut refused = inbox.1.lock().unwrap();
    if *refused < 2 {
        *refused += 1;
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    inbox
        .0
        .lock()
        .unwrap()
        .push((uri.path().to_owned(), headers, body));
    StatusCode::NO_CONTENT
}

#[tokio::test]
async fn results_arrive_in_a_file_and_at_urls_also_after_failures() {
    let inbox = Inbox::default();
    let router = Router::new()
        .route("/each", post(receive))
        .route("/batch", post(receive))
        .with_state(inbox.clone());
    let url = serve(router).await;

    let to = |path: &str, per: &str| {
        json!({"url": format!("{url}/{path}"), "per": per, "secret_env": "RESULTS_SECRET",
            "allow_private_addresses": true})
    };
    let job = json!({"default_preferences": {"frequency": "daily"},
        "deliver": [{"file": "../out/results.ndjson"}, to("each", "item"), to("batch", "batch")]});
    let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
    project.write("templates/t.j2", "Good morning, {{ item.tenant_id }}");
    let tenants = (0..700).map(|n| (format!("t{n:03}"), daily()));
    let mut command = project.command();
    command.env("RESULTS_SECRET", SECRET);
    let agent = project.run(command, tenants).await;
    let queued = agent
        .call(Method::POST, "/api/v1/jobs/posts/trigger", &json!({}))
        .await;
    let done = |inbox: &Inbox| {
        let got = inbox.0.lock().unwrap();
        let last = |body: &Bytes| {
            let body: Value = serde_json::from_slice(body).unwrap();
            body["last"] == true
        };
        // Some come twice: what was sent beside a refused one is sent again.
        let each = got.iter().filter(|(path, ..)| path == "/each");
        let ids: HashSet<_> = each.map(|(_, headers, _)| &headers["webhook-id"]).collect();
        ids.len() == 700
            && got
                .iter()
                .any(|(path, _, body)| path == "/batch" && last(body))
    };
    until_beside(&agent, || done(&inbox)).await;

    let text = std::fs::read_to_string(project.path().join("out/results.ndjson")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 700);
    let receiver = standardwebhooks::Webhook::new(SECRET).unwrap();
    let (mut each, mut parts) = (HashMap::new(), Vec::new());
    for (path, headers, body) in inbox.0.lock().unwrap().iter() {
        receiver.verify(body, headers).unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        if path == "/each" {
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            let tenant = body["tenant_id"].as_str().unwrap().to_owned();
            assert!(id.starts_with(&format!("posts/{tenant}/run-")), "{id}");
            let batch = queued["batch_id"].as_str().unwrap();
            assert!(id.ends_with(&format!("/{batch}")), "{id}");
            assert_eq!(body["result"]["text"], format!("Good morning, {tenant}"));
            each.insert(tenant, body);
        } else {
            assert_eq!(
                (&body["batch_id"], &body["succeeded"]),
                (&queued["batch_id"], &json!(700))
            );
            parts.push(body["results"].as_array().unwrap().len());
        }
    }
    assert_eq!(each.len(), 700);
    assert_eq!(parts, [500, 200]);
    assert!(
        lines
            .iter()
            .all(|line| each[line["tenant_id"].as_str().unwrap()] == *line)
    );
}
