//! The languages that the pages have, and which of them suits a reader.

use std::sync::LazyLock;

use fluent_bundle::{FluentError, FluentResource, FluentValue, concurrent::FluentBundle};
use unic_langid::{CharacterDirection, LanguageIdentifier, subtags::Region};

use super::arguments;

/// Tag and texts of each language; the first one is that of readers whose language is not here.
pub(super) const FILES: [(&str, &str); 6] = [
    ("en", include_str!("../../locales/en.ftl")),
    ("de", include_str!("../../locales/de.ftl")),
    ("fr", include_str!("../../locales/fr.ftl")),
    ("es", include_str!("../../locales/es.ftl")),
    ("pt", include_str!("../../locales/pt.ftl")),
    ("ja", include_str!("../../locales/ja.ftl")),
];
/// The locale of readers of whom nothing is known: English as in Europe, with 24 hours and weeks from Monday on.
pub(super) const NEUTRAL: &str = "en-150";
/// The language of which some regions differ so much that it needs one.
const ENGLISH: &str = "en";
/// Ranges of a header that are looked at.
const MAX_RANGES: usize = 20;

pub(super) static LANGUAGES: LazyLock<Vec<Language>> = LazyLock::new(|| {
    let language = |(tag, source)| Language::new(tag, source);
    FILES.into_iter().map(language).collect()
});

/// A language and its texts.
pub(super) struct Language {
    /// IETF tag, such as `de`.
    pub(super) tag: &'static str,
    id: LanguageIdentifier,
    bundle: FluentBundle<FluentResource>,
}

impl Language {
    /// Whether this is the language of a tag, whatever its script and region are.
    fn speaks(&self, asked: &LanguageIdentifier) -> bool {
        self.id.language == asked.language
    }

    /// What cannot be read of the source is left out; a test reads the files that are built in.
    pub(super) fn new(tag: &'static str, source: &str) -> Self {
        let id: LanguageIdentifier = tag.parse().unwrap_or_default();
        let resource = FluentResource::try_new(source.to_owned());
        let resource = resource.unwrap_or_else(|(readable, _)| readable);
        let mut bundle = FluentBundle::new_concurrent(vec![id.clone()]);
        // Marks of direction around each value would be copied with it. Where values of the other direction are the rule, they are
        // needed.
        bundle.set_use_isolating(is_right_to_left(&id));
        let added = bundle.add_builtins();
        debug_assert!(added.is_ok(), "{added:?}");
        let added = bundle.add_resource(resource);
        debug_assert!(added.is_ok(), "{added:?}");
        Self { tag, id, bundle }
    }

    /// The text of this id. Tests see to it that there is one, and that it has no mistake.
    pub(super) fn text(&self, id: &str, values: &[(&str, FluentValue<'_>)]) -> String {
        let Some((text, mistakes)) = self.resolve(id, values) else {
            tracing::error!(
                id,
                language = self.tag,
                "The text {id} of the pages is missing"
            );
            return id.to_owned();
        };
        if let Some(error) = mistakes.first() {
            tracing::error!(
                id,
                language = self.tag,
                %error,
                "Failed to format the text {id} of the pages: {error}"
            );
        }
        text
    }

    /// The text of this id, and what is wrong with it; `None`: there is none.
    pub(super) fn resolve(
        &self,
        id: &str,
        values: &[(&str, FluentValue<'_>)],
    ) -> Option<(String, Vec<FluentError>)> {
        let pattern = self.bundle.get_message(id)?.value()?;
        let mut mistakes = Vec::new();
        let values = arguments(values);
        let text = self
            .bundle
            .format_pattern(pattern, Some(&values), &mut mistakes);
        Some((text.into_owned(), mistakes))
    }

    pub(super) fn is_right_to_left(&self) -> bool {
        is_right_to_left(&self.id)
    }
}

fn is_right_to_left(id: &LanguageIdentifier) -> bool {
    id.character_direction() == CharacterDirection::RTL
}

/// The language of the first of these tags that is of one, and the locale: that language in a region. The region is that of the
/// tag, else that of the first of the `ranges` of the same language that names one, else that of the range that is wanted most:
/// languages are often chosen, and linked to, without one. English of which no range names a region is as in Europe.
pub(super) fn negotiate<'t>(
    tags: impl Iterator<Item = &'t str>,
    ranges: &[&str],
) -> Option<(&'static Language, String)> {
    let (asked, language) = tags.filter_map(read).find_map(|asked| {
        let language = LANGUAGES.iter().find(|one| one.speaks(&asked))?;
        Some((asked, language))
    })?;
    let region = asked.region.or_else(|| region_of(language, ranges));
    let locale = match region {
        Some(region) => format!("{}-{}", language.tag, region.as_str()),
        None if language.tag == ENGLISH => NEUTRAL.to_owned(),
        None => language.tag.to_owned(),
    };
    Some((language, locale))
}

/// In which region somebody with these ranges reads a language.
fn region_of(language: &Language, ranges: &[&str]) -> Option<Region> {
    let mut of_language = ranges
        .iter()
        .filter_map(|range| read(range))
        .filter(|range| language.speaks(range));
    let own = of_language.find_map(|range| range.region);
    // Those behind the first one are what browsers add: one in German that asks for `de,en-US` is not in the United States. And
    // of English, CLDR has no more than the regions where it is usual: any other one would be as in the United States.
    let first = ranges.first().filter(|_| language.tag != ENGLISH);
    own.or_else(|| read(first?)?.region)
}

/// A tag without what says how to write numbers and the like; `None`: it is not a tag.
fn read(tag: &str) -> Option<LanguageIdentifier> {
    let tag = tag.split("-u-").next().unwrap_or(tag);
    tag.parse().ok()
}

/// The languages of a header `Accept-Language`, those first that are wanted most.
pub(super) fn by_quality(header: &str) -> Vec<&str> {
    let range = |range| -> Option<(f32, &str)> {
        let mut parts = str::split(range, ';').map(str::trim);
        let tag = parts.next()?;
        let quality = match parts.find_map(|part| part.strip_prefix("q=")) {
            Some(quality) => quality.trim().parse().ok()?,
            None => 1.0,
        };
        (quality > 0.0).then_some((quality, tag))
    };
    let ranges = header.split(',').take(MAX_RANGES).filter_map(range);
    let mut ranges: Vec<(f32, &str)> = ranges.collect();
    ranges.sort_by(|one, other| other.0.total_cmp(&one.0));
    ranges.into_iter().map(|(_, tag)| tag).collect()
}
