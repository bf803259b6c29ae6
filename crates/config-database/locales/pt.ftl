# Os textos das páginas de preferências em português do Brasil (tratamento: você). Os identificadores à esquerda e os nomes entre chaves
# não mudam; as explicações estão em en.ftl.

language-name = Português (Brasil)


## Every page

page-skip = Ir para o conteúdo
page-start = Voltar ao início
page-version = Versão
page-time-zone-rules = Regras de fusos horários
page-api = API
page-languages = Idioma


## Navigation

nav-pages = Páginas
nav-preferences = Suas preferências
nav-sign-out = Sair
nav-overview = Visão geral
nav-organizations = Organizações
nav-quarantine = Quarentena
nav-erasures = Exclusões


## Sign in

sign-in-title = Entrar
sign-in-key = Chave
sign-in-hint = Cole a chave que você recebeu.
sign-in-refused = Esta chave não é válida ou foi revogada.


## What went wrong with a page

problem-bad-request-title = Não deu certo
problem-bad-request = Não foi possível ler o que foi enviado. Volte, recarregue a página e tente novamente.
problem-forbidden-title = Não permitido
problem-forbidden = Você não tem permissão para fazer isso.
problem-not-found-title = Página não encontrada
problem-not-found = Não há nenhuma página neste endereço.
problem-too-large-title = Grande demais
problem-too-large = O que foi enviado é grande demais. Encurte e tente novamente.
problem-invalid-title = Não foi salvo
problem-invalid = O que foi enviado não pode ser salvo. Volte, confira e tente novamente.
problem-too-many-title = Aguarde um momento
problem-too-many = Houve solicitações demais. Tente novamente daqui a pouco.
problem-failed-title = Algo deu errado
problem-failed = Não é possível mostrar esta página. Tente novamente mais tarde.
problem-unavailable-title = Indisponível no momento
problem-unavailable = Não é possível acessar suas preferências no momento. Tente novamente em alguns segundos.
problem-other-tenant = Sua chave é de outras preferências.
problem-other-link = Seu link é de outras preferências.
problem-outdated-form = Este formulário está desatualizado. Recarregue a página.
problem-no-version = O histórico não tem essa versão. Escolha outra.
problem-not-one-click = Use o botão da página para cancelar a inscrição.


## Links that open the pages

open-wait = Abrindo suas preferências…
open-no-scripts = Esta página precisa de JavaScript. Use um link que abra sem ele.
link-expired-title = Este link expirou
link-expired = Volte ao lugar onde você o recebeu e abra suas preferências de novo a partir de lá.
link-used-title = Este link já foi usado
link-used = Ele abre suas preferências uma única vez. Volte ao lugar onde você o recebeu e peça um novo.
link-invalid-title = Este link não é válido
link-invalid = Abra-o de novo no lugar onde você o recebeu. Se foi copiado, pode estar faltando uma parte.
link-ended-title = Suas preferências não podem ser mostradas aqui
link-ended = Sua sessão terminou, ou seu navegador não aceita cookies aqui. Recarregue a página para tentar novamente.


## Unsubscribing by the link of an e-mail

unsubscribe-title = Cancelar inscrição
unsubscribe-ask = Cancelar a inscrição em “{ $feature }”?
unsubscribe-ask-hint = Você não receberá mais estas mensagens. Todo o resto continua como está.
unsubscribe-done = Sua inscrição foi cancelada
unsubscribe-off = “{ $feature }” está desativado.
unsubscribe-again = Sua inscrição foi reativada
unsubscribe-on = “{ $feature }” está ativado.
unsubscribe-undo = Desfazer
unsubscribe-expired = Use o link de um e-mail mais recente ou altere suas preferências onde você costuma entrar.
unsubscribe-invalid = Abra de novo o link do seu e-mail. Se foi copiado, pode estar faltando uma parte.


## The list of preferences

list-title = Preferências
list-title-of = Preferências de { $tenant }
list-back = Todas as preferências
list-back-of = Todas as preferências de { $tenant }
list-empty = Ainda não há nada para configurar.
list-empty-next = Tudo o que você pode configurar aparecerá aqui.
list-on = Ativado
list-off = Desativado
list-not-set-up = Não configurado
list-wrong = Requer sua atenção
list-next = Próxima vez: { $when }
list-set-up = Configurar
list-switch-on = Ativar
list-switch-off = Desativar
list-switch-on-feature = Ativar “{ $feature }”
list-switch-off-feature = Desativar “{ $feature }”
list-switched-on = “{ $feature }” está ativado.
list-switched-off = “{ $feature }” está desativado.
list-history = Histórico
list-erase = Apagar tudo o que está guardado desta conta
list-organization = Organização: { $organization }
list-other-feature = Outro recurso
list-open = Abrir
organization-members = { $members ->
    [0] Ainda não há membros.
    [one] Para { $members } membro, que pode escolher de outra forma.
   *[other] Para { $members } membros, e cada um pode escolher de outra forma.
}


## The form of a preference: when

form-when = Quando
form-switched-on = Ativado
form-usual = Padrão: { $usual }. Um campo vazio segue o padrão.
form-usual-of-organization = Sua organização definiu uma parte disso.
form-how-often = Frequência
form-choose = Escolher…
frequency-hourly = A cada hora
frequency-daily = Todos os dias
frequency-weekly = Toda semana
frequency-biweekly = A cada duas semanas
frequency-monthly = Todo mês
frequency-once = Uma única vez
usual-hourly = Padrão (a cada hora)
usual-daily = Padrão (todos os dias)
usual-weekly = Padrão (toda semana)
usual-biweekly = Padrão (a cada duas semanas)
usual-monthly = Padrão (todo mês)
usual-once = Padrão (uma única vez)
form-weekdays = Dias da semana
form-monthdays = Dias do mês
form-last-day = Último
form-nth = Ordem no mês
form-nth-none = Nenhum dia da semana
form-nth-first = Primeiro(a)
form-nth-second = Segundo(a)
form-nth-third = Terceiro(a)
form-nth-fourth = Quarto(a)
form-nth-last = Último(a)
form-nth-day = Dia da semana do mês
form-nth-weekday = Dia útil, de segunda a sexta
form-month-end = Nos meses mais curtos, um dia que não existe passa para o último dia.
form-interval = Intervalo em dias, semanas ou meses
form-interval-daily = Intervalo em dias
form-interval-weekly = Intervalo em semanas
form-interval-monthly = Intervalo em meses
form-interval-hint = Se ficar vazio: 1, ou o padrão. A partir de 2, escolha também o primeiro dia: a contagem começa nele.
form-date = Data
form-time = Horário
form-another-time = Outro horário
form-not-before = Horário mínimo: { $time }.
form-not-after = Horário máximo: { $time }.
form-minute = Minuto de cada hora
form-start = Primeiro dia
form-start-biweekly = As duas semanas contam a partir da semana deste dia.
form-end = Último dia
form-paused = Pausado até
form-paused-hint = Nesse dia, tudo volta automaticamente.
form-zone = Fuso horário
form-zone-hint = Uma cidade, por exemplo São Paulo ou Nova York.
form-left-empty = Se ficar vazio: { $usual }, o padrão.
form-left-empty-text = Se ficar vazio: “{ $usual }”, o padrão.
form-time-left-empty = Se ficar vazio: { $usual }, o padrão.
form-none-ticked = Se nenhum for marcado: { $usual }, o padrão.
form-of-organization = Definido pela sua organização.


## The form of a preference: how

form-how = Como
form-yes = Sim
form-no = Não
form-option-usual = Padrão ({ $usual })
form-option-unset = (não definido)
form-one-per-line = Um por linha.
form-as-json = Em JSON.
form-advanced = Configurações avançadas (JSON)
form-advanced-label = Configurações avançadas como objeto JSON


## The form of a preference: saving

form-save = Salvar
form-reset = Restaurar o padrão
form-undo = Desfazer
form-saved = Salvo.
form-saved-soon = Salvo. A alteração entra em vigor em instantes…
form-saved-later = Salvo. A alteração entra em vigor quando o serviço estiver em execução.
form-kept = O que você tinha escolhido está aqui de novo. Ainda não foi salvo.
form-ended = Sua sessão terminou. Salve para continuar; o que você escolheu é mantido.
form-unchanged = Nada foi alterado.
form-not-saved = Não foi salvo:
form-view-only = Você pode ver estas configurações, mas não alterá-las.
form-conflict = Não foi salvo: outra pessoa alterou esta preferência nesse meio-tempo.
form-conflict-now = Agora ela é:
form-conflict-choose = Salve de novo para substituí-la pelo que você escolheu abaixo, ou fique com a outra.
form-conflict-take = Ficar com a outra


## The next runs

runs-title = Próximas datas
runs-show = Mostrar as próximas datas
runs-caption = As próximas datas
runs-failed = Não é possível mostrar as próximas datas. Salve ou recarregue a página.
runs-unknown = O que fica em aberto segue os horários padrão, que ainda não são conhecidos aqui.
runs-left-open = Cada membro escolhe o que fica em aberto.
runs-off = Desativado: nada está previsto.
runs-off-next = Ative para ver as próximas datas.
runs-none = Não há mais datas.
runs-none-next = Para ter mais, escolha um último dia posterior ou outra data.
runs-utc = UTC
runs-skipped = Nesse dia, a mudança de horário pula o horário { $time }: a execução atrasa na mesma medida.
runs-repeated = Nesse dia, por causa da mudança de horário, o horário { $time } se repete: vale a primeira vez.
runs-in-zone = { $when } ({ $zone })


## What has run

past-title = Datas anteriores
past-show = Mostrar as datas anteriores
past-loading = Carregando…
past-none = Nenhuma data anterior para mostrar.
past-none-next = Elas aparecerão aqui depois da primeira.
past-unavailable = Não é possível mostrar as datas anteriores no momento.
past-done = { $when } — concluído
past-failed = { $when } — não pôde ser concluído
past-nothing = { $when } — sem novidades
past-skipped = { $when } — não realizado
past-skipped-off = { $when } — não realizado: estava desativado
past-skipped-removed = { $when } — não realizado: as configurações tinham sido removidas
past-skipped-wrong = { $when } — não realizado: as configurações não puderam ser usadas
past-skipped-cancelled = { $when } — cancelado
past-skipped-late = { $when } — não realizado: já era tarde demais
past-skipped-overlap = { $when } — não realizado: o anterior ainda não tinha terminado
past-skipped-moved = { $when } — não realizado: outro horário foi escolhido


## When something runs: in a line

summary-wrong = Não pode ser executado
summary-unknown = No horário padrão
summary-left-open = Conforme a escolha de cada membro
summary-off = Desativado
summary-not-set = Não definido


## When something runs: sentences. Sem artigo antes do horário: seria “à 1:00”, mas “às 2:00”.

sentence-hourly = { $minute ->
    [0] A cada hora, na hora cheia ({ $zone })
   *[other] A cada hora, no minuto { $minute } ({ $zone })
}
sentence-daily = { $interval ->
    [1] Todos os dias, { $time } ({ $zone })
    [2] A cada dois dias, { $time } ({ $zone })
   *[other] A cada { $interval } dias, { $time } ({ $zone })
}
sentence-weekly = Toda semana: { $days }, { $time } ({ $zone })
sentence-weeks = { $interval ->
    [2] A cada duas semanas: { $days }, { $time } ({ $zone })
   *[other] A cada { $interval } semanas: { $days }, { $time } ({ $zone })
}
sentence-weeks-every-day = { $interval ->
    [2] A cada duas semanas: todos os dias, { $time } ({ $zone })
   *[other] A cada { $interval } semanas: todos os dias, { $time } ({ $zone })
}
sentence-monthly = { $interval ->
    [1] Todo mês: { $days }, { $time } ({ $zone })
    [2] A cada dois meses: { $days }, { $time } ({ $zone })
   *[other] A cada { $interval } meses: { $days }, { $time } ({ $zone })
}
sentence-once = Uma única vez: { $date }, { $time } ({ $zone })
sentence-from = { $sentence }, a partir de { $start }
sentence-until = { $sentence }, até { $end }
sentence-from-until = { $sentence }, de { $start } até { $end }
sentence-paused = { $sentence }, pausado até { $end }
month-day = dia { $day }
month-day-last = último dia
# “Terça-feira” é feminino, “sábado”, “domingo” e “dia útil” são masculinos.
month-weekday = { $nth ->
    [first] { $weekday ->
        [saturday] primeiro
        [sunday] primeiro
        [weekday] primeiro
       *[other] primeira
    }
    [second] { $weekday ->
        [saturday] segundo
        [sunday] segundo
        [weekday] segundo
       *[other] segunda
    }
    [third] { $weekday ->
        [saturday] terceiro
        [sunday] terceiro
        [weekday] terceiro
       *[other] terceira
    }
    [fourth] { $weekday ->
        [saturday] quarto
        [sunday] quarto
        [weekday] quarto
       *[other] quarta
    }
   *[last] { $weekday ->
        [saturday] último
        [sunday] último
        [weekday] último
       *[other] última
    }
} { $weekday ->
    [weekday] dia útil
   *[other] { $day }
}
zone-city = horário de { $city }
moment = { $moment }


## Mistakes in the form

mistake-of = { $field }: { $mistake }
mistake-days = Dias
mistake-settings = Configurações
mistake-preference = Preferência
mistake-missing = escolha um valor.
mistake-property = falta “{ $name }”.
mistake-wrong-type = “{ $value }” não pode ser usado aqui.
mistake-frequency = “{ $value }” não é uma frequência.
mistake-time = “{ $value }” não é um horário. Escreva, por exemplo, 09:00.
mistake-zone = não conhecemos o fuso horário “{ $value }”. Informe uma cidade, por exemplo São Paulo ou Nova York.
mistake-day = “{ $value }” não é um dia.
mistake-date = “{ $value }” não é uma data. Escreva, por exemplo, 2026-12-24.
mistake-days-unfit = estes dias não combinam com a frequência escolhida.
mistake-interval-unfit = isto não combina com a frequência escolhida. Deixe o campo vazio.
mistake-start-missing = escolha uma data. A contagem começa nela.
mistake-before-start = esta data é anterior ao primeiro dia, { $start }.
mistake-after-end = esta data é posterior ao último dia, { $end }.
mistake-several-times = escolha um só horário: “A cada hora” usa apenas o minuto dele.
mistake-frequency-not-offered = “{ $value }” não está disponível aqui. Escolha outra opção.
mistake-time-not-offered = { $value } não está disponível aqui.
mistake-too-large = é longo demais para ser salvo. Encurte.
mistake-too-long = { $most ->
    [one] use no máximo { $most } caractere.
   *[other] use no máximo { $most } caracteres.
}
mistake-too-short = { $fewest ->
    [one] use pelo menos { $fewest } caractere.
   *[other] use pelo menos { $fewest } caracteres.
}
mistake-out-of-range = use um número inteiro de { $least } a { $most }.
mistake-too-great = use um número de no máximo { $most }.
mistake-too-small = use um número de no mínimo { $least }.
mistake-too-many = { $most ->
    [one] use no máximo { $most } item.
   *[other] use no máximo { $most } itens.
}
mistake-too-few = { $fewest ->
    [one] use pelo menos { $fewest } item.
   *[other] use pelo menos { $fewest } itens.
}
mistake-repeated = informe cada item uma única vez.
mistake-choice = “{ $value }” não está entre as opções.
mistake-format = “{ $value }” não tem o formato esperado.
mistake-not-allowed = este valor não é permitido aqui.
mistake-number = “{ $value }” não é um número.
mistake-json = “{ $value }” não é JSON.
mistake-json-object = isto não é um objeto JSON ({ $detail }).
mistake-other = isto não é aceito ({ $detail }).
mistake-not-below = use um número menor que { $limit }.
mistake-not-above = use um número maior que { $limit }.
mistake-not-a-multiple = use um múltiplo de { $number }.
both-sentences = { $before } { $next }


## The history

history-title = Histórico
history-title-of = Histórico de { $tenant }
history-empty = Nada foi salvo ainda.
history-empty-next = Cada alteração aparecerá aqui e poderá ser desfeita.
history-at = { $when } UTC
history-by = Por { $actor }
history-change = { $before } → { $after }
history-other-settings = outras configurações
history-restore = Restaurar: { $before }
history-restore-feature = Restaurar: { $before } (“{ $feature }”)
history-older = Alterações mais antigas
history-raw = Versão { $version } em JSON
history-by-link = Por { $actor } (link)
history-by-unsubscribe = Por { $actor } (link para cancelar a inscrição)
