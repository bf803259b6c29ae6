# Die Texte der Einstellungsseiten auf Deutsch (Anrede: Sie). Die Kennungen links und die Namen in Klammern bleiben, wie sie sind;
# Erläuterungen stehen in en.ftl.

language-name = Deutsch


## Every page

page-skip = Zum Inhalt springen
page-start = Zurück zur Startseite
page-version = Version
page-time-zone-rules = Zeitzonenregeln
page-api = API
page-languages = Sprache


## Navigation

nav-pages = Seiten
nav-preferences = Ihre Einstellungen
nav-sign-out = Abmelden
nav-overview = Übersicht
nav-organizations = Organisationen
nav-quarantine = Quarantäne
nav-erasures = Löschungen


## Sign in

sign-in-title = Anmelden
sign-in-key = Schlüssel
sign-in-hint = Fügen Sie den Schlüssel ein, den Sie erhalten haben.
sign-in-refused = Dieser Schlüssel ist ungültig oder wurde widerrufen.


## What went wrong with a page

problem-bad-request-title = Das hat nicht geklappt
problem-bad-request = Die gesendeten Angaben konnten nicht gelesen werden. Gehen Sie zurück, laden Sie die Seite neu und versuchen Sie es noch einmal.
problem-forbidden-title = Nicht erlaubt
problem-forbidden = Dazu sind Sie nicht berechtigt.
problem-not-found-title = Seite nicht gefunden
problem-not-found = Unter dieser Adresse gibt es keine Seite.
problem-too-large-title = Zu groß
problem-too-large = Die gesendeten Angaben sind zu groß. Kürzen Sie sie und versuchen Sie es noch einmal.
problem-invalid-title = Nicht gespeichert
problem-invalid = Die gesendeten Angaben lassen sich nicht speichern. Gehen Sie zurück, prüfen Sie sie und versuchen Sie es noch einmal.
problem-too-many-title = Bitte warten
problem-too-many = Es gab zu viele Anfragen. Versuchen Sie es gleich noch einmal.
problem-failed-title = Etwas ist schiefgegangen
problem-failed = Diese Seite kann nicht angezeigt werden. Versuchen Sie es später noch einmal.
problem-unavailable-title = Zurzeit nicht verfügbar
problem-unavailable = Ihre Einstellungen sind zurzeit nicht erreichbar. Versuchen Sie es in einigen Sekunden noch einmal.
problem-other-tenant = Ihr Schlüssel gehört zu anderen Einstellungen.
problem-other-link = Ihr Link gehört zu anderen Einstellungen.
problem-outdated-form = Dieses Formular ist veraltet. Laden Sie die Seite neu.
problem-no-version = Diese Version gibt es im Verlauf nicht. Wählen Sie eine andere.
problem-not-one-click = Verwenden Sie zum Abbestellen die Schaltfläche auf der Seite.


## Links that open the pages

open-wait = Ihre Einstellungen werden geöffnet …
open-no-scripts = Diese Seite benötigt JavaScript. Verwenden Sie einen Link, der ohne JavaScript auskommt.
link-expired-title = Dieser Link ist abgelaufen
link-expired = Gehen Sie dorthin zurück, wo Sie ihn erhalten haben, und öffnen Sie Ihre Einstellungen von dort aus erneut.
link-used-title = Dieser Link wurde schon verwendet
link-used = Er öffnet Ihre Einstellungen nur einmal. Gehen Sie dorthin zurück, wo Sie ihn erhalten haben, und fordern Sie einen neuen an.
link-invalid-title = Dieser Link ist ungültig
link-invalid = Öffnen Sie ihn noch einmal von dort, wo Sie ihn erhalten haben. Falls er kopiert wurde, fehlt vielleicht ein Teil davon.
link-ended-title = Ihre Einstellungen können hier nicht angezeigt werden
link-ended = Ihre Sitzung ist beendet, oder Ihr Browser speichert hier keine Cookies. Laden Sie die Seite neu, um es noch einmal zu versuchen.


## Unsubscribing by the link of an e-mail

unsubscribe-title = Abbestellen
unsubscribe-ask = „{ $feature }“ abbestellen?
unsubscribe-ask-hint = Sie erhalten dann nichts mehr davon. Alles andere bleibt, wie es ist.
unsubscribe-done = Abbestellt
unsubscribe-off = „{ $feature }“ ist ausgeschaltet.
unsubscribe-again = Wieder abonniert
unsubscribe-on = „{ $feature }“ ist eingeschaltet.
unsubscribe-undo = Rückgängig machen
unsubscribe-expired = Verwenden Sie den Link aus einer neueren E-Mail oder ändern Sie Ihre Einstellungen dort, wo Sie sich sonst anmelden.
unsubscribe-invalid = Öffnen Sie den Link in Ihrer E-Mail noch einmal. Falls er kopiert wurde, fehlt vielleicht ein Teil davon.


## The list of preferences

list-title = Einstellungen
list-title-of = Einstellungen von { $tenant }
list-back = Alle Einstellungen
list-back-of = Alle Einstellungen von { $tenant }
list-empty = Es gibt noch nichts einzustellen.
list-empty-next = Alles, was Sie einstellen können, erscheint hier.
list-on = Ein
list-off = Aus
list-not-set-up = Nicht eingerichtet
list-wrong = Bitte prüfen
list-next = Als Nächstes: { $when }
list-set-up = Einrichten
list-switch-on = Einschalten
list-switch-off = Ausschalten
list-switch-on-feature = Einschalten: „{ $feature }“
list-switch-off-feature = Ausschalten: „{ $feature }“
list-switched-on = „{ $feature }“ ist eingeschaltet.
list-switched-off = „{ $feature }“ ist ausgeschaltet.
list-history = Verlauf
list-erase = Alles löschen, was zu diesem Konto gespeichert ist
list-organization = Organisation: { $organization }
list-other-feature = Anderes Feature
list-open = Öffnen
organization-members = { $members ->
    [0] Noch keine Mitglieder.
    [one] Für ein Mitglied, das selbst anders wählen kann.
   *[other] Für { $members } Mitglieder, die jeweils anders wählen können.
}


## The form of a preference: when

form-when = Wann
form-switched-on = Eingeschaltet
form-usual = Üblich: { $usual }. Was Sie leer lassen, richtet sich danach.
form-usual-of-organization = Einen Teil davon hat Ihre Organisation festgelegt.
form-how-often = Wie oft
form-choose = Auswählen …
frequency-hourly = Jede Stunde
frequency-daily = Jeden Tag
frequency-weekly = Jede Woche
frequency-biweekly = Alle zwei Wochen
frequency-monthly = Jeden Monat
frequency-once = Einmal
usual-hourly = Wie üblich (jede Stunde)
usual-daily = Wie üblich (jeden Tag)
usual-weekly = Wie üblich (jede Woche)
usual-biweekly = Wie üblich (alle zwei Wochen)
usual-monthly = Wie üblich (jeden Monat)
usual-once = Wie üblich (einmal)
form-weekdays = Wochentage
form-monthdays = Tage des Monats
form-last-day = Letzter
form-nth = Der wievielte im Monat
form-nth-none = Kein Wochentag im Monat
form-nth-first = Am ersten
form-nth-second = Am zweiten
form-nth-third = Am dritten
form-nth-fourth = Am vierten
form-nth-last = Am letzten
form-nth-day = Wochentag im Monat
form-nth-weekday = Werktag, Montag bis Freitag
form-month-end = In kürzeren Monaten rückt ein Tag, den es nicht gibt, auf den letzten Tag.
form-interval = Abstand in Tagen, Wochen oder Monaten
form-interval-daily = Abstand in Tagen
form-interval-weekly = Abstand in Wochen
form-interval-monthly = Abstand in Monaten
form-interval-hint = Wenn leer: 1 oder wie üblich. Ab 2 geben Sie bitte auch den ersten Tag an: Von dort aus wird gezählt.
form-date = Datum
form-time = Uhrzeit
form-another-time = Weitere Uhrzeit
form-not-before = Nicht vor { $time } Uhr.
form-not-after = Nicht nach { $time } Uhr.
form-minute = Minute jeder Stunde
form-start = Erster Tag
form-start-biweekly = Die zwei Wochen zählen ab der Woche dieses Tages.
form-end = Letzter Tag
form-paused = Pause bis
form-paused-hint = An diesem Tag geht es von selbst weiter.
form-zone = Zeitzone
form-zone-hint = Eine Stadt, zum Beispiel Berlin oder New York.
form-left-empty = Wenn leer: { $usual }, wie üblich.
form-left-empty-text = Wenn leer: „{ $usual }“, wie üblich.
form-time-left-empty = Wenn leer: { $usual } Uhr, wie üblich.
form-none-ticked = Wenn nichts angekreuzt ist: { $usual }, wie üblich.
form-of-organization = Von Ihrer Organisation.


## The form of a preference: how

form-how = Wie
form-yes = Ja
form-no = Nein
form-option-usual = Wie üblich ({ $usual })
form-option-unset = (nicht festgelegt)
form-one-per-line = Eine Angabe pro Zeile.
form-as-json = Als JSON.
form-advanced = Erweiterte Einstellungen (JSON)
form-advanced-label = Erweiterte Einstellungen als JSON-Objekt


## The form of a preference: saving

form-save = Speichern
form-reset = Auf die üblichen Werte zurücksetzen
form-undo = Rückgängig machen
form-saved = Gespeichert.
form-saved-soon = Gespeichert. Die Änderung wird gleich wirksam …
form-saved-later = Gespeichert. Die Änderung wird wirksam, sobald der Dienst läuft.
form-kept = Ihre vorherige Auswahl ist wieder da. Sie ist noch nicht gespeichert.
form-ended = Ihre Sitzung ist beendet. Speichern Sie, um fortzufahren; Ihre Auswahl bleibt erhalten.
form-unchanged = Es wurde nichts geändert.
form-not-saved = Nicht gespeichert:
form-view-only = Sie können diese Einstellungen ansehen, aber nicht ändern.
form-conflict = Nicht gespeichert: Jemand anderes hat diese Einstellung inzwischen geändert.
form-conflict-now = Sie lautet jetzt:
form-conflict-choose = Speichern Sie noch einmal, um sie durch Ihre Auswahl unten zu ersetzen, oder übernehmen Sie die andere.
form-conflict-take = Die andere übernehmen


## The next runs

runs-title = Nächste Termine
runs-show = Nächste Termine anzeigen
runs-caption = Die nächsten Termine
runs-failed = Die nächsten Termine können nicht angezeigt werden. Speichern Sie oder laden Sie die Seite neu.
runs-unknown = Was offen bleibt, richtet sich nach den üblichen Zeiten; diese sind hier noch nicht bekannt.
runs-left-open = Was offen bleibt, wählt jedes Mitglied selbst.
runs-off = Ausgeschaltet: Es gibt keine Termine.
runs-off-next = Schalten Sie es ein, um die Termine zu sehen.
runs-none = Keine weiteren Termine.
runs-none-next = Für weitere Termine wählen Sie einen späteren letzten Tag oder ein anderes Datum.
runs-utc = UTC
runs-skipped = An diesem Tag wird { $time } Uhr durch die Zeitumstellung übersprungen: Der Termin verschiebt sich entsprechend nach hinten.
runs-repeated = An diesem Tag gibt es { $time } Uhr wegen der Zeitumstellung zweimal: Es gilt das erste Mal.
runs-in-zone = { $when } ({ $zone })


## What has run

past-title = Bisherige Termine
past-show = Bisherige Termine anzeigen
past-loading = Wird geladen …
past-none = Es gibt keine bisherigen Termine.
past-none-next = Sie erscheinen hier nach dem ersten Termin.
past-unavailable = Bisherige Termine können zurzeit nicht angezeigt werden.
past-done = { $when } – erledigt
past-failed = { $when } – konnte nicht ausgeführt werden
past-nothing = { $when } – nichts zu berichten
past-skipped = { $when } – ausgelassen
past-skipped-off = { $when } – ausgelassen, weil es ausgeschaltet war
past-skipped-removed = { $when } – ausgelassen, weil die Einstellungen entfernt waren
past-skipped-wrong = { $when } – ausgelassen, weil die Einstellungen nicht verwendet werden konnten
past-skipped-cancelled = { $when } – abgesagt
past-skipped-late = { $when } – ausgelassen, weil es zu spät war
past-skipped-overlap = { $when } – ausgelassen, weil der vorige Termin noch nicht beendet war
past-skipped-moved = { $when } – ausgelassen, weil ein anderer Zeitpunkt gewählt wurde


## When something runs: in a line

summary-wrong = Kann nicht ausgeführt werden
summary-unknown = Zur üblichen Zeit
summary-left-open = Wie jedes Mitglied es wählt
summary-off = Aus
summary-not-set = Nicht festgelegt


## When something runs: sentences

sentence-hourly = { $minute ->
    [0] Jede Stunde zur vollen Stunde, { $zone }
   *[other] Jede Stunde zur Minute { $minute }, { $zone }
}
sentence-daily = { $interval ->
    [1] Jeden Tag um { $time } Uhr, { $zone }
    [2] Alle zwei Tage um { $time } Uhr, { $zone }
    [3] Alle drei Tage um { $time } Uhr, { $zone }
   *[other] Alle { $interval } Tage um { $time } Uhr, { $zone }
}
sentence-weekly = Jeden { $days } um { $time } Uhr, { $zone }
sentence-weeks = { $interval ->
    [2] Alle zwei Wochen am { $days } um { $time } Uhr, { $zone }
    [3] Alle drei Wochen am { $days } um { $time } Uhr, { $zone }
   *[other] Alle { $interval } Wochen am { $days } um { $time } Uhr, { $zone }
}
sentence-weeks-every-day = { $interval ->
    [2] Jeden Tag in jeder zweiten Woche um { $time } Uhr, { $zone }
    [3] Jeden Tag in jeder dritten Woche um { $time } Uhr, { $zone }
   *[other] Jeden Tag in jeder { $interval }. Woche um { $time } Uhr, { $zone }
}
sentence-monthly = { $interval ->
    [1] Jeden Monat { $days } um { $time } Uhr, { $zone }
    [2] Alle zwei Monate { $days } um { $time } Uhr, { $zone }
    [3] Alle drei Monate { $days } um { $time } Uhr, { $zone }
   *[other] Alle { $interval } Monate { $days } um { $time } Uhr, { $zone }
}
sentence-once = Einmal am { $date } um { $time } Uhr, { $zone }
sentence-from = { $sentence }, ab dem { $start }
sentence-until = { $sentence }, bis zum { $end }
sentence-from-until = { $sentence }, vom { $start } bis zum { $end }
sentence-paused = { $sentence }, pausiert bis { $end }
month-day = am { $day }.
month-day-last = am letzten Tag
month-weekday = am { $nth ->
    [first] ersten
    [second] zweiten
    [third] dritten
    [fourth] vierten
   *[last] letzten
} { $weekday ->
    [weekday] Werktag (Mo.–Fr.)
   *[other] { $day }
}
zone-city = Ortszeit { $city }
moment = { $moment } Uhr


## Mistakes in the form

mistake-of = { $field }: { $mistake }
mistake-days = Tage
mistake-settings = Angaben
mistake-preference = Einstellung
mistake-missing = Bitte wählen Sie einen Wert.
mistake-property = „{ $name }“ fehlt.
mistake-wrong-type = „{ $value }“ kann hier nicht verwendet werden.
mistake-frequency = „{ $value }“ ist keine Häufigkeit.
mistake-time = „{ $value }“ ist keine Uhrzeit. Schreiben Sie zum Beispiel 09:00.
mistake-zone = Die Zeitzone „{ $value }“ kennen wir nicht. Geben Sie eine Stadt an, zum Beispiel Berlin oder New York.
mistake-day = „{ $value }“ ist kein Tag.
mistake-date = „{ $value }“ ist kein Datum. Schreiben Sie zum Beispiel 2026-12-24.
mistake-days-unfit = Diese Tage passen nicht zur gewählten Häufigkeit.
mistake-interval-unfit = Das passt nicht zur gewählten Häufigkeit. Bitte lassen Sie es leer.
mistake-start-missing = Bitte wählen Sie ein Datum. Von dort aus wird gezählt.
mistake-before-start = Das liegt vor dem ersten Tag, dem { $start }.
mistake-after-end = Das liegt nach dem letzten Tag, dem { $end }.
mistake-several-times = Bitte nur eine Uhrzeit: Bei „Jede Stunde“ zählt nur ihre Minute.
mistake-frequency-not-offered = „{ $value }“ wird hier nicht angeboten. Wählen Sie etwas anderes.
mistake-time-not-offered = { $value } Uhr wird hier nicht angeboten.
mistake-too-large = Das ist zu lang, um gespeichert zu werden. Bitte kürzen Sie es.
mistake-too-long = { $most ->
    [one] Bitte höchstens ein Zeichen.
   *[other] Bitte höchstens { $most } Zeichen.
}
mistake-too-short = { $fewest ->
    [one] Bitte mindestens ein Zeichen.
   *[other] Bitte mindestens { $fewest } Zeichen.
}
mistake-out-of-range = Bitte eine ganze Zahl von { $least } bis { $most }.
mistake-too-great = Bitte eine Zahl bis höchstens { $most }.
mistake-too-small = Bitte eine Zahl von mindestens { $least }.
mistake-too-many = { $most ->
    [one] Bitte höchstens eine Angabe.
   *[other] Bitte höchstens { $most } Angaben.
}
mistake-too-few = { $fewest ->
    [one] Bitte mindestens eine Angabe.
   *[other] Bitte mindestens { $fewest } Angaben.
}
mistake-repeated = Nennen Sie jede Angabe nur einmal.
mistake-choice = „{ $value }“ steht nicht zur Auswahl.
mistake-format = „{ $value }“ hat nicht die verlangte Form.
mistake-not-allowed = Dieser Wert ist hier nicht erlaubt.
mistake-number = „{ $value }“ ist keine Zahl.
mistake-json = „{ $value }“ ist kein JSON.
mistake-json-object = Das ist kein JSON-Objekt ({ $detail }).
mistake-other = Das wird nicht angenommen ({ $detail }).
mistake-not-below = Bitte eine Zahl unter { $limit }.
mistake-not-above = Bitte eine Zahl über { $limit }.
mistake-not-a-multiple = Bitte ein Vielfaches von { $number }.
both-sentences = { $before } { $next }


## The history

history-title = Verlauf
history-title-of = Verlauf von { $tenant }
history-empty = Es wurde noch nichts gespeichert.
history-empty-next = Jede Änderung erscheint hier und lässt sich rückgängig machen.
history-at = { $when } UTC
history-by = Von { $actor }
history-change = { $before } → { $after }
history-other-settings = andere Angaben
history-restore = Wiederherstellen: { $before }
history-restore-feature = Wiederherstellen: { $before } („{ $feature }“)
history-older = Ältere Änderungen
history-raw = Version { $version } als JSON
history-by-link = Von { $actor } (Link)
history-by-unsubscribe = Von { $actor } (Link zum Abbestellen)
