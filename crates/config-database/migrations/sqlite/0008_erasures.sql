-- Erasures of tenants, each named by a hash of the tenant's id alone.
CREATE TABLE erasures (
    tenant_hash TEXT NOT NULL,
    erased_at   INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    PRIMARY KEY (erased_at, tenant_hash)
) STRICT;

-- The highest version that a configuration of an erased tenant has had: new configurations begin above it, so that no version comes
-- again, and nothing says whose it was.
ALTER TABLE feed ADD COLUMN version_floor INTEGER NOT NULL DEFAULT 0;

-- The tenants that the feed says were erased.
CREATE INDEX changes_erased ON changes (feature_type, id) WHERE change = 'erased';

-- Old versions, for retention.
CREATE INDEX config_history_by_age ON config_history (changed_at, tenant_id, config_key, version);
CREATE INDEX organization_config_history_by_age
    ON organization_config_history (changed_at, organization_id, config_key, version);
