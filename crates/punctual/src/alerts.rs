//! Where alerts go, as the builder was given it.

use std::sync::Arc;

use punctual_application::{
    AlertWords, Alerting, Handlers, NamedAlertChannel, QuietHours,
    ports::{AlertAgent, AlertChannel, Alerts},
};
use punctual_domain::{
    EmailAddress, FieldError, Invalid, PurposeId, Sharding, values::base_url, without_secrets,
};
#[cfg(feature = "http")]
use punctual_infrastructure::{EmailAlerts, WebhookAlerts};
use serde_json::json;

use crate::{Builder, builder::names_of_two};

/// The channel of the builder's e-mails.
const EMAIL: &str = "email";

/// Where alerts go.
#[derive(Default)]
pub(crate) struct AlertOptions {
    channels: Vec<NamedAlertChannel>,
    /// The purpose that sends e-mails, and their addresses.
    email: Option<(String, Vec<EmailAddress>)>,
    quiet_hours: Option<String>,
    words: Option<AlertWords>,
}

impl Builder {
    /// A channel for alerts, and its name: what the operations page shows first goes out by it. Without channels nothing does.
    #[must_use]
    pub fn alert_channel(mut self, name: &str, channel: impl AlertChannel + 'static) -> Self {
        self.alerts.channels.push(NamedAlertChannel {
            name: name.to_owned(),
            target: None,
            channel: Arc::new(channel),
        });
        self
    }

    /// The channel `webhook`: alerts are posted to a URL, signed.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn alert_webhook(mut self, webhook: WebhookAlerts) -> Self {
        self.alerts.channels.push(NamedAlertChannel {
            name: "webhook".to_owned(),
            target: Some(webhook.target()),
            channel: Arc::new(webhook),
        });
        self
    }

    /// The channel `email`: alerts are sent to these addresses by the server and the sender of a purpose of the [project](Self::project)
    /// whose handler is `email`.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn alert_email(
        mut self,
        purpose: &str,
        addresses: impl IntoIterator<Item = EmailAddress>,
    ) -> Self {
        let addresses = addresses.into_iter().collect();
        self.alerts.email = Some((purpose.to_owned(), addresses));
        self
    }

    /// Hours of the day in which only critical findings are reported, such as `22:00-07:00`, in the [time zone](Self::time_zone). The
    /// others are reported afterwards, unless they are over by then.
    #[must_use]
    pub fn quiet_hours(mut self, hours: &str) -> Self {
        self.alerts.quiet_hours = Some(hours.to_owned());
        self
    }

    /// The remedies and pages that alerts name, in place of those of the operations page.
    #[must_use]
    pub fn alert_words(mut self, words: AlertWords) -> Self {
        self.alerts.words = Some(words);
        self
    }
}

impl AlertOptions {
    /// Every mistake.
    pub(crate) fn mistakes(&self, handlers: &Handlers) -> Vec<FieldError> {
        let own = self.email.as_ref().map(|_| EMAIL.to_owned());
        let names: Vec<String> = self.channels.iter().map(|one| one.name.clone()).collect();
        let mut errors = names_of_two("/alert_channels", names.iter().chain(&own));
        if let Some((purpose, addresses)) = &self.email {
            let mailer = PurposeId::new(purpose).ok();
            if mailer
                .and_then(|purpose| handlers.mailer(&purpose))
                .is_none()
            {
                let remedy = "name a purpose whose handler is `email`";
                let other = Invalid::new("names no purpose that sends e-mails", remedy);
                errors.push(other.at("/alert_email/purpose", Some(&json!(purpose))));
            }
            if addresses.is_empty() {
                let none = Invalid::new("is empty", "give at least one address");
                errors.push(none.at("/alert_email/addresses", None));
            }
        }
        if let Some(hours) = &self.quiet_hours
            && hours.parse::<QuietHours>().is_err()
        {
            let remedy = "use two different times such as `22:00-07:00`";
            let invalid = Invalid::new("does not say which hours are quiet", remedy);
            errors.push(invalid.at("/quiet_hours", Some(&json!(hours))));
        }
        errors
    }

    /// What these options, without mistakes, come to. `page_url`: address of the operations page.
    pub(crate) fn alerting(
        &self,
        store: Arc<dyn Alerts>,
        handlers: &Handlers,
        page_url: Option<&str>,
        sharding: &Sharding,
    ) -> Alerting {
        let none = Alerting::none(store);
        let page = page_url.and_then(|url| {
            let value = json!(url);
            let url = base_url(&value).ok()?;
            Some(url.trim_end_matches('/').to_owned())
        });
        let name = page.as_deref().map(without_secrets);
        let name = name.and_then(|url| url.split_once("://").map(|(_, name)| name.to_owned()));
        let mut channels = self.channels.clone();
        channels.extend(self.email_channel(handlers));
        let hours = self.quiet_hours.as_deref();
        Alerting {
            channels: channels.into(),
            quiet_hours: hours.and_then(|hours| hours.parse().ok()),
            agent: AlertAgent {
                name: name.unwrap_or_else(|| none.agent.name.clone()),
                shard: sharding.to_string(),
                version: none.agent.version.clone(),
            },
            page_url: page,
            words: self.words.unwrap_or_else(usual_words),
            ..none
        }
    }

    #[cfg(feature = "http")]
    fn email_channel(&self, handlers: &Handlers) -> Option<NamedAlertChannel> {
        let (purpose, addresses) = self.email.as_ref()?;
        let purpose = PurposeId::new(purpose).ok()?;
        let target = format!("{} by {purpose}", list(addresses));
        let channel = EmailAlerts::new(handlers.clone(), purpose, addresses.clone());
        Some(NamedAlertChannel {
            name: EMAIL.to_owned(),
            target: Some(target),
            channel: Arc::new(channel),
        })
    }

    #[cfg(not(feature = "http"))]
    #[expect(
        clippy::unused_self,
        reason = "with the feature `http` it may be a channel"
    )]
    fn email_channel(&self, _: &Handlers) -> Option<NamedAlertChannel> {
        None
    }
}

#[cfg(feature = "http")]
fn list(addresses: &[EmailAddress]) -> String {
    let addresses: Vec<&str> = addresses.iter().map(EmailAddress::as_str).collect();
    addresses.join(", ")
}

/// What the operations page says.
#[cfg(feature = "operations")]
fn usual_words() -> AlertWords {
    AlertWords {
        remedy: punctual_operations::remedies::remedy,
        page: punctual_operations::remedies::link,
    }
}

/// Without the operations page there is none to link to.
#[cfg(not(feature = "operations"))]
fn usual_words() -> AlertWords {
    AlertWords::default()
}
