"""Random rules in all zones: when they fall due by Punctual, and by python-dateutil's rrule with zoneinfo.

compare.py OCCURRENCES RULES SEED: OCCURRENCES is the program that answers for Punctual (an example of punctual-domain).
"""

import calendar
import datetime
import json
import random
import subprocess
import sys
import zoneinfo

from dateutil import rrule

program, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
choose = random.Random(seed)
UTC = datetime.timezone.utc
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
BY_DAY = [rrule.MO, rrule.TU, rrule.WE, rrule.TH, rrule.FR, rrule.SA, rrule.SU]
NTHS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
FIRST = datetime.date(2018, 1, 1)
SPAN = 4_000  # days of which the rules are


def a_date(first=0, last=SPAN):
    return FIRST + datetime.timedelta(days=choose.randrange(first, last))


def a_rule():
    """A preference, and the dates of the same rule as rrules."""
    kind = choose.choice(["daily", "weekly", "biweekly", "monthly", "once"])
    interval = choose.choice([1, 1, 2, 3, 5, 12]) if kind in ("daily", "weekly", "monthly") else 1
    preference = {"frequency": kind, "interval": interval}
    if interval == 1 and choose.random() < 0.3:
        start = FIRST  # Without a start, every second week counts from 1970-01-05, and so from this Monday.
    else:
        start = a_date(0, 1_500)
        preference["start_date"] = str(start)
    end = a_date(1_500) if choose.random() < 0.3 else None
    if end:
        preference["end_date"] = str(end)
    until = datetime.datetime.combine(end or datetime.date(2035, 1, 1), datetime.time())
    common = {"dtstart": datetime.datetime.combine(start, datetime.time()), "until": until}
    if kind == "once":
        date = min(max(start, a_date()), end or datetime.date.max)
        preference["date"] = str(date)
        only = datetime.datetime.combine(date, datetime.time())
        return preference, [rrule.rrule(rrule.DAILY, dtstart=only, until=only)]
    if kind == "daily":
        return preference, [rrule.rrule(rrule.DAILY, interval=interval, **common)]
    if kind in ("weekly", "biweekly"):
        days = choose.sample(range(7), choose.randrange(1, 4))
        preference["preferred_day"] = [DAYS[day] for day in days]
        every = 2 if kind == "biweekly" else interval
        by_day = [BY_DAY[day] for day in days]
        return preference, [rrule.rrule(rrule.WEEKLY, interval=every, wkst=rrule.MO, byweekday=by_day, **common)]
    chosen, rules = [], []
    # Months count from the first of them, whichever day the start is.
    months = {"interval": interval, "until": until, "dtstart": common["dtstart"].replace(day=1)}
    for _ in range(choose.randrange(1, 4)):
        nature = choose.randrange(5)
        if nature == 0:
            chosen.append("last")
            rules.append(rrule.rrule(rrule.MONTHLY, bymonthday=-1, **months))
        elif nature == 1:
            nth, day = choose.choice(list(NTHS)), choose.randrange(7)
            chosen.append(f"{nth} {DAYS[day]}")
            rules.append(rrule.rrule(rrule.MONTHLY, byweekday=BY_DAY[day](NTHS[nth]), **months))
        elif nature == 2:
            nth = choose.choice(list(NTHS))
            chosen.append(f"{nth} weekday")
            rules.append(rrule.rrule(rrule.MONTHLY, byweekday=BY_DAY[:5], bysetpos=NTHS[nth], **months))
        elif nature == 3:
            day = choose.randrange(1, 29)
            chosen.append(day)
            rules.append(rrule.rrule(rrule.MONTHLY, bymonthday=day, **months))
        else:
            day = choose.randrange(29, 32)
            chosen.append(day)
            # A day past the end of the month is its last one.
            days = list(range(min(day, 28), day + 1))
            rules.append(rrule.rrule(rrule.MONTHLY, bymonthday=days, bysetpos=-1, **months))
    preference["preferred_day"] = chosen
    return preference, rules


def as_text(rule, start, zone, times):
    """A rule as calendars write it, at these minutes of the day; None: no preference means it."""
    parts = dict(part.split("=") for part in str(rule).rpartition("RRULE:")[2].split(";"))
    # Positions are counted among the times of a day, too.
    positions = "BYSETPOS" in parts and ("BYMONTHDAY" in parts or len(times) > 1)
    if positions or len({time % 60 for time in times}) > 1:
        return None
    if "UNTIL" in parts:
        parts["UNTIL"] = parts["UNTIL"][:8]
    parts["BYHOUR"] = ",".join(str(time // 60) for time in times)
    rule = ";".join(f"{name}={value}" for name, value in parts.items())
    return f"DTSTART;TZID={zone}:{start:%Y%m%d}T{times[0] // 60:02}{times[0] % 60:02}00\nRRULE:{rule}"


def a_question():
    preference, rules = a_rule()
    zone = choose.choice(ZONES)
    times = sorted({choose.randrange(24 * 60) for _ in range(choose.choice([1, 1, 2, 4]))})
    preference["preferred_time"] = [f"{time // 60:02}:{time % 60:02}" for time in times]
    start = datetime.datetime.fromisoformat(preference.get("start_date", str(FIRST)))
    around = datetime.datetime.fromisoformat(preference.get("date") or preference.get("start_date") or str(a_date(100, 1_500)))
    begin = around.replace(tzinfo=UTC) + datetime.timedelta(minutes=choose.randrange(-30 * 1_440, 200 * 1_440))
    length = 400 if preference["frequency"] == "monthly" else 40
    end = begin + datetime.timedelta(days=length)
    paused, paused_date = None, start
    if choose.random() < 0.2:
        paused = begin + datetime.timedelta(minutes=choose.randrange(length * 1_440))
        preference["paused_until"] = paused.isoformat()
        if choose.random() < 0.5:
            paused_date = datetime.datetime.combine(paused.date(), datetime.time())
            preference["paused_until"] = str(paused.date())
            paused = None
    info = zoneinfo.ZoneInfo(zone)
    naive = begin.replace(tzinfo=None)
    dates = set()
    for rule in rules:
        first = max(start, paused_date, naive - datetime.timedelta(days=3))
        dates.update(rule.between(first, naive + datetime.timedelta(days=length + 3), inc=True))
    due = set()
    for date in dates:
        for time in times:
            local = date.replace(hour=time // 60, minute=time % 60, tzinfo=info)
            instant = local.astimezone(UTC)
            if begin < instant <= end and (paused is None or instant >= paused):
                due.add(calendar.timegm(instant.utctimetuple()))
    question = {"preference": preference, "zone": zone, "from": begin.isoformat(), "to": end.isoformat()}
    if len(rules) == 1 and "paused_until" not in preference and "date" not in preference and choose.random() < 0.5:
        text = as_text(rules[0], start, zone, times)
        if text:
            del question["preference"]
            question["rrule"] = text
    return question, sorted(due)


asked = [a_question() for _ in range(count)]
as_rules = sum("rrule" in question for question, _ in asked)
lines = "".join(json.dumps(question) + "\n" for question, _ in asked)
answers = subprocess.run([program], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
wrong = 0
instants = 0
for (question, expected), answer in zip(asked, answers, strict=True):
    found = json.loads(answer)
    instants += len(expected)
    if found != expected:
        wrong += 1
        if wrong <= 5:
            print(json.dumps(question), "\n  Punctual:", found, "\n  dateutil:", expected, file=sys.stderr)
if wrong or instants < count or as_rules < count // 10:
    sys.exit(f"{wrong} of {count} rules differ (seed {seed}, {instants} instants, {as_rules} as RRULE)")
print(f"{count} rules in {len(ZONES)} zones, {as_rules} as RRULE, agree in {instants} instants (seed {seed})")
