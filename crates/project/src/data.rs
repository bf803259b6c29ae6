//! Where a job gets its tenants' own data: the field `data` of a job.

use std::time::Duration;

use punctual_domain::{
    DataConfig, DataPer, DataSource, FieldErrors, Fields, HttpData, Invalid, OnEmpty, UrlTemplate,
    object_at,
    values::{boolean, http_url, text, variable, whole_number},
};
use serde_json::Value;

use crate::source::json_pointer;

/// Reads the field at `pointer`.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn parse_data(value: &Value, pointer: &str) -> Result<DataConfig, FieldErrors> {
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let on_empty = fields.optional("on_empty", parse_on_empty);
    let on_empty = on_empty.unwrap_or_default();
    if value.get("provider").is_some() {
        let name = fields.required("provider", "give its name", text);
        fields.deny_others();
        return fields.finish(|| {
            Some(DataConfig {
                source: DataSource::Provider(name?.to_owned()),
                on_empty,
            })
        });
    }
    let http = parse_http(&mut fields);
    fields.deny_others();
    fields.finish(|| {
        Some(DataConfig {
            source: DataSource::Http(http?),
            on_empty,
        })
    })
}

fn parse_http(fields: &mut Fields<'_>) -> Option<HttpData> {
    let remedy =
        "add the address of the data, such as \"https://shop.example/users/{tenant_id}/activity\"";
    let url = fields.required("url", remedy, |value| UrlTemplate::new(http_url(value)?));
    let per = fields.optional("per", parse_per);
    let is_read = per.is_some() || fields.raw("per").is_none();
    let per = per.unwrap_or_default();
    if per == DataPer::Chunk && url.as_ref().is_some_and(UrlTemplate::is_of_tenant) {
        let remedy =
            "use \"per\": \"tenant\", or the placeholders {job_id}, {occurrence}, {scheduled_at}";
        let problem = "has a placeholder for one tenant, and one call is for up to 500";
        fields.complain("url", Invalid::new(problem, remedy));
    }
    if is_read && per == DataPer::Tenant && url.as_ref().is_some_and(|url| !url.names_tenant()) {
        let remedy = "add {tenant_id}, such as \"https://shop.example/users/{tenant_id}/activity\", or use \"per\": \
                      \"chunk\"";
        let problem = "has no {tenant_id}, so every tenant would get the same data";
        fields.complain("url", Invalid::new(problem, remedy));
    }
    let items = fields.optional("items", json_pointer);
    let api_key_env = fields.optional("api_key_env", variable);
    let timeout = fields.optional("timeout_ms", |value| whole_number(value, 1..=600_000));
    let concurrency = fields.optional("concurrency", |value| whole_number(value, 1..=10_000));
    let per_minute = fields.optional("requests_per_minute", |value| {
        whole_number(value, 1..=1_000_000_000)
    });
    let private = fields.optional("allow_private_addresses", boolean);
    Some(HttpData {
        url: url?,
        per,
        items: items.unwrap_or_default().to_owned(),
        api_key_env: api_key_env.map(str::to_owned),
        timeout: Duration::from_millis(timeout.unwrap_or(10_000)),
        concurrency: concurrency.map(|most| most as u32),
        requests_per_minute: per_minute.map(|most| most as u32),
        allow_private_addresses: private.unwrap_or(false),
    })
}

fn parse_per(value: &Value) -> Result<DataPer, Invalid> {
    let per = text(value)?.parse();
    per.map_err(|_| Invalid::new("is not a valid unit of a call", "use tenant or chunk"))
}

fn parse_on_empty(value: &Value) -> Result<OnEmpty, Invalid> {
    let policy = text(value)?.parse();
    policy.map_err(|_| Invalid::new("is not a policy for empty data", "use skip or run"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_is_written_is_read_and_the_rest_is_usual() {
        let full = json!({"url": "https://shop.example/activity?job={job_id}", "per": "chunk", "items": "/data",
            "api_key_env": "SHOP_KEY", "timeout_ms": 2500, "on_empty": "run", "concurrency": 4,
            "requests_per_minute": 600, "allow_private_addresses": true});
        let config = parse_data(&full, "/data").unwrap();
        let DataSource::Http(http) = &config.source else {
            panic!("{config:?}")
        };
        assert_eq!(http.url.as_str(), full["url"]);
        assert_eq!((http.per, config.on_empty), (DataPer::Chunk, OnEmpty::Run));
        assert_eq!(
            (&*http.items, http.api_key_env.as_deref()),
            ("/data", Some("SHOP_KEY"))
        );
        assert_eq!(http.timeout, Duration::from_millis(2500));
        assert_eq!(
            (http.concurrency, http.requests_per_minute),
            (Some(4), Some(600))
        );
        assert!(http.allow_private_addresses && config.reads_previous());
        assert_eq!(config.tenants_per_request(), 500);

        let usual = json!({"url": "https://shop.example/users/{tenant_id}"});
        let config = parse_data(&usual, "/data").unwrap();
        let DataSource::Http(http) = &config.source else {
            panic!("{config:?}")
        };
        assert_eq!(
            (http.per, config.on_empty),
            (DataPer::Tenant, OnEmpty::Skip)
        );
        assert_eq!((&*http.items, &http.api_key_env), ("", &None));
        assert_eq!(
            (http.timeout, http.concurrency),
            (Duration::from_secs(10), None)
        );
        assert!(!http.allow_private_addresses && !config.reads_previous());
        assert_eq!(config.tenants_per_request(), 1);

        let provider = parse_data(&json!({"provider": "activity"}), "/data").unwrap();
        assert_eq!(provider.source, DataSource::Provider("activity".to_owned()));
        assert_eq!(provider.tenants_per_request(), 500);
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_place() {
        for (value, expected) in [
            (json!({}), "/data/url: is missing; add the address"),
            (
                json!({"url": "shop.example"}),
                "/data/url: \"shop.example\" is not a URL",
            ),
            (
                json!({"url": "https://me:pw@shop.example/"}),
                "/data/url: \"https://me:pw@shop.example/\" contains a user or password",
            ),
            (
                json!({"url": "https://shop.example/{user}"}),
                "/data/url: \"https://shop.example/{user}\" has the unknown placeholder {user} at character 22; use one of \
                 {tenant_id}",
            ),
            (
                json!({"url": "https://shop.example/{tenant_id}", "per": "chunk"}),
                "/data/url: \"https://shop.example/{tenant_id}\" has a placeholder for one tenant",
            ),
            (
                json!({"url": "https://x/?since={previous.scheduled_at}"}),
                "/data/url: \"https://x/?since={previous.scheduled_at}\" has no {tenant_id}, so every tenant would get the \
                 same data; add {tenant_id}, such as",
            ),
            (
                json!({"url": "https://x/{tenant_id}", "per": "batch"}),
                "/data/per: \"batch\" is not a valid unit",
            ),
            (
                json!({"url": "https://x/{tenant_id}", "items": "data"}),
                "/data/items: \"data\" is not a JSON pointer",
            ),
            (
                json!({"url": "https://x/{tenant_id}", "api_key_env": "sk-1"}),
                "/data/api_key_env: \"sk-1\" is not a valid name",
            ),
            (
                json!({"url": "https://x/{tenant_id}", "timeout_ms": 0}),
                "/data/timeout_ms: 0 is out of range",
            ),
            (
                json!({"url": "https://x/{tenant_id}", "on_empty": "fail"}),
                "/data/on_empty: \"fail\" is not a policy",
            ),
            (
                json!({"url": "https://x/{tenant_id}", "method": "GET"}),
                "/data/method: \"GET\" is not a known field",
            ),
            (
                json!({"provider": "a", "url": "https://x"}),
                "/data/url: \"https://x\" is not a known field",
            ),
            (
                json!("https://x"),
                "/data: \"https://x\" has the wrong type",
            ),
        ] {
            let errors = parse_data(&value, "/data").unwrap_err().to_string();
            assert!(errors.starts_with(expected), "{errors}");
        }
    }
}
