#!/bin/sh
# When random rules fall due, by Punctual and by python-dateutil's rrule with zoneinfo, on the same release of the zone rules.
#   RULES=200000 SEED=1 tests/recurrence.sh
set -eu
cd "$(dirname "$0")/.."
venv=target/recurrence
if [ ! -d "$venv"/lib/python3*/site-packages/dateutil ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/recurrence/requirements.txt
fi
cargo build --locked --quiet --package punctual-domain --example occurrences
rules=${RULES:-200000} seed=${SEED:-1} parts=$(nproc)
pids=
for part in $(seq "$parts"); do
    # The rules of the package, and not those of this machine.
    PYTHONTZPATH='' "$venv/bin/python" tests/recurrence/compare.py target/debug/examples/occurrences \
        $(((rules + parts - 1) / parts)) $((seed * 1000 + part)) &
    pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
