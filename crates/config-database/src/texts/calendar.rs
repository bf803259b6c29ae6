//! Dates, times, names of days and cities, and lists, as a locale has them, by ICU4X.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike, Weekday};
use icu_calendar::{Date, Gregorian, types::Weekday as IcuWeekday, week::WeekInformation};
use icu_datetime::{
    DateTimeFormatterPreferences, FixedCalendarDateTimeFormatter, NoCalendarFormatter,
    fieldsets::{E, T, YMD, YMDE, YMDET, zone::ExemplarCity},
    input::{DateTime, Time, TimeZone},
};
use icu_list::{ListFormatter, options::ListFormatterOptions};
use icu_locale_core::Locale;
use punctual_domain::{TimeOfDay, Zone};

const BUILT_IN: &str = "the data of every locale is built in";
const WEEK: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

/// How languages write the first day of a month, which is not as CLDR has it: language, the number before what follows it, and what
/// stands in place of both.
const FIRST_DAYS: [(&str, &str, &str); 2] = [("fr", "1 ", "1er "), ("pt", "1 de ", "1º de ")];

/// Every time zone that is named after a city, by one of its names: `Asia/Kolkata` and `Asia/Calcutta` are the same.
static ZONES_OF_CITIES: LazyLock<Vec<(String, TimeZone)>> = LazyLock::new(|| {
    let english = Locale::try_from_str("en").unwrap_or(Locale::UNKNOWN);
    let english = city_formatter(&english);
    // The name, and whether it is that of the city today.
    let mut names: HashMap<TimeZone, (String, bool)> = HashMap::new();
    for name in Zone::names() {
        let zone = TimeZone::from_iana_id(&name);
        let (area, own) = name.split_once('/').unwrap_or(("Etc", &name));
        if zone == TimeZone::UNKNOWN || area == "Etc" {
            continue;
        }
        let city = english.format(&zone.without_offset()).to_string();
        let is_usual = own.ends_with(&city.replace(' ', "_"));
        let chosen = names
            .entry(zone)
            .or_insert_with(|| (name.clone(), is_usual));
        if is_usual && !chosen.1 {
            *chosen = (name, true);
        }
    }
    let names = names.into_iter().map(|(zone, (name, _))| (name, zone));
    names.collect()
});

/// How a locale writes dates and the like.
pub(crate) struct Calendar {
    time: NoCalendarFormatter<T>,
    weekday: FixedCalendarDateTimeFormatter<Gregorian, E>,
    date: FixedCalendarDateTimeFormatter<Gregorian, YMD>,
    moment: FixedCalendarDateTimeFormatter<Gregorian, YMDET>,
    city: NoCalendarFormatter<ExemplarCity>,
    list: ListFormatter,
    first_weekday: IcuWeekday,
    /// How a date on the first day of a month begins, and what stands in place of that.
    first_day: Option<(&'static str, &'static str)>,
    /// Zones by name, with the cities that they are named after; made when it is first asked for.
    cities: OnceLock<HashMap<String, String>>,
}

impl Calendar {
    /// Formatters for a locale such as `de-AT`; a locale without data falls back to its language.
    pub(super) fn of(locale: &str) -> Self {
        let locale = Locale::try_from_str(locale).unwrap_or(Locale::UNKNOWN);
        let preferences = DateTimeFormatterPreferences::from(&locale);
        let moment = YMDE::long().with_time_hm();
        let wide_list = ListFormatterOptions::default();
        let week = WeekInformation::try_new((&locale).into());
        let language = locale.id.language.as_str();
        let first_day = FIRST_DAYS.into_iter().find(|(of, ..)| *of == language);
        Self {
            time: NoCalendarFormatter::try_new(preferences, T::hm()).expect(BUILT_IN),
            weekday: FixedCalendarDateTimeFormatter::try_new(preferences, E::long())
                .expect(BUILT_IN),
            date: FixedCalendarDateTimeFormatter::try_new(preferences, YMD::long())
                .expect(BUILT_IN),
            moment: FixedCalendarDateTimeFormatter::try_new(preferences, moment).expect(BUILT_IN),
            city: city_formatter(&locale),
            list: ListFormatter::try_new_and((&locale).into(), wide_list).expect(BUILT_IN),
            first_weekday: week.map_or(IcuWeekday::Monday, |week| week.first_weekday),
            first_day: first_day.map(|(_, number, ordinal)| (number, ordinal)),
            cities: OnceLock::new(),
        }
    }

    /// A time of day, such as `9:00 AM` or `09:00`.
    pub(crate) fn time(&self, time: TimeOfDay) -> String {
        self.time
            .format(&icu_time(time.hour(), time.minute()))
            .to_string()
    }

    /// The name of a day, as it stands in a sentence.
    pub(crate) fn weekday(&self, day: Weekday) -> String {
        self.weekday.format(&icu_weekday(day)).to_string()
    }

    /// A date, such as `25 November 2026`.
    pub(crate) fn date(&self, date: NaiveDate) -> String {
        let Some(icu) = icu_date(date) else {
            return date.to_string();
        };
        self.with_first_day(date, self.date.format(&icu).to_string())
    }

    /// What clocks and calendars show, such as `Wednesday, 25 November 2026 at 09:00`.
    pub(crate) fn moment(&self, local: NaiveDateTime) -> String {
        let Some(date) = icu_date(local.date()) else {
            return local.format("%Y-%m-%d %H:%M").to_string();
        };
        let time = icu_time(local.hour(), local.minute());
        let written = self.moment.format(&DateTime { date, time }).to_string();
        self.with_first_day(local.date(), written)
    }

    /// A date as it is written, with the first day of a month as the language has it. In these languages, the day is the first number.
    fn with_first_day(&self, date: NaiveDate, written: String) -> String {
        match self.first_day {
            Some((number, ordinal)) if date.day() == 1 => written.replacen(number, ordinal, 1),
            _ => written,
        }
    }

    /// The city that a time zone is named after; `None`: it is not known by one.
    pub(crate) fn city(&self, zone: &Zone) -> Option<String> {
        let known = TimeZone::from_iana_id(zone.name());
        let named = known != TimeZone::UNKNOWN;
        named.then(|| self.city.format(&known.without_offset()).to_string())
    }

    /// The cities that zones are named after, by the names of the zones. A zone that has several names is here with one of them.
    pub(crate) fn cities(&self) -> &HashMap<String, String> {
        self.cities.get_or_init(|| {
            let city = |(name, zone): &(String, TimeZone)| {
                let city = self.city.format(&zone.without_offset());
                (name.clone(), city.to_string())
            };
            ZONES_OF_CITIES.iter().map(city).collect()
        })
    }

    /// The name of the only zone that is named after a city of this name, in capitals or not.
    pub(crate) fn zone_of_city(&self, city: &str) -> Option<&str> {
        let city = city.to_lowercase();
        let cities = self.cities().iter();
        let mut named = cities.filter(|(_, known)| known.to_lowercase() == city);
        match (named.next(), named.next()) {
            (Some((zone, _)), None) => Some(zone),
            _ => None,
        }
    }

    /// `a and b`, or `a, b and c`.
    pub(crate) fn list(&self, parts: &[String]) -> String {
        self.list
            .format(parts.iter().map(String::as_str))
            .to_string()
    }

    /// The days of the week, the first one first.
    pub(crate) fn week(&self) -> impl Iterator<Item = Weekday> {
        let is_first = |day: &Weekday| icu_weekday(*day) == self.first_weekday;
        let first = WEEK.iter().position(is_first).unwrap_or_default();
        WEEK.into_iter().cycle().skip(first).take(WEEK.len())
    }
}

fn city_formatter(locale: &Locale) -> NoCalendarFormatter<ExemplarCity> {
    NoCalendarFormatter::try_new(locale.into(), ExemplarCity).expect(BUILT_IN)
}

/// `None`: ICU has no such year.
fn icu_date(date: NaiveDate) -> Option<Date<Gregorian>> {
    Date::try_new_gregorian(date.year(), date.month() as u8, date.day() as u8).ok()
}

fn icu_time(hour: u32, minute: u32) -> Time {
    Time::try_new(hour as u8, minute as u8, 0, 0).unwrap_or(Time::start_of_day())
}

fn icu_weekday(day: Weekday) -> IcuWeekday {
    match day {
        Weekday::Mon => IcuWeekday::Monday,
        Weekday::Tue => IcuWeekday::Tuesday,
        Weekday::Wed => IcuWeekday::Wednesday,
        Weekday::Thu => IcuWeekday::Thursday,
        Weekday::Fri => IcuWeekday::Friday,
        Weekday::Sat => IcuWeekday::Saturday,
        Weekday::Sun => IcuWeekday::Sunday,
    }
}
