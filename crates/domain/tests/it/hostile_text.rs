//! Text that tenants wrote, where it becomes an address of an e-mail or a part of a URL: it stays one address, and within
//! its part.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use punctual_domain::{DataRequest, DataTenant, EmailAddress, Previous, TenantId, UrlTemplate};

/// Characters that separate addresses, end a line, or open a comment, a name or a quotation, and some that look like one.
const SEPARATORS: &str =
    "@,;:<>()[]\"\\ \t\r\n\0\u{7f}\u{85}\u{a0}\u{200b}\u{202e}\u{2028}\u{3000}\u{ff20}\u{ff0c}";

fn separator() -> impl Strategy<Value = char> {
    prop::sample::select(SEPARATORS.chars().collect::<Vec<char>>())
}

fn address() -> impl Strategy<Value = String> {
    "[A-Za-z0-9+_']{1,8}(\\.[a-z0-9]{1,8}){0,2}@[A-Za-z0-9]{1,8}(\\.[a-z0-9]{1,8}){0,2}\\.[a-zA-Z]{2,6}"
}

/// Text that is an address at times: parts of any letters, long ones too, around an `@`.
fn almost_address() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        "[\\p{L}\\p{N}]{1,12}",
        "\u{23a}{1,31}",
        "[a-z0-9-]{1,63}",
        "\\PC{0,4}",
    ];
    let domain = prop::collection::vec(label, 1..8).prop_map(|labels| labels.join("."));
    let local = prop_oneof!["[\\p{L}\\p{N}.+]{0,20}", "[ -~]{0,8}"];
    let parts = (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"));
    prop_oneof![4 => parts, 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_separator_anywhere_makes_an_address_invalid(
        address in address(), separator in separator(), place in any::<prop::sample::Index>(),
    ) {
        prop_assert!(address.parse::<EmailAddress>().is_ok(), "{address}");
        // All of it is ASCII, so each byte is a place between characters.
        let mut hostile = address.clone();
        hostile.insert(place.index(address.len() + 1), separator);
        let error = hostile.parse::<EmailAddress>();
        prop_assert!(error.is_err(), "{hostile:?}");
        prop_assert!(!error.unwrap_err().to_string().contains(['\r', '\n', '\0']));
    }

    #[test]
    fn what_is_an_address_is_one_and_is_read_again(text in almost_address()) {
        let Ok(address) = text.parse::<EmailAddress>() else {
            return Ok(());
        };
        let whole = address.as_str();
        prop_assert_eq!(whole, format!("{}@{}", address.local(), address.domain()));
        prop_assert!(!address.local().contains('@'));
        prop_assert!(!whole.contains(|c: char| c != '@' && SEPARATORS.contains(c)), "{whole:?}");
        prop_assert!(!whole.contains(|c: char| c.is_control() || c.is_whitespace()), "{whole:?}");
        prop_assert!(whole.len() <= 254, "{whole:?}");
        let again = whole.parse::<EmailAddress>();
        prop_assert_eq!(again.as_ref(), Ok(&address), "{:?}", whole);
    }

    #[test]
    fn what_replaces_placeholders_stays_within_its_part_of_the_url(
        tenant in "[A-Za-z0-9._:@-]{1,128}", minutes in 0..10_000_000_i64, has_previous: bool,
    ) {
        // `.` and `..` are not ids.
        let Ok(tenant_id) = tenant.parse::<TenantId>() else {
            return Ok(());
        };
        let scheduled_at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::minutes(minutes);
        let previous = Previous {
            occurrence: "2026-03-01#2".parse().unwrap(),
            scheduled_at,
            finished_at: scheduled_at + TimeDelta::milliseconds(minutes),
        };
        let request = DataRequest {
            job_id: "shop:digest".parse().unwrap(),
            occurrence: "2026-03-02".parse().unwrap(),
            scheduled_at,
            tenants: vec![DataTenant { tenant_id, previous: has_previous.then_some(previous) }],
        };
        let template = "https://shop.example/of/{tenant_id}/{job_id}?run={previous.occurrence}&since={previous.finished_at}";
        let url = UrlTemplate::new(template).unwrap().fill(&request);
        let rest = url.strip_prefix("https://shop.example/of/").unwrap();
        let (tenant, rest) = rest.split_once("/shop%3Adigest?run=").unwrap();
        let (run, since) = rest.split_once("&since=").unwrap();
        for part in [tenant, run, since] {
            let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
            prop_assert!(part.chars().all(unreserved), "{url}");
        }
        prop_assert!(!matches!(tenant, "" | "." | ".."), "{url}");
    }
}

#[test]
fn an_address_that_is_longer_in_lower_case_is_measured_there() {
    // Two bytes, and three in lower case.
    let label = "\u{23a}".repeat(20);
    let domain = [label.as_str(); 5].join(".");
    let text = format!("ann@{domain}.example");
    assert!(text.len() <= 254);
    let error = text.parse::<EmailAddress>().unwrap_err();
    assert_eq!(error.problem(), "it has more than 254 bytes");
}
