//! What the clients of HTTP APIs below `/api/v1/` have in common: addresses, keys, and errors without secrets.

use reqwest::{Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::handlers::endpoint::innermost;

/// The address below which the calls are, of a server at `url`, which may name it already.
///
/// # Errors
/// What is wrong with it.
pub(super) fn base_of(url: &str) -> Result<Url, String> {
    let mut base = Url::parse(url).map_err(|error| error.to_string())?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(format!("the scheme is {}", base.scheme()));
    }
    let root = base
        .path()
        .trim_end_matches('/')
        .trim_end_matches("/api/v1")
        .to_owned();
    base.set_path(&format!("{root}/api/v1/"));
    Ok(base)
}

/// The server's address without anything secret.
pub(super) fn shown(base: &Url) -> String {
    let mut url = base.clone();
    // Cannot fail for http and https.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.as_str().trim_end_matches("/api/v1/").to_owned()
}

/// The header that brings a key; `None`: the key has a character that no header may have.
pub(super) fn authorization(key: &SecretString) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()));
    let mut value = value.ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why a call was not answered, in words without its URL.
pub(super) fn reason_of(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    innermost(error)
}
