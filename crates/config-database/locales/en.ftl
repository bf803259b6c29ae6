# The texts of the preference pages, as users of a product see them. A copy of this file, translated, is a language more:
# the ids on the left stay, and so do the names in braces, which stand for values such as a time or the name of a feature.
# Dates, times, lists, and names of days and cities are put in as the reader's region has them.

# The language as those who speak it call it.
language-name = English


## Every page

page-skip = Skip to the content
page-start = Back to the start
# The version of the software follows.
page-version = Version
# The release of the rules follows, such as 2026f.
page-time-zone-rules = Time zone rules
page-api = API
page-languages = Language


## Navigation

nav-pages = Pages
nav-preferences = Your preferences
nav-sign-out = Sign out
# For operators only.
nav-overview = Overview
nav-organizations = Organizations
nav-quarantine = Quarantine
nav-erasures = Erasures


## Sign in

sign-in-title = Sign in
sign-in-key = Key
sign-in-hint = Paste the access key you were given.
sign-in-refused = That key isn't valid or has been revoked.


## What went wrong with a page

problem-bad-request-title = That didn't work
problem-bad-request = We couldn't read what was sent. Go back, reload the page, and try again.
problem-forbidden-title = Not allowed
problem-forbidden = You don't have permission to do this.
problem-not-found-title = Page not found
problem-not-found = This address has no page.
problem-too-large-title = Too large
problem-too-large = What was sent is too large. Shorten it, and try again.
problem-invalid-title = Not saved
problem-invalid = What was sent can't be saved. Go back, check it, and try again.
problem-too-many-title = Please wait
problem-too-many = There were too many requests. Try again in a moment.
problem-failed-title = Something went wrong
problem-failed = This page can't be shown. Try again later.
problem-unavailable-title = Not available at the moment
problem-unavailable = We can't reach your preferences at the moment. Try again in a few seconds.
problem-other-tenant = Your key is for other preferences.
problem-other-link = Your link is for other preferences.
problem-outdated-form = This form is out of date. Reload the page.
problem-no-version = The history has no such version. Choose another one.
problem-not-one-click = Use the button of the page to unsubscribe.


## Links that open the pages

open-wait = Opening your preferences …
open-no-scripts = This page needs scripts. Use a link that opens without them.
link-expired-title = This link has expired
link-expired = Go back to where you got it, and open your preferences from there again.
link-used-title = This link has been used
link-used = It opens your preferences once. Go back to where you got it, and ask for a new one.
link-invalid-title = This link isn't valid
link-invalid = Open it again from where you got it. If it was copied, some of it may be missing.
link-ended-title = Your preferences can't be shown here
link-ended = Your visit has ended, or your browser keeps no cookies here. Reload the page to try again.


## Unsubscribing by the link of an e-mail

unsubscribe-title = Unsubscribe
unsubscribe-ask = Unsubscribe from { $feature }?
unsubscribe-ask-hint = You won't get it any more. Everything else stays as it is.
unsubscribe-done = You are unsubscribed
unsubscribe-off = { $feature } is switched off.
unsubscribe-again = You are subscribed again
unsubscribe-on = { $feature } is switched on.
unsubscribe-undo = Undo
unsubscribe-expired = Use the link of a newer e-mail, or change your preferences where you usually sign in.
unsubscribe-invalid = Open the link in your e-mail again. If it was copied, some of it may be missing.


## The list of preferences

list-title = Preferences
list-title-of = Preferences of { $tenant }
list-back = All preferences
list-back-of = All preferences of { $tenant }
list-empty = There is nothing to set yet.
list-empty-next = Everything that you can choose appears here.
list-on = On
list-off = Off
list-not-set-up = Not set up
list-wrong = Needs your attention
list-next = Next: { $when }
list-set-up = Set up
list-switch-on = Switch on
list-switch-off = Switch off
# For screen readers: the text of the button, and what it is for.
list-switch-on-feature = Switch on: { $feature }
list-switch-off-feature = Switch off: { $feature }
list-switched-on = { $feature } is on.
list-switched-off = { $feature } is off.
list-history = History
list-erase = Erase everything that is held of this tenant
# For operators only.
list-organization = Organization: { $organization }
list-other-feature = Another feature
list-open = Open
# Below the title of the preferences that an organization has for its members.
organization-members = { $members ->
    [0] No members yet.
    [one] For one member, who may choose otherwise.
   *[other] For { $members } members, who may each choose otherwise.
}


## The form of a preference: when

form-when = When
form-switched-on = Switched on
# $usual is a sentence of those below, such as "Every Monday at 10:00, UTC".
form-usual = As usual: { $usual }. A field that is left empty follows this.
form-usual-of-organization = Your organization has set a part of this.
form-how-often = How often
form-choose = Choose …
frequency-hourly = Every hour
frequency-daily = Every day
frequency-weekly = Every week
frequency-biweekly = Every second week
frequency-monthly = Every month
frequency-once = Once
usual-hourly = As usual (every hour)
usual-daily = As usual (every day)
usual-weekly = As usual (every week)
usual-biweekly = As usual (every second week)
usual-monthly = As usual (every month)
usual-once = As usual (once)
form-weekdays = Days of the week
form-monthdays = Days of the month
form-last-day = Last
# A weekday that is counted within the month, such as "the second Tuesday": two fields side by side.
form-nth = Week of the month
form-nth-none = No weekday of the month
form-nth-first = The first
form-nth-second = The second
form-nth-third = The third
form-nth-fourth = The fourth
form-nth-last = The last
form-nth-day = Weekday of the month
form-nth-weekday = Weekday, Monday to Friday
form-month-end = In shorter months, a day past the end moves to the last day.
form-interval = Every how many days, weeks or months
form-interval-daily = Every how many days
form-interval-weekly = Every how many weeks
form-interval-monthly = Every how many months
form-interval-hint = Left empty: every one, or as usual. From 2 on, choose the first day as well: it counts from there.
# The date of what happens once.
form-date = Date
form-time = Time
form-another-time = Another time
form-not-before = Not before { $time }.
form-not-after = Not after { $time }.
form-minute = Minute of every hour
form-start = First day
form-start-biweekly = Every second week counts from the week of this day.
form-end = Last day
form-paused = Paused until
form-paused-hint = Runs resume on this day.
form-zone = Time zone
form-zone-hint = A city such as Berlin or New York.
form-left-empty = Left empty: { $usual }, as usual.
# $usual is a text, which may be a sentence.
form-left-empty-text = Left empty: “{ $usual }”, as usual.
# $usual is a time of day, or a list of them.
form-time-left-empty = Left empty: { $usual }, as usual.
form-none-ticked = None ticked: { $usual }, as usual.
form-of-organization = From your organization.


## The form of a preference: how

form-how = How
form-yes = Yes
form-no = No
form-option-usual = As usual ({ $usual })
form-option-unset = (not set)
form-one-per-line = One per line.
form-as-json = As JSON.
form-advanced = Advanced settings (JSON)
form-advanced-label = Advanced settings as a JSON object


## The form of a preference: saving

form-save = Save
form-reset = Reset to usual
form-undo = Undo
form-saved = Saved.
form-saved-soon = Saved. The change takes effect in a moment …
form-saved-later = Saved. The change takes effect once the service is running.
form-kept = What you had chosen is here again. It is not saved yet.
form-ended = Your visit has ended; save to go on, and what you have chosen is kept.
form-unchanged = Nothing was changed.
form-not-saved = Not saved:
form-view-only = You can view but not change these settings.
form-conflict = Not saved: someone else has changed this preference meanwhile.
# What someone else has chosen follows, such as "Every day at 09:00, UTC".
form-conflict-now = It is now:
form-conflict-choose = Save again to replace it with what you chose below, or take theirs.
form-conflict-take = Take theirs


## The next runs

runs-title = Coming up
runs-show = Show the next runs
runs-caption = The next runs
runs-failed = The next runs cannot be shown; save, or reload the page.
runs-unknown = What is left open follows the usual times, which are not known here yet.
# On the page of an organization, for its members.
runs-left-open = Each member chooses what is left open.
runs-off = Switched off: nothing runs.
runs-off-next = Switch it on to see when it would run.
runs-none = No more runs.
runs-none-next = Choose a later last day or another date to have more.
runs-utc = UTC
# For a day on which summer time begins or ends.
runs-skipped = The clocks skip { $time } on this day: the run is later by the same amount.
runs-repeated = The clocks show { $time } twice on this day: the run is at the first.
# A date and time, and the zone that they are of, such as "Berlin time".
runs-in-zone = { $when } ({ $zone })


## What has run

past-title = Past runs
past-show = Show past runs
past-loading = Loading…
past-none = No past runs to show.
past-none-next = They appear here after the first one.
past-unavailable = Past runs can't be shown at the moment.
# $when is a date and time, such as "Tuesday, 24 November 2026 at 09:00". What follows says how the run of that time has ended.
past-done = { $when } — done
past-failed = { $when } — could not be done
past-nothing = { $when } — nothing to report
past-skipped = { $when } — skipped
past-skipped-off = { $when } — skipped: it was switched off
past-skipped-removed = { $when } — skipped: the settings had been removed
past-skipped-wrong = { $when } — skipped: the settings could not be used
past-skipped-cancelled = { $when } — cancelled
past-skipped-late = { $when } — skipped: it was too late
past-skipped-overlap = { $when } — skipped: the one before was still running
past-skipped-moved = { $when } — skipped: another time was chosen


## When something runs: in a line

summary-wrong = Cannot run
summary-unknown = At the usual time
summary-left-open = As each member chooses
summary-off = Off
summary-not-set = Not set


## When something runs: sentences. $days is a list of days, $time a time of day or a list of times, and $zone a text of
## zone-city. $interval is the number of days, weeks or months.

sentence-hourly = { $minute ->
    [0] Every hour, on the hour, { $zone }
    [one] Every hour at { $minute } minute past, { $zone }
   *[other] Every hour at { $minute } minutes past, { $zone }
}
sentence-daily = { $interval ->
    [1] Every day at { $time }, { $zone }
    [2] Every second day at { $time }, { $zone }
   *[other] Every { $interval } days at { $time }, { $zone }
}
sentence-weekly = Every { $days } at { $time }, { $zone }
# Here, $interval is 2 or more.
sentence-weeks = { $interval ->
    [2] Every second week on { $days } at { $time }, { $zone }
   *[other] Every { $interval } weeks on { $days } at { $time }, { $zone }
}
sentence-weeks-every-day = { $interval ->
    [2] Every day of every second week at { $time }, { $zone }
   *[other] Every { $interval } weeks on every day of the week at { $time }, { $zone }
}
sentence-monthly = { $interval ->
    [1] Every month on { $days } at { $time }, { $zone }
    [2] Every second month on { $days } at { $time }, { $zone }
   *[other] Every { $interval } months on { $days } at { $time }, { $zone }
}
sentence-once = Once, on { $date } at { $time }, { $zone }
# $sentence is one of those above, and $start and $end are dates, such as "1 December 2026".
sentence-from = { $sentence }, from { $start }
sentence-until = { $sentence }, until { $end }
sentence-from-until = { $sentence }, from { $start } until { $end }
# $sentence is one of those above, and $end a date, or a date and time, such as "Wednesday, 25 November 2026 at 09:00".
sentence-paused = { $sentence }, paused until { $end }
# A day of the month within a sentence.
month-day = { NUMBER($day, type: "ordinal") ->
    [one] the { $day }st
    [two] the { $day }nd
    [few] the { $day }rd
   *[other] the { $day }th
}
month-day-last = the last day
# A counted day of the month within a sentence. $day is the name of a day of the week, which $weekday names in English
# ("monday"); where $weekday is "weekday", it is any day from Monday to Friday, and $day is empty.
month-weekday = the { $nth ->
    [first] first
    [second] second
    [third] third
    [fourth] fourth
   *[last] last
} { $weekday ->
    [weekday] weekday
   *[other] { $day }
}
# The time of a city, such as "Berlin time".
zone-city = { $city } time
# A date and time, such as "Wednesday, 25 November 2026 at 09:00", with what the language says behind it.
moment = { $moment }


## Mistakes in the form: the name of the field, and what is wrong with it

mistake-of = { $field }: { $mistake }
mistake-days = Days
mistake-settings = Settings
mistake-preference = Preference
mistake-missing = choose a value.
mistake-property = “{ $name }” is missing.
mistake-wrong-type = “{ $value }” can't be used here.
mistake-frequency = “{ $value }” is not a frequency.
mistake-time = “{ $value }” is not a time of day. Use a time such as 09:00.
mistake-zone = we don't know the time zone “{ $value }”. Use a city such as Berlin or New York.
mistake-day = “{ $value }” is not a day.
mistake-date = “{ $value }” is not a date. Use a date such as 2026-12-24.
mistake-days-unfit = these days don't fit how often it runs.
mistake-interval-unfit = this doesn't fit how often it runs. Leave it empty.
mistake-start-missing = choose a date. It counts from there.
mistake-before-start = this is before the first day, { $start }.
mistake-after-end = this is after the last day, { $end }.
mistake-several-times = choose a single time: “Every hour” uses only its minute.
mistake-frequency-not-offered = “{ $value }” is not offered here. Choose another one.
mistake-time-not-offered = { $value } is not offered here.
mistake-too-large = this is too long to be saved. Shorten it.
mistake-too-long = { $most ->
    [one] use at most one character.
   *[other] use at most { $most } characters.
}
mistake-too-short = { $fewest ->
    [one] use at least one character.
   *[other] use at least { $fewest } characters.
}
mistake-out-of-range = use a whole number from { $least } to { $most }.
mistake-too-great = use a number of at most { $most }.
mistake-too-small = use a number of at least { $least }.
mistake-too-many = { $most ->
    [one] use at most one entry.
   *[other] use at most { $most } entries.
}
mistake-too-few = { $fewest ->
    [one] use at least one entry.
   *[other] use at least { $fewest } entries.
}
mistake-repeated = name each entry once.
mistake-choice = “{ $value }” is not one of the choices.
mistake-format = “{ $value }” doesn't have the expected format.
mistake-not-allowed = this value is not allowed here.
mistake-number = “{ $value }” is not a number.
mistake-json = “{ $value }” is not JSON.
# $detail is in English, from a program.
mistake-json-object = this is not a JSON object ({ $detail }).
mistake-other = { $detail }.
mistake-not-below = use a number below { $limit }.
mistake-not-above = use a number above { $limit }.
mistake-not-a-multiple = use a multiple of { $number }.
# Sentences, one behind the other.
both-sentences = { $before } { $next }


## The history

history-title = History
history-title-of = History of { $tenant }
history-empty = Nothing has been stored yet.
history-empty-next = Every change appears here, and can be undone.
# A date and time in Coordinated Universal Time.
history-at = { $when } UTC
history-by = By { $actor }
history-change = { $before } → { $after }
history-other-settings = other settings
history-restore = Bring back: { $before }
# For screen readers: the text of the button, and what it is for.
history-restore-feature = Bring back: { $before } ({ $feature })
history-older = Older changes
# For operators only.
history-raw = Version { $version } as JSON
# A change by a link to the pages, and one by the link of an e-mail that unsubscribes.
history-by-link = By { $actor } (link)
history-by-unsubscribe = By { $actor } (unsubscribe link)
