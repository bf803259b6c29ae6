-- Preferences of organizations, each a layer below those of its members. Kept as those of tenants are, in tables of their own: no
-- call for tenants reaches them.
CREATE TABLE organization_configs (
    organization_id TEXT NOT NULL,
    config_key      TEXT NOT NULL,
    config_value    TEXT,
    version         INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    PRIMARY KEY (organization_id, config_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE organization_config_history (
    organization_id TEXT NOT NULL,
    config_key      TEXT NOT NULL,
    version         INTEGER NOT NULL,
    config_value    TEXT,
    changed_at      INTEGER NOT NULL,
    actor           TEXT NOT NULL,
    PRIMARY KEY (organization_id, config_key, version)
) STRICT, WITHOUT ROWID;

-- What the `organization_id` in each tenant's `profile` says, to be found from both sides.
CREATE TABLE members (
    tenant_id       TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_organization ON members (organization_id, tenant_id);

-- `preference` is the tenant's over the organization's from now on. `organization` is the tenant's organization, and which fields came
-- from it, as `{"id": "acme", "fields": ["timezone"]}`; null: the tenant belongs to none.
ALTER TABLE preferences ADD COLUMN organization TEXT;
ALTER TABLE changes ADD COLUMN organization TEXT;

-- A profile may have had the field already.
INSERT INTO members (tenant_id, organization_id)
SELECT tenant_id, organization_id FROM (
    SELECT tenant_id, json_extract(config_value, '$.organization_id') AS organization_id FROM configs
    WHERE config_key = 'profile' AND json_valid(config_value)
      AND json_type(config_value, '$.organization_id') = 'text') AS named
WHERE length(organization_id) BETWEEN 1 AND 128 AND organization_id NOT GLOB '*[^-A-Za-z0-9._:@]*'
  AND organization_id NOT IN ('.', '..');

UPDATE preferences SET organization = (
    SELECT json_object('id', organization_id, 'fields', json('[]')) FROM members WHERE members.tenant_id = preferences.tenant_id)
WHERE tenant_id IN (SELECT tenant_id FROM members);

-- No change says so: a new epoch, so that readers of the feed read the groups anew.
UPDATE feed SET epoch = lower(hex(randomblob(16))) WHERE EXISTS (SELECT 1 FROM preferences WHERE organization IS NOT NULL);
