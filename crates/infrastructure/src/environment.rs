//! Secrets, which stand in the environment and in no file.

use punctual_domain::FieldError;
use secrecy::SecretString;

/// The secret in the variable `name`, if one is named.
///
/// # Errors
/// When the variable is not set.
pub(crate) fn secret(name: Option<&str>) -> Result<Option<SecretString>, String> {
    let Some(name) = name else { return Ok(None) };
    match std::env::var(name) {
        Ok(secret) => Ok(Some(secret.into())),
        Err(_) => Err(format!("{name} is not set in the environment")),
    }
}

/// The same, with the error at the field that names the variable.
pub(crate) fn secret_at(
    pointer: &str,
    field: &str,
    name: Option<&str>,
) -> Result<Option<SecretString>, FieldError> {
    secret(name).map_err(|_| FieldError {
        pointer: format!("{pointer}/{field}"),
        value: name.map(|name| format!("{name:?}")),
        problem: "is not set in the environment".to_owned(),
        remedy: "set the variable, or take the field out if no secret is needed".to_owned(),
    })
}
