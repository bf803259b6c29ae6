//! The handler `email`: sends a text, HTML, or both from templates over SMTP, to one address. Which address that is comes from
//! the tenant or their data, so it is read strictly, and can add neither recipients nor headers. It is not written to the log.
//!
//! - `options`: the fields of a purpose. `message`: the e-mail. `relay`: the connections to the SMTP server.
//!   `reply`: what the answers of the server mean for a retry and for the suppression list. `refusals`: servers that refuse
//!   everything.
//! - Nothing is sent to an address on the suppression list. One that the server says does not exist is added to it.
//! - The handler ends before the time of its item does, so it decides itself about a retry: an e-mail that was sent to its end is
//!   never sent again.
//! - The `Message-ID` is made of the idempotency key, so that a further attempt at an e-mail is recognized as the same one.

mod message;
mod options;
mod refusals;
mod relay;
mod reply;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use lettre::{Address, message::Mailbox};
use punctual_application::{
    LogLimit, SuppressionList,
    ports::{Clock, HandlerError, Mailer, PurposeHandler, Rendered, Suppression, SystemClock},
};
use punctual_domain::{EmailAddress, Fields, Item, Outcome, Preference, TenantId, without_secrets};
use punctual_links::{LinkKeys, UnsubscribeClaims, unsubscribe_url};
use serde_json::{Value, json};

use self::{
    message::{Envelope, MAX_NAME, MAX_SUBJECT, Parts, Sender, one_line},
    refusals::{RefusedAddresses, Verdict},
    relay::Relay,
    reply::Refusal,
};
use super::{
    HandlerKind,
    template::{TemplateHandler, Templates, Values},
};

/// Reads the options of an [`EmailHandler`].
pub(crate) struct EmailKind {
    pub(super) templates: Templates,
    pub(super) suppressions: SuppressionList,
}

impl HandlerKind for EmailKind {
    fn name(&self) -> &'static str {
        "email"
    }

    fn target(&self, fields: &mut Fields<'_>) -> Option<String> {
        let from = fields.raw("from")?.as_str()?;
        let url = fields.raw("url").and_then(Value::as_str);
        let server = match url {
            Some(url) => without_secrets(url),
            None => fields.raw("host")?.as_str()?.to_owned(),
        };
        Some(format!("from {from} by {server}"))
    }

    fn read(&self, fields: &mut Fields<'_>, timeout: Duration) -> Option<Arc<dyn PurposeHandler>> {
        let clock = Arc::new(SystemClock);
        let handler = options::read(fields, &self.templates, &self.suppressions, timeout, clock);
        Some(Arc::new(handler?))
    }

    fn reads_previous(&self, options: &mut Fields<'_>) -> bool {
        let mut given = |field: &'static str| options.raw(field).and_then(Value::as_str);
        let files = ["text", "html"].map(&mut given);
        let inline = ["subject", "to", "to_name"].map(&mut given);
        let (mut files, mut inline) = (files.into_iter().flatten(), inline.into_iter().flatten());
        files.any(|name| self.templates.may_read(name, "previous"))
            || inline.any(|template| self.templates.text_may_read(template, "previous"))
    }
}

/// Sends e-mails.
pub(crate) struct EmailHandler {
    relay: Arc<Relay>,
    refused: RefusedAddresses,
    sender: Arc<Sender>,
    /// The recipient; `None`: what the preference or the data has as `email`.
    to: Option<TemplateHandler>,
    to_name: Option<TemplateHandler>,
    subject: TemplateHandler,
    text: Option<TemplateHandler>,
    html: Option<TemplateHandler>,
    unsubscribe: Option<Unsubscribe>,
    suppressions: SuppressionList,
    unsuppressed: LogLimit,
    clock: Arc<dyn Clock>,
}

/// The token of a link in a preview: it switches nothing off.
const NO_TOKEN: &str = "preview";

/// What becomes of an item before the server is called.
enum Drafted {
    Ready(Box<Draft>),
    NothingToDo(String),
}

/// An e-mail that is ready to be sent.
struct Draft {
    address: EmailAddress,
    to: Mailbox,
    parts: Parts,
}

/// How links are made that switch the feature of an e-mail off.
struct Unsubscribe {
    /// Where the pages of the Config Database are, without a slash at the end.
    base: String,
    keys: LinkKeys,
}

impl EmailHandler {
    /// The address that unsubscribes from the item's feature; `None`: no link is wanted, or the item has no feature.
    fn unsubscribe_url(&self, item: &Item) -> Result<Option<String>, HandlerError> {
        let (Some(unsubscribe), Some(feature)) = (&self.unsubscribe, item.feature_type()) else {
            return Ok(None);
        };
        let tenant = TenantId::new(item.item_id.as_str()).map_err(permanent)?;
        let exp = (self.clock.now() + UnsubscribeClaims::LIFETIME).timestamp();
        let claims = UnsubscribeClaims::new(tenant, feature.clone(), exp);
        let token = unsubscribe.keys.sign(&claims).map_err(permanent)?;
        Ok(Some(unsubscribe_url(&unsubscribe.base, &token)))
    }

    /// The e-mail of an item, with a link that unsubscribes.
    async fn draft(
        &self,
        item: &Item,
        unsubscribe: Option<String>,
    ) -> Result<Drafted, HandlerError> {
        let mut values = Values::from(item);
        values.item["unsubscribe_url"] = json!(unsubscribe);
        let text = content(self.text.as_ref(), &values).await?;
        let html = content(self.html.as_ref(), &values).await?;
        if text.is_none() && html.is_none() {
            return Ok(Drafted::NothingToDo("the text is empty".to_owned()));
        }
        let address = self.address(&values).await?;
        if let Some(reason) = self.suppressions.reason(&address).await? {
            let reason = format!("the address is suppressed ({reason})");
            return Ok(Drafted::NothingToDo(reason));
        }
        let to = self.mailbox(&address, &values).await?;
        let subject = one_line(&self.subject.render_values(values).await?);
        let length = subject.chars().count();
        if !(1..=MAX_SUBJECT).contains(&length) {
            return Err(HandlerError::permanent(format!(
                "the subject has {length} characters; use 1 to {MAX_SUBJECT}"
            )));
        }
        let parts = Parts {
            subject,
            text,
            html,
            unsubscribe,
        };
        Ok(Drafted::Ready(Box::new(Draft { address, to, parts })))
    }

    /// Recipient of the e-mail.
    async fn address(&self, values: &Values) -> Result<EmailAddress, HandlerError> {
        let address = match &self.to {
            Some(template) => template.render_values(values.clone()).await?,
            None => own_address(&values.item).ok_or_else(|| {
                HandlerError::permanent(
                    "the item has no address: neither its preference nor its data has an `email`; add it, or \
                     give the purpose a template `to`",
                )
            })?,
        };
        let address = address.trim().parse::<EmailAddress>();
        // The address itself is left out: errors are kept and logged.
        address.map_err(|error| {
            let problem = error.problem();
            HandlerError::permanent(format!("the address is not valid: {problem}"))
        })
    }

    async fn mailbox(
        &self,
        address: &EmailAddress,
        values: &Values,
    ) -> Result<Mailbox, HandlerError> {
        let name = match &self.to_name {
            Some(template) => one_line(&template.render_values(values.clone()).await?),
            None => String::new(),
        };
        let address = Address::new(address.local(), address.domain()).map_err(|error| {
            HandlerError::permanent(format!("the address is not valid: {error}"))
        })?;
        let name: String = name.chars().take(MAX_NAME).collect();
        Ok(Mailbox::new((!name.is_empty()).then_some(name), address))
    }

    /// Puts an address that does not exist on the suppression list, unless the server refuses too many.
    async fn suppress(&self, item: &Item, address: EmailAddress, refusal: &Refusal) {
        let verdict = self.refused.note_refused();
        let suppressed = (verdict == Verdict::Suppress).to_string();
        let job_id = item.job_id.to_string();
        metrics::counter!("punctual_refused_addresses_total", "job_id" => job_id, "suppressed" => suppressed)
            .increment(1);
        if let Verdict::Keep(too_many) = verdict {
            if too_many.is_first {
                let server = self.relay.server();
                let (refused, recipients) = (too_many.refused, too_many.recipients);
                tracing::warn!(
                    job_id = %item.job_id, server, refused, recipients,
                    "Stopped suppressing addresses: too many do not exist, says {server} ({refused} of {recipients} within an hour)"
                );
            }
            return;
        }
        let entry = Suppression {
            address,
            reason: refusal.reply.clone(),
            at: self.clock.now(),
            by: format!("job {}", item.job_id),
        };
        let (job_id, tenant_id) = (&item.job_id, &item.item_id);
        match self.suppressions.add(entry).await {
            Ok(()) => tracing::info!(
                %job_id, %tenant_id,
                "Suppressed the address of {tenant_id}: it does not exist"
            ),
            // The e-mail has failed in any case; the next one finds out anew.
            Err(error) => {
                if self.unsuppressed.next(job_id.as_str()).is_written() {
                    tracing::warn!(
                        %job_id, %tenant_id, %error,
                        "Failed to suppress the address of {tenant_id}: {error}"
                    );
                }
            }
        }
    }
}

/// The `email` of the item's preference, or else of its data.
fn own_address(item: &Value) -> Option<String> {
    let of = |field: &str| item[field]["email"].as_str().map(str::to_owned);
    of("preference").or_else(|| of("data"))
}

/// What a template gives; `None`: the purpose has none, or nothing but space comes of it.
async fn content(
    template: Option<&TemplateHandler>,
    values: &Values,
) -> Result<Option<String>, HandlerError> {
    let Some(template) = template else {
        return Ok(None);
    };
    let text = template.render_values(values.clone()).await?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

fn permanent(error: impl std::fmt::Display) -> HandlerError {
    HandlerError::permanent(error.to_string())
}

#[async_trait]
impl PurposeHandler for EmailHandler {
    /// What the server took, as `{"message_id", "server", "reply"}`. Without a text, and for a suppressed address, there was
    /// nothing to do.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let deadline = self.relay.deadline();
        let unsubscribe = self.unsubscribe_url(item)?;
        let Draft { address, to, parts } = match self.draft(item, unsubscribe).await? {
            Drafted::Ready(draft) => *draft,
            Drafted::NothingToDo(reason) => return Ok(Outcome::NothingToDo(reason)),
        };
        let key = item.idempotency_key();
        let Envelope {
            message_id,
            envelope,
            content,
        } = self.sender.message(&key, self.clock.now(), to, parts)?;
        match self.relay.send(deadline, &envelope, &content).await {
            Ok(reply) => {
                self.refused.note_taken();
                let server = self.relay.server();
                Ok(json!({"message_id": message_id, "server": server, "reply": reply}).into())
            }
            Err(refusal) => {
                if refusal.address_does_not_exist {
                    self.suppress(item, address, &refusal).await;
                }
                Err(refusal.error)
            }
        }
    }

    /// An e-mail cannot be marked as one without an effect, so the server is never called. The link that unsubscribes has no
    /// valid token.
    async fn preview(&self, item: &Item, _call: bool) -> Result<Option<Rendered>, HandlerError> {
        let unsubscribe = self.unsubscribe.as_ref();
        let unsubscribe = unsubscribe.filter(|_| item.feature_type().is_some());
        let link = unsubscribe.map(|links| unsubscribe_url(&links.base, &NO_TOKEN.into()));
        let Draft { to, parts, .. } = match self.draft(item, link).await? {
            Drafted::Ready(draft) => *draft,
            Drafted::NothingToDo(reason) => return Ok(Some(Rendered::nothing_to_do(reason))),
        };
        let rendered = Rendered {
            to: Some(to.to_string()),
            subject: Some(parts.subject.clone()),
            text: parts.text.clone(),
            html: parts.html.clone(),
            ..Rendered::default()
        };
        // What cannot be put together cannot be sent either.
        let (key, now) = (item.idempotency_key(), self.clock.now());
        self.sender.message(&key, now, to, parts)?;
        Ok(Some(rendered))
    }

    fn missing_parameters(&self, defaults: &Preference) -> Vec<String> {
        let templates = [&self.to, &self.to_name, &self.text, &self.html];
        let templates = templates.into_iter().flatten().chain([&self.subject]);
        let missing: BTreeSet<String> = templates
            .flat_map(|template| template.missing_parameters(defaults))
            .collect();
        missing.into_iter().collect()
    }

    fn mailer(&self) -> Option<Arc<dyn Mailer>> {
        Some(Arc::new(PlainMails {
            relay: Arc::clone(&self.relay),
            sender: Arc::clone(&self.sender),
            clock: Arc::clone(&self.clock),
        }))
    }
}

/// Plain e-mails by the server and the sender of a purpose. They go to operators, so neither the suppression list nor a link that
/// unsubscribes is asked for.
struct PlainMails {
    relay: Arc<Relay>,
    sender: Arc<Sender>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Mailer for PlainMails {
    async fn send(
        &self,
        id: &str,
        to: &EmailAddress,
        subject: &str,
        text: &str,
    ) -> Result<String, HandlerError> {
        let deadline = self.relay.deadline();
        let address = Address::new(to.local(), to.domain()).map_err(permanent)?;
        let parts = Parts {
            subject: one_line(subject),
            text: Some(text.to_owned()),
            html: None,
            unsubscribe: None,
        };
        let to = Mailbox::new(None, address);
        let now = self.clock.now();
        let mail = self.sender.message(id, now, to, parts)?;
        let sent = self
            .relay
            .send(deadline, &mail.envelope, &mail.content)
            .await;
        sent.map_err(|refusal| refusal.error)
    }
}

#[cfg(test)]
mod tests;
