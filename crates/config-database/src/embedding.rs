//! How the preference pages get into other products: which sites may show them, what signs the links to them, where they
//! are, what they are called, and what they know of past runs.

use std::{path::PathBuf, sync::Arc};

use axum::body::Bytes;
use punctual_application::ports::RunHistory;
use punctual_domain::visible;
use punctual_web::{origin::Origin, page::Appearance};
use secrecy::SecretString;
use url::Url;

use crate::{links::LinkKeys, past_runs::PastRuns};

/// Characters of a name at most: it is the end of every title.
const MAX_NAME_LENGTH: usize = 60;
/// Bytes of a logo at most: every page shows it.
const MAX_LOGO_BYTES: usize = 256 * 1024;
/// Where the logo is served.
pub(crate) const LOGO_PATH: &str = "/assets/logo";
/// First parts of the paths that the service has itself. A path that a proxy serves it below is distinct from them.
const OWN_PATHS: [&str; 14] = [
    "api",
    "assets",
    "embed.js",
    "favicon.ico",
    "health",
    "open",
    "openapi.json",
    "operators",
    "organizations",
    "sign-in",
    "sign-out",
    "tenants",
    "unsubscribe",
    "version",
];

/// The settings of an [`Embedding`], as texts. Absent ones leave the pages as they are without.
#[derive(Debug, Clone, Default)]
pub struct EmbeddingSettings {
    /// Origins whose pages may show the preference pages in a frame and call the API, with commas between, such as
    /// `https://shop.example`.
    pub embed_origins: Option<String>,
    /// Keys that sign links, each as `id:secret`, with commas between. The first one signs; all are accepted.
    pub link_keys: Option<SecretString>,
    /// The address at which browsers reach the service, such as `https://shop.example/preferences`.
    pub public_url: Option<String>,
    /// Name of the product.
    pub site_name: Option<String>,
    /// File of the product's logo: SVG, PNG, JPEG or WebP, at most 256 KiB.
    pub site_logo: Option<PathBuf>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidEmbedding {
    /// Field of [`EmbeddingSettings`].
    pub field: &'static str,
    /// What is wrong with it, and the remedy; without the secret of a key.
    pub problem: String,
}

/// How the preference pages get into other products. The default one lets no other page show them, signs links with a key
/// of the store, takes the address of the service from each request, and shows no past runs.
#[derive(Debug, Clone, Default)]
pub struct Embedding {
    pub(crate) origins: Arc<[Origin]>,
    pub(crate) link_keys: Option<LinkKeys>,
    pub(crate) public_url: Option<PublicUrl>,
    pub(crate) logo: Option<Logo>,
    /// `None`: the pages show no past runs.
    pub(crate) past_runs: Option<PastRuns>,
    name: Option<String>,
}

impl Embedding {
    /// Reads the settings, and the file of the logo.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(settings: EmbeddingSettings) -> Result<Self, InvalidEmbedding> {
        let EmbeddingSettings {
            embed_origins,
            link_keys,
            public_url,
            site_name,
            site_logo,
        } = settings;
        let named = |field| move |problem| InvalidEmbedding { field, problem };
        let origins = embed_origins.map(|text| Origin::list(&text)).transpose();
        let link_keys = link_keys.map(|text| LinkKeys::parse(&text)).transpose();
        let public_url = public_url.map(|text| PublicUrl::parse(&text)).transpose();
        Ok(Self {
            origins: origins.map_err(named("embed_origins"))?.unwrap_or_default(),
            link_keys: link_keys.map_err(named("link_keys"))?,
            public_url: public_url.map_err(named("public_url"))?,
            name: site_name
                .map(name_of)
                .transpose()
                .map_err(named("site_name"))?,
            logo: site_logo
                .map(Logo::read)
                .transpose()
                .map_err(named("site_logo"))?,
            past_runs: None,
        })
    }

    /// The same, whose pages show what has run for the tenant, as `history` knows it, for the features that allow it
    /// (`show_runs`). Pages wait for it for two seconds and a half at most, eight at once; after a failure none asks
    /// for three seconds.
    #[must_use]
    pub fn with_run_history(mut self, history: Arc<dyn RunHistory>) -> Self {
        self.past_runs = Some(PastRuns::new(history));
        self
    }

    /// The path of the pages' addresses, such as `/preferences`; empty: they are at the root.
    pub(crate) fn base_path(&self) -> &str {
        self.public_url.as_ref().map_or("", |url| &url.path)
    }

    pub(crate) fn appearance(&self) -> Appearance {
        Appearance {
            name: self.name.clone(),
            logo: self.logo.as_ref().map(|_| LOGO_PATH),
            base_path: self.base_path().to_owned(),
            embed_origins: Arc::clone(&self.origins),
        }
    }
}

/// The address at which browsers reach the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicUrl {
    /// Such as `https://shop.example`.
    pub(crate) origin: String,
    /// Such as `/preferences`; empty: none.
    path: String,
}

impl PublicUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |remedy: &str| Err(format!("is `{}`; {remedy}", visible(text)));
        let Ok(url) = Url::parse(text) else {
            return wrong("expected an address such as `https://shop.example/preferences`");
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return wrong("expected an address that begins with `https://` or `http://`");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user name or a password; leave them out".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("leave out what follows the path");
        }
        let path = url.path().trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let segments = path.split('/').skip(1);
        if !segments
            .clone()
            .all(|part| !part.is_empty() && part.bytes().all(plain))
        {
            return wrong(
                "use only the characters A-Z a-z 0-9 - . _ ~ between the slashes of the path",
            );
        }
        if let Some(own) = segments.take(1).find(|part| OWN_PATHS.contains(part)) {
            return wrong(&format!(
                "the service itself has pages below `/{own}`; use another path"
            ));
        }
        Ok(Self {
            origin: url.origin().ascii_serialization(),
            path: path.to_owned(),
        })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }
}

fn name_of(name: String) -> Result<String, String> {
    let hidden = visible(&name) != name;
    if hidden || name.trim().is_empty() || name.chars().count() > MAX_NAME_LENGTH {
        return Err(format!(
            "is not a name; use 1 to {MAX_NAME_LENGTH} visible characters"
        ));
    }
    Ok(name)
}

/// The picture beside the name.
#[derive(Debug, Clone)]
pub(crate) struct Logo {
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Bytes,
}

impl Logo {
    fn read(path: PathBuf) -> Result<Self, String> {
        let shown = path.display();
        let bytes = std::fs::read(&path)
            .map_err(|error| format!("names {shown}, which cannot be read: {error}"))?;
        if bytes.len() > MAX_LOGO_BYTES {
            return Err(format!(
                "names {shown}, which has {} bytes; use a file of at most {MAX_LOGO_BYTES}",
                bytes.len()
            ));
        }
        let content_type = picture_type(&bytes).ok_or_else(|| {
            format!("names {shown}, which is not a picture; use an SVG, PNG, JPEG or WebP file")
        })?;
        Ok(Self {
            content_type,
            bytes: bytes.into(),
        })
    }
}

/// The kind of a picture, by its content.
fn picture_type(bytes: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(bytes).map(str::trim_start);
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        _ => text
            .is_ok_and(|text| text.starts_with('<') && text.contains("<svg"))
            .then_some("image/svg+xml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_address_and_a_path_that_the_service_does_not_have() {
        for (text, origin, path) in [
            ("https://shop.example", "https://shop.example", ""),
            ("https://shop.example/", "https://shop.example", ""),
            (
                "https://Shop.example:443/own/",
                "https://shop.example",
                "/own",
            ),
            (
                "http://10.0.0.1:8000/a/b-c",
                "http://10.0.0.1:8000",
                "/a/b-c",
            ),
        ] {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!((url.origin.as_str(), url.path.as_str()), (origin, path));
        }
        for (text, remedy) in [
            ("shop.example", "expected an address"),
            ("", "expected an address"),
            ("ftp://shop.example", "begins with"),
            ("https://a:secret@shop.example", "leave them out"),
            ("https://shop.example/?a", "leave out what follows"),
            ("https://shop.example/#a", "leave out what follows"),
            ("https://shop.example/a%20b", "use only the characters"),
            ("https://shop.example//a", "use only the characters"),
            ("https://shop.example/tenants", "use another path"),
            ("https://shop.example/api/own", "use another path"),
        ] {
            let error = PublicUrl::parse(text).unwrap_err();
            assert!(
                error.contains(remedy) && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_logo_is_a_small_picture() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("logo");
        for (content, content_type) in [
            (
                &b"<?xml version=\"1.0\"?>\n<svg/>"[..],
                Some("image/svg+xml"),
            ),
            (b"\x89PNG\r\n\x1a\n", Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"<html></html>", None),
            (b"#!/bin/sh", None),
            (b"", None),
        ] {
            std::fs::write(&file, content).unwrap();
            let read = Logo::read(file.clone()).ok().map(|logo| logo.content_type);
            assert_eq!(read, content_type);
        }
        std::fs::write(&file, vec![b'<'; MAX_LOGO_BYTES + 1]).unwrap();
        assert!(Logo::read(file).unwrap_err().contains("at most"));
        let nowhere = Logo::read(folder.path().join("none"));
        assert!(nowhere.unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named() {
        let error = |settings| Embedding::new(settings).unwrap_err().to_string();
        let settings = EmbeddingSettings::default;
        assert!(Embedding::new(settings()).is_ok());
        let wrong = error(EmbeddingSettings {
            embed_origins: Some("*".into()),
            ..settings()
        });
        assert!(
            wrong.starts_with("embed_origins `*` is not an origin"),
            "{wrong}"
        );
        let wrong = error(EmbeddingSettings {
            site_name: Some("a\u{202e}b".into()),
            ..settings()
        });
        assert!(wrong.starts_with("site_name is not a name"), "{wrong}");
        let wrong = error(EmbeddingSettings {
            link_keys: Some("a:canary".into()),
            ..settings()
        });
        assert!(
            wrong.starts_with("link_keys ") && !wrong.contains("canary"),
            "{wrong}"
        );
    }
}
