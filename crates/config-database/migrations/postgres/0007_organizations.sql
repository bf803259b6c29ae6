-- Preferences of organizations, each a layer below those of its members. Kept as those of tenants are, in tables of their own: no
-- call for tenants reaches them.
CREATE TABLE organization_configs (
    organization_id TEXT COLLATE "C" NOT NULL,
    config_key      TEXT COLLATE "C" NOT NULL,
    config_value    TEXT,
    version         BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (organization_id, config_key)
);

CREATE TABLE organization_config_history (
    organization_id TEXT COLLATE "C" NOT NULL,
    config_key      TEXT COLLATE "C" NOT NULL,
    version         BIGINT NOT NULL,
    config_value    TEXT,
    changed_at      BIGINT NOT NULL,
    actor           TEXT NOT NULL,
    PRIMARY KEY (organization_id, config_key, version)
);

-- What the `organization_id` in each tenant's `profile` says, to be found from both sides.
CREATE TABLE members (
    tenant_id       TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL
);

CREATE INDEX members_by_organization ON members (organization_id, tenant_id);

-- No write may come between the members that are found here and those that writers note from now on.
SELECT head FROM feed FOR UPDATE;

-- `preference` is the tenant's over the organization's from now on. `organization` is the tenant's organization, and which fields came
-- from it, as `{"id": "acme", "fields": ["timezone"]}`; null: the tenant belongs to none.
ALTER TABLE preferences ADD COLUMN organization TEXT;
ALTER TABLE changes ADD COLUMN organization TEXT;

-- A profile may have had the field already.
INSERT INTO members (tenant_id, organization_id)
SELECT tenant_id, organization_id FROM (
    SELECT tenant_id, CAST(config_value AS json) ->> 'organization_id' AS organization_id FROM configs
    WHERE config_key = 'profile' AND json_typeof(CAST(config_value AS json) -> 'organization_id') = 'string') AS named
WHERE organization_id ~ '^[A-Za-z0-9._:@-]{1,128}$' AND organization_id NOT IN ('.', '..');

UPDATE preferences SET organization = '{"id":"' || members.organization_id || '","fields":[]}'
FROM members WHERE members.tenant_id = preferences.tenant_id;

-- No change says so: a new epoch, so that readers of the feed read the groups anew.
UPDATE feed SET epoch = replace(gen_random_uuid()::text, '-', '') WHERE EXISTS (SELECT 1 FROM preferences WHERE organization IS NOT NULL);
