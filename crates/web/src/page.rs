//! What the pages of Punctual's servers share: one layout and style, one sign-in page, and errors as pages. A page is a
//! template of its server that extends a `layout.html` of three parts, which [`Site::render`] puts into the layout here:
//!
//! ```html
//! {% block title %}{% endblock %}
//! <!-- nav -->
//! {% block nav %}{% endblock %}
//! <!-- content -->
//! {% block content %}{% endblock %}
//! ```
//!
//! Addresses in a template are made with [`at`], so that the pages work below any path that their router is nested at.

use askama::Template;
use axum::{
    Json, Router,
    extract::{OriginalUri, Request},
    http::{Extensions, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use utoipa::openapi::{OpenApi, Server};

use crate::{Problem, problem::title, session::within};

/// The pages use files of the server's own, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

tokio::task_local! {
    static ROOT: String;
}

/// The address of the page at `path`, such as `/jobs`, in the answer to the current request: below the path that the
/// router is nested at.
#[must_use]
pub fn at(path: &str) -> String {
    below(&root(), path)
}

fn below(root: &str, path: &str) -> String {
    match path {
        // A nested router has `/ops` and not `/ops/`.
        "/" if !root.is_empty() => root.to_owned(),
        path => format!("{root}{path}"),
    }
}

/// The path that the router of the current request is nested at, such as `/ops`; empty: none.
#[must_use]
pub fn root() -> String {
    ROOT.try_with(Clone::clone).unwrap_or_default()
}

/// Renders something below a [`root`] after the request has been answered, as a stream does.
pub fn with_root<T>(root: String, render: impl FnOnce() -> T) -> T {
    ROOT.sync_scope(root, render)
}

/// The path that the router of a request with this address is nested at; empty: none.
#[must_use]
pub fn root_of(uri: &Uri, extensions: &Extensions) -> String {
    let original = extensions.get::<OriginalUri>();
    let original = original.map_or(uri, |OriginalUri(original)| original);
    stripped(original.path(), uri.path()).to_owned()
}

/// The description of an API, as the answer to `request`: it names the path that the router is nested at.
pub fn described(mut description: OpenApi, request: &Request) -> Json<OpenApi> {
    let root = root_of(request.uri(), request.extensions());
    if !root.is_empty() {
        description.servers = Some(vec![Server::new(root)]);
    }
    Json(description)
}

/// What a nested router has taken off the path of a request.
fn stripped<'p>(original: &'p str, path: &str) -> &'p str {
    match path {
        "/" => original.trim_end_matches('/'),
        path => original.strip_suffix(path).unwrap_or_default(),
    }
}

/// The pages of a server.
#[derive(Debug)]
pub struct Site {
    /// Name of the site, the end of every title.
    pub name: &'static str,
    /// Addresses of style sheets beside the common one.
    pub styles: &'static [&'static str],
    /// Whether the pages show the version.
    pub shows_version: bool,
}

impl Site {
    /// Renders a page in the layout, or a fragment, which is a template without the layout's parts, as it is.
    ///
    /// # Errors
    /// Status 500 when the template fails; the log says why.
    pub fn render(&self, template: &impl Template) -> Result<Html<String>, Problem> {
        let text = html(template)?;
        let parts = text
            .split_once("<!-- nav -->")
            .and_then(|(title, rest)| Some((title, rest.split_once("<!-- content -->")?)));
        let Some((title, (nav, content))) = parts else {
            return Ok(Html(text));
        };
        let page = Page {
            site: self,
            title: title.trim(),
            nav: nav.trim(),
            content: content.trim(),
        };
        html(&page).map(Html)
    }

    /// The sign-in page, which leads on to the page `next`; with status 401 when a key was `refused`. `key_hint` says which key
    /// it takes, as HTML.
    #[must_use]
    pub fn sign_in(&self, key_hint: &str, next: Option<String>, refused: bool) -> Response {
        let status = if refused {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::OK
        };
        let page = SignInPage {
            site: self,
            key_hint,
            next: within(next),
            refused,
        };
        html(&page).map_or_else(Problem::into_response, |page| {
            (status, Html(page)).into_response()
        })
    }

    /// Middleware for pages: turns errors into pages and sets headers with which the browser keeps the page to itself
    /// and loads nothing from other hosts.
    pub async fn answer(&'static self, request: Request, next: Next) -> Response {
        let root = root_of(request.uri(), request.extensions());
        let answering = async {
            let mut response = next.run(request).await;
            match response.extensions_mut().remove::<Problem>() {
                Some(problem) => self.with_error_page(response, &problem),
                None => response,
            }
        };
        let mut response = ROOT.scope(root.clone(), answering).await;
        let location = response.headers().get(header::LOCATION);
        let path = location.and_then(|location| location.to_str().ok());
        if let Some(path) = path.filter(|path| path.starts_with('/'))
            && let Ok(path) = HeaderValue::from_str(&below(&root, path))
        {
            response.headers_mut().insert(header::LOCATION, path);
        }
        let fixed: [(HeaderName, &str); 4] = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ];
        let headers = response.headers_mut();
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // What a page shows belongs to who is signed in.
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        response
    }

    /// The answer with a page in place of its body.
    fn with_error_page(&self, response: Response, problem: &Problem) -> Response {
        let page = ProblemPage {
            site: self,
            title: title(problem.status()),
            detail: problem.detail(),
        };
        let Ok(text) = html(&page) else {
            return response;
        };
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        let (page, body) = Html(text).into_response().into_parts();
        parts.headers.extend(page.headers);
        Response::from_parts(parts, body)
    }
}

fn html(template: &impl Template) -> Result<String, Problem> {
    template.render().map_err(|error| {
        tracing::error!(%error, "Failed to render a page: {error}");
        let detail = "this page cannot be shown; see the log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'p> {
    site: &'p Site,
    title: &'p str,
    nav: &'p str,
    content: &'p str,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'p> {
    site: &'p Site,
    key_hint: &'p str,
    next: String,
    refused: bool,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'p> {
    site: &'p Site,
    title: &'p str,
    detail: &'p str,
}

/// A file that is built in; browsers may keep it for five minutes.
pub async fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, text).into_response()
}

/// Routes of the files that the layout names, but for `/assets/page.js`, the server's own script.
pub fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let style = || asset("text/css", include_str!("../assets/style.css"));
    let icon = || asset("image/svg+xml", include_str!("../assets/icon.svg"));
    Router::new()
        .route("/assets/style.css", get(style))
        .route("/assets/icon.svg", get(icon))
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, http::HeaderMap, middleware};
    use tower::ServiceExt;

    use super::*;

    static SITE: Site = Site {
        name: "Test",
        styles: &["/assets/more.css"],
        shows_version: true,
    };

    #[test]
    fn addresses_are_below_the_path_that_the_router_is_nested_at() {
        for (original, path, root) in [
            ("/", "/", ""),
            ("/jobs", "/jobs", ""),
            ("/ops", "/", "/ops"),
            ("/ops/", "/", "/ops"),
            ("/a/ops/jobs/x", "/jobs/x", "/a/ops"),
            ("/jobs", "/elsewhere", ""),
        ] {
            assert_eq!(stripped(original, path), root, "{original} {path}");
        }
        assert_eq!(
            (below("", "/"), below("/ops", "/")),
            ("/".into(), "/ops".into())
        );
        assert_eq!(below("/ops", "/jobs"), "/ops/jobs");
        assert_eq!(with_root("/ops".to_owned(), || at("/jobs")), "/ops/jobs");
        assert_eq!(at("/jobs"), "/jobs");
    }

    async fn get_page(path: &'static str) -> (StatusCode, HeaderMap, String) {
        let router: Router = Router::new()
            .route(
                "/sign-in",
                get(|| async { SITE.sign_in("<em>Any key.</em>", None, true) }),
            )
            .route("/wrong", get(|| async { Problem::forbidden("<no>") }))
            .layer(middleware::from_fn(|request, next| {
                SITE.answer(request, next)
            }));
        let mut request: Request = Request::default();
        *request.uri_mut() = path.parse().unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    #[tokio::test]
    async fn an_error_is_a_page_with_its_status() {
        let (status, headers, text) = get_page("/wrong").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let content_type = headers[header::CONTENT_TYPE].to_str().unwrap();
        assert!(content_type.starts_with("text/html"), "{content_type}");
        assert!(text.contains("<title>Forbidden · Test</title>"), "{text}");
        assert!(text.contains("&#60;no&#62;"), "{text}");
    }

    #[tokio::test]
    async fn the_sign_in_page_has_the_hint_and_says_that_a_key_was_refused() {
        let (status, headers, text) = get_page("/sign-in").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        for part in [
            "<em>Any key.</em>",
            "or has been revoked",
            "/assets/more.css",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_page_is_put_into_the_layout_and_a_fragment_is_not() {
        #[derive(Template)]
        #[template(source = "{{ text }}", ext = "html")]
        struct Fragment<'t> {
            text: &'t str,
        }
        #[derive(Template)]
        #[template(
            source = "{{ text }}\n<!-- nav -->\n<nav></nav>\n<!-- content -->\n<p>{{ text }}</p>",
            ext = "html"
        )]
        struct Whole<'t> {
            text: &'t str,
        }
        let text = "<!-- nav --><!-- content -->";
        let shown = "&#60;!-- nav --&#62;&#60;!-- content --&#62;";
        let Html(fragment) = SITE.render(&Fragment { text }).unwrap();
        assert_eq!(fragment, shown);
        let Html(page) = SITE.render(&Whole { text }).unwrap();
        for part in [
            format!("<title>{shown} · Test</title>"),
            "<nav></nav>\n</header>".to_owned(),
            format!("<main id=\"main\">\n<p>{shown}</p>\n</main>"),
        ] {
            assert!(page.contains(&part), "{part}: {page}");
        }
    }
}
