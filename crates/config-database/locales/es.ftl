# Los textos de las páginas de preferencias en español (sin tuteo ni voseo). Los identificadores de la izquierda y los nombres entre
# llaves no cambian; las explicaciones están en en.ftl.

language-name = Español


## Every page

page-skip = Ir al contenido
page-start = Volver al inicio
page-version = Versión
page-time-zone-rules = Reglas de zonas horarias
page-api = API
page-languages = Idioma


## Navigation

nav-pages = Páginas
nav-preferences = Sus preferencias
nav-sign-out = Cerrar sesión
nav-overview = Resumen
nav-organizations = Organizaciones
nav-quarantine = Cuarentena
nav-erasures = Borrados


## Sign in

sign-in-title = Iniciar sesión
sign-in-key = Clave
sign-in-hint = Pegue la clave que ha recibido.
sign-in-refused = Esta clave no es válida o ha sido revocada.


## What went wrong with a page

problem-bad-request-title = No ha funcionado
problem-bad-request = No se ha podido leer lo enviado. Vuelva atrás, recargue la página e inténtelo de nuevo.
problem-forbidden-title = No permitido
problem-forbidden = No tiene permiso para hacer esto.
problem-not-found-title = Página no encontrada
problem-not-found = No hay ninguna página en esta dirección.
problem-too-large-title = Demasiado grande
problem-too-large = Lo enviado es demasiado grande. Acórtelo e inténtelo de nuevo.
problem-invalid-title = No se ha guardado
problem-invalid = Lo enviado no se puede guardar. Vuelva atrás, revíselo e inténtelo de nuevo.
problem-too-many-title = Espere un momento
problem-too-many = Ha habido demasiadas solicitudes. Inténtelo de nuevo dentro de un momento.
problem-failed-title = Algo ha salido mal
problem-failed = No se puede mostrar esta página. Inténtelo de nuevo más tarde.
problem-unavailable-title = No disponible en este momento
problem-unavailable = No se puede acceder a las preferencias en este momento. Inténtelo de nuevo dentro de unos segundos.
problem-other-tenant = Esta clave es de otras preferencias.
problem-other-link = Este enlace es de otras preferencias.
problem-outdated-form = Este formulario ya no está actualizado. Recargue la página.
problem-no-version = El historial no contiene esa versión. Elija otra.
problem-not-one-click = Use el botón de la página para cancelar la suscripción.


## Links that open the pages

open-wait = Abriendo las preferencias…
open-no-scripts = Esta página necesita JavaScript. Use un enlace que se abra sin él.
link-expired-title = Este enlace ha caducado
link-expired = Vuelva al lugar donde lo recibió y abra las preferencias de nuevo desde allí.
link-used-title = Este enlace ya se ha usado
link-used = Abre las preferencias una sola vez. Vuelva al lugar donde lo recibió y solicite uno nuevo.
link-invalid-title = Este enlace no es válido
link-invalid = Ábralo de nuevo desde el lugar donde lo recibió. Si se copió, puede que falte una parte.
link-ended-title = Las preferencias no se pueden mostrar aquí
link-ended = La sesión ha terminado, o el navegador no acepta cookies aquí. Recargue la página para volver a intentarlo.


## Unsubscribing by the link of an e-mail

unsubscribe-title = Cancelar la suscripción
unsubscribe-ask = ¿Cancelar la suscripción a «{ $feature }»?
unsubscribe-ask-hint = Dejará de recibir estos mensajes. Todo lo demás sigue igual.
unsubscribe-done = Suscripción cancelada
unsubscribe-off = «{ $feature }» está desactivado.
unsubscribe-again = Suscripción reactivada
unsubscribe-on = «{ $feature }» está activado.
unsubscribe-undo = Deshacer
unsubscribe-expired = Use el enlace de un correo más reciente, o cambie las preferencias donde suele iniciar sesión.
unsubscribe-invalid = Abra de nuevo el enlace del correo. Si se copió, puede que falte una parte.


## The list of preferences

list-title = Preferencias
list-title-of = Preferencias de { $tenant }
list-back = Todas las preferencias
list-back-of = Todas las preferencias de { $tenant }
list-empty = Todavía no hay nada que ajustar.
list-empty-next = Todo lo que pueda ajustar aparecerá aquí.
list-on = Activado
list-off = Desactivado
list-not-set-up = Sin configurar
list-wrong = Requiere atención
list-next = Próxima vez: { $when }
list-set-up = Configurar
list-switch-on = Activar
list-switch-off = Desactivar
list-switch-on-feature = Activar «{ $feature }»
list-switch-off-feature = Desactivar «{ $feature }»
list-switched-on = «{ $feature }» está activado.
list-switched-off = «{ $feature }» está desactivado.
list-history = Historial
list-erase = Borrar todo lo que se guarda de esta cuenta
list-organization = Organización: { $organization }
list-other-feature = Otra función
list-open = Abrir
organization-members = { $members ->
    [0] Todavía no hay miembros.
    [one] Para un miembro, que puede elegir otra cosa.
   *[other] Para { $members } miembros; cada uno puede elegir otra cosa.
}


## The form of a preference: when

form-when = Cuándo
form-switched-on = Activado
form-usual = Lo habitual: { $usual }. Lo que se deja vacío sigue lo habitual.
form-usual-of-organization = Su organización ha definido una parte.
form-how-often = Frecuencia
form-choose = Elegir…
frequency-hourly = Cada hora
frequency-daily = Todos los días
frequency-weekly = Todas las semanas
frequency-biweekly = Cada dos semanas
frequency-monthly = Todos los meses
frequency-once = Una sola vez
usual-hourly = Lo habitual (cada hora)
usual-daily = Lo habitual (todos los días)
usual-weekly = Lo habitual (todas las semanas)
usual-biweekly = Lo habitual (cada dos semanas)
usual-monthly = Lo habitual (todos los meses)
usual-once = Lo habitual (una sola vez)
form-weekdays = Días de la semana
form-monthdays = Días del mes
form-last-day = Último
form-nth = Orden en el mes
form-nth-none = Ningún día de la semana
form-nth-first = El primer
form-nth-second = El segundo
form-nth-third = El tercer
form-nth-fourth = El cuarto
form-nth-last = El último
form-nth-day = Día de la semana del mes
form-nth-weekday = Día entre semana, de lunes a viernes
form-month-end = En los meses más cortos, un día que no existe pasa al último día.
form-interval = Intervalo en días, semanas o meses
form-interval-daily = Intervalo en días
form-interval-weekly = Intervalo en semanas
form-interval-monthly = Intervalo en meses
form-interval-hint = Si se deja vacío: 1, o lo habitual. A partir de 2, elija también el primer día: se cuenta desde ahí.
form-date = Fecha
form-time = Hora
form-another-time = Otra hora
form-not-before = Hora mínima: { $time }.
form-not-after = Hora máxima: { $time }.
form-minute = Minuto de cada hora
form-start = Primer día
form-start-biweekly = Las dos semanas se cuentan desde la semana de este día.
form-end = Último día
form-paused = En pausa hasta
form-paused-hint = Ese día se reanuda automáticamente.
form-zone = Zona horaria
form-zone-hint = Una ciudad, por ejemplo Madrid o Nueva York.
form-left-empty = Si se deja vacío: { $usual }, lo habitual.
form-left-empty-text = Si se deja vacío: «{ $usual }», lo habitual.
form-time-left-empty = Si se deja vacío: { $usual }, lo habitual.
form-none-ticked = Si no se marca ninguno: { $usual }, lo habitual.
form-of-organization = Definido por su organización.


## The form of a preference: how

form-how = Cómo
form-yes = Sí
form-no = No
form-option-usual = Lo habitual ({ $usual })
form-option-unset = (sin definir)
form-one-per-line = Uno por línea.
form-as-json = En formato JSON.
form-advanced = Ajustes avanzados (JSON)
form-advanced-label = Ajustes avanzados como objeto JSON


## The form of a preference: saving

form-save = Guardar
form-reset = Restablecer lo habitual
form-undo = Deshacer
form-saved = Guardado.
form-saved-soon = Guardado. El cambio tendrá efecto en un momento…
form-saved-later = Guardado. El cambio tendrá efecto cuando el servicio esté en marcha.
form-kept = Lo elegido antes está aquí de nuevo. Todavía no se ha guardado.
form-ended = La sesión ha terminado. Guarde para continuar; lo elegido se conserva.
form-unchanged = No se ha cambiado nada.
form-not-saved = No se ha guardado:
form-view-only = Estos ajustes se pueden ver, pero no cambiar.
form-conflict = No se ha guardado: otra persona ha cambiado esta preferencia entretanto.
form-conflict-now = Ahora es:
form-conflict-choose = Guarde de nuevo para sustituirla por lo elegido abajo, o quédese con la otra.
form-conflict-take = Quedarse con la otra


## The next runs

runs-title = Próximas fechas
runs-show = Mostrar las próximas fechas
runs-caption = Las próximas fechas
runs-failed = No se pueden mostrar las próximas fechas. Guarde, o recargue la página.
runs-unknown = Lo que queda abierto sigue los horarios habituales, que aquí todavía no se conocen.
runs-left-open = Lo que queda abierto lo elige cada miembro.
runs-off = Desactivado: no hay nada previsto.
runs-off-next = Actívelo para ver las próximas fechas.
runs-none = No hay más fechas.
runs-none-next = Para tener más, elija un último día posterior u otra fecha.
runs-utc = UTC
runs-skipped = Ese día, el cambio de hora se salta la hora { $time }: la ejecución se retrasa en la misma medida.
runs-repeated = Ese día, por el cambio de hora, la hora { $time } se repite: cuenta la primera vez.
runs-in-zone = { $when } ({ $zone })


## What has run

past-title = Fechas pasadas
past-show = Mostrar las fechas pasadas
past-loading = Cargando…
past-none = No hay fechas pasadas que mostrar.
past-none-next = Aparecerán aquí después de la primera.
past-unavailable = No se pueden mostrar las fechas pasadas en este momento.
past-done = { $when } — hecho
past-failed = { $when } — no se pudo hacer
past-nothing = { $when } — sin novedades
past-skipped = { $when } — omitido
past-skipped-off = { $when } — omitido: estaba desactivado
past-skipped-removed = { $when } — omitido: los ajustes se habían eliminado
past-skipped-wrong = { $when } — omitido: los ajustes no se podían usar
past-skipped-cancelled = { $when } — cancelado
past-skipped-late = { $when } — omitido: ya era demasiado tarde
past-skipped-overlap = { $when } — omitido: el anterior aún no había terminado
past-skipped-moved = { $when } — omitido: se eligió otro momento


## When something runs: in a line

summary-wrong = No se puede ejecutar
summary-unknown = A la hora habitual
summary-left-open = Según lo que elija cada miembro
summary-off = Desactivado
summary-not-set = Sin definir


## When something runs: sentences. Sin artículo ante la hora: sería «a la 1:00», pero «a las 2:00».

sentence-hourly = { $minute ->
    [0] Cada hora, en punto ({ $zone })
   *[other] Cada hora, en el minuto { $minute } ({ $zone })
}
sentence-daily = { $interval ->
    [1] Todos los días, { $time } ({ $zone })
    [2] Cada dos días, { $time } ({ $zone })
   *[other] Cada { $interval } días, { $time } ({ $zone })
}
sentence-weekly = Cada { $days }, { $time } ({ $zone })
sentence-weeks = { $interval ->
    [2] Cada dos semanas: { $days }, { $time } ({ $zone })
   *[other] Cada { $interval } semanas: { $days }, { $time } ({ $zone })
}
sentence-weeks-every-day = { $interval ->
    [2] Cada dos semanas: todos los días, { $time } ({ $zone })
   *[other] Cada { $interval } semanas: todos los días, { $time } ({ $zone })
}
sentence-monthly = { $interval ->
    [1] Todos los meses: { $days }, { $time } ({ $zone })
    [2] Cada dos meses: { $days }, { $time } ({ $zone })
   *[other] Cada { $interval } meses: { $days }, { $time } ({ $zone })
}
sentence-once = Una sola vez: { $date }, { $time } ({ $zone })
sentence-from = { $sentence }, a partir del { $start }
sentence-until = { $sentence }, hasta el { $end }
sentence-from-until = { $sentence }, del { $start } al { $end }
sentence-paused = { $sentence }, en pausa hasta el { $end }
month-day = el { $day }
month-day-last = el último día
month-weekday = el { $nth ->
    [first] primer
    [second] segundo
    [third] tercer
    [fourth] cuarto
   *[last] último
} { $weekday ->
    [weekday] día entre semana
   *[other] { $day }
}
zone-city = hora de { $city }
moment = { $moment }


## Mistakes in the form

mistake-of = { $field }: { $mistake }
mistake-days = Días
mistake-settings = Ajustes
mistake-preference = Preferencia
mistake-missing = elija un valor.
mistake-property = falta «{ $name }».
mistake-wrong-type = «{ $value }» no se puede usar aquí.
mistake-frequency = «{ $value }» no es una frecuencia.
mistake-time = «{ $value }» no es una hora. Escriba, por ejemplo, 09:00.
mistake-zone = no conocemos la zona horaria «{ $value }». Indique una ciudad, por ejemplo Madrid o Nueva York.
mistake-day = «{ $value }» no es un día.
mistake-date = «{ $value }» no es una fecha. Escriba, por ejemplo, 2026-12-24.
mistake-days-unfit = estos días no corresponden a la frecuencia elegida.
mistake-interval-unfit = esto no corresponde a la frecuencia elegida. Deje el campo vacío.
mistake-start-missing = elija una fecha. Se cuenta desde ahí.
mistake-before-start = esta fecha es anterior al primer día, el { $start }.
mistake-after-end = esta fecha es posterior al último día, el { $end }.
mistake-several-times = elija una sola hora: «Cada hora» solo usa su minuto.
mistake-frequency-not-offered = «{ $value }» no se ofrece aquí. Elija otra opción.
mistake-time-not-offered = { $value } no se ofrece aquí.
mistake-too-large = es demasiado largo para guardarlo. Acórtelo.
mistake-too-long = { $most ->
    [one] use como máximo { $most } carácter.
   *[other] use como máximo { $most } caracteres.
}
mistake-too-short = { $fewest ->
    [one] use al menos { $fewest } carácter.
   *[other] use al menos { $fewest } caracteres.
}
mistake-out-of-range = indique un número entero de { $least } a { $most }.
mistake-too-great = indique un número de { $most } como máximo.
mistake-too-small = indique un número de { $least } como mínimo.
mistake-too-many = { $most ->
    [one] indique como máximo { $most } elemento.
   *[other] indique como máximo { $most } elementos.
}
mistake-too-few = { $fewest ->
    [one] indique al menos { $fewest } elemento.
   *[other] indique al menos { $fewest } elementos.
}
mistake-repeated = indique cada elemento una sola vez.
mistake-choice = «{ $value }» no está entre las opciones.
mistake-format = «{ $value }» no tiene el formato esperado.
mistake-not-allowed = este valor no está permitido aquí.
mistake-number = «{ $value }» no es un número.
mistake-json = «{ $value }» no es JSON.
mistake-json-object = esto no es un objeto JSON ({ $detail }).
mistake-other = esto no se acepta ({ $detail }).
mistake-not-below = indique un número menor que { $limit }.
mistake-not-above = indique un número mayor que { $limit }.
mistake-not-a-multiple = indique un múltiplo de { $number }.
both-sentences = { $before } { $next }


## The history

history-title = Historial
history-title-of = Historial de { $tenant }
history-empty = Todavía no se ha guardado nada.
history-empty-next = Cada cambio aparecerá aquí y se podrá deshacer.
history-at = { $when } UTC
history-by = Por { $actor }
history-change = { $before } → { $after }
history-other-settings = otros ajustes
history-restore = Recuperar: { $before }
history-restore-feature = Recuperar: { $before } («{ $feature }»)
history-older = Cambios anteriores
history-raw = Versión { $version } como JSON
history-by-link = Por { $actor } (enlace)
history-by-unsubscribe = Por { $actor } (enlace para cancelar la suscripción)
