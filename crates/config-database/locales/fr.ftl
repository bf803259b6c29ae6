# Les textes des pages de préférences en français (vouvoiement). Les identifiants à gauche et les noms entre accolades ne changent pas ;
# les explications se trouvent dans en.ftl.

language-name = Français


## Every page

page-skip = Aller au contenu
page-start = Retour à l’accueil
page-version = Version
page-time-zone-rules = Règles des fuseaux horaires
page-api = API
page-languages = Langue


## Navigation

nav-pages = Pages
nav-preferences = Vos préférences
nav-sign-out = Se déconnecter
nav-overview = Vue d’ensemble
nav-organizations = Organisations
nav-quarantine = Quarantaine
nav-erasures = Effacements


## Sign in

sign-in-title = Se connecter
sign-in-key = Clé
sign-in-hint = Collez la clé que vous avez reçue.
sign-in-refused = Cette clé n’est pas valable ou a été révoquée.


## What went wrong with a page

problem-bad-request-title = Cela n’a pas fonctionné
problem-bad-request = Nous n’avons pas pu lire ce qui a été envoyé. Revenez en arrière, rechargez la page et réessayez.
problem-forbidden-title = Accès refusé
problem-forbidden = Vous n’avez pas l’autorisation de faire cela.
problem-not-found-title = Page introuvable
problem-not-found = Il n’y a pas de page à cette adresse.
problem-too-large-title = Trop volumineux
problem-too-large = Ce qui a été envoyé est trop volumineux. Raccourcissez-le et réessayez.
problem-invalid-title = Non enregistré
problem-invalid = Ce qui a été envoyé ne peut pas être enregistré. Revenez en arrière, vérifiez-le et réessayez.
problem-too-many-title = Veuillez patienter
problem-too-many = Il y a eu trop de demandes. Réessayez dans un instant.
problem-failed-title = Une erreur s’est produite
problem-failed = Cette page ne peut pas être affichée. Réessayez plus tard.
problem-unavailable-title = Indisponible pour le moment
problem-unavailable = Vos préférences sont inaccessibles pour le moment. Réessayez dans quelques secondes.
problem-other-tenant = Votre clé donne accès à d’autres préférences.
problem-other-link = Votre lien donne accès à d’autres préférences.
problem-outdated-form = Ce formulaire n’est plus à jour. Rechargez la page.
problem-no-version = Cette version n’existe pas dans l’historique. Choisissez-en une autre.
problem-not-one-click = Utilisez le bouton de la page pour vous désabonner.


## Links that open the pages

open-wait = Ouverture de vos préférences…
open-no-scripts = Cette page a besoin de JavaScript. Utilisez un lien qui s’ouvre sans.
link-expired-title = Ce lien a expiré
link-expired = Retournez là où vous l’avez reçu et ouvrez de nouveau vos préférences à partir de là.
link-used-title = Ce lien a déjà été utilisé
link-used = Il n’ouvre vos préférences qu’une seule fois. Retournez là où vous l’avez reçu et demandez-en un nouveau.
link-invalid-title = Ce lien n’est pas valable
link-invalid = Ouvrez-le de nouveau là où vous l’avez reçu. S’il a été copié, il en manque peut-être une partie.
link-ended-title = Vos préférences ne peuvent pas être affichées ici
link-ended = Votre session est terminée, ou votre navigateur n’accepte pas les cookies ici. Rechargez la page pour réessayer.


## Unsubscribing by the link of an e-mail

unsubscribe-title = Se désabonner
unsubscribe-ask = Se désabonner de « { $feature } » ?
unsubscribe-ask-hint = Vous ne recevrez plus ces messages. Rien d’autre ne change.
unsubscribe-done = Votre désabonnement est enregistré
unsubscribe-off = « { $feature } » est désactivé.
unsubscribe-again = Votre abonnement est rétabli
unsubscribe-on = « { $feature } » est activé.
unsubscribe-undo = Annuler
unsubscribe-expired = Utilisez le lien d’un e-mail plus récent, ou modifiez vos préférences là où vous vous connectez d’habitude.
unsubscribe-invalid = Ouvrez de nouveau le lien de votre e-mail. S’il a été copié, il en manque peut-être une partie.


## The list of preferences

list-title = Préférences
list-title-of = Préférences de { $tenant }
list-back = Toutes les préférences
list-back-of = Toutes les préférences de { $tenant }
list-empty = Il n’y a encore rien à régler.
list-empty-next = Tout ce que vous pouvez régler apparaîtra ici.
list-on = Activé
list-off = Désactivé
list-not-set-up = Non configuré
list-wrong = À vérifier
list-next = Prochaine fois : { $when }
list-set-up = Configurer
list-switch-on = Activer
list-switch-off = Désactiver
list-switch-on-feature = Activer « { $feature } »
list-switch-off-feature = Désactiver « { $feature } »
list-switched-on = « { $feature } » est activé.
list-switched-off = « { $feature } » est désactivé.
list-history = Historique
list-erase = Effacer tout ce qui est conservé de ce compte
list-organization = Organisation : { $organization }
list-other-feature = Autre fonctionnalité
list-open = Ouvrir
organization-members = { $members ->
    [0] Pas encore de membres.
    [one] Pour { $members } membre, qui peut choisir autrement.
   *[other] Pour { $members } membres, qui peuvent chacun choisir autrement.
}


## The form of a preference: when

form-when = Quand
form-switched-on = Activé
form-usual = D’habitude : { $usual }. Un champ laissé vide suit ce réglage.
form-usual-of-organization = Votre organisation en a défini une partie.
form-how-often = Fréquence
form-choose = Choisir…
frequency-hourly = Toutes les heures
frequency-daily = Tous les jours
frequency-weekly = Toutes les semaines
frequency-biweekly = Toutes les deux semaines
frequency-monthly = Tous les mois
frequency-once = Une seule fois
usual-hourly = Comme d’habitude (toutes les heures)
usual-daily = Comme d’habitude (tous les jours)
usual-weekly = Comme d’habitude (toutes les semaines)
usual-biweekly = Comme d’habitude (toutes les deux semaines)
usual-monthly = Comme d’habitude (tous les mois)
usual-once = Comme d’habitude (une seule fois)
form-weekdays = Jours de la semaine
form-monthdays = Jours du mois
form-last-day = Dernier
form-nth = Rang dans le mois
form-nth-none = Aucun jour de la semaine
form-nth-first = Le premier
form-nth-second = Le deuxième
form-nth-third = Le troisième
form-nth-fourth = Le quatrième
form-nth-last = Le dernier
form-nth-day = Jour de la semaine dans le mois
form-nth-weekday = Jour de semaine, du lundi au vendredi
form-month-end = Dans les mois plus courts, un jour qui n’existe pas est remplacé par le dernier jour.
form-interval = Intervalle en jours, semaines ou mois
form-interval-daily = Intervalle en jours
form-interval-weekly = Intervalle en semaines
form-interval-monthly = Intervalle en mois
form-interval-hint = Si vide : 1, ou comme d’habitude. À partir de 2, choisissez aussi le premier jour : le décompte part de là.
form-date = Date
form-time = Heure
form-another-time = Autre heure
form-not-before = Pas avant { $time }.
form-not-after = Pas après { $time }.
form-minute = Minute de chaque heure
form-start = Premier jour
form-start-biweekly = Les deux semaines comptent à partir de la semaine de ce jour.
form-end = Dernier jour
form-paused = En pause jusqu’au
form-paused-hint = Tout reprend automatiquement ce jour-là.
form-zone = Fuseau horaire
form-zone-hint = Une ville, par exemple Paris ou New York.
form-left-empty = Si vide : { $usual }, comme d’habitude.
form-left-empty-text = Si vide : « { $usual } », comme d’habitude.
form-time-left-empty = Si vide : { $usual }, comme d’habitude.
form-none-ticked = Si rien n’est coché : { $usual }, comme d’habitude.
form-of-organization = Réglage de votre organisation.


## The form of a preference: how

form-how = Comment
form-yes = Oui
form-no = Non
form-option-usual = Comme d’habitude ({ $usual })
form-option-unset = (non défini)
form-one-per-line = Un élément par ligne.
form-as-json = Au format JSON.
form-advanced = Paramètres avancés (JSON)
form-advanced-label = Paramètres avancés sous forme d’objet JSON


## The form of a preference: saving

form-save = Enregistrer
form-reset = Revenir aux réglages habituels
form-undo = Annuler
form-saved = Enregistré.
form-saved-soon = Enregistré. La modification prend effet dans un instant…
form-saved-later = Enregistré. La modification prendra effet dès que le service fonctionnera.
form-kept = Vos choix précédents sont de nouveau là. Ils ne sont pas encore enregistrés.
form-ended = Votre session est terminée. Enregistrez pour continuer ; vos choix sont conservés.
form-unchanged = Rien n’a été modifié.
form-not-saved = Non enregistré :
form-view-only = Vous pouvez consulter ces paramètres, mais pas les modifier.
form-conflict = Non enregistré : quelqu’un d’autre a modifié cette préférence entre-temps.
form-conflict-now = Elle est maintenant :
form-conflict-choose = Enregistrez de nouveau pour la remplacer par votre choix ci-dessous, ou gardez l’autre.
form-conflict-take = Garder l’autre


## The next runs

runs-title = À venir
runs-show = Afficher les prochaines dates
runs-caption = Les prochaines dates
runs-failed = Les prochaines dates ne peuvent pas être affichées. Enregistrez, ou rechargez la page.
runs-unknown = Ce qui reste ouvert suit les horaires habituels, qui ne sont pas encore connus ici.
runs-left-open = Chaque membre choisit ce qui reste ouvert.
runs-off = Désactivé : rien n’est prévu.
runs-off-next = Activez pour voir les dates à venir.
runs-none = Plus aucune date à venir.
runs-none-next = Pour en avoir d’autres, choisissez un dernier jour plus tardif ou une autre date.
runs-utc = UTC
runs-skipped = Ce jour-là, le changement d’heure saute { $time } : l’exécution est décalée d’autant.
runs-repeated = Ce jour-là, en raison du changement d’heure, il est deux fois { $time } : la première fois compte.
runs-in-zone = { $when } ({ $zone })


## What has run

past-title = Dates passées
past-show = Afficher les dates passées
past-loading = Chargement…
past-none = Aucune date passée à afficher.
past-none-next = Elles apparaîtront ici après la première.
past-unavailable = Les dates passées ne peuvent pas être affichées pour le moment.
past-done = { $when } — effectué
past-failed = { $when } — n’a pas pu être effectué
past-nothing = { $when } — rien à signaler
past-skipped = { $when } — non effectué
past-skipped-off = { $when } — non effectué : c’était désactivé
past-skipped-removed = { $when } — non effectué : les paramètres avaient été supprimés
past-skipped-wrong = { $when } — non effectué : les paramètres étaient inutilisables
past-skipped-cancelled = { $when } — annulé
past-skipped-late = { $when } — non effectué : il était trop tard
past-skipped-overlap = { $when } — non effectué : le précédent n’était pas encore terminé
past-skipped-moved = { $when } — non effectué : un autre moment a été choisi


## When something runs: in a line

summary-wrong = Impossible à exécuter
summary-unknown = À l’heure habituelle
summary-left-open = Selon le choix de chaque membre
summary-off = Désactivé
summary-not-set = Non défini


## When something runs: sentences

sentence-hourly = { $minute ->
    [0] Toutes les heures, à l’heure pile ({ $zone })
   *[other] Toutes les heures à la minute { $minute } ({ $zone })
}
sentence-daily = { $interval ->
    [1] Tous les jours à { $time } ({ $zone })
    [2] Tous les deux jours à { $time } ({ $zone })
   *[other] Tous les { $interval } jours à { $time } ({ $zone })
}
sentence-weekly = Chaque { $days } à { $time } ({ $zone })
sentence-weeks = { $interval ->
    [2] Toutes les deux semaines : { $days } à { $time } ({ $zone })
   *[other] Toutes les { $interval } semaines : { $days } à { $time } ({ $zone })
}
sentence-weeks-every-day = { $interval ->
    [2] Toutes les deux semaines : chaque jour à { $time } ({ $zone })
   *[other] Toutes les { $interval } semaines : chaque jour à { $time } ({ $zone })
}
sentence-monthly = { $interval ->
    [1] Tous les mois, { $days } à { $time } ({ $zone })
    [2] Tous les deux mois, { $days } à { $time } ({ $zone })
   *[other] Tous les { $interval } mois, { $days } à { $time } ({ $zone })
}
sentence-once = Une seule fois, le { $date } à { $time } ({ $zone })
sentence-from = { $sentence }, à partir du { $start }
sentence-until = { $sentence }, jusqu’au { $end }
sentence-from-until = { $sentence }, du { $start } au { $end }
sentence-paused = { $sentence }, en pause jusqu’au { $end }
month-day = { NUMBER($day, type: "ordinal") ->
    [one] le { $day }er
   *[other] le { $day }
}
month-day-last = le dernier jour
month-weekday = le { $nth ->
    [first] premier
    [second] deuxième
    [third] troisième
    [fourth] quatrième
   *[last] dernier
} { $weekday ->
    [weekday] jour de semaine
   *[other] { $day }
}
zone-city = heure locale : { $city }
moment = { $moment }


## Mistakes in the form

mistake-of = { $field } : { $mistake }
mistake-days = Jours
mistake-settings = Paramètres
mistake-preference = Préférence
mistake-missing = choisissez une valeur.
mistake-property = « { $name } » manque.
mistake-wrong-type = « { $value } » ne peut pas être utilisé ici.
mistake-frequency = « { $value } » n’est pas une fréquence.
mistake-time = « { $value } » n’est pas une heure. Écrivez par exemple 09:00.
mistake-zone = nous ne connaissons pas le fuseau horaire « { $value } ». Indiquez une ville, par exemple Paris ou New York.
mistake-day = « { $value } » n’est pas un jour.
mistake-date = « { $value } » n’est pas une date. Écrivez par exemple 2026-12-24.
mistake-days-unfit = ces jours ne correspondent pas à la fréquence choisie.
mistake-interval-unfit = ceci ne correspond pas à la fréquence choisie. Laissez ce champ vide.
mistake-start-missing = choisissez une date. Le décompte part de là.
mistake-before-start = cette date précède le premier jour, le { $start }.
mistake-after-end = cette date dépasse le dernier jour, le { $end }.
mistake-several-times = choisissez une seule heure : « Toutes les heures » n’en utilise que la minute.
mistake-frequency-not-offered = « { $value } » n’est pas proposé ici. Faites un autre choix.
mistake-time-not-offered = { $value } n’est pas proposé ici.
mistake-too-large = c’est trop long pour être enregistré. Raccourcissez.
mistake-too-long = { $most ->
    [one] utilisez au plus { $most } caractère.
   *[other] utilisez au plus { $most } caractères.
}
mistake-too-short = { $fewest ->
    [one] utilisez au moins { $fewest } caractère.
   *[other] utilisez au moins { $fewest } caractères.
}
mistake-out-of-range = indiquez un nombre entier de { $least } à { $most }.
mistake-too-great = indiquez un nombre de { $most } au maximum.
mistake-too-small = indiquez un nombre de { $least } au minimum.
mistake-too-many = { $most ->
    [one] indiquez au plus { $most } élément.
   *[other] indiquez au plus { $most } éléments.
}
mistake-too-few = { $fewest ->
    [one] indiquez au moins { $fewest } élément.
   *[other] indiquez au moins { $fewest } éléments.
}
mistake-repeated = indiquez chaque élément une seule fois.
mistake-choice = « { $value } » ne fait pas partie des choix.
mistake-format = « { $value } » n’a pas le format attendu.
mistake-not-allowed = cette valeur n’est pas autorisée ici.
mistake-number = « { $value } » n’est pas un nombre.
mistake-json = « { $value } » n’est pas du JSON.
mistake-json-object = ce n’est pas un objet JSON ({ $detail }).
mistake-other = ceci n’est pas accepté ({ $detail }).
mistake-not-below = indiquez un nombre inférieur à { $limit }.
mistake-not-above = indiquez un nombre supérieur à { $limit }.
mistake-not-a-multiple = indiquez un multiple de { $number }.
both-sentences = { $before } { $next }


## The history

history-title = Historique
history-title-of = Historique de { $tenant }
history-empty = Rien n’a encore été enregistré.
history-empty-next = Chaque modification apparaîtra ici et pourra être annulée.
history-at = { $when } UTC
history-by = Par { $actor }
history-change = { $before } → { $after }
history-other-settings = autres paramètres
history-restore = Rétablir : { $before }
history-restore-feature = Rétablir : { $before } (« { $feature } »)
history-older = Modifications plus anciennes
history-raw = Version { $version } en JSON
history-by-link = Par { $actor } (lien)
history-by-unsubscribe = Par { $actor } (lien de désabonnement)
