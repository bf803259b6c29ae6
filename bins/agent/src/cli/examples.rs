//! What the help of each command ends with. A test parses every example.

pub(super) const AGENT: &str = "\
Examples:
  punctual-agent init
  punctual-agent run
  punctual-agent status

Settings come from environment variables or a settings file with the same names; `punctual-agent reference settings` lists them. \
Commands that require a running agent ask the one at BATCH_HTTP_ADDR, with BATCH_API_KEY.

Exit codes: 0 done; 1 it could not be done, or failed; 2 the input is wrong.";

pub(super) const RUN: &str = "\
Examples:
  punctual-agent run
  punctual-agent run --import preferences.ndjson --look-back 24h";

pub(super) const INIT: &str = "\
Examples:
  punctual-agent init

The files are written where BATCH_CONFIG_PATH and BATCH_PURPOSES_PATH say: below data/, unless they are set. Files that exist are \
never overwritten.";

pub(super) const CHECK: &str = "\
Examples:
  punctual-agent check
  punctual-agent check --json

Exit codes: 0 no mistakes (there may be warnings); 2 mistakes.";

pub(super) const STATUS: &str = "\
Examples:
  punctual-agent status
  punctual-agent status --watch
  punctual-agent status --json

Exit codes: 0 nothing is wrong; 1 something is wrong, or no agent answers.";

pub(super) const JOBS: &str = "\
Examples:
  punctual-agent jobs
  punctual-agent jobs greetings --json";

pub(super) const BATCHES: &str = "\
Examples:
  punctual-agent batches
  punctual-agent batches --job greetings --status running --watch
  punctual-agent batches 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10";

pub(super) const EXPLAIN: &str = "\
Examples:
  punctual-agent explain --tenant ann --job greetings
  punctual-agent explain --tenant ann --job greetings --date 2026-11-27";

pub(super) const PREVIEW: &str = r#"Examples:
  punctual-agent preview --preference '{"frequency": "daily", "timezone": "Europe/Berlin"}'
  punctual-agent preview --tenant ann --feature greetings --count 10
  punctual-agent preview --tenant ann --job greetings --render
  punctual-agent preview --stdin < preferences.ndjson

Exit codes: 0 shown; 1 it could not be done, or the run would fail; 2 the input is wrong."#;

pub(super) const SIMULATE: &str = "\
Examples:
  punctual-agent simulate
  punctual-agent simulate --users 100000 --days 7 --html schedule.html
  punctual-agent simulate --file preferences.ndjson --spread 30";

pub(super) const TRIGGER: &str = "\
Examples:
  punctual-agent trigger greetings --tenant ann --wait
  punctual-agent trigger greetings --yes

Exit codes: 0 queued, or with --wait: over without failures; 1 with --wait: items failed or were cancelled; 2 refused.";

pub(super) const BACKFILL: &str = "\
Examples:
  punctual-agent backfill greetings --from 2026-11-20 --to 2026-11-22 --preview
  punctual-agent backfill greetings --from 2026-11-20 --to 2026-11-22 --yes --wait
  punctual-agent backfill greetings --from 2026-11-20 --to 2026-11-22 --tenant ann";

pub(super) const PAUSE: &str = "\
Examples:
  punctual-agent pause greetings";

pub(super) const RESUME: &str = "\
Examples:
  punctual-agent resume greetings";

pub(super) const CANCEL: &str = "\
Examples:
  punctual-agent cancel 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10
  punctual-agent cancel 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10 --yes";

pub(super) const RESULTS: &str = "\
Examples:
  punctual-agent results --tenant ann
  punctual-agent results --batch 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10 --status failed
  punctual-agent results --batch 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10 --json > results.ndjson";

pub(super) const DEAD_LETTERS: &str = "\
Examples:
  punctual-agent dead-letters list
  punctual-agent dead-letters replay --job greetings --wait";

pub(super) const LIST: &str = "\
Examples:
  punctual-agent dead-letters list
  punctual-agent dead-letters list --job greetings --all --json";

pub(super) const REPLAY: &str = "\
Examples:
  punctual-agent dead-letters replay 17 18
  punctual-agent dead-letters replay --job greetings --yes --wait";

pub(super) const DISCARD: &str = "\
Examples:
  punctual-agent dead-letters discard 17
  punctual-agent dead-letters discard --job greetings --yes";

pub(super) const DELIVERIES: &str = "\
Examples:
  punctual-agent deliveries
  punctual-agent deliveries --json";

pub(super) const WAITING: &str = "\
Examples:
  punctual-agent waiting
  punctual-agent waiting --job videos --tenant ann
  punctual-agent waiting --batch 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10 --json";

pub(super) const QUARANTINE: &str = "\
Examples:
  punctual-agent quarantine
  punctual-agent quarantine --json";

pub(super) const ALERTS: &str = "\
Examples:
  punctual-agent alerts test";

pub(super) const ALERTS_TEST: &str = "\
Examples:
  punctual-agent alerts test
  punctual-agent alerts test --json

Exit codes: 0 every channel has taken it; 1 one has not, or no agent answers; 2 no channel is set up.";

pub(super) const SUPPRESSIONS: &str = "\
Examples:
  punctual-agent suppressions list
  punctual-agent suppressions add ann@shop.example --reason complained";

pub(super) const RETENTION: &str = "\
Examples:
  punctual-agent retention --preview
  punctual-agent retention --json";

pub(super) const SUPPRESSIONS_LIST: &str = "\
Examples:
  punctual-agent suppressions list
  punctual-agent suppressions list --limit 100 --json";

pub(super) const SUPPRESSIONS_ADD: &str = "\
Examples:
  punctual-agent suppressions add ann@shop.example bob@shop.example --reason complained";

pub(super) const SUPPRESSIONS_REMOVE: &str = "\
Examples:
  punctual-agent suppressions remove ann@shop.example";

pub(super) const EXPORT: &str = "\
Examples:
  punctual-agent export ann
  punctual-agent export ann --to ann.json

It has what the agent's store holds; `punctual-config-service export` has the preferences.";

pub(super) const ERASE: &str = "\
Examples:
  punctual-agent erase ann --reason 'request 4711'
  punctual-agent erase ann --yes --json

Erase the tenant in the Config Database first, or the preferences are read again. The command may be repeated.";

pub(super) const KEYS: &str = "\
Examples:
  punctual-agent keys list
  punctual-agent keys add ann --role operate --expires-in 90

The key in BATCH_API_KEY is named operator and has the role administer.";

pub(super) const KEYS_LIST: &str = "\
Examples:
  punctual-agent keys list
  punctual-agent keys list --json";

pub(super) const KEYS_ADD: &str = "\
Examples:
  punctual-agent keys add ann --role operate --expires-in 90
  punctual-agent keys add dashboard --role view --json

Roles: view reads everything; operate also runs, pauses, cancels and replays; administer also makes and revokes keys.";

pub(super) const KEYS_REVOKE: &str = "\
Examples:
  punctual-agent keys revoke ann --reason 'left the team'";

pub(super) const AUDIT_LOG: &str = "\
Examples:
  punctual-agent audit-log
  punctual-agent audit-log --limit 100 --json
  punctual-agent audit-log --export --since 2026-11-01 > audit.ndjson";

pub(super) const MOVE_STORE: &str = "\
Examples:
  punctual-agent move-store --to postgres://punctual@db.example/punctual";

pub(super) const BACKUP: &str = "\
Examples:
  punctual-agent backup --to /backup/punctual.db
  punctual-agent backup --to /backup/punctual.db --config-to /backup/config.db";

pub(super) const RESTORE: &str = "\
Examples:
  punctual-agent restore
  punctual-agent restore skip
  punctual-agent restore repeat";

pub(super) const ZONES: &str = "\
Examples:
  punctual-agent zones diff --to /srv/zoneinfo
  punctual-agent zones diff --from system --to /srv/zoneinfo --days 90 --json";

pub(super) const REFERENCE: &str = "\
Examples:
  punctual-agent reference settings
  punctual-agent reference agent > openapi.json";

pub(super) const HEALTH: &str = "\
Examples:
  punctual-agent health

`punctual-agent status` says what does not go well in an agent that is alive.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  punctual-agent completions bash > /usr/share/bash-completion/completions/punctual-agent
  punctual-agent completions zsh > /usr/share/zsh/vendor-completions/_punctual-agent
  punctual-agent completions fish > /usr/share/fish/vendor_completions.d/punctual-agent.fish";

pub(super) const MAN: &str = "\
Examples:
  punctual-agent man
  punctual-agent man --to /usr/local/share/man/man1";
