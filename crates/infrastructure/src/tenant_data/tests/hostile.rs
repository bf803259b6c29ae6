//! Answers with anything in them: nothing panics, and what is good for one tenant always comes through.

use proptest::prelude::*;
use punctual_domain::TenantId;
use serde_json::json;

use super::{http, of_many, of_one, request};

/// A member whose brackets and quotes are closed; all else about it may be wrong. Its name begins with `x`, if it has one.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("\"x\":".to_owned()),
        "\"x[^\"\\\\]{0,6}\" {0,2}:",
        "[a-z]{0,3}:",
        Just(String::new()),
    ];
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("NaN".to_owned()),
        Just("1e999".to_owned()),
        Just("{\"a\": 1, \"a\": 2}".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        "\"[^\"\\\\]{0,20}\"",
        "\"(\\\\.){1,5}\"",
    ];
    let bytes = any::<Vec<u8>>().prop_map(|mut bytes| {
        bytes.retain(|byte| !b"\"[]{}".contains(byte));
        bytes
    });
    let value = prop_oneof![4 => scalar.prop_map(String::into_bytes), 1 => bytes];
    (name, 0..300_usize, value).prop_map(|(name, levels, value)| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        [name.as_bytes(), open.as_bytes(), &value, close.as_bytes()].concat()
    })
}

fn answer(members: &[Vec<u8>]) -> Vec<u8> {
    [&b"{\"data\": {"[..], &members.join(&b','), b"}}"].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_data_of_other_tenants_comes_through(members in prop::collection::vec(prop::option::of(hostile()), 0..12)) {
        let mut names = Vec::new();
        let mut good = || {
            let n = names.len();
            names.push(format!("good{n}"));
            format!("\"good{n}\": {{\"n\": {n}}}").into_bytes()
        };
        let members = members.into_iter().map(|member| member.unwrap_or_else(&mut good));
        let answer = answer(&members.collect::<Vec<_>>());
        let tenants: Vec<&str> = names.iter().map(String::as_str).chain(["x"]).collect();
        let answers = of_many(&answer, &http("/data"), &request(&tenants)).unwrap();
        for (n, name) in names.iter().enumerate() {
            let data = &answers[&TenantId::new(name).unwrap()];
            prop_assert_eq!(data.as_ref().unwrap(), &json!({"n": n}));
        }
    }

    #[test]
    fn nothing_panics(
        bytes in any::<Vec<u8>>(),
        members in prop::collection::vec(hostile(), 0..12),
        cut in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut whole = answer(&members);
        let at = cut.index(whole.len());
        whole[at] = byte;
        let (http, request) = (http("/data"), request(&["x"]));
        for answer in [&bytes[..], &whole[..], &whole[..at]] {
            let _ = of_many(answer, &http, &request);
            let _ = of_one(answer, &http, &request);
        }
    }
}
