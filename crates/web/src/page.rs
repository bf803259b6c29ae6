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

use std::{borrow::Borrow, sync::Arc};

use askama::Template;
use axum::{
    Json, Router,
    extract::{OriginalUri, Request},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use utoipa::openapi::{OpenApi, Server};

use crate::{
    PageWords, Problem,
    origin::Origin,
    session::{encode, page_of, sign_in_to, within},
};

/// The pages use files of the server's own, and nothing from elsewhere; no other page shows them in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

tokio::task_local! {
    static ROOT: String;
    static LOOK: Look;
}

/// What a server's pages look like, and which other pages may show them in a frame: an extension of every request, in an
/// `Arc`. Requests without it have the default one.
#[derive(Debug, Clone, Default)]
pub struct Appearance {
    /// Name that stands in place of the site's own.
    pub name: Option<String>,
    /// Path of the logo beside the name, such as `/assets/logo`.
    pub logo: Option<&'static str>,
    /// Path of the pages' addresses where a proxy in front serves them below one, such as `/preferences`; empty: none.
    pub base_path: String,
    /// Origins whose pages may show those pages in a frame whose answers are [`Framable`].
    pub embed_origins: Arc<[Origin]>,
}

/// An extension of answers that the pages of [`Appearance::embed_origins`] may show in a frame.
#[derive(Debug, Clone, Copy)]
pub struct Framable;

/// An extension of answers that show the HTML of an e-mail in a sandboxed frame. The frame has the policy of the page around it, so
/// that page allows what e-mails are made of: styles in the page, and pictures in `data:` addresses. Scripts it refuses as all do.
#[derive(Debug, Clone, Copy)]
pub struct ShowsMail;

/// An extension of requests whose address shows a page to a GET as well, whatever their method is.
#[derive(Debug, Clone, Copy)]
pub struct AlsoByGet;

/// An extension of answers whose page, should they be an error, also has its detail in English: an operator looks at it.
#[derive(Debug, Clone, Copy)]
pub struct WithDetail;

/// How the layout shows the page of the current request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    appearance: Arc<Appearance>,
    framed: bool,
    /// Path and query of a page that leads back here, below the path that the router is nested at.
    here: String,
}

impl Look {
    /// `root` is the path that the router is nested at.
    fn of(request: &Request, root: &str) -> Self {
        let appearance = request.extensions().get::<Arc<Appearance>>();
        let appearance = appearance.cloned().unwrap_or_default();
        let by_get = request.extensions().get::<AlsoByGet>().is_some();
        let get = Method::GET;
        let method = if by_get { &get } else { request.method() };
        Self {
            framed: !appearance.embed_origins.is_empty() && is_framed(request.headers()),
            here: page_of(method, request.uri(), request.headers(), root),
            appearance,
        }
    }

    pub(crate) fn name<'l>(&'l self, of_site: &'l str) -> &'l str {
        self.appearance.name.as_deref().unwrap_or(of_site)
    }

    pub(crate) fn logo(&self) -> Option<&'static str> {
        self.appearance.logo
    }

    /// Whether the page is shown in a frame: what is around the frame then has a name and a logo already.
    pub(crate) fn framed(&self) -> bool {
        self.framed
    }

    /// Path and query of the page, or of the one that its form was sent from.
    pub(crate) fn here(&self) -> &str {
        &self.here
    }

    /// The origins whose pages may show it, with spaces between.
    pub(crate) fn embed_origins(&self) -> String {
        joined(&self.appearance.embed_origins)
    }
}

/// How the layout shows the current page.
pub(crate) fn look() -> Look {
    LOOK.try_with(Clone::clone).unwrap_or_default()
}

/// Whether the browser is about to show the answer in a frame, as far as it says so.
#[must_use]
pub fn is_framed(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-dest")
        .is_some_and(|of| of == "iframe")
}

fn joined(origins: &[Origin]) -> String {
    let origins: Vec<&str> = origins.iter().map(Origin::as_str).collect();
    origins.join(" ")
}

/// The content security policy of a page that pages of these origins may show in a frame.
fn policy(embed_origins: &[Origin]) -> HeaderValue {
    let policy = POLICY.replace(
        "frame-ancestors 'none'",
        &format!("frame-ancestors {}", joined(embed_origins)),
    );
    // Origins are ASCII.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(POLICY))
}

/// The content security policy of a page that [shows an e-mail](ShowsMail).
fn mail_policy() -> HeaderValue {
    let policy = POLICY
        .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
        .replace("img-src 'self'", "img-src 'self' data:");
    // It is ASCII.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(POLICY))
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

/// The path that the router of a request with this address is nested at, or that a proxy in front has been said to serve
/// it below; empty: none.
#[must_use]
pub fn root_of(uri: &Uri, extensions: &Extensions) -> String {
    let appearance = extensions.get::<Arc<Appearance>>();
    if let Some(appearance) = appearance.filter(|of| !of.base_path.is_empty()) {
        return appearance.base_path.clone();
    }
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
    /// Renders a page in the layout with these words, or a fragment, which is a template without the layout's parts, as it is.
    ///
    /// # Errors
    /// Status 500 when the template fails; the log says why.
    pub fn render(
        &self,
        words: &PageWords,
        template: &impl Template,
    ) -> Result<Html<String>, Problem> {
        let text = html(template)?;
        let parts = text
            .split_once("<!-- nav -->")
            .and_then(|(title, rest)| Some((title, rest.split_once("<!-- content -->")?)));
        let Some((title, (nav, content))) = parts else {
            return Ok(Html(text));
        };
        let page = Page {
            site: self,
            words,
            title: title.trim(),
            nav: nav.trim(),
            content: content.trim(),
        };
        html(&page).map(Html)
    }

    /// The sign-in page, which leads on to the page `next`; with status 401 when a key was `refused`. `key_hint` says which key
    /// it takes, as HTML.
    #[must_use]
    pub fn sign_in(
        &self,
        words: &PageWords,
        key_hint: &str,
        next: Option<String>,
        refused: bool,
    ) -> Response {
        self.sign_in_beside(words, key_hint, next, refused, None)
    }

    /// The same, with another way to sign in.
    #[must_use]
    pub fn sign_in_beside(
        &self,
        words: &PageWords,
        key_hint: &str,
        next: Option<String>,
        refused: bool,
        other: Option<&OtherWay>,
    ) -> Response {
        let problem = other.and_then(|other| other.problem.as_ref());
        let status = match problem {
            _ if refused => StatusCode::UNAUTHORIZED,
            Some((status, _)) => *status,
            None => StatusCode::OK,
        };
        let next = within(next);
        let page = SignInPage {
            site: self,
            words,
            key_hint,
            refused,
            other: other.map(|other| {
                let address = format!("{}?next={}", at(other.path), encode(&next));
                (address, other.label)
            }),
            problem: problem.map(|(_, text)| text.as_str()),
            next,
        };
        let mut look = look();
        if refused {
            // What is shown for a form has no address of its own.
            look.here = sign_in_to(&page.next);
        }
        let shown = LOOK.sync_scope(look, || html(&page));
        shown.map_or_else(Problem::into_response, |page| {
            (status, Html(page)).into_response()
        })
    }

    /// Middleware for pages: turns errors into pages and sets headers with which the browser keeps the page to itself
    /// and loads nothing from other hosts. The words of a page for an error are those of the answer's extension
    /// `Arc<PageWords>`, else English; the extension [`WithDetail`] adds the detail.
    pub async fn answer(&'static self, request: Request, next: Next) -> Response {
        let root = root_of(request.uri(), request.extensions());
        let look = Look::of(&request, &root);
        let appearance = Arc::clone(&look.appearance);
        let answering = async {
            let mut response = next.run(request).await;
            match response.extensions_mut().remove::<Problem>() {
                Some(problem) => {
                    let words = response.extensions_mut().remove::<Arc<PageWords>>();
                    let words = words.as_deref().unwrap_or(PageWords::english());
                    let with_detail = response.extensions_mut().remove::<WithDetail>();
                    self.with_error_page(words, response, &problem, with_detail)
                }
                None => response,
            }
        };
        let answering = ROOT.scope(root.clone(), LOOK.scope(look, answering));
        let mut response = answering.await;
        let location = response.headers().get(header::LOCATION);
        let path = location.and_then(|location| location.to_str().ok());
        if let Some(path) = path.filter(|path| path.starts_with('/'))
            && let Ok(path) = HeaderValue::from_str(&below(&root, path))
        {
            response.headers_mut().insert(header::LOCATION, path);
        }
        let framable = response.extensions_mut().remove::<Framable>().is_some();
        let framable = framable && !appearance.embed_origins.is_empty();
        let policy = framable.then(|| policy(&appearance.embed_origins));
        let shows_mail = response.extensions_mut().remove::<ShowsMail>().is_some();
        protect(response.headers_mut(), policy);
        if shows_mail {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, mail_policy());
        }
        response
    }

    /// Middleware around pages and an API below `/api/`: a browser that opens an address without a page gets a page that
    /// says so, whether it has signed in or not, in the `words` for who opens that address with these headers. Clients of the API
    /// get the error as it is.
    pub async fn for_browsers<F: Future<Output: Borrow<PageWords>>>(
        &'static self,
        words: impl FnOnce(Uri, HeaderMap) -> F,
        request: Request,
        next: Next,
    ) -> Response {
        let accepts = request.headers().get(header::ACCEPT);
        let accepts = accepts.and_then(|accepts| accepts.to_str().ok());
        let is_browser = accepts.is_some_and(|accepts| accepts.contains("text/html"));
        let is_page = request.method().is_safe() && !request.uri().path().starts_with("/api/");
        if !is_browser || !is_page {
            return next.run(request).await;
        }
        let root = root_of(request.uri(), request.extensions());
        let look = Look::of(&request, &root);
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        let mut response = next.run(request).await;
        // Pages have made pages of their own errors.
        let Some(mut problem) = response.extensions_mut().remove::<Problem>() else {
            return response;
        };
        if let StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND = problem.status() {
            problem = Problem::new(StatusCode::NOT_FOUND, "this address has no page");
            *response.status_mut() = problem.status();
        }
        let words = words(uri, headers).await;
        let render = || self.with_error_page(words.borrow(), response, &problem, None);
        let mut page = with_root(root, || LOOK.sync_scope(look, render));
        protect(page.headers_mut(), None);
        page
    }

    /// The answer with a page in place of its body.
    fn with_error_page(
        &self,
        words: &PageWords,
        response: Response,
        problem: &Problem,
        with_detail: Option<WithDetail>,
    ) -> Response {
        let (title, text) = words.of(problem);
        let detail = with_detail.map(|WithDetail| problem.detail());
        let page = ProblemPage {
            site: self,
            words,
            status: problem.status().as_u16(),
            title,
            text,
            detail: detail.filter(|detail| *detail != text),
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

/// Sets headers with which the browser keeps a page to itself, unless other pages may show it by this `policy`, and loads nothing
/// from other hosts.
fn protect(headers: &mut HeaderMap, policy: Option<HeaderValue>) {
    if let Some(policy) = policy {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    } else {
        let fixed: [(HeaderName, &str); 2] = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_FRAME_OPTIONS, "DENY"),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    // A page whose address holds a secret allows less.
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("same-origin"));
    // What a page shows belongs to who is signed in.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
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
    words: &'p PageWords,
    title: &'p str,
    nav: &'p str,
    content: &'p str,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'p> {
    site: &'p Site,
    words: &'p PageWords,
    key_hint: &'p str,
    next: String,
    refused: bool,
    /// Address of another way to sign in, and what its link says.
    other: Option<(String, &'p str)>,
    /// Why that way did not work.
    problem: Option<&'p str>,
}

/// A way to sign in beside the key.
#[derive(Debug, Clone)]
pub struct OtherWay {
    /// Address at which it begins, below the root. It is given the page to go on to as `next`.
    pub path: &'static str,
    /// What the link says.
    pub label: &'static str,
    /// Why it has just not worked, and the status of the page that says so.
    pub problem: Option<(StatusCode, String)>,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'p> {
    site: &'p Site,
    words: &'p PageWords,
    status: u16,
    title: &'p str,
    text: &'p str,
    /// What the API says, in English.
    detail: Option<&'p str>,
}

/// A file that is built in; browsers may keep it for five minutes.
pub async fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, text).into_response()
}

async fn icon() -> Response {
    asset("image/svg+xml", include_str!("../assets/icon.svg")).await
}

/// Routes of the files that the layout names, but for `/assets/page.js`, the server's own script.
pub fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let style = || asset("text/css", include_str!("../assets/style.css"));
    Router::new()
        .route("/assets/style.css", get(style))
        .route("/assets/icon.svg", get(icon))
}

/// Adds `/favicon.ico`, where browsers look beside what a page names, also below `base_path`. It is for a server of its own: a
/// service around a router may have this route itself.
pub fn with_favicon<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    base_path: &str,
) -> Router<S> {
    let router = router.route("/favicon.ico", get(icon));
    if base_path.is_empty() {
        return router;
    }
    router.route(&format!("{base_path}/favicon.ico"), get(icon))
}

#[cfg(test)]
mod tests {
    use axum::{Extension, body::to_bytes, middleware};
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

    #[tokio::test]
    async fn a_server_of_its_own_has_a_favicon_and_a_service_around_may_have_another() {
        let own: Router = with_favicon(assets(), "/own");
        for path in ["/favicon.ico", "/own/favicon.ico"] {
            let mut request: Request = Request::default();
            *request.uri_mut() = path.parse().unwrap();
            let response = own.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "image/svg+xml");
        }
        // Two routes of one path would panic.
        let _: Router = assets().route("/favicon.ico", get(|| async { "another" }));
    }

    fn appearance() -> Arc<Appearance> {
        Arc::new(Appearance {
            name: Some("Shop <1>".to_owned()),
            logo: Some("/assets/logo"),
            base_path: "/own".to_owned(),
            embed_origins: Origin::list("https://shop.example,http://localhost:1").unwrap(),
        })
    }

    #[tokio::test]
    async fn only_a_page_that_says_so_is_shown_in_frames_and_only_by_the_listed_origins() {
        let page = |framable: bool| {
            move || async move {
                let mut response = SITE.sign_in(PageWords::english(), "", None, false);
                if framable {
                    response.extensions_mut().insert(Framable);
                }
                response
            }
        };
        let router: Router = Router::new()
            .route("/open", get(page(true)))
            .route("/closed", get(page(false)))
            .layer(middleware::from_fn(|request, next| {
                SITE.answer(request, next)
            }));
        let asked =
            async |path: &'static str, appearance: Option<Arc<Appearance>>, dest: &'static str| {
                let mut request: Request = Request::default();
                *request.uri_mut() = path.parse().unwrap();
                request
                    .headers_mut()
                    .insert("sec-fetch-dest", dest.parse().unwrap());
                if let Some(appearance) = appearance {
                    request.extensions_mut().insert(appearance);
                }
                let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let policy = parts.headers[header::CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap();
                let denied = parts.headers.contains_key(header::X_FRAME_OPTIONS);
                (
                    policy.to_owned(),
                    denied,
                    String::from_utf8(body.to_vec()).unwrap(),
                )
            };
        let (policy, denied, page) = asked("/open", Some(appearance()), "iframe").await;
        let ancestors = "; frame-ancestors https://shop.example http://localhost:1";
        assert!(policy.ends_with(ancestors) && !denied, "{policy}");
        assert!(
            page.contains("data-embed-origins=\"https://shop.example http://localhost:1\""),
            "{page}"
        );
        assert!(
            !page.contains("<header>") && page.contains("href=\"/own/assets/style.css\""),
            "{page}"
        );
        let (_, _, page) = asked("/open", Some(appearance()), "document").await;
        assert!(
            page.contains("<header>") && page.contains("Shop &#60;1&#62;"),
            "{page}"
        );
        assert!(
            page.contains("src=\"/own/assets/logo\"") && !page.contains("data-embed"),
            "{page}"
        );
        for (path, appearance) in [("/closed", Some(appearance())), ("/open", None)] {
            let (policy, denied, page) = asked(path, appearance, "iframe").await;
            assert!(
                policy.ends_with("frame-ancestors 'none'") && denied,
                "{policy}"
            );
            assert_eq!(page.contains("<header>"), path == "/open", "{page}");
        }
    }

    #[tokio::test]
    async fn only_a_page_that_shows_an_e_mail_allows_styles_in_it_and_no_other_shows_it() {
        let router: Router = Router::new()
            .route("/mail", get(|| async { (Extension(ShowsMail), "") }))
            .route("/other", get(|| async { "" }))
            .layer(middleware::from_fn(|request, next| {
                SITE.answer(request, next)
            }));
        for (path, allows) in [("/mail", true), ("/other", false)] {
            let mut request: Request = Request::default();
            *request.uri_mut() = path.parse().unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let headers = response.headers();
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            for part in ["style-src 'self' 'unsafe-inline';", "img-src 'self' data:;"] {
                assert_eq!(policy.contains(part), allows, "{path}: {policy}");
            }
            assert!(policy.contains("script-src 'self';"), "{policy}");
            assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
            assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
        }
    }

    async fn worded_for_an_operator() -> Response {
        let mut words = PageWords::english().clone();
        words.problems.push(crate::ProblemWords {
            status: StatusCode::FORBIDDEN.as_u16(),
            title: "Verboten".to_owned(),
            text: "Das geht nicht.".to_owned(),
        });
        let mut response = Problem::forbidden("<no>").into_response();
        response.extensions_mut().insert(Arc::new(words));
        response.extensions_mut().insert(WithDetail);
        response
    }

    async fn get_page(path: &'static str) -> (StatusCode, HeaderMap, String) {
        let router: Router = Router::new()
            .route(
                "/sign-in",
                get(|| async {
                    SITE.sign_in(PageWords::english(), "<em>Any key.</em>", None, true)
                }),
            )
            .route("/wrong", get(|| async { Problem::forbidden("<no>") }))
            .route("/worded", get(worded_for_an_operator))
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
        let (_, _, text) = get_page("/worded").await;
        for part in [
            ">Das geht nicht.</p>",
            "<p class=\"hint\" lang=\"en\" dir=\"ltr\">&#60;no&#62;</p>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
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
        let Html(fragment) = SITE
            .render(PageWords::english(), &Fragment { text })
            .unwrap();
        assert_eq!(fragment, shown);
        let Html(page) = SITE.render(PageWords::english(), &Whole { text }).unwrap();
        for part in [
            format!("<title>{shown} · Test</title>"),
            "<nav></nav>\n</header>".to_owned(),
            format!("<main id=\"main\">\n<p>{shown}</p>\n</main>"),
        ] {
            assert!(page.contains(&part), "{part}: {page}");
        }
    }

    #[test]
    fn a_page_names_its_language_its_direction_and_the_languages_to_choose() {
        #[derive(Template)]
        #[template(source = "<!-- nav --><!-- content -->", ext = "html")]
        struct Empty;
        let Html(page) = SITE.render(PageWords::english(), &Empty).unwrap();
        assert!(page.contains("<html lang=\"en\" dir=\"ltr\">"), "{page}");
        assert!(!page.contains("/language"), "{page}");
        let words = PageWords {
            language: "ar".to_owned(),
            right_to_left: true,
            languages: [("de", "Deutsch"), ("ar", "العربية")]
                .map(|(tag, name)| crate::OwnName {
                    tag: tag.to_owned(),
                    name: name.to_owned(),
                })
                .into(),
            ..PageWords::english().clone()
        };
        let look = Look {
            here: "/tenants/a?b=c&d".to_owned(),
            ..Look::default()
        };
        let Html(page) = LOOK
            .sync_scope(look, || SITE.render(&words, &Empty))
            .unwrap();
        for part in [
            "<html lang=\"ar\" dir=\"rtl\">",
            "<a href=\"/language?to=de&amp;next=/tenants/a%3Fb%3Dc%26d\" lang=\"de\" hreflang=\"de\">Deutsch</a>",
            "lang=\"ar\" hreflang=\"ar\" aria-current=\"true\">العربية</a>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
