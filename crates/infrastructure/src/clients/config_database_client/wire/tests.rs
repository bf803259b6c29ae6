//! Pages with anything in them: nothing panics, and what is good always comes through.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn feature() -> FeatureType {
    FeatureType::new("posts").unwrap()
}

/// Entries whose brackets and quotes are closed; all else about them may be wrong.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("NaN".to_owned()),
        Just("-".to_owned()),
        Just("1e999".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "\"[^\"\\\\]{0,20}\"",
        "\"(\\\\.){1,5}\"",
    ];
    let name = prop_oneof![
        Just("\"tenant_id\"".to_owned()),
        Just("\"id\"".to_owned()),
        Just("\"updated_at\"".to_owned()),
        Just("\"changed_at\"".to_owned()),
        Just("\"schedule_since\"".to_owned()),
        Just("\"preference\"".to_owned()),
        Just("\"tenants\"".to_owned()),
        Just("\"own_fields\"".to_owned()),
        Just("\"organization\"".to_owned()),
        "\"[^\"\\\\]{0,5}\"",
        Just(String::new()),
    ];
    let value = scalar.prop_recursive(6, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|list| format!("[{}]", list.join(","))),
            prop::collection::vec((name.clone(), inner.clone()), 0..6).prop_map(|members| {
                let member = |(name, value): &(String, String)| format!("{name}:{value}");
                format!(
                    "{{{}}}",
                    members.iter().map(member).collect::<Vec<_>>().join(" , ")
                )
            }),
            (inner, 1..300_usize).prop_map(|(inner, levels)| {
                format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels))
            }),
        ]
    });
    let bytes = any::<Vec<u8>>().prop_map(|mut bytes| {
        bytes.retain(|byte| !b"\"[]{}".contains(byte));
        bytes
    });
    prop_oneof![4 => value.prop_map(String::into_bytes), 1 => bytes]
}

/// Good entries among hostile ones, in an order that is drawn.
fn among(good: impl Fn(usize) -> String) -> impl Strategy<Value = (Vec<u8>, usize)> {
    let entries = prop::collection::vec(prop::option::of(hostile()), 0..12);
    entries.prop_map(move |entries| {
        let mut count = 0;
        let pieces: Vec<Vec<u8>> = entries
            .into_iter()
            .map(|entry| {
                entry.unwrap_or_else(|| {
                    count += 1;
                    good(count).into_bytes()
                })
            })
            .collect();
        (pieces.join(&b','), count)
    })
}

fn good_tenant(n: usize) -> String {
    json!({"tenant_id": format!("good{n}"), "updated_at": "2026-01-01T00:00:00Z", "x": {"y": [n]}})
        .to_string()
}

fn good_change(n: usize) -> String {
    json!({"id": n, "tenant_id": format!("good{n}"), "preference": {"enabled": true}}).to_string()
}

fn is_good(tenant: &TenantId) -> bool {
    tenant.as_str().starts_with("good")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn good_tenants_of_the_groups_come_through((tenants, count) in among(good_tenant), group in hostile()) {
        let page = [b"{\"groups\": [{\"frequency\": \"daily\", \"tenants\": [", &*tenants, b"]}, ", &*group, b"]}"].concat();
        let mut groups = Groups::default();
        groups.add(GroupsPage::read(&page).unwrap());
        let good: Vec<_> = groups.records.iter().filter(|record| is_good(&record.tenant_id)).collect();
        prop_assert_eq!(good.len(), count);
        for (n, record) in good.iter().enumerate() {
            prop_assert_eq!(&record.preference["x"]["y"][0], n + 1);
            prop_assert_eq!(&record.preference["frequency"], "daily");
        }
    }

    #[test]
    fn good_changes_come_through((changes, count) in among(good_change)) {
        let page = [b"{\"changes\": [", &*changes, b"]}"].concat();
        let page = Changes::read(&page, &feature()).unwrap();
        let is_good = |change: &&RawChange| matches!(
            &change.what,
            FeedEntry::Change { tenant_id, news: PreferenceChange::Preference(preference), .. }
                if is_good(tenant_id) && preference["enabled"] == true
        );
        prop_assert_eq!(page.changes.iter().filter(is_good).count(), count);
    }

    #[test]
    fn nothing_panics(page in any::<Vec<u8>>(), (tenants, _) in among(good_tenant), cut in any::<prop::sample::Index>(), byte: u8) {
        let mut whole = [b"{\"groups\": [{\"tenants\": [", &*tenants, b"]}], \"changes\": [", &*tenants, b"]}"].concat();
        let at = cut.index(whole.len());
        whole[at] = byte;
        for page in [&page, &whole, &whole[..at].to_vec()] {
            if let Ok(page) = GroupsPage::read(page) {
                Groups::default().add(page);
            }
            let _ = Changes::read(page, &feature());
            let _ = tenant_config(page, &feature(), &TenantId::new("a").unwrap());
        }
    }
}

#[test]
fn fields_of_a_tenants_own_are_read_beside_and_under_a_roof() {
    let page = json!({"groups": [{"frequency": "daily", "count": 9, "tenants": [
        {"tenant_id": "a", "template_overrides": {"tone": "dry"}, "color": "red"},
        {"tenant_id": "b", "own_fields": {"color": "red", "tenant_id": "victim", "updated_at": 5}}
    ]}]})
    .to_string();
    let mut groups = Groups::default();
    groups.add(GroupsPage::read(page.as_bytes()).unwrap());
    assert!(groups.rejected.is_empty());
    let [a, b] = groups.records.as_slice() else {
        panic!()
    };
    assert_eq!(
        json!(a.preference),
        json!({"enabled": true, "frequency": "daily", "template_overrides": {"tone": "dry"}, "color": "red"})
    );
    assert_eq!(
        json!(b.preference),
        json!({"enabled": true, "frequency": "daily", "color": "red", "tenant_id": "victim", "updated_at": 5})
    );
    assert_eq!((b.tenant_id.as_str(), b.updated_at), ("b", None));
}

/// The organization of a record, its id and the names of its fields.
fn shown(organization: Option<&Membership>) -> Option<(&str, Vec<&str>)> {
    let organization = organization?;
    let fields = organization.fields.iter().map(String::as_str).collect();
    Some((organization.id.as_str(), fields))
}

#[test]
fn groups_say_which_organization_a_tenant_belongs_to() {
    let fields = ["timezone", "a later field", "frequency", "timezone"];
    let acme = json!({"id": "acme", "fields": fields, "name": "Acme Inc."});
    let page = json!({"groups": [{"frequency": "daily", "timezone": "UTC", "tenants": [
        {"tenant_id": "a", "organization": acme},
        {"tenant_id": "b", "organization": acme, "own_fields": {"organization": "mine"}},
        {"tenant_id": "c", "organization": {"id": "umbrella"}},
        {"tenant_id": "d", "organization": null},
        "e",
        {"tenant_id": "text", "organization": "acme"},
        {"tenant_id": "id", "organization": {"id": "a b"}},
        {"tenant_id": "none", "organization": {"fields": []}},
        {"tenant_id": "fields", "organization": {"id": "acme", "fields": "timezone"}}
    ]}]})
    .to_string();
    let mut groups = Groups::default();
    groups.add(GroupsPage::read(page.as_bytes()).unwrap());
    let records = groups.records.as_slice();
    let organizations: Vec<_> = records
        .iter()
        .map(|record| shown(record.organization.as_deref()))
        .collect();
    let acme = Some(("acme", vec!["frequency", "timezone"]));
    let umbrella = Some(("umbrella", vec![]));
    assert_eq!(organizations, [acme.clone(), acme, umbrella, None, None]);
    let shared = |at: usize| records[at].organization.as_ref().unwrap();
    assert!(Arc::ptr_eq(shared(0), shared(1)), "equal ones are one");
    assert_eq!(records[0].preference.get("organization"), None);
    assert_eq!(records[1].preference["organization"], "mine");
    let rejected: Vec<_> = groups
        .rejected
        .iter()
        .map(|entry| {
            (
                entry.tenant.as_ref().unwrap().as_str(),
                &*entry.error.pointer,
            )
        })
        .collect();
    let expected = ["text", "id", "none", "fields"];
    let pointers = (5..9).map(|at| format!("/groups/0/tenants/{at}/organization"));
    let pointers: Vec<String> = pointers.collect();
    let expected = expected
        .into_iter()
        .zip(pointers.iter().map(String::as_str));
    assert_eq!(rejected, expected.collect::<Vec<_>>());
}

#[test]
fn changes_and_single_tenants_say_which_organization_it_is() {
    let page = json!({"changes": [
        {"id": 1, "tenant_id": "a", "preference": {"enabled": true}, "organization": {"id": "acme", "fields": ["enabled"]}},
        {"id": 2, "tenant_id": "b", "preference": {"enabled": true}},
        {"id": 3, "tenant_id": "c", "preference": {"enabled": true}, "organization": {"id": ""}},
        {"id": 4, "tenant_id": "d", "change": "deleted", "organization": null},
        {"id": 5, "tenant_id": "e", "change": "deleted", "organization": "acme"}
    ]})
    .to_string();
    let page = Changes::read(page.as_bytes(), &feature()).unwrap();
    let seen: Vec<_> = page
        .changes
        .iter()
        .map(|change| match &change.what {
            FeedEntry::Change { organization, .. } => Ok(shown(organization.as_deref())),
            FeedEntry::Rejected(entry) => Err(entry.error.pointer.as_str()),
            FeedEntry::Other => panic!("another feature"),
        })
        .collect();
    let expected = [
        Ok(Some(("acme", vec!["enabled"]))),
        Ok(None),
        Err("/changes/2/organization"),
        Ok(None),
        Ok(None),
    ];
    assert_eq!(seen, expected);

    let config = |organization: Value| {
        let config =
            json!({"config_value": {"posts": {"enabled": true}}, "organization": organization});
        let tenant = TenantId::new("a").unwrap();
        tenant_config(config.to_string().as_bytes(), &feature(), &tenant).unwrap()
    };
    for (organization, expected) in [
        (
            json!({"posts": {"id": "acme"}, "other": {"id": "umbrella"}}),
            Some(("acme", vec![])),
        ),
        (json!({"other": {"id": "umbrella"}}), None),
        (json!({"posts": null}), None),
        (Value::Null, None),
    ] {
        let record = config(organization).unwrap().unwrap();
        assert_eq!(shown(record.organization.as_deref()), expected);
    }
    let error = config(json!("acme")).unwrap_err().error;
    assert_eq!(error.pointer, "/organization");
}

#[test]
fn erasures_are_read_and_what_cannot_be_read_is_left_out() {
    let page = json!({"changes": [
        {"id": 1, "tenant_id": "a", "change": "erased", "preference": null, "changed_at": "2026-03-01T09:00:00Z"}
    ]})
    .to_string();
    let page = Changes::read(page.as_bytes(), &feature()).unwrap();
    assert!(matches!(
        page.changes[0].what,
        FeedEntry::Change {
            news: PreferenceChange::Erased,
            ..
        }
    ));
    let page = json!({"tenants": [
        {"id": 1, "tenant_id": "a", "erased_at": "2026-03-01T09:00:00Z", "own": 7},
        {"id": 2, "tenant_id": "b"},
        {"id": 3, "tenant_id": "a b", "erased_at": "2026-03-01T09:00:00Z"},
        {"id": 4, "tenant_id": "c", "erased_at": "2026-03-02T09:00:00Z"}
    ], "last_id": 4, "has_more": true})
    .to_string();
    let page = ErasedPage::read(page.as_bytes()).unwrap();
    let tenants: Vec<_> = page
        .erased
        .iter()
        .map(|one| one.tenant_id.as_str())
        .collect();
    assert_eq!(tenants, ["a", "c"]);
    assert_eq!((page.last_id, page.has_more), (4, true));
    let empty = ErasedPage::read(br#"{"tenants": []}"#).unwrap();
    assert!(empty.erased.is_empty() && !empty.has_more);
    assert!(ErasedPage::read(b"{}").is_err());
}
