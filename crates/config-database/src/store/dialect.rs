//! What `SQLite` and `PostgreSQL` do not say in the same words.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// SQL dialect of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The database of a URL, by its scheme.
    pub(super) fn of(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            _ => None,
        }
    }

    /// Begins a transaction that writes.
    pub(super) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// Begins a transaction whose reads see one moment.
    pub(super) fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        }
    }

    /// Reads the newest id and the highest version of an erased tenant, and keeps every other writer out until the end of the
    /// transaction.
    pub(super) fn lock_feed(self) -> &'static str {
        match self {
            // BEGIN IMMEDIATE did that already.
            Self::Sqlite => "SELECT head, version_floor FROM feed",
            // As a statement of its own: the ones after it see what the writer before has committed.
            Self::Postgres => "SELECT head, version_floor FROM feed FOR UPDATE",
        }
    }

    /// SQL with `SCHEDULES` standing for what a row of `configs` says of its preferences: a JSON object with the
    /// `schedule_since` of each feature.
    pub(super) fn configs(self, sql: &str) -> String {
        let schedules = match self {
            Self::Sqlite => {
                "(SELECT json_group_object(feature_type, schedule_since) FROM json_each(config_value)
                  JOIN preferences ON feature_type = key AND preferences.tenant_id = configs.tenant_id
                  WHERE config_key = 'feature_preferences')"
            }
            Self::Postgres => {
                "(SELECT CAST(json_object_agg(feature_type, schedule_since) AS TEXT)
                  FROM json_object_keys(CAST(config_value AS json)) AS keys(key)
                  JOIN preferences ON feature_type = key AND preferences.tenant_id = configs.tenant_id
                  WHERE config_key = 'feature_preferences')"
            }
        };
        sql.replace("SCHEDULES", schedules)
    }

    /// SQL with `ROWS` standing for the elements of `$1`, a JSON array of arrays; `value ->> N` is a field of one.
    pub(super) fn rows(self, sql: &str) -> SqlStr {
        let rows = match self {
            Self::Sqlite => "json_each($1) AS rows",
            Self::Postgres => "json_array_elements(CAST($1 AS json)) AS rows(value)",
        };
        AssertSqlSafe(sql.replace("ROWS", rows)).into_sql_str()
    }

    /// What members of the organization `$1` have stored for the feature `$2`, with what the table `preferences` holds of it: the
    /// first `$4` members after `$3`.
    pub(super) fn preferences_of_members(self) -> SqlStr {
        let own = match self {
            Self::Sqlite => r#"config_value -> ('$."' || $2 || '"')"#,
            Self::Postgres => "CAST(CAST(config_value AS json) -> CAST($2 AS TEXT) AS TEXT)",
        };
        AssertSqlSafe(format!(
            "SELECT members.tenant_id, {own}, preference, schedule_since, organization
             FROM members
             LEFT JOIN configs ON configs.tenant_id = members.tenant_id AND config_key = 'feature_preferences'
             LEFT JOIN preferences ON preferences.tenant_id = members.tenant_id AND feature_type = $2
             WHERE organization_id = $1 AND members.tenant_id > $3 ORDER BY members.tenant_id LIMIT $4"
        ))
        .into_sql_str()
    }

    /// Columns of the preferences that the tenants in `$1` (`[["ann"], …]`) have for the feature `$2`.
    pub(super) fn preferences_of(self, columns: &str) -> SqlStr {
        // SQLite joins in this order with CROSS JOIN. By itself it reads every preference of the feature, where it has no
        // statistics yet, and looks for the tenant of each in the list.
        self.rows(&format!(
            "SELECT {columns} FROM ROWS
             CROSS JOIN preferences WHERE feature_type = $2 AND tenant_id = rows.value ->> 0"
        ))
    }
}
