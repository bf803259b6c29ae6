//! Recurrence rules of RFC 5545, as calendars write them: read as the fields of a preference where they mean one, refused with
//! the reason where they do not. To accept more of them, add a part to [`PARTS`] and say in [`from_rrule`] which fields mean the
//! same; `tests/recurrence.sh` compares both with another implementation.

use std::{collections::BTreeMap, ops::RangeInclusive, str::FromStr};

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Weekday};
use serde_json::{Map, Value, json};

use crate::{
    input::errors::Invalid,
    time::{recurrence::Weekdays, times::Times, zone::Zone},
};

/// Parts of a rule that are read. `BYMONTH` and the like have no counterpart in a preference.
const PARTS: [&str; 11] = [
    "FREQ",
    "INTERVAL",
    "UNTIL",
    "COUNT",
    "BYDAY",
    "BYMONTHDAY",
    "BYSETPOS",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
    "WKST",
];
/// The frequencies of rules, whether a preference has them or not.
const FREQUENCIES: [&str; 7] = [
    "SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY",
];
/// The days of a week, Monday first.
const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// The fields of a preference that mean the same as a rule: `FREQ=WEEKLY;BYDAY=MO,FR`, with `RRULE:` before it or not, and with a
/// line `DTSTART` before it or not.
///
/// # Errors
/// Why no preference means the same, and what to write instead.
pub fn from_rrule(text: &str) -> Result<Map<String, Value>, Invalid> {
    let (start, parts) = read_lines(text)?;
    let start = start.as_ref();
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| _ = fields.insert(name.to_owned(), value);
    if let Some(zone) = start.and_then(|start| start.zone.as_ref()) {
        set("timezone", json!(zone.name()));
    }
    let frequency = parts.get("FREQ").unwrap_or_default();
    if let Some(count) = parts.number("COUNT", 1..=i32::MAX)? {
        let start = start.filter(|_| count == 1).ok_or_else(|| {
            let problem = format!("ends after a number of runs, {count}");
            Invalid::new(problem, "use UNTIL, or COUNT=1 with DTSTART")
        })?;
        if !FREQUENCIES.contains(&frequency) {
            return Err(Invalid::new("has no FREQ", "use FREQ=DAILY"));
        }
        parts.refuse(&PARTS[4..10], "COUNT=1")?;
        parts.refuse(&["UNTIL"], "COUNT")?;
        set("frequency", json!("once"));
        set("date", json!(start.date));
        if let Some(time) = start.time {
            set("preferred_time", clock(time));
        }
        return Ok(fields);
    }
    if let Some(start) = start {
        set("start_date", json!(start.date));
    }
    let interval = parts.number("INTERVAL", 1..=1_000)?.unwrap_or(1);
    if interval > 1 {
        if start.is_none() {
            let problem = "has an INTERVAL, and no day from which it counts";
            return Err(Invalid::new(problem, "add DTSTART"));
        }
        set("interval", json!(interval));
    }
    let (word, days) = match frequency {
        "HOURLY" => ("hourly", None),
        "DAILY" => match parts.weekdays()? {
            None => ("daily", None),
            Some(days) if interval == 1 => ("weekly", Some(days)),
            Some(_) => {
                let problem = "has BYDAY and an INTERVAL of days";
                return Err(Invalid::new(problem, "use FREQ=WEEKLY"));
            }
        },
        "WEEKLY" => ("weekly", Some(parts.days_of_week(start, interval)?)),
        "MONTHLY" => ("monthly", Some(parts.days_of_month(start)?)),
        "" => {
            return Err(Invalid::new(
                "has no FREQ",
                "use FREQ=DAILY, WEEKLY or MONTHLY",
            ));
        }
        other => {
            let problem = format!("has FREQ={other}");
            return Err(Invalid::new(
                problem,
                "use HOURLY, DAILY, WEEKLY or MONTHLY",
            ));
        }
    };
    if word != "monthly" {
        parts.refuse(&["BYMONTHDAY", "BYSETPOS"], frequency)?;
    }
    set("frequency", json!(word));
    if let Some(days) = days {
        set("preferred_day", json!(days));
    }
    let times = if word == "hourly" {
        parts.refuse(&["BYDAY", "BYHOUR"], frequency)?;
        if interval > 1 {
            let problem = "has an INTERVAL of hours";
            return Err(Invalid::new(problem, "use FREQ=DAILY with BYHOUR"));
        }
        parts.every_hour(start)?
    } else {
        parts.times(start)?
    };
    if times.len() > 1 && parts.get("BYSETPOS").is_some() {
        let problem = "counts the times of a day together with its days";
        return Err(Invalid::new(problem, "count the days, such as 1MO"));
    }
    let shown: Vec<Value> = match word {
        "hourly" => times.first().copied().map(clock).into_iter().collect(),
        _ => times.iter().copied().map(clock).collect(),
    };
    if !shown.is_empty() {
        set("preferred_time", Value::from(shown));
    }
    if let Some(until) = parts.get("UNTIL") {
        set("end_date", json!(last_date(until, start, &times)?));
    }
    Ok(fields)
}

fn clock(time: NaiveTime) -> Value {
    json!(time.format("%H:%M").to_string())
}

/// What a rule counts from.
struct Start {
    date: NaiveDate,
    /// `None`: it names a date only.
    time: Option<NaiveTime>,
    /// `None`: local time, wherever the tenant is.
    zone: Option<Zone>,
}

impl Start {
    /// Reads what follows `DTSTART` in its line.
    fn read(rest: &str) -> Result<Self, Invalid> {
        let remedy = "use DTSTART;TZID=Europe/Berlin:20261201T090000";
        let wrong = || Invalid::new("has a DTSTART that cannot be read", remedy);
        let (parameters, value) = rest.split_once(':').ok_or_else(wrong)?;
        let mut zone = None;
        for parameter in parameters.split(';').filter(|one| !one.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(wrong)?;
            match name.to_ascii_uppercase().as_str() {
                "TZID" => {
                    let name = value.trim_matches('"');
                    zone = Some(Zone::from_str(name).map_err(|_| wrong())?);
                }
                "VALUE" => {}
                _ => return Err(wrong()),
            }
        }
        let (date, time, is_utc) = moment(value).ok_or_else(wrong)?;
        if time.is_some_and(|time| time.second() != 0) {
            return Err(Invalid::new("has a DTSTART within a minute", remedy));
        }
        if is_utc {
            zone = Some(Zone::utc());
        }
        Ok(Self { date, time, zone })
    }
}

/// Reads `20261201`, `20261201T090000` or `20261201T080000Z`: the date, the time, and whether it is in UTC.
fn moment(text: &str) -> Option<(NaiveDate, Option<NaiveTime>, bool)> {
    let (local, is_utc) = match text.strip_suffix('Z') {
        Some(local) => (local, true),
        None => (text, false),
    };
    if !local
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'T')
    {
        return None;
    }
    if local.len() == 8 && !is_utc {
        let date = NaiveDate::parse_from_str(local, "%Y%m%d").ok()?;
        return Some((date, None, false));
    }
    let moment = NaiveDateTime::parse_from_str(local, "%Y%m%dT%H%M%S").ok()?;
    Some((moment.date(), Some(moment.time()), is_utc)).filter(|_| local.len() == 15)
}

/// The lines of a rule: what it counts from, and its parts.
fn read_lines(text: &str) -> Result<(Option<Start>, Parts), Invalid> {
    let (mut start, mut parts) = (None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let after = |name: &str| {
            let (begin, rest) = line.split_at_checked(name.len())?;
            begin.eq_ignore_ascii_case(name).then_some(rest)
        };
        let rule = after("RRULE:").unwrap_or(line);
        if start.is_none()
            && let Some(rest) = after("DTSTART")
        {
            start = Some(Start::read(rest)?);
        } else if parts.is_none() && !rule.contains(':') {
            parts = Some(Parts::read(rule)?);
        } else {
            let name: String = line.chars().take_while(char::is_ascii_alphabetic).collect();
            let problem = format!("has another line, {name}");
            return Err(Invalid::new(
                problem,
                "use one RRULE, and DTSTART before it",
            ));
        }
    }
    let missing = || Invalid::new("is not a rule", "use FREQ=DAILY, WEEKLY or MONTHLY");
    Ok((start, parts.ok_or_else(missing)?))
}

/// A day of the week, and which one of the month it is, where that is said.
type CountedDay = (Option<i32>, Weekday);

/// The parts of a rule by their names.
struct Parts(BTreeMap<&'static str, String>);

impl Parts {
    fn read(rule: &str) -> Result<Self, Invalid> {
        let mut parts = BTreeMap::new();
        let rule = rule.to_ascii_uppercase();
        for part in rule.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let known = PARTS.into_iter().find(|known| *known == name);
            let known = known.ok_or_else(|| {
                let problem = format!("has {name}, which no preference means");
                Invalid::new(problem, "leave it out")
            })?;
            if parts.insert(known, value.to_owned()).is_some() {
                let problem = format!("has {name} twice");
                return Err(Invalid::new(problem, "use it once"));
            }
        }
        Ok(Self(parts))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Refuses parts that do not mean anything a preference can say beside another one.
    fn refuse(&self, names: &[&str], beside: &str) -> Result<(), Invalid> {
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) => {
                let problem = format!("has {name} beside {beside}");
                Err(Invalid::new(problem, "leave it out"))
            }
            None => Ok(()),
        }
    }

    /// The numbers of a list.
    fn numbers(&self, name: &str, range: RangeInclusive<i32>) -> Result<Option<Vec<i32>>, Invalid> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        let numbers: Option<Vec<i32>> = text.split(',').map(number).collect();
        let wrong = || {
            let remedy = format!(
                "use whole numbers from {} to {}",
                range.start(),
                range.end()
            );
            Invalid::new(format!("has {name}={text}"), remedy)
        };
        numbers.map(Some).ok_or_else(wrong)
    }

    fn number(&self, name: &str, range: RangeInclusive<i32>) -> Result<Option<i32>, Invalid> {
        match self.numbers(name, range)?.as_deref() {
            None => Ok(None),
            Some([only]) => Ok(Some(*only)),
            Some(_) => Err(Invalid::new(format!("has several of {name}"), "use one")),
        }
    }

    /// The entries of `BYDAY`: which one of the month, where it says so, and the day.
    fn by_day(&self) -> Result<Option<Vec<CountedDay>>, Invalid> {
        let Some(text) = self.get("BYDAY") else {
            return Ok(None);
        };
        let entry = |entry: &str| {
            let (nth, day) = entry.split_at_checked(entry.len().checked_sub(2)?)?;
            let day = WEEKDAYS.iter().position(|known| *known == day)?;
            let nth = match nth {
                "" => None,
                nth => Some(nth.parse().ok()?),
            };
            Some((nth, Weekday::try_from(day as u8).ok()?))
        };
        let entries: Option<Vec<_>> = text.split(',').map(entry).collect();
        let wrong = || Invalid::new(format!("has BYDAY={text}"), "use days such as MO or 2TU");
        entries.map(Some).ok_or_else(wrong)
    }

    /// The days of a week that `BYDAY` names.
    fn weekdays(&self) -> Result<Option<Vec<String>>, Invalid> {
        let Some(days) = self.by_day()? else {
            return Ok(None);
        };
        if days.iter().any(|(nth, _)| nth.is_some()) {
            let problem = "counts weekdays of something else than months";
            return Err(Invalid::new(problem, "use FREQ=MONTHLY"));
        }
        let names = days.iter().map(|(_, day)| Weekdays::name(*day).to_owned());
        Ok(Some(names.collect()))
    }

    fn days_of_week(&self, start: Option<&Start>, interval: i32) -> Result<Vec<String>, Invalid> {
        if interval > 1 && self.get("WKST").is_some_and(|first| first != "MO") {
            let problem = "counts weeks that begin on another day than Monday";
            return Err(Invalid::new(problem, "use WKST=MO"));
        }
        let of_start = || Some(vec![Weekdays::name(start?.date.weekday()).to_owned()]);
        let days = self.weekdays()?.or_else(of_start);
        days.ok_or_else(|| Invalid::new("names no day", "add BYDAY or DTSTART"))
    }

    fn days_of_month(&self, start: Option<&Start>) -> Result<Vec<String>, Invalid> {
        let day = |day: i32| match day {
            -1 => Ok("last".to_owned()),
            1..=28 => Ok(day.to_string()),
            _ => {
                let problem = format!("leaves out months without a day {day}");
                Err(Invalid::new(
                    problem,
                    "use days from 1 to 28, or -1 for the last",
                ))
            }
        };
        match (self.numbers("BYMONTHDAY", -31..=31)?, self.by_day()?) {
            (Some(_), Some(_)) => Err(Invalid::new(
                "has BYDAY and BYMONTHDAY, of which both have to hold",
                "use one of them",
            )),
            (Some(days), None) => {
                self.refuse(&["BYSETPOS"], "BYMONTHDAY")?;
                days.into_iter().map(day).collect()
            }
            (None, Some(days)) => self.counted(&days),
            (None, None) => {
                let start = start.ok_or_else(|| {
                    Invalid::new("names no day", "add BYMONTHDAY, BYDAY or DTSTART")
                })?;
                day(start.date.day() as i32).map(|day| vec![day])
            }
        }
    }

    /// Weekdays that are counted within the month: by themselves, or all of them by `BYSETPOS`.
    fn counted(&self, days: &[CountedDay]) -> Result<Vec<String>, Invalid> {
        let counted = |nth: i32, kind: &str| {
            let nth = match nth {
                1 => "first",
                2 => "second",
                3 => "third",
                4 => "fourth",
                -1 => "last",
                _ => {
                    let problem = format!("counts a weekday {nth} of the month");
                    return Err(Invalid::new(problem, "use 1 to 4, or -1 for the last"));
                }
            };
            Ok(format!("{nth} {kind}"))
        };
        let Some(positions) = self.numbers("BYSETPOS", -366..=366)? else {
            let day = |(nth, day): &CountedDay| {
                let every = || {
                    let problem = "names every such weekday of the month";
                    Invalid::new(problem, "use FREQ=WEEKLY, or count it, such as 2TU")
                };
                counted(nth.ok_or_else(every)?, Weekdays::name(*day))
            };
            return days.iter().map(day).collect();
        };
        let plain = days.iter().all(|(nth, _)| nth.is_none());
        let set: Weekdays = days.iter().map(|(_, day)| *day).collect();
        let working = (0..5)
            .filter_map(|day| Weekday::try_from(day).ok())
            .collect();
        let kind = match days {
            [(None, only)] => Weekdays::name(*only),
            _ if plain && set == working => "weekday",
            _ => {
                let problem = "counts several weekdays together";
                return Err(Invalid::new(problem, "use one day, or MO,TU,WE,TH,FR"));
            }
        };
        let all = positions.into_iter().map(|nth| counted(nth, kind));
        all.collect()
    }

    /// The times of a day; none: it does not say.
    fn times(&self, start: Option<&Start>) -> Result<Vec<NaiveTime>, Invalid> {
        self.begins_with_a_minute()?;
        let of_start = start.and_then(|start| start.time);
        let (hours, minutes) = (
            self.numbers("BYHOUR", 0..=23)?,
            self.numbers("BYMINUTE", 0..=59)?,
        );
        if hours.is_none() && minutes.is_none() {
            return Ok(of_start.into_iter().collect());
        }
        let hours = hours.or_else(|| Some(vec![of_start?.hour() as i32]));
        let hours = hours.ok_or_else(|| Invalid::new("has BYMINUTE and no hour", "add BYHOUR"))?;
        let minute = of_start.map_or(0, |time| time.minute() as i32);
        let minutes = minutes.unwrap_or_else(|| vec![minute]);
        let of_hour = |hour: i32| minutes.iter().map(move |minute| (hour, *minute));
        let mut times: Vec<NaiveTime> = hours
            .into_iter()
            .flat_map(of_hour)
            .filter_map(|(hour, minute)| NaiveTime::from_hms_opt(hour as u32, minute as u32, 0))
            .collect();
        times.sort_unstable();
        times.dedup();
        if times.len() > Times::MAX {
            let problem = format!("names {} times a day", times.len());
            return Err(Invalid::new(problem, format!("use at most {}", Times::MAX)));
        }
        if of_start.is_some_and(|start| times.iter().any(|time| *time < start)) {
            let problem = "leaves out times before that of DTSTART on the first day";
            return Err(Invalid::new(
                problem,
                "use the first of its times in DTSTART",
            ));
        }
        Ok(times)
    }

    /// The times of a day at which an hourly rule falls due; none: it does not say.
    fn every_hour(&self, start: Option<&Start>) -> Result<Vec<NaiveTime>, Invalid> {
        self.begins_with_a_minute()?;
        let of_start = start.and_then(|start| start.time);
        if of_start.is_some_and(|time| time.hour() > 0) {
            let problem = "begins in the middle of a day";
            return Err(Invalid::new(problem, "use a DTSTART from 00:00 to 00:59"));
        }
        let minute = self.number("BYMINUTE", 0..=59)?;
        let minute = minute.or_else(|| Some(of_start?.minute() as i32));
        if minute
            .zip(of_start)
            .is_some_and(|(minute, start)| minute < start.minute() as i32)
        {
            let problem = "leaves out the first hour";
            return Err(Invalid::new(
                problem,
                "use the minute of BYMINUTE in DTSTART",
            ));
        }
        let times = minute.into_iter().flat_map(|minute| {
            (0..24).filter_map(move |hour| NaiveTime::from_hms_opt(hour, minute as u32, 0))
        });
        Ok(times.collect())
    }

    fn begins_with_a_minute(&self) -> Result<(), Invalid> {
        match self.number("BYSECOND", 0..=60)? {
            None | Some(0) => Ok(()),
            Some(_) => Err(Invalid::new("has a BYSECOND", "use whole minutes")),
        }
    }
}

/// The last date of a rule that ends at `until`, which may leave out some times of that date only if it leaves out all.
fn last_date(
    until: &str,
    start: Option<&Start>,
    times: &[NaiveTime],
) -> Result<NaiveDate, Invalid> {
    let remedy = "use UNTIL=20261231, or UNTIL=20261231T225959Z with DTSTART;TZID=Europe/Berlin";
    let wrong = |problem: &str| Invalid::new(problem, remedy);
    let unreadable = || wrong("has an UNTIL that cannot be read");
    let (date, time, is_utc) = moment(until).ok_or_else(unreadable)?;
    let Some(time) = time else {
        return Ok(date);
    };
    let (mut local, mut zone) = (date.and_time(time), None);
    if is_utc {
        let of_start = start.and_then(|start| start.zone.as_ref());
        let of_start = of_start.ok_or_else(|| wrong("has an UNTIL in UTC, and no zone"))?;
        zone = Some((of_start, local.and_utc()));
        local = of_start.local(local.and_utc()).ok_or_else(unreadable)?;
    }
    let counts = |time: &&NaiveTime| match zone {
        // By the instant, for the clocks may show this time twice.
        Some((zone, until)) => zone
            .resolve(local.date(), **time)
            .is_none_or(|due| due <= until),
        None => **time <= local.time(),
    };
    let counts = times.iter().filter(counts).count();
    let day_ends = (local.hour(), local.minute()) == (23, 59);
    match counts {
        0 if times.is_empty() && !day_ends => Err(wrong("ends at a time, and names none")),
        0 if !times.is_empty() => local.date().pred_opt().ok_or_else(unreadable),
        all if all == times.len() => Ok(local.date()),
        _ => Err(wrong("ends between the times of a day")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Value {
        Value::Object(from_rrule(text).unwrap())
    }

    #[test]
    fn a_rule_that_a_preference_means_is_read_as_its_fields() {
        for (rule, expected) in [
            (
                "FREQ=DAILY;BYHOUR=9,18",
                json!({"frequency": "daily", "preferred_time": ["09:00", "18:00"]}),
            ),
            (
                "RRULE:FREQ=WEEKLY;BYDAY=MO,FR;WKST=SU",
                json!({"frequency": "weekly", "preferred_day": ["monday", "friday"]}),
            ),
            (
                "freq=daily;byday=MO,TU,WE,TH,FR",
                json!({"frequency": "weekly",
                    "preferred_day": ["monday", "tuesday", "wednesday", "thursday", "friday"]}),
            ),
            (
                "DTSTART;TZID=Europe/Berlin:20261201T090000\nRRULE:FREQ=WEEKLY;INTERVAL=3;UNTIL=20270131T225959Z",
                json!({"frequency": "weekly", "interval": 3, "start_date": "2026-12-01", "end_date": "2027-01-31",
                    "preferred_day": ["tuesday"], "preferred_time": ["09:00"], "timezone": "Europe/Berlin"}),
            ),
            (
                "FREQ=MONTHLY;BYDAY=2TU,-1FR",
                json!({"frequency": "monthly", "preferred_day": ["second tuesday", "last friday"]}),
            ),
            (
                "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1,-1",
                json!({"frequency": "monthly", "preferred_day": ["first weekday", "last weekday"]}),
            ),
            (
                "FREQ=MONTHLY;BYMONTHDAY=15,-1",
                json!({"frequency": "monthly", "preferred_day": ["15", "last"]}),
            ),
            (
                "DTSTART:20261224T180000Z\nRRULE:FREQ=DAILY;COUNT=1",
                json!({"frequency": "once", "date": "2026-12-24", "preferred_time": "18:00", "timezone": "UTC"}),
            ),
            (
                "dtstart;tzid=\"Europe/Berlin\":20261201T024500\nrrule:FREQ=DAILY;UNTIL=20271031T013000Z",
                json!({"frequency": "daily", "start_date": "2026-12-01", "end_date": "2027-10-31",
                    "preferred_time": ["02:45"], "timezone": "Europe/Berlin"}),
            ),
            (
                "FREQ=HOURLY;BYMINUTE=15",
                json!({"frequency": "hourly", "preferred_time": ["00:15"]}),
            ),
        ] {
            assert_eq!(fields(rule), expected, "{rule}");
            let parsed = crate::Preference::parse(fields(rule).as_object().unwrap());
            assert!(parsed.is_ok(), "{rule}: {parsed:?}");
        }
    }

    #[test]
    fn a_rule_that_no_preference_means_is_refused_with_the_reason() {
        for (rule, part) in [
            ("", "not a rule"),
            ("every day", "EVERY DAY"),
            ("FREQ=YEARLY", "FREQ=YEARLY"),
            ("FREQ=DAILY;BYMONTH=1", "BYMONTH"),
            ("FREQ=DAILY;FREQ=DAILY", "twice"),
            ("FREQ=DAILY;INTERVAL=2", "DTSTART"),
            ("FREQ=DAILY;INTERVAL=99999999999", "INTERVAL"),
            ("FREQ=DAILY;COUNT=5", "UNTIL"),
            ("DTSTART:20261201\nRRULE:COUNT=1", "FREQ"),
            (
                "DTSTART:20261201\nRRULE:FREQ=DAILY;COUNT=1;UNTIL=20261231",
                "UNTIL",
            ),
            (
                "DTSTART:20261201\nDTSTART:20261202\nRRULE:FREQ=DAILY",
                "DTSTART",
            ),
            ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1;BYHOUR=9,18", "1MO"),
            ("FREQ=DAILY;UNTIL=20261231T230000", "names none"),
            ("FREQ=WEEKLY", "names no day"),
            ("FREQ=WEEKLY;BYDAY=2MO", "FREQ=MONTHLY"),
            ("FREQ=MONTHLY;BYMONTHDAY=31", "day 31"),
            ("FREQ=MONTHLY;BYDAY=MO", "every such weekday"),
            ("FREQ=MONTHLY;BYDAY=5MO", "1 to 4"),
            ("FREQ=MONTHLY;BYDAY=é", "BYDAY"),
            ("FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1", "together"),
            ("FREQ=DAILY;BYHOUR=9;UNTIL=20261231T080000Z", "no zone"),
            ("FREQ=DAILY;BYHOUR=9,18;UNTIL=20261231T120000", "between"),
            (
                "DTSTART:20261201T100000\nRRULE:FREQ=DAILY;BYHOUR=9,18",
                "first day",
            ),
            ("DTSTART:20261201T100030\nRRULE:FREQ=DAILY", "minute"),
            (
                "DTSTART;TZID=Mars/Olympus:20261201T100000\nRRULE:FREQ=DAILY",
                "DTSTART",
            ),
            ("FREQ=DAILY\nEXDATE:20261201", "EXDATE"),
            (
                "DTSTART:20261201\nRRULE:FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=MO",
                "Monday",
            ),
        ] {
            let refused = from_rrule(rule).unwrap_err().at("/rrule", None).to_string();
            assert!(refused.contains(part), "{rule}: {refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            start in proptest::option::of("DTSTART(;TZID=[A-Z/a-zé]{0,9})?:[0-9]{0,8}(T[0-9]{0,6})?Z?"),
            parts in proptest::collection::vec(
                (proptest::sample::select(PARTS.to_vec()), "[-+0-9,A-Zé]{0,9}|DAILY|WEEKLY|MONTHLY|HOURLY|-?[1-9](MO|FR)"),
                0..5,
            ),
            rest in ".{0,9}",
        ) {
            let parts: Vec<String> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let text = format!("{}\nRRULE:{}{rest}", start.unwrap_or_default(), parts.join(";"));
            if let Err(wrong) = from_rrule(&text) {
                proptest::prop_assert!(!wrong.at("/rrule", None).remedy.is_empty());
            }
        }
    }
}
