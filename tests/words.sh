#!/bin/sh
# Refuses words that readers do not search for, where the field has a usual one. It reads the files that git knows, and of the texts
# of the pages the English ones.
#   tests/words.sh
set -eu
cd "$(dirname "$0")/.."

status=0

# refuse PATTERN WORD INSTEAD: prints every place of PATTERN (an extended regular expression, in any case).
refuse() {
    places=$(git grep -nIiE -e "$1" -- '*.rs' '*.md' '*.html' '*.js' '*.json' '*.yml' '*.toml' '*.sh' '*.py' '*/locales/en.ftl' Makefile .ci \
        ':!tests/words.sh' ':!docs/reference/*' ':!Cargo.lock' ':!*.snap') || {
        # 1: nothing is found. Everything else: git cannot search here.
        [ $? -eq 1 ] || exit 2
        return 0
    }
    status=1
    printf '%s\n' "$places" | while IFS=: read -r file line _; do
        printf '%s:%s: "%s": use %s\n' "$file" "$line" "$2" "$3"
    done
}

# Between these, a whole word: `told`, but not `retold` or `told_late`.
start='(^|[^[:alnum:]_])'
end='([^[:alnum:]_]|$)'

refuse 'far[ _-]?side' 'far side' '"endpoint", "remote" or "upstream"'
# All but `is no longer`.
refuse "${start}is no( ([^l]|l[^o]|lo[^n]|lon[^g])| ?\$)" 'is no' '"is not a ...", "does not exist" or "has no ..."'
refuse "${start}in force${end}" 'in force' '"in effect"'
refuse "${start}told${end}" 'told' '"notified", "reported" or "sent", with the subject first'
refuse "${start}by hand${end}" 'by hand' '"manual" or "manually"'
refuse "${start}nobody${end}" 'nobody' '"no user", "no tenant" or "no replica"'
refuse "${start}whoever${end}" 'whoever' '"the user who", "the tenant that" or "the caller"'
refuse "${start}tried again${end}" 'tried again' '"retried", or "the agent retries ..."'
refuse "cannot be [a-z]+ now${end}" 'cannot be ... now' '"cannot be ...", or "failed to ..."'
refuse "${start}mend${end}" 'mend' '"fix" or "correct"'
refuse "${start}made-up${end}" 'made-up' '"generated"'
refuse "${start}taken back${end}|${start}keys that hold${end}" 'keys that hold or are taken back' '"active" and "revoked"'
refuse "${start}last heard${end}|no one knows" 'last heard' '"last heartbeat", "unknown"'
refuse 'use an? ([a-rt-z][a-z]* |s[a-tv-z][a-z]* )+as ' 'use a ... as' '"use a ... such as"'
refuse "${start}one a line${end}|object a line${end}" 'one a line' '"one per line"'

[ $status -eq 0 ] || echo 'Why, and how to word it instead: CONTRIBUTING.md, "What we expect".' >&2
exit $status
