//! Names that come from outside: tenants, organizations, feature types, jobs and purposes. One rule holds for all of
//! them, so that a name can stand in a URL, a file, a log line or a key without being escaped.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::input::errors::Invalid;

/// Longest id, in characters.
const MAX_LENGTH: usize = 128;
const RULE: &str = "use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -, but neither `.` nor `..`";

/// A name that breaks the rule of 1–128 characters of `A–Z a–z 0–9 . _ : @ -`, not `.` and not `..`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {kind}; {RULE}")]
pub struct InvalidId {
    kind: &'static str,
    value: String,
}

impl From<InvalidId> for Invalid {
    fn from(error: InvalidId) -> Self {
        Invalid::new(format!("is not a valid {}", error.kind), RULE)
    }
}

fn check(kind: &'static str, value: &str) -> Result<(), InvalidId> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
    // URLs and file systems take the names `.` and `..` for something else.
    let usable = (1..=MAX_LENGTH).contains(&value.len()) && !matches!(value, "." | "..");
    if usable && value.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = value
        .chars()
        .take(40)
        .flat_map(char::escape_debug)
        .collect();
    Err(InvalidId { kind, value: shown })
}

#[cfg(feature = "openapi")]
fn id_schema(kind: &str, others: &[&str]) -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    use utoipa::openapi::schema::{ObjectBuilder, Type};
    let object = ObjectBuilder::new().schema_type(Type::String);
    let object = object.min_length(Some(1)).max_length(Some(MAX_LENGTH));
    let name = "(?!\\.{1,2}$)[A-Za-z0-9._:@-]+";
    let (pattern, description) = match others.first() {
        None => (format!("^{name}$"), format!("A {kind}")),
        Some(other) => (
            format!("^({name}|[{other}])$"),
            format!("A {kind}, or `{other}` for all records"),
        ),
    };
    object
        .pattern(Some(pattern))
        .description(Some(description))
        .into()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal $(, or $other:expr)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a name and takes it.
            ///
            /// # Errors
            /// [`InvalidId`] unless it is 1–128 characters of `A–Z a–z 0–9 . _ : @ -` and neither `.` nor `..`.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidId> {
                let value = value.as_ref();
                $(if value == $other {
                    return Ok(Self(value.into()));
                })?
                check($kind, value)?;
                Ok(Self(value.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                id_schema($kind, &[$($other)?])
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;
            fn try_from(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A user of the product whose preferences we hold.
    TenantId, "tenant_id"
);
id!(
    /// A customer company to which tenants belong.
    OrganizationId, "organization_id"
);
id!(
    /// Whose work an item is: a tenant, a record of the job's source, or [all of its records](Self::aggregate) together.
    ItemId, "tenant_id", or AGGREGATE
);
id!(
    /// What a preference is about, as `instagram_posts`.
    FeatureType, "feature_type"
);
id!(
    /// The name of a job in `batch_config.json`.
    JobId, "job_id"
);
id!(
    /// What to run; `purposes.json` binds it to a handler.
    PurposeId, "purpose_id"
);

/// The id of the item that is made of all records. No tenant and no record can have it.
const AGGREGATE: &str = "*";

impl ItemId {
    /// The one item that is made of all records of the job's source, written `*`.
    #[must_use]
    pub fn aggregate() -> Self {
        Self(AGGREGATE.into())
    }

    /// Checks the id of a record and takes it.
    ///
    /// # Errors
    /// [`InvalidId`] where it could not be the id of a tenant either.
    pub fn record(value: impl AsRef<str>) -> Result<Self, InvalidId> {
        check("id", value.as_ref())?;
        Ok(Self(value.as_ref().into()))
    }

    /// Whether it is the one item that is made of all records.
    #[must_use]
    pub fn is_aggregate(&self) -> bool {
        &*self.0 == AGGREGATE
    }

    /// The tenant of this id. `None` for [all records](Self::aggregate), which are no tenant's.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        (!self.is_aggregate()).then(|| TenantId(Arc::clone(&self.0)))
    }
}

impl From<TenantId> for ItemId {
    fn from(tenant: TenantId) -> Self {
        Self(tenant.0)
    }
}

impl From<&TenantId> for ItemId {
    fn from(tenant: &TenantId) -> Self {
        Self(Arc::clone(&tenant.0))
    }
}

impl PartialEq<TenantId> for ItemId {
    fn eq(&self, tenant: &TenantId) -> bool {
        self.0 == tenant.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_documented_alphabet() {
        for name in [
            "user123",
            "a",
            "...",
            ".a",
            "org:42@eu-west.prod_1",
            &"x".repeat(128),
        ] {
            assert_eq!(TenantId::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_everything_else_and_says_why() {
        for name in [
            "",
            " ",
            "a b",
            ".",
            "..",
            "../etc",
            "a/b",
            "ü",
            "a\0",
            &"x".repeat(129),
        ] {
            let error = TenantId::new(name).unwrap_err().to_string();
            assert!(error.contains("not a valid tenant_id"), "{error}");
            assert!(error.len() < 300, "a long value is cut: {error}");
        }
        assert!(serde_json::from_str::<JobId>("\"a b\"").is_err());
    }
}
