mod messages;
mod sources;

use chrono::NaiveDate;

use super::*;

fn locale(linked: Option<&str>, chosen: Option<&str>, accepted: Option<&str>) -> String {
    let linked = linked.map(|tag| tag.parse().unwrap());
    Texts::of(linked.as_ref(), chosen, accepted)
        .locale()
        .to_owned()
}

#[test]
fn the_language_is_that_of_the_link_then_the_choice_then_the_browsers_then_english() {
    let german = Some("de-AT,de;q=0.9");
    assert_eq!(locale(Some("pt-BR"), Some("fr"), german), "pt-BR");
    assert_eq!(locale(None, Some("fr"), german), "fr-AT");
    assert_eq!(locale(None, None, german), "de-AT");
    assert_eq!(locale(None, None, None), "en-150");
    // What the pages do not have counts as not named.
    assert_eq!(locale(Some("nl"), Some("xx"), german), "de-AT");
    assert_eq!(locale(Some("nl"), None, Some("nl, sv")), "en-150");
}

#[test]
fn a_region_that_link_and_choice_leave_open_is_that_of_the_browser() {
    for (named, accepted, expected) in [
        ("en", "en-GB", "en-GB"),
        ("en", "nl", "en-150"),
        ("en", "", "en-150"),
        ("en", "de,en-US;q=0.7,en-GB;q=0.3", "en-US"),
        // Of English in other regions, nothing is known.
        ("en", "ko-KR,ko;q=0.9", "en-150"),
        ("de", "en-US,en;q=0.9,de-AT;q=0.8", "de-AT"),
        ("de", "de,en-US;q=0.7,en;q=0.3", "de"),
        ("fr", "pt-BR,pt;q=0.9", "fr-BR"),
        ("pt-BR", "pt-PT", "pt-BR"),
    ] {
        assert_eq!(locale(None, Some(named), Some(accepted)), expected);
        assert_eq!(locale(Some(named), None, Some(accepted)), expected);
    }
    assert_eq!(locale(None, None, Some("fr,fr-CA;q=0.8")), "fr-CA");
    assert_eq!(locale(None, None, Some("en")), "en-150");
}

#[test]
fn values_are_isolated_where_the_language_is_written_from_right_to_left() {
    let said = |tag| Language::new(tag, "x = a { $y }").text("x", &[("y", "z".into())]);
    assert_eq!(said("de"), "a z");
    assert_eq!(said("ar"), "a \u{2068}z\u{2069}");
}

#[test]
fn a_browser_gets_the_language_that_it_wants_most() {
    for (accepted, expected) in [
        ("fr", "fr"),
        ("en-GB", "en-GB"),
        ("fr;q=0.5, es-MX;q=0.8, de;q=0.3", "es-MX"),
        ("nl, de;q=0.2, fr;q=0.4", "fr"),
        ("de;q=0, fr;q=0.1", "fr"),
        ("fr;q=0.1,ja", "ja"),
        ("de; q=0.4 , pt-PT; q=0.5", "pt-PT"),
        ("*, ja;q=0.1", "ja"),
        ("es-419", "es-419"),
        ("de-Latn-CH-1996", "de-CH"),
        ("de-DE-u-hc-h12", "de-DE"),
        ("zh-CN, ko", "en-150"),
        ("", "en-150"),
        (";q=1,;;,q=,de;q=nan,fr;q=x", "en-150"),
        ("en-ZZ", "en-ZZ"),
    ] {
        assert_eq!(locale(None, None, Some(accepted)), expected, "{accepted}");
    }
    let many = "xx,".repeat(5_000) + "de";
    assert_eq!(locale(None, None, Some(&many)), "en-150");
}

#[test]
fn a_link_that_names_a_language_leaves_no_choice() {
    let french = "fr".parse().unwrap();
    let linked = Texts::of(Some(&french), None, None).words();
    assert_eq!(
        (linked.language.as_str(), linked.languages.len()),
        ("fr", 0)
    );
    let words = Texts::of(None, Some("fr"), None).words();
    let offered: Vec<&str> = words
        .languages
        .iter()
        .map(|own| own.name.as_str())
        .collect();
    assert_eq!(words.language, "fr");
    assert_eq!(
        offered,
        [
            "English",
            "Deutsch",
            "Français",
            "Español",
            "Português (Brasil)",
            "日本語"
        ]
    );
    assert!(!words.right_to_left);
    assert!(Language::new("ar", "").is_right_to_left());
}

#[test]
fn dates_times_and_weeks_are_those_of_the_region() {
    let moment = NaiveDate::from_ymd_opt(2026, 11, 25).unwrap();
    let moment = moment.and_hms_opt(21, 5, 0).unwrap();
    let evening: punctual_domain::TimeOfDay = "21:05".parse().unwrap();
    for (tag, time, shown, date, first) in [
        (
            "en-US",
            "9:05\u{202f}PM",
            "Wednesday, November 25, 2026 at 9:05\u{202f}PM",
            "November 25, 2026",
            "Sunday",
        ),
        (
            "en-GB",
            "21:05",
            "Wednesday, 25 November 2026 at 21:05",
            "25 November 2026",
            "Monday",
        ),
        (
            "de",
            "21:05",
            "Mittwoch, 25. November 2026 um 21:05",
            "25. November 2026",
            "Montag",
        ),
        (
            "fr",
            "21:05",
            "mercredi 25 novembre 2026 à 21:05",
            "25 novembre 2026",
            "lundi",
        ),
        (
            "es",
            "21:05",
            "miércoles, 25 de noviembre de 2026 a las 21:05",
            "25 de noviembre de 2026",
            "lunes",
        ),
        (
            "pt-BR",
            "21:05",
            "quarta-feira, 25 de novembro de 2026 às 21:05",
            "25 de novembro de 2026",
            "domingo",
        ),
        (
            "ja",
            "21:05",
            "2026年11月25日水曜日 21:05",
            "2026年11月25日",
            "日曜日",
        ),
    ] {
        let texts = Texts::of(None, Some(tag), None);
        let calendar = texts.calendar();
        assert_eq!(calendar.time(evening), time, "{tag}");
        assert_eq!(calendar.moment(moment), shown, "{tag}");
        assert_eq!(calendar.date(moment.date()), date, "{tag}");
        let week: Vec<String> = calendar.week().map(|day| calendar.weekday(day)).collect();
        assert_eq!((week.len(), week[0].as_str()), (7, first), "{tag}");
    }
    let first = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
    let evening = first.and_hms_opt(21, 5, 0).unwrap();
    for (tag, date, moment) in [
        (
            "de",
            "1. Dezember 2026",
            "Dienstag, 1. Dezember 2026 um 21:05",
        ),
        ("fr", "1er décembre 2026", "mardi 1er décembre 2026 à 21:05"),
        (
            "es",
            "1 de diciembre de 2026",
            "martes, 1 de diciembre de 2026 a las 21:05",
        ),
        (
            "pt-BR",
            "1º de dezembro de 2026",
            "terça-feira, 1º de dezembro de 2026 às 21:05",
        ),
    ] {
        let texts = Texts::of(None, Some(tag), None);
        let calendar = texts.calendar();
        assert_eq!(calendar.date(first), date, "{tag}");
        assert_eq!(calendar.moment(evening), moment, "{tag}");
    }
}

#[test]
fn cities_have_their_names() {
    let city = |tag: &str, zone: &str| {
        let texts = Texts::of(None, Some(tag), None);
        texts.calendar().city(&zone.parse().unwrap())
    };
    assert_eq!(city("en", "Europe/Kyiv").as_deref(), Some("Kyiv"));
    assert_eq!(
        city("es", "America/New_York").as_deref(),
        Some("Nueva York")
    );
    assert_eq!(city("ja", "Europe/Berlin").as_deref(), Some("ベルリン"));
    // Every zone is known by a city, or by the name of the zone.
    for zone in punctual_domain::Zone::names() {
        let named = city("fr", &zone);
        assert!(named.is_none_or(|named| !named.is_empty()), "{zone}");
    }
}

#[test]
fn every_region_has_texts() {
    for first in 'A'..='Z' {
        for second in 'A'..='Z' {
            let tag = format!("en-{first}{second}");
            let texts = Texts::of(None, Some(&tag), None);
            assert_eq!(texts.locale(), tag);
            assert_eq!(texts.calendar().week().count(), 7);
        }
    }
}
