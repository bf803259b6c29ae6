//! Secrets, which stand in the environment and in no file.

use punctual_domain::{Invalid, values::variable};
use secrecy::SecretString;
use serde_json::Value;

/// The secret in the variable `name`; `None` where it is not set.
pub(crate) fn secret(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().map(SecretString::from)
}

/// The secret in the variable that a field names.
pub(crate) fn secret_in(name: &Value) -> Result<SecretString, Invalid> {
    secret(variable(name)?).ok_or_else(|| {
        Invalid::new(
            "is not set in the environment",
            "set the variable, or remove the field if no secret is needed",
        )
    })
}
