//! What a hostile tenant sends: preferences that are nearly usable and not, as bytes.

use std::fmt;

/// A call to the tenant's own part of the API.
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(2_000)];
        let (method, path, length) = (self.method, &self.path, self.body.len());
        write!(
            f,
            "{method} {path} ({length} bytes) {}",
            shown.escape_ascii()
        )
    }
}

/// Names that a protocol, a store or a page may take for its own.
const NAMES: [&str; 28] = [
    "tenant_id",
    "updated_at",
    "schedule_since",
    "changed_at",
    "count",
    "tenants",
    "groups",
    "preference",
    "config_value",
    "config",
    "fields",
    "own",
    "feature_type",
    "id",
    "last_id",
    "has_more",
    "next_cursor",
    "epoch",
    "enabled",
    "frequency",
    "preferred_time",
    "preferred_day",
    "timezone",
    "template_overrides",
    "__proto__",
    "",
    "$ref",
    "\\u0000",
];
/// Values of fields that mean something, usable and not.
const TEXTS: [&str; 26] = [
    "daily",
    "weekly",
    "monthly",
    "hourly",
    "DAILY",
    "09:00",
    "9:00",
    "25:00",
    "09:00:00",
    "monday",
    "Mon",
    "last",
    "Europe/Berlin",
    "Berlin",
    "UTC",
    "victim",
    "2026-01-01T00:00:00Z",
    "yesterday",
    "\\u0000",
    "\\ud800",
    "\\u202e",
    "\\u001b[2J",
    "\\u2028",
    "null",
    "../../x",
    "",
];
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "31",
    "32",
    "1e3",
    "1.5",
    "9007199254740993",
    "18446744073709551616",
    "-9223372036854775809",
    "1e400",
    "-0",
    "1E-400",
    "123456789012345678901234567890",
];

/// A request of the hostile tenant for `feature`.
pub fn hostile_request(random: &mut fastrand::Rng, feature: &str) -> Request {
    let key = match random.u8(..12) {
        0 => "feature%5Fpreferences",
        1 => "other",
        2 => "..%2fvictim",
        _ => "feature_preferences",
    };
    let method = ["PUT", "PUT", "PUT", "PATCH", "PATCH", "DELETE", "POST"][random.usize(..7)];
    let path = match method {
        "POST" => format!("configs/{key}/restore"),
        _ => format!("configs/{key}"),
    };
    let mut body = Vec::new();
    if method == "POST" {
        body.extend(
            format!(
                "{{\"version\": {}}}",
                NUMBERS[random.usize(..NUMBERS.len())]
            )
            .bytes(),
        );
    } else {
        body.extend(b"{\"config_value\": ");
        config_value(random, &mut body, feature);
        body.push(b'}');
    }
    spoil(random, &mut body);
    Request { method, path, body }
}

fn config_value(random: &mut fastrand::Rng, body: &mut Vec<u8>, feature: &str) {
    if random.u8(..20) == 0 {
        return value(random, body, 0);
    }
    body.push(b'{');
    for n in 0..if random.u8(..40) == 0 { 300 } else { 1 } {
        if n > 0 {
            body.push(b',');
        }
        let name = if n == 0 {
            feature.to_owned()
        } else {
            format!("f{n}")
        };
        body.extend(format!("\"{name}\": ").bytes());
        preference(random, body);
    }
    if random.u8(..4) == 0 {
        body.extend(b", ");
        entry(random, body, 1);
    }
    body.push(b'}');
}

/// A preference whose known fields are often usable, with fields of its own.
fn preference(random: &mut fastrand::Rng, body: &mut Vec<u8>) {
    if random.u8(..15) == 0 {
        return value(random, body, 1);
    }
    body.extend(b"{\"enabled\": ");
    body.extend(if random.bool() {
        &b"true"[..]
    } else {
        b"false"
    });
    if random.u8(..5) > 0 {
        body.extend(b", \"frequency\": \"daily\"");
    }
    for _ in 0..random.usize(..5) {
        body.push(b',');
        entry(random, body, 2);
    }
    match random.u8(..12) {
        // Deep, long, or both.
        0 => {
            let depth = random.usize(1..200);
            body.extend(b", \"x\": ");
            body.extend(std::iter::repeat_n(b'[', depth));
            body.extend(std::iter::repeat_n(b']', depth));
        }
        1 => {
            let length = 1 << random.u32(..18);
            body.extend(b", \"x\": \"");
            body.extend(std::iter::repeat_n(b'x', length));
            body.push(b'"');
        }
        2 => {
            body.extend(b", \"template_overrides\": {");
            for n in 0..random.usize(1..500) {
                body.extend(format!("\"k{n}\": {n},").bytes());
            }
            body.extend(b"\"k\": ");
            value(random, body, 2);
            body.push(b'}');
        }
        _ => {}
    }
    body.push(b'}');
}

fn entry(random: &mut fastrand::Rng, body: &mut Vec<u8>, depth: u32) {
    body.extend(format!("\"{}\": ", NAMES[random.usize(..NAMES.len())]).bytes());
    value(random, body, depth);
}

fn value(random: &mut fastrand::Rng, body: &mut Vec<u8>, depth: u32) {
    match random.u8(..if depth > 5 { 5 } else { 7 }) {
        0 => body.extend(b"null"),
        1 => body.extend(if random.bool() {
            &b"true"[..]
        } else {
            b"false"
        }),
        2 => body.extend(NUMBERS[random.usize(..NUMBERS.len())].bytes()),
        3 | 4 => body.extend(format!("\"{}\"", TEXTS[random.usize(..TEXTS.len())]).bytes()),
        5 => {
            body.push(b'[');
            for n in 0..random.usize(..4) {
                if n > 0 {
                    body.push(b',');
                }
                value(random, body, depth + 1);
            }
            body.push(b']');
        }
        _ => {
            body.push(b'{');
            for n in 0..random.usize(..4) {
                if n > 0 {
                    body.push(b',');
                }
                entry(random, body, depth + 1);
            }
            body.push(b'}');
        }
    }
}

/// Sometimes makes other bytes of it: cut off, with a byte changed or in twice, after a byte order mark.
fn spoil(random: &mut fastrand::Rng, body: &mut Vec<u8>) {
    let place = random.usize(..body.len());
    match random.u8(..16) {
        0 => body.truncate(place),
        1 => body[place] = random.u8(..),
        2 => body.insert(place, random.u8(..)),
        3 => {
            body.splice(..0, *b"\xef\xbb\xbf");
        }
        _ => {}
    }
}
