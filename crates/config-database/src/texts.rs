//! The texts of the pages that tenants see, in the language of their reader: messages of Fluent files (`locales/*.ftl`), and
//! dates, times, lists and names of days and cities as the locale has them, by ICU4X.
//!
//! To add a text, give it an id in `locales/en.ftl` and in every other file, and ask for it by [`Texts::text`]. To add a language,
//! copy `en.ftl`, translate it, and list it in [`languages`]. Tests find ids that are missing, that nothing uses, and that
//! have other variables than in English, and text that stands in a template. Pages of operators are in English.

mod calendar;
mod languages;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use fluent_bundle::FluentArgs;
pub(crate) use fluent_bundle::FluentValue;
use punctual_domain::LanguageTag;
use punctual_web::{OwnName, PageWords, ProblemWords};

use self::{
    calendar::Calendar,
    languages::{LANGUAGES, Language, NEUTRAL, by_quality, negotiate},
};

/// Locales that are kept; for one more, another one goes. A request may ask for any region.
const MAX_KNOWN: usize = 300;
/// Statuses of problems that have words, and the ids of their texts; that of a title ends in `-title`.
const PROBLEMS: [(u16, &str); 10] = [
    (400, "problem-bad-request"),
    (403, "problem-forbidden"),
    (404, "problem-not-found"),
    // An address to which forms are sent has no page either.
    (405, "problem-not-found"),
    (413, "problem-too-large"),
    (415, "problem-bad-request"),
    (422, "problem-invalid"),
    (429, "problem-too-many"),
    (500, "problem-failed"),
    (503, "problem-unavailable"),
];

/// The words of the layout, by language and by whether the reader may choose another one.
static WORDS: LazyLock<HashMap<(&str, bool), Arc<PageWords>>> = LazyLock::new(|| {
    let words = |language: &Language, may_choose| {
        let words = Arc::new(page_words(language, may_choose));
        ((language.tag, may_choose), words)
    };
    LANGUAGES
        .iter()
        .flat_map(|language| [words(language, true), words(language, false)])
        .collect()
});

/// The texts of a locale.
pub(crate) struct Texts {
    language: &'static Language,
    /// Language and region, such as `de-AT`.
    locale: String,
    calendar: Calendar,
    /// Whether the reader may choose another language.
    may_choose: bool,
}

impl Texts {
    /// The texts of a page for its reader: in the language that its link names (`linked`), else in the one that was `chosen` on a page or
    /// for the tenant, else in the best of a header `Accept-Language`, else in English. Where the link names one, the page offers no
    /// choice. A region that link and choice leave open is that of the header.
    pub(crate) fn of(
        linked: Option<&LanguageTag>,
        chosen: Option<&str>,
        accepted: Option<&str>,
    ) -> Arc<Self> {
        let accepted = by_quality(accepted.unwrap_or_default());
        let linked = linked.map(LanguageTag::as_str).into_iter();
        let linked = negotiate(linked, &accepted);
        let is_linked = linked.is_some();
        let wanted = chosen.into_iter().chain(accepted.iter().copied());
        let found = linked.or_else(|| negotiate(wanted, &accepted));
        let (language, locale) = found.unwrap_or_else(|| (&LANGUAGES[0], NEUTRAL.to_owned()));
        Self::known(language, locale, !is_linked)
    }

    fn known(language: &'static Language, locale: String, may_choose: bool) -> Arc<Self> {
        type Known = HashMap<(String, bool), Arc<Texts>>;
        static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);
        let name = (locale, may_choose);
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(texts) = known.get(&name) {
            return Arc::clone(texts);
        }
        drop(known);
        let texts = Arc::new(Self::new(language, name.0.clone(), may_choose));
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN
            && let Some(any) = known.keys().next().cloned()
        {
            known.remove(&any);
        }
        known.insert(name, Arc::clone(&texts));
        texts
    }

    fn new(language: &'static Language, locale: String, may_choose: bool) -> Self {
        Self {
            language,
            calendar: Calendar::of(&locale),
            locale,
            may_choose,
        }
    }

    /// The text of this id.
    pub(crate) fn text(&self, id: &str) -> String {
        self.with(id, &[])
    }

    /// The text of this id with the value of its one variable.
    pub(crate) fn text_of(&self, id: &str, name: &str, value: impl AsRef<str>) -> String {
        self.with(id, &[(name, value.as_ref().into())])
    }

    /// The text of this id with the values of its variables.
    pub(crate) fn with(&self, id: &str, values: &[(&str, FluentValue<'_>)]) -> String {
        self.language.text(id, values)
    }

    /// Sentences, one behind the other.
    pub(crate) fn sentences(&self, sentences: impl IntoIterator<Item = String>) -> String {
        let both = |before: String, next: String| {
            self.with(
                "both-sentences",
                &[("before", before.into()), ("next", next.into())],
            )
        };
        sentences.into_iter().reduce(both).unwrap_or_default()
    }

    /// Language and region, such as `de-AT`.
    pub(crate) fn locale(&self) -> &str {
        &self.locale
    }

    /// Dates, times, days and lists.
    pub(crate) fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// The words of the layout.
    pub(crate) fn words(&self) -> Arc<PageWords> {
        Arc::clone(&WORDS[&(self.language.tag, self.may_choose)])
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Texts({})", self.locale)
    }
}

/// The words of the layout in a language.
fn page_words(language: &Language, may_choose: bool) -> PageWords {
    let text = |id: &str| language.text(id, &[]);
    let own_name = |language: &Language| OwnName {
        tag: language.tag.to_owned(),
        name: language.text("language-name", &[]),
    };
    let problem = |(status, id): (u16, &str)| ProblemWords {
        status,
        title: text(&format!("{id}-title")),
        text: text(id),
    };
    PageWords {
        language: language.tag.to_owned(),
        right_to_left: language.is_right_to_left(),
        skip: text("page-skip"),
        start: text("page-start"),
        version: text("page-version"),
        time_zone_rules: text("page-time-zone-rules"),
        api: text("page-api"),
        languages_label: text("page-languages"),
        languages: if may_choose {
            LANGUAGES.iter().map(own_name).collect()
        } else {
            Vec::new()
        },
        sign_in: text("sign-in-title"),
        key: text("sign-in-key"),
        key_refused: text("sign-in-refused"),
        problems: PROBLEMS.into_iter().map(problem).collect(),
    }
}

/// The tag of a language that the pages have, if `tag` is one.
pub(crate) fn own_language(tag: &str) -> Option<&'static str> {
    let mut tags = LANGUAGES.iter().map(|language| language.tag);
    tags.find(|own| *own == tag)
}

/// Values by their names, as Fluent takes them.
fn arguments<'v>(values: &'v [(&'v str, FluentValue<'v>)]) -> FluentArgs<'v> {
    let value = |(name, value): &'v (&'v str, FluentValue<'v>)| (*name, value.clone());
    values.iter().map(value).collect()
}

#[cfg(test)]
mod tests;
