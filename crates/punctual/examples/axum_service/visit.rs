//! What a user and an operator do with the service.

use serde_json::{Value, json};

use super::KEY;

#[expect(
    clippy::disallowed_methods,
    reason = "this client is not Punctual's own"
)]
/// A user chooses a time twice, the second one wrong; an operator looks at the job.
pub async fn visit(service: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    for time in ["17:30", "soon"] {
        let weekly = json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday",
            "preferred_time": time});
        let answer = client.put(format!("{service}/users/ann/reports"));
        let answer = answer.json(&weekly).send().await?;
        println!("{}: {}", answer.status(), answer.text().await?);
    }
    let jobs = client.get(format!("{service}/ops/api/v1/jobs/reports"));
    let job: Value = jobs.bearer_auth(KEY).send().await?.json().await?;
    println!("{} in {}", job["job_id"], job["feature_type"]);
    Ok(())
}
