//! What the answers of an SMTP server, and the lack of one, mean: whether to try again, and whether the address exists.

use std::error::Error as _;

use lettre::transport::smtp::Error;
use punctual_application::ports::{HandlerError, error_chain};

/// Characters of a reply that are kept.
const MAX_REPLY: usize = 300;
/// Enhanced status codes (RFC 3463) that say that an address does not exist or takes no mail for good.
const DOES_NOT_EXIST: [&str; 6] = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"];

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
    /// What the server answered, without the address; empty: nothing.
    pub(super) reply: String,
    pub(super) address_does_not_exist: bool,
    /// Whether the server has answered, and the connection can be used further.
    pub(super) is_answer: bool,
}

impl Refusal {
    /// Of an e-mail to `address` that `server` did not take.
    pub(super) fn new(server: &str, stage: Stage, error: Error, address: &str) -> Self {
        let Some(code) = error.status() else {
            return Self::unanswered(server, error);
        };
        let code = u16::from(code);
        let said = error.source().map(ToString::to_string);
        let said = without(&said.unwrap_or_default(), address);
        let said: String = said.trim().chars().take(MAX_REPLY).collect();
        let reply = format!("{code} {said}").trim_end().to_owned();
        let message = format!("{server} {}: {reply}", stage.refused());
        let is_permanent = (500..600).contains(&code) && stage != Stage::Connect;
        Self {
            error: match code {
                // The server closes the connection, mostly because there are too many.
                421 => HandlerError::throttled(message, None),
                _ if is_permanent => HandlerError::permanent(message),
                _ => HandlerError::retryable(message),
            },
            address_does_not_exist: is_permanent
                && matches!(stage, Stage::Recipient | Stage::Content)
                && does_not_exist(&said),
            reply,
            is_answer: code != 421,
        }
    }

    /// Of a server that did not answer within the time limit.
    pub(super) fn too_late(server: &str) -> Self {
        Self::without_answer(HandlerError::retryable(format!(
            "{server} did not answer in time"
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

    fn unanswered(server: &str, error: Error) -> Self {
        let problem = if error.is_tls() {
            "offers no encryption that can be used"
        } else {
            "does not answer as it should"
        };
        let message = format!("{server} {problem}: {}", error_chain(&error));
        Self::without_answer(HandlerError::retryable(message).with_source(error))
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

/// Whether a reply begins with a status code that says so.
fn does_not_exist(said: &str) -> bool {
    let code = said.split_whitespace().next().unwrap_or_default();
    DOES_NOT_EXIST.contains(&code)
}

/// The text with each mention of the address replaced: replies are kept and logged, and addresses are personal data.
pub(super) fn without(text: &str, address: &str) -> String {
    if address.is_empty() {
        return text.to_owned();
    }
    // In ASCII alone, so that places in both are the same.
    let (lower, address) = (text.to_ascii_lowercase(), address.to_ascii_lowercase());
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    for (place, mention) in lower.match_indices(&address) {
        left.push_str(&text[from..place]);
        left.push_str("[address]");
        from = place + mention.len();
    }
    left.push_str(&text[from..]);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_kept_without_the_address() {
        let reply = "5.1.1 <Ann@Shop.example>: ANN@shop.example unknown";
        let kept = "5.1.1 <[address]>: [address] unknown";
        assert_eq!(without(reply, "ann@shop.example"), kept);
        assert_eq!(without("no mailbox", "ann@shop.example"), "no mailbox");
        let utf8 = "ü jürgen@shop.example ü";
        assert_eq!(without(utf8, "jürgen@shop.example"), "ü [address] ü");
    }

    #[test]
    fn only_some_status_codes_say_that_an_address_does_not_exist() {
        for said in ["5.1.1 no such user", "5.1.10 null MX", "5.2.1"] {
            assert!(does_not_exist(said), "{said}");
        }
        for said in [
            "",
            "no such user",
            "5.2.2 mailbox full",
            "5.7.1 blocked; see 5.1.1",
            "4.1.1 later",
            "5.1.11",
        ] {
            assert!(!does_not_exist(said), "{said}");
        }
    }
}
