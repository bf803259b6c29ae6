//! The options of a purpose `chat` whose requests are sent in provider batches.

use std::{cmp, str::FromStr};

use chrono::TimeDelta;
use punctual_application::ports::BatchTotals;
use punctual_domain::{
    Fields, Invalid, MAX_WAIT,
    values::{duration, text},
};
use serde_json::Value;

/// How long the first request of a batch waits for others, at most.
const MAX_COLLECT_FOR: TimeDelta = TimeDelta::hours(1);
/// Time for single calls at the end.
const LEAST_MARGIN: TimeDelta = TimeDelta::minutes(10);

/// How requests are sent in provider batches.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatBatchConfig {
    /// Time within which items are complete: what no batch has answered by then is called singly.
    pub complete_within: TimeDelta,
    /// How long the first request waits for others before its batch is sent.
    pub collect_for: TimeDelta,
    /// Price of a million tokens of requests, in a currency of yours.
    pub input_price: Option<f64>,
    /// Price of a million tokens of answers.
    pub output_price: Option<f64>,
}

impl Default for ChatBatchConfig {
    fn default() -> Self {
        Self {
            complete_within: TimeDelta::hours(24),
            collect_for: TimeDelta::minutes(1),
            input_price: None,
            output_price: None,
        }
    }
}

impl ChatBatchConfig {
    /// Reads the options; `None`: requests are sent singly.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let is_batch = fields.optional("mode", |value| match text(value)? {
            "single" => Ok(false),
            "batch" => Ok(true),
            _ => Err(Invalid::new(
                "is not a mode",
                "use one of \"single\", \"batch\"",
            )),
        });
        let default = Self::default();
        let complete_within = fields.optional("complete_within", |value| {
            within(value, TimeDelta::minutes(1), MAX_WAIT, "`1m` to `30d`")
        });
        let collect_for = fields.optional("collect_for", |value| {
            within(
                value,
                TimeDelta::seconds(1),
                MAX_COLLECT_FOR,
                "`1s` to `1h`",
            )
        });
        let input_price = fields.optional("input_price", price);
        let output_price = fields.optional("output_price", price);
        if is_batch != Some(true) {
            for name in [
                "complete_within",
                "collect_for",
                "input_price",
                "output_price",
            ] {
                if is_batch.is_some() || fields.raw("mode").is_none() {
                    refuse_alone(fields, name);
                }
            }
            return None;
        }
        let config = Self {
            complete_within: complete_within.unwrap_or(default.complete_within),
            collect_for: collect_for.unwrap_or(default.collect_for),
            input_price,
            output_price,
        };
        if config.collect_for >= config.on_time() {
            let remedy = "use less than half of `complete_within`";
            fields.complain("collect_for", Invalid::new("is too long", remedy));
        }
        Some(config)
    }

    /// How long after its first call began to wait a batch is stopped, so that single calls are on time: a tenth before the end,
    /// or 10 minutes where that is more, and half of the time at most.
    pub(super) fn on_time(&self) -> TimeDelta {
        let margin = cmp::max(self.complete_within / 10, LEAST_MARGIN);
        self.complete_within - cmp::min(margin, self.complete_within / 2)
    }

    /// What a batch has cost; `None`: a price is missing.
    pub(super) fn cost(&self, totals: &BatchTotals) -> Option<f64> {
        let of = |tokens: u64, price: Option<f64>| Some(tokens as f64 / 1e6 * price?);
        Some(
            of(totals.input_tokens, self.input_price)?
                + of(totals.output_tokens, self.output_price)?,
        )
    }
}

/// Refuses an option that means nothing where requests are sent singly.
fn refuse_alone(fields: &mut Fields<'_>, name: &'static str) {
    if fields.raw(name).is_some() {
        let remedy = "add \"mode\": \"batch\", or remove it";
        fields.complain(name, Invalid::new("is for batches only", remedy));
    }
}

/// A length of time, also of a few seconds.
fn within(
    value: &Value,
    least: TimeDelta,
    most: TimeDelta,
    range: &str,
) -> Result<TimeDelta, Invalid> {
    let seconds = text(value)?.strip_suffix('s').map(u16::from_str);
    let length = match seconds {
        Some(Ok(seconds)) => Ok(TimeDelta::seconds(seconds.into())),
        _ => duration(value),
    };
    length
        .ok()
        .filter(|length| (least..=most).contains(length))
        .ok_or_else(|| {
            Invalid::new(
                "is not a valid duration",
                format!("use a duration from {range}, such as `90s`, `12h` or `2d`"),
            )
        })
}

fn price(value: &Value) -> Result<f64, Invalid> {
    value
        .as_f64()
        .filter(|price| (0.0..=1e6).contains(price))
        .ok_or_else(|| {
            Invalid::new(
                "is not a price",
                "use a number from 0 to 1000000: the price of a million tokens",
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: &Value) -> Result<Option<ChatBatchConfig>, Vec<String>> {
        let mut fields = Fields::new(options.as_object().unwrap(), "/p");
        let config = ChatBatchConfig::read(&mut fields);
        let read = fields.finish(|| Some(config));
        read.map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn options_of_batches_are_read_and_mistakes_name_their_fields() {
        assert_eq!(read(&json!({})), Ok(None));
        assert_eq!(read(&json!({"mode": "single"})), Ok(None));
        assert_eq!(
            read(&json!({"mode": "batch"})),
            Ok(Some(ChatBatchConfig::default()))
        );
        let options = json!({"mode": "batch", "complete_within": "23h", "collect_for": "5s", "input_price": 0.5,
            "output_price": 2});
        let expected = ChatBatchConfig {
            complete_within: TimeDelta::hours(23),
            collect_for: TimeDelta::seconds(5),
            input_price: Some(0.5),
            output_price: Some(2.0),
        };
        assert_eq!(read(&options), Ok(Some(expected)));
        for (options, field) in [
            (json!({"mode": "bulk"}), "/p/mode"),
            (json!({"mode": 1}), "/p/mode"),
            (json!({"complete_within": "2h"}), "/p/complete_within"),
            (
                json!({"mode": "single", "input_price": 1}),
                "/p/input_price",
            ),
            (
                json!({"mode": "batch", "complete_within": "31d"}),
                "/p/complete_within",
            ),
            (
                json!({"mode": "batch", "complete_within": "59s"}),
                "/p/complete_within",
            ),
            (
                json!({"mode": "batch", "collect_for": "0s"}),
                "/p/collect_for",
            ),
            (
                json!({"mode": "batch", "collect_for": "2h"}),
                "/p/collect_for",
            ),
            (
                json!({"mode": "batch", "collect_for": "s"}),
                "/p/collect_for",
            ),
            (
                json!({"mode": "batch", "complete_within": "2m", "collect_for": "1m"}),
                "/p/collect_for",
            ),
            (
                json!({"mode": "batch", "output_price": -1}),
                "/p/output_price",
            ),
        ] {
            let errors = read(&options).unwrap_err();
            assert!(
                errors.len() == 1 && errors[0].starts_with(field),
                "{options}: {errors:?}"
            );
        }
    }

    #[test]
    fn a_batch_is_stopped_in_time_for_single_calls() {
        for (within, stopped) in [
            (1, 0.5),
            (20, 10.0),
            (60, 50.0),
            (100, 90.0),
            (1440, 1296.0),
        ] {
            let config = ChatBatchConfig {
                complete_within: TimeDelta::minutes(within),
                ..ChatBatchConfig::default()
            };
            let seconds = config.on_time().num_seconds() as f64;
            assert!(
                (seconds - stopped * 60.0).abs() < 0.5,
                "{within}: {seconds}"
            );
        }
    }

    #[test]
    fn a_batch_costs_what_its_tokens_cost() {
        let totals = BatchTotals {
            calls: 50_000,
            answered: 50_000,
            input_tokens: 40_000_000,
            output_tokens: 10_000_000,
        };
        let mut config = ChatBatchConfig {
            input_price: Some(0.075),
            output_price: Some(0.3),
            ..ChatBatchConfig::default()
        };
        let cost = config.cost(&totals).unwrap();
        assert!((cost - 6.0).abs() < 1e-9, "{cost}");
        config.output_price = None;
        assert_eq!(config.cost(&totals), None);
    }
}
