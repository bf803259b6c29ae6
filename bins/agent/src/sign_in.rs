//! How operators are known beside by keys: the settings of the identity provider and of the proxy in front.

use std::{sync::Arc, time::Duration};

use punctual::SignIn;
use punctual_infrastructure::client_builder;
use punctual_operations::{Networks, Oidc, OidcSettings, RoleMap, TrustedProxy};

use crate::settings::Settings;

/// How long the identity provider may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers with a meaning of their own.
const OTHER_HEADERS: [&str; 3] = ["authorization", "cookie", "host"];

/// Checks that what belongs together is there.
///
/// # Errors
/// The first setting that is missing or cannot be used, by name.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    proxy(settings)?;
    provider(settings)?;
    Ok(())
}

/// How operators are known.
///
/// # Errors
/// The first setting that cannot be used, by name.
pub(crate) fn of(settings: &Settings) -> Result<SignIn, String> {
    let oidc = match provider(settings)? {
        Some(provider) => Some(Arc::new(provider.connect(settings)?)),
        None => None,
    };
    let proxy = proxy(settings)?;
    Ok(SignIn { oidc, proxy })
}

/// The value of a setting that another one needs.
fn needed<'s>(name: &str, value: Option<&'s String>, by: &str) -> Result<&'s str, String> {
    let value = value.map(String::as_str);
    value.ok_or_else(|| format!("{name} is not set, and {by} needs it; set both, or neither"))
}

/// Refuses settings that mean nothing without another one.
fn refuse_alone(of: &str, given: &[(&str, bool)]) -> Result<(), String> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(format!(
            "{name} is set, and {of} is not; set both, or neither"
        )),
        None => Ok(()),
    }
}

fn roles(name: &str, text: &str) -> Result<RoleMap, String> {
    let roles = text.parse::<RoleMap>();
    roles.map_err(|problem| format!("{name} {problem}"))
}

fn proxy(settings: &Settings) -> Result<Option<TrustedProxy>, String> {
    const HEADER: &str = "BATCH_TRUSTED_PROXY_HEADER";
    const PROXIES: &str = "BATCH_TRUSTED_PROXIES";
    const ROLES: &str = "BATCH_TRUSTED_PROXY_ROLES";
    let proxies = settings.batch_trusted_proxies.as_ref();
    let map = settings.batch_trusted_proxy_roles.as_ref();
    let Some(header) = &settings.batch_trusted_proxy_header else {
        refuse_alone(
            HEADER,
            &[(PROXIES, proxies.is_some()), (ROLES, map.is_some())],
        )?;
        return Ok(None);
    };
    let name = header.parse::<axum::http::HeaderName>().ok();
    let name = name.filter(|name| !OTHER_HEADERS.contains(&name.as_str()));
    let header = name.ok_or_else(|| {
        format!("{HEADER} is `{header}`; expected the name of a header, such as `X-Forwarded-User`")
    })?;
    let proxies = needed(PROXIES, proxies, HEADER)?.parse::<Networks>();
    Ok(Some(TrustedProxy {
        header,
        proxies: proxies.map_err(|problem| format!("{PROXIES} {problem}"))?,
        roles: roles(ROLES, needed(ROLES, map, HEADER)?)?,
    }))
}

/// What the settings say of the identity provider.
struct Provider<'s> {
    issuer: &'s str,
    client_id: &'s str,
    roles: RoleMap,
    public_url: &'s str,
}

fn provider(settings: &Settings) -> Result<Option<Provider<'_>>, String> {
    const ISSUER: &str = "BATCH_OIDC_ISSUER";
    const CLIENT_ID: &str = "BATCH_OIDC_CLIENT_ID";
    const ROLES: &str = "BATCH_OIDC_ROLES";
    let client_id = settings.batch_oidc_client_id.as_ref();
    let map = settings.batch_oidc_roles.as_ref();
    let Some(issuer) = &settings.batch_oidc_issuer else {
        let secret = settings.batch_oidc_client_secret.is_some();
        refuse_alone(
            ISSUER,
            &[
                (CLIENT_ID, client_id.is_some()),
                ("BATCH_OIDC_CLIENT_SECRET", secret),
                (ROLES, map.is_some()),
            ],
        )?;
        return Ok(None);
    };
    let public_url = settings.batch_public_url.as_ref();
    Ok(Some(Provider {
        issuer,
        client_id: needed(CLIENT_ID, client_id, ISSUER)?,
        roles: roles(ROLES, needed(ROLES, map, ISSUER)?)?,
        public_url: needed("BATCH_PUBLIC_URL", public_url, ISSUER)?,
    }))
}

impl Provider<'_> {
    fn connect(self, settings: &Settings) -> Result<Oidc, String> {
        let http = client_builder(CONNECT_TIMEOUT).build();
        let http = http.map_err(|error| format!("no HTTP client can be built: {error}"))?;
        let oidc = Oidc::new(OidcSettings {
            issuer: self.issuer.to_owned(),
            client_id: self.client_id.to_owned(),
            client_secret: settings.batch_oidc_client_secret.clone(),
            groups_claim: settings.batch_oidc_groups_claim.clone(),
            roles: self.roles,
            public_url: self.public_url.to_owned(),
            http,
        });
        oidc.map_err(|invalid| {
            let setting = match invalid.field {
                "public_url" => "BATCH_PUBLIC_URL".to_owned(),
                field => format!("BATCH_OIDC_{}", field.to_uppercase()),
            };
            format!("invalid settings: {setting} {}", invalid.problem)
        })
    }
}
