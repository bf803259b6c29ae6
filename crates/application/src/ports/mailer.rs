//! Plain e-mails beside those of items, by the server and the sender of a purpose that sends e-mails.

use async_trait::async_trait;
use punctual_domain::EmailAddress;

use super::HandlerError;

/// Sends plain e-mails; [`PurposeHandler::mailer`](super::PurposeHandler::mailer) gives one.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Sends a text to an address, and returns what the server answered. An e-mail with the same `id` is recognized as the same.
    ///
    /// # Errors
    /// The server has not taken the e-mail, or has not confirmed that it has.
    async fn send(
        &self,
        id: &str,
        to: &EmailAddress,
        subject: &str,
        text: &str,
    ) -> Result<String, HandlerError>;
}
