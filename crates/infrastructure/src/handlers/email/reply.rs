//! What the answers of an SMTP server, and the lack of one, mean: whether to try again, and whether the address exists.

use std::{error::Error as _, time::Duration};

use lettre::transport::smtp::Error;
use punctual_application::ports::{HandlerError, error_chain};

/// Characters of a reply that are kept.
const MAX_REPLY: usize = 300;
/// Enhanced status codes (RFC 3463) that say that an address does not exist.
const DOES_NOT_EXIST: [&str; 3] = ["5.1.1", "5.1.6", "5.1.10"];
/// The least time until the next attempt at an e-mail that the server refuses for now.
const RETRY_AFTER: Duration = Duration::from_mins(1);
/// What separates an address in a reply from the text around it.
const AROUND_ADDRESSES: &str = "<>()[]\",;:";

/// How far a conversation with the server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until the server has said hello, and the connection is encrypted.
    Connect,
    /// User and password.
    SignIn,
    /// The address of the sender.
    Sender,
    /// The address of the recipient.
    Recipient,
    /// The e-mail itself.
    Content,
}

impl Stage {
    /// What the server was to answer to.
    fn awaited(self) -> &'static str {
        match self {
            Self::Connect => "the connection",
            Self::SignIn => "the sign-in (AUTH)",
            Self::Sender => "the sender (MAIL FROM)",
            Self::Recipient => "the recipient (RCPT TO)",
            Self::Content => "the e-mail (DATA)",
        }
    }

    fn refused(self) -> &'static str {
        match self {
            Self::Connect => "refused the connection",
            Self::SignIn => "refused the user name or the password",
            Self::Sender => "refused the sender",
            Self::Recipient => "refused the recipient",
            Self::Content => "refused the e-mail",
        }
    }
}

/// An e-mail that the server has not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: HandlerError,
    /// What the server answered, without addresses; empty: nothing.
    pub(super) reply: String,
    pub(super) address_does_not_exist: bool,
    /// Whether the server has answered, and the connection can be used further.
    pub(super) is_answer: bool,
}

impl Refusal {
    /// Of an e-mail that `server` did not take.
    pub(super) fn new(server: &str, stage: Stage, error: &Error) -> Self {
        let Some(code) = error.status() else {
            return Self::unanswered(server, error);
        };
        let code = u16::from(code);
        let said = error.source().map(ToString::to_string).unwrap_or_default();
        Self::answered(server, stage, code, &said)
    }

    /// Of an e-mail that `server` answered with this code and text.
    fn answered(server: &str, stage: Stage, code: u16, said: &str) -> Self {
        let said = without_addresses(said);
        let said: String = said.trim().chars().take(MAX_REPLY).collect();
        let reply = format!("{code} {said}").trim_end().to_owned();
        let message = format!("{server} {}: {reply}", stage.refused());
        let is_permanent = (500..600).contains(&code) && stage != Stage::Connect;
        Self {
            error: if is_permanent {
                HandlerError::permanent(message)
            } else if is_throttled(code, &said) {
                HandlerError::throttled(message, None)
            } else {
                HandlerError::retryable(message).with_retry_after(RETRY_AFTER)
            },
            address_does_not_exist: is_permanent
                && stage == Stage::Recipient
                && DOES_NOT_EXIST.contains(&enhanced_code(&said)),
            reply,
            is_answer: code != 421,
        }
    }

    /// Of a server that did not answer within the time limit.
    pub(super) fn too_late(server: &str, stage: Stage) -> Self {
        Self::without_answer(HandlerError::retryable(format!(
            "{server} did not answer in time to {}",
            stage.awaited()
        )))
    }

    /// The same, of an e-mail that was sent to its end. Without an answer the server may have taken it, and another attempt
    /// could double it.
    pub(super) fn or_unconfirmed(self, server: &str) -> Self {
        if !self.reply.is_empty() {
            return self;
        }
        Self::without_answer(HandlerError::permanent(format!(
            "{server} did not confirm the e-mail; it may have been sent, so it is not sent again ({})",
            self.error.message
        )))
    }

    /// Of an e-mail that the server cannot take, because it lacks an extension.
    pub(super) fn unsupported(server: &str, extension: &str) -> Self {
        Self {
            is_answer: true,
            ..Self::without_answer(HandlerError::permanent(format!(
                "{server} does not take this address: it does not support {extension}"
            )))
        }
    }

    fn unanswered(server: &str, error: &Error) -> Self {
        // A parser's error holds what it has read.
        let chain = without_addresses(&error_chain(error));
        let message = if error.is_tls() {
            format!("{server} offers no encryption that can be used: {chain}")
        } else if error.is_response() {
            format!("{server} sent an invalid SMTP reply: {chain}; expected a three-digit code")
        } else if error.is_client() {
            format!("{server} cannot be used: {chain}")
        } else {
            format!("{server} refused or closed the connection: {chain}")
        };
        Self::without_answer(HandlerError::retryable(message))
    }

    fn without_answer(error: HandlerError) -> Self {
        Self {
            error,
            reply: String::new(),
            address_does_not_exist: false,
            is_answer: false,
        }
    }
}

/// Whether a reply asks for fewer connections or e-mails.
fn is_throttled(code: u16, said: &str) -> bool {
    let enhanced = enhanced_code(said);
    let slows_down = enhanced == "4.3.2" || enhanced.starts_with("4.7.");
    matches!(code, 421 | 454) || ((450..460).contains(&code) && slows_down)
}

/// The enhanced status code that a reply begins with, or another first word.
fn enhanced_code(said: &str) -> &str {
    said.split_whitespace().next().unwrap_or_default()
}

/// The text with every address replaced, also those that the server adds: replies are kept and logged, and addresses are
/// personal data.
pub(super) fn without_addresses(text: &str) -> String {
    let is_around = |c: char| c.is_whitespace() || AROUND_ADDRESSES.contains(c);
    let mut left = String::with_capacity(text.len());
    for part in text.split_inclusive(is_around) {
        let word = part.trim_end_matches(is_around);
        left.push_str(if word.contains('@') {
            "[address]"
        } else {
            word
        });
        left.push_str(&part[word.len()..]);
    }
    left
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::HandlerErrorKind::{self, Permanent, Retryable, Throttled};

    use super::*;

    #[test]
    fn a_reply_is_kept_without_addresses() {
        let reply = "5.1.1 <Ann@Shop.example>: ANN@shop.example unknown";
        let kept = "5.1.1 <[address]>: [address] unknown";
        assert_eq!(without_addresses(reply), kept);
        assert_eq!(without_addresses("no mailbox"), "no mailbox");
        assert_eq!(
            without_addresses("ü jürgen@shop.example ü"),
            "ü [address] ü"
        );
        let forwarded = "to:ann@shop.example,bob+week=x@other.example\r\n(eve@x) ok";
        assert_eq!(
            without_addresses(forwarded),
            "to:[address],[address]\r\n([address]) ok"
        );
    }

    #[test]
    fn the_reply_decides_about_a_retry_and_about_the_address() {
        use Stage::{Connect, Content, Recipient, Sender, SignIn};
        let seen = |stage, code, said: &str| -> (HandlerErrorKind, Option<u64>, bool) {
            let refusal = Refusal::answered("smtp.example:25", stage, code, said);
            let wait = refusal.error.retry_after.map(|wait| wait.as_secs());
            (refusal.error.kind, wait, refusal.address_does_not_exist)
        };
        for (stage, code, said, expected) in [
            (
                Recipient,
                550,
                "5.1.1 no such user",
                (Permanent, None, true),
            ),
            (Recipient, 550, "5.1.6 moved", (Permanent, None, true)),
            (Recipient, 556, "5.1.10 null MX", (Permanent, None, true)),
            (Content, 550, "5.1.1 no such user", (Permanent, None, false)),
            (Sender, 550, "5.1.1 no such user", (Permanent, None, false)),
            (Recipient, 550, "5.2.1 disabled", (Permanent, None, false)),
            (Recipient, 550, "5.1.2 no domain", (Permanent, None, false)),
            (Recipient, 550, "5.1.11", (Permanent, None, false)),
            (Recipient, 550, "5.7.1 see 5.1.1", (Permanent, None, false)),
            (Recipient, 550, "no such user", (Permanent, None, false)),
            (Recipient, 550, "", (Permanent, None, false)),
            (Connect, 554, "5.7.1 not you", (Retryable, Some(60), false)),
            (Connect, 421, "too many", (Throttled, None, false)),
            (SignIn, 454, "4.7.0 later", (Throttled, None, false)),
            (SignIn, 535, "5.7.8 wrong", (Permanent, None, false)),
            (Recipient, 450, "4.7.1 greylisted", (Throttled, None, false)),
            (Content, 452, "4.3.2 slow down", (Throttled, None, false)),
            (Content, 452, "4.3.1 full", (Retryable, Some(60), false)),
            (Recipient, 450, "4.2.1", (Retryable, Some(60), false)),
            (Recipient, 450, "4.1.1 later", (Retryable, Some(60), false)),
            (Content, 432, "4.7.12", (Retryable, Some(60), false)),
        ] {
            assert_eq!(seen(stage, code, said), expected, "{stage:?} {code} {said}");
        }
    }

    #[test]
    fn an_e_mail_without_an_answer_to_its_end_is_not_sent_again() {
        let server = "smtp.example:25";
        let silent = Refusal::too_late(server, Stage::Content);
        assert_eq!(silent.error.kind, Retryable);
        let silent = silent.or_unconfirmed(server).error;
        assert_eq!(silent.kind, Permanent);
        assert!(silent.message.contains("may have been sent"), "{silent}");
        let refused = Refusal::answered(server, Stage::Content, 451, "4.3.0 later");
        assert_eq!(refused.or_unconfirmed(server).error.kind, Retryable);
    }
}
