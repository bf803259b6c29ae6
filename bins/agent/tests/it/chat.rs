//! The handler `chat` on a real language model, small as it is: from the preference to the stored answer.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::{common::daily_with, failures::trigger, project::Project};

const TONES: [&str; 5] = ["cheerful", "formal", "poetic", "grumpy", "excited"];

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn twenty_tenants_get_what_a_real_model_writes_in_their_tone() {
    let url = std::env::var("TEST_MODEL_URL").expect("run it under tests/with-model.sh");
    let purpose = json!({"handler": "chat", "base_url": url, "allow_private_addresses": true, "model": "smollm2", "seed": 1,
        "system_template": "voice.txt.j2", "user_template": "post.txt.j2", "temperature": 0.3, "max_tokens": 80,
        "min_characters": 10, "max_characters": 600, "concurrency": 2, "item_timeout_ms": 120_000});
    let job = json!({"retry_limit": 6, "default_preferences": {"frequency": "daily"}});
    let project = Project::new(purpose, job);
    project.write(
        "templates/voice.txt.j2",
        "You write one short sentence for a shop, and nothing else.\n",
    );
    project.write(
        "templates/post.txt.j2",
        "Tone: calm. Product: tea.\nSentence: Take a breath, the kettle is already on.\n\n\
         Tone: bold. Product: boots.\nSentence: Walk where the road gives up.\n\n\
         Tone: {{ tone }}. Product: {{ product }}.\nSentence:\n",
    );
    let tenant = |n: usize| {
        let overrides = json!({"tone": TONES[n % 5], "product": "coffee mugs"});
        (format!("t{n:02}"), daily_with(&overrides))
    };
    let agent = project.run(project.command(), (0..20).map(tenant)).await;
    let path = format!("/api/v1/batches/{}", trigger(&agent).await);
    let batch = agent
        // A model that writes on a busy machine takes its time.
        .until_within(Duration::from_mins(5), &path, |batch| {
            batch["status"] == "completed"
        })
        .await;
    assert_eq!(batch["progress"]["succeeded"], 20, "{batch}");

    let results = agent.all(&format!("{path}/results"), "results").await;
    let mut texts = BTreeSet::new();
    for result in &results {
        let output = &result["result"];
        let text = output["text"].as_str().unwrap();
        assert!((10..=600).contains(&text.chars().count()), "{text}");
        assert_eq!(output["finish_reason"], "stop");
        let usage = |name: &str| output["usage"][name].as_u64().unwrap();
        assert!(usage("prompt_tokens") > 40 && (1..=80).contains(&usage("completion_tokens")));
        let number: usize = result["tenant_id"].as_str().unwrap()[1..].parse().unwrap();
        let tone: &Value = &result["preference"]["template_overrides"]["tone"];
        assert_eq!(tone, TONES[number % 5]);
        texts.insert((tone.as_str().unwrap(), text));
    }
    assert_eq!(results.len(), 20);
    let tones: BTreeSet<&str> = texts.iter().map(|(tone, _)| *tone).collect();
    let different: BTreeSet<&str> = texts.iter().map(|(_, text)| *text).collect();
    assert_eq!(tones.len(), 5);
    assert!(
        different.len() >= 3,
        "the tones make a difference: {different:#?}"
    );
}
