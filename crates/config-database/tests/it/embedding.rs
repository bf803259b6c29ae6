//! The pages inside a product: which sites may show them and call the API, the address behind a proxy, name and logo; and
//! the example product in Chromium, from another site.

use fantoccini::elements::Element;
use punctual_config_database::EmbeddingSettings;
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    browser::Browser,
    links::call,
    page::Visitor,
    product::Product,
    server::{Kind, Running, start_embeddable, start_in},
    tls::Tls,
};

const ADMIN: &str = "admin-key";
const SHOP: &str = "https://shop.example";
const PREFERENCES: &str = "tenants/ann/configs/feature_preferences";

async fn started(settings: EmbeddingSettings) -> Running {
    start_embeddable(Kind::Sqlite.place().await, Some(ADMIN), settings).await
}

fn embedded_by(origins: &str) -> EmbeddingSettings {
    EmbeddingSettings {
        embed_origins: Some(origins.to_owned()),
        ..EmbeddingSettings::default()
    }
}

async fn link(server: &Running, wanted: &Value) -> Value {
    let answer = call(server, ADMIN, Method::POST, "tenants/ann/links", wanted).await;
    assert_eq!(answer.status(), 201);
    answer.json().await.unwrap()
}

/// The visitor whom a link lets in, and the answer that did.
async fn let_in(server: &Running) -> (Visitor, HeaderMap) {
    let token = link(server, &Value::Null).await["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut visitor = Visitor::new(server);
    let opened = visitor.get(&format!("/open/{token}")).await;
    let headers = opened.headers().clone();
    let cookie = headers["set-cookie"].to_str().unwrap();
    visitor.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    (visitor, headers)
}

/// Who may show an answer in a frame.
fn ancestors(response: &Response) -> String {
    let headers = response.headers();
    let policy = headers["content-security-policy"].to_str().unwrap();
    let (_, ancestors) = policy.rsplit_once("frame-ancestors ").unwrap();
    let denied = headers.contains_key("x-frame-options");
    assert_eq!(denied, ancestors == "'none'", "{policy}");
    ancestors.to_owned()
}

#[tokio::test]
async fn only_the_pages_of_a_link_are_shown_in_frames_of_the_listed_origins() {
    let server = started(embedded_by(&format!("{SHOP},http://localhost:3000"))).await;
    let (visitor, _) = let_in(&server).await;
    let operator = Visitor::signed_in(&server, ADMIN).await;
    let anonymous = Visitor::new(&server);
    let listed = "https://shop.example http://localhost:3000";
    for (visitor, path, expected) in [
        (&visitor, "/tenants/ann", listed),
        (&visitor, "/tenants/ann/features/f", listed),
        (&visitor, "/tenants/bob", "'none'"),
        (&anonymous, "/open", listed),
        (&anonymous, "/open/wrong", listed),
        (&anonymous, "/tenants/ann", "'none'"),
        (&anonymous, "/sign-in", "'none'"),
        (&anonymous, "/unsubscribe/wrong", "'none'"),
        (&operator, "/tenants/ann", "'none'"),
        (&operator, "/operators", "'none'"),
        (&operator, "/nothing-here", "'none'"),
    ] {
        let response = visitor.get(path).await;
        if response.headers().contains_key("content-security-policy") {
            assert_eq!(ancestors(&response), expected, "{path}");
        } else {
            assert_eq!(response.status(), 404, "{path}");
        }
    }
    // In a frame without a session, a page says so; elsewhere one is asked to sign in.
    let framed = anonymous.http.get(format!("{}/tenants/ann", server.url));
    let framed = framed
        .header("sec-fetch-dest", "iframe")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (framed.status().as_u16(), ancestors(&framed).as_str()),
        (401, listed)
    );
    let page = framed.text().await.unwrap();
    assert!(
        page.contains("data-problem=\"ended\"") && !page.contains("<header>"),
        "{page}"
    );

    let strict = started(EmbeddingSettings::default()).await;
    let (visitor, _) = let_in(&strict).await;
    for path in ["/tenants/ann", "/open", "/open/wrong"] {
        assert_eq!(ancestors(&visitor.get(path).await), "'none'", "{path}");
    }
}

async fn preflight(server: &Running, path: &str, origin: &str) -> HeaderMap {
    let call = server
        .http
        .request(Method::OPTIONS, format!("{}{path}", server.url));
    let call = call
        .header("origin", origin)
        .header("access-control-request-method", "PATCH")
        .header(
            "access-control-request-headers",
            "authorization,content-type,if-match",
        );
    call.send().await.unwrap().headers().clone()
}

#[tokio::test]
async fn pages_of_the_listed_origins_call_the_api_with_a_key_and_without_cookies() {
    let server = started(embedded_by(SHOP)).await;
    let api = format!("/api/v1/{PREFERENCES}");
    let allowed = preflight(&server, &api, SHOP).await;
    assert_eq!(allowed["access-control-allow-origin"], SHOP);
    let methods = allowed["access-control-allow-methods"].to_str().unwrap();
    assert!(
        methods.contains("PATCH") && !methods.contains("DELETE"),
        "{methods}"
    );
    assert!(
        allowed["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("authorization")
    );
    assert!(
        allowed["vary"]
            .to_str()
            .unwrap()
            .to_lowercase()
            .contains("origin")
    );
    for (path, origin) in [
        (api.as_str(), "https://evil.example"),
        (&api, "null"),
        (&api, "http://shop.example"),
        (&api, "https://shop.example.evil.example"),
        ("/tenants/ann", SHOP),
        ("/operators", SHOP),
        ("/sign-in", SHOP),
    ] {
        let headers = preflight(&server, path, origin).await;
        assert!(
            !headers.contains_key("access-control-allow-origin"),
            "{path} {origin}"
        );
    }
    let token = link(&server, &Value::Null).await["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let send = async |origin: &str, token: Option<&str>, path: &str| {
        let body = json!({"config_value": {"f": {"enabled": true}}}).to_string();
        let call = server
            .http
            .patch(format!("{}{path}", server.url))
            .body(body);
        let call = call
            .header("origin", origin)
            .header("sec-fetch-site", "cross-site");
        let call = match token {
            Some(token) => call.bearer_auth(token),
            None => call,
        };
        call.send().await.unwrap()
    };
    let changed = send(SHOP, Some(&token), &api).await;
    assert_eq!(changed.status(), 200);
    assert_eq!(changed.headers()["access-control-allow-origin"], SHOP);
    assert!(
        !changed
            .headers()
            .contains_key("access-control-allow-credentials")
    );
    // The page may read why it was refused, too.
    let refused = send(SHOP, Some("wrong"), &api).await;
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers()["access-control-allow-origin"]
                .to_str()
                .unwrap()
        ),
        (401, SHOP)
    );
    for (origin, token) in [
        ("https://evil.example", Some(token.as_str())),
        ("null", Some(token.as_str())),
        (SHOP, None),
    ] {
        assert_eq!(send(origin, token, &api).await.status(), 403, "{origin}");
    }

    // Without the setting, and where no key is asked for, everything is as it was.
    let strict = started(EmbeddingSettings::default()).await;
    let place = Kind::Sqlite.place().await;
    let open = start_embeddable(place, None, embedded_by(SHOP)).await;
    for server in [&strict, &open] {
        let headers = preflight(server, &api, SHOP).await;
        assert!(!headers.contains_key("access-control-allow-origin"));
        let body = json!({"config_value": {"f": {"enabled": true}}}).to_string();
        let call = server.http.put(format!("{}{api}", server.url)).body(body);
        let call = call.bearer_auth(ADMIN).header("origin", SHOP);
        assert_eq!(call.send().await.unwrap().status(), 403);
    }
}

#[tokio::test]
async fn the_forms_of_a_link_take_nothing_from_the_page_around_them() {
    let server = started(embedded_by(SHOP)).await;
    let (visitor, _) = let_in(&server).await;
    for path in [
        "/tenants/ann/features/f",
        "/tenants/ann/history",
        "/open",
        "/sign-in",
    ] {
        for origin in [SHOP, "https://evil.example", "null"] {
            let call = visitor.http.post(format!("{}{path}", server.url));
            let call = call.header("cookie", visitor.cookie.as_ref().unwrap());
            let call = call
                .header("origin", origin)
                .header("sec-fetch-site", "cross-site");
            let sent = call.bearer_auth(ADMIN).form(&[("action", "save")]);
            assert_eq!(sent.send().await.unwrap().status(), 403, "{path} {origin}");
        }
    }
}

#[tokio::test]
async fn behind_a_proxy_the_pages_lead_to_each_other_below_its_path() {
    let server = started(EmbeddingSettings {
        public_url: Some("https://shop.example/own/preferences/".to_owned()),
        ..EmbeddingSettings::default()
    })
    .await;
    let made = link(&server, &Value::Null).await;
    let token = made["token"].as_str().unwrap();
    let base = "https://shop.example/own/preferences";
    assert_eq!(made["url"], format!("{base}/open/{token}"));
    let (visitor, headers) = let_in(&server).await;
    assert_eq!(headers["location"], "/own/preferences/tenants/ann");
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("; Path=/own/preferences/tenants/ann;") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
    // Whether the proxy takes the path off or not.
    for prefix in ["", "/own/preferences"] {
        for path in ["/tenants/ann", "/tenants/ann/history"] {
            let page = visitor.text(&format!("{prefix}{path}")).await;
            for attribute in ["href=\"", "src=\"", "action=\""] {
                for to in page.split(attribute).skip(1) {
                    assert!(
                        to.starts_with("/own/preferences") || to.starts_with('#'),
                        "{prefix}{path}: {to:.60}"
                    );
                }
            }
        }
        assert_eq!(
            visitor.status(&format!("{prefix}/assets/style.css")).await,
            200
        );
        assert_eq!(visitor.status(&format!("{prefix}/embed.js")).await, 200);
        let icon = visitor.get(&format!("{prefix}/favicon.ico")).await;
        assert_eq!(icon.status(), 200);
        assert_eq!(icon.headers()["content-type"], "image/svg+xml");
        assert_eq!(visitor.status(&format!("{prefix}/health/ready")).await, 200);
        let away = Visitor::new(&server)
            .get(&format!("{prefix}/tenants/ann"))
            .await;
        let to = away.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(to, "/own/preferences/sign-in?next=/tenants/ann");
        let api = format!("{}{prefix}/api/v1/keys", server.url);
        assert_eq!(server.http.get(&api).send().await.unwrap().status(), 401);
        assert_eq!(
            server
                .http
                .get(&api)
                .bearer_auth(ADMIN)
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
        let described = server
            .http
            .get(format!("{}{prefix}/openapi.json", server.url));
        let described: Value = described.send().await.unwrap().json().await.unwrap();
        assert_eq!(described["servers"][0]["url"], "/own/preferences");
    }
    let start = visitor.http.get(format!("{}/own/preferences/", server.url));
    let start = start.send().await.unwrap();
    assert_eq!(start.headers()["location"], "/own/preferences");
    let wanted = json!({"feature": "f"});
    let made = call(
        &server,
        ADMIN,
        Method::POST,
        "tenants/ann/unsubscribe-links",
        &wanted,
    )
    .await;
    let made: Value = made.json().await.unwrap();
    assert!(
        made["url"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{base}/unsubscribe/")),
        "{made}"
    );
}

#[tokio::test]
async fn pages_have_the_products_name_and_logo() {
    let folder = tempfile::tempdir().unwrap();
    let logo = folder.path().join("logo.svg");
    std::fs::write(
        &logo,
        "<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>",
    )
    .unwrap();
    let server = started(EmbeddingSettings {
        site_name: Some("Shop & Co".to_owned()),
        site_logo: Some(logo),
        ..EmbeddingSettings::default()
    })
    .await;
    let page = Visitor::new(&server).text("/sign-in").await;
    assert!(
        page.contains("<title>Sign in · Shop &#38; Co</title>"),
        "{page}"
    );
    assert!(
        page.contains("src=\"/assets/logo\"") && !page.contains("Punctual"),
        "{page}"
    );
    let logo = Visitor::new(&server).get("/assets/logo").await;
    assert_eq!(logo.headers()["content-type"], "image/svg+xml");
    let policy = logo.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let plain = start_in(Kind::Sqlite.place().await, None).await;
    assert_eq!(Visitor::new(&plain).status("/assets/logo").await, 404);
}

/// The example product at an address of its own, on another site than the Config Database: `localhost`, not `127.0.0.1`.
async fn product(server: &Running, listener: TcpListener) -> String {
    let url = origin_of(&listener);
    let product = Product::new(&server.url, &server.url, ADMIN).router();
    tokio::spawn(axum::serve(listener, product).into_future());
    url
}

fn origin_of(listener: &TcpListener) -> String {
    format!("http://localhost:{}", listener.local_addr().unwrap().port())
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Chromium that refuses cookies of other sites, as many people set it.
async fn browser() -> Browser {
    let preferences =
        json!({"profile.block_third_party_cookies": true, "profile.cookie_controls_mode": 1});
    Browser::open_with(1200, 1400, &["--ignore-certificate-errors"], &preferences).await
}

/// What a script returns in the frame that `frame` finds; null while there is none.
async fn in_frame(browser: &Browser, frame: &str, script: &str) -> Value {
    const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
    let found = browser.run(&format!("return {frame}")).await;
    let Some(id) = found[ELEMENT].as_str() else {
        return Value::Null;
    };
    let element = Element::from_element_id(browser.client.clone(), id.to_owned().into());
    if element.enter_frame().await.is_err() {
        return Value::Null;
    }
    // While a page goes and another comes, there is nothing to run it in.
    let returned = browser.client.execute(script, vec![]).await;
    browser.client.enter_parent_frame().await.unwrap();
    returned.unwrap_or(Value::Null)
}

/// Waits until a script in a frame returns true.
async fn until_in_frame(browser: &Browser, frame: &str, script: &str) {
    for _ in 0..600 {
        if in_frame(browser, frame, script).await == true {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let page = in_frame(browser, frame, "return document.documentElement.outerHTML").await;
    panic!("`{script}` does not become true in {frame}: {page}");
}

const LINKED: &str = "document.querySelector('#frame')";
const COMPONENT: &str = "document.querySelector('#component').shadowRoot.querySelector('iframe')";

/// A user of the product sets a preference in each of the three ways.
async fn a_user_sets_preferences(browser: &Browser, server: &Running, product: &str) {
    browser.goto(product).await;
    // The frame with the link: the list, and no address with a token in it.
    until_in_frame(
        browser,
        LINKED,
        "return !!document.querySelector('h1') && location.pathname.endsWith('/tenants/ann')",
    )
    .await;
    until_in_frame(
        browser,
        LINKED,
        "return document.referrer === '' && document.querySelectorAll('header, footer').length === 0",
    )
    .await;

    // The component: sized, themed, and it says what was saved.
    until_in_frame(
        browser,
        COMPONENT,
        "return !!document.querySelector('#preference')",
    )
    .await;
    browser
        .until(&format!("return parseInt({COMPONENT}.style.height) > 400"))
        .await;
    until_in_frame(
        browser,
        COMPONENT,
        "return document.documentElement.scrollHeight <= window.innerHeight + 1",
    )
    .await;
    until_in_frame(browser, COMPONENT, "const style = getComputedStyle(document.documentElement);
        return style.getPropertyValue('--font') === 'Georgia, serif' && style.getPropertyValue('--radius') === '0'
            && location.hash === ''").await;
    until_in_frame(browser, COMPONENT, "document.querySelector('[name=enabled]').checked = true;
        document.querySelector('#time').value = '07:30'; document.querySelector('button[value=save]').click(); return true").await;
    browser
        .until("return document.querySelector('#event').textContent === 'Saved: newsletter'")
        .await;
    let stored = async || {
        let answer = call(server, ADMIN, Method::GET, PREFERENCES, &Value::Null).await;
        let stored: Value = answer.json().await.unwrap();
        stored["config_value"]["newsletter"]["preferred_time"].clone()
    };
    assert_eq!(stored().await, "07:30");

    // The product's own form, which calls the API.
    browser.goto(product).await;
    browser
        .until("return document.querySelector('#own [name=time]').value === '07:30'")
        .await;
    browser.fill("#own [name=time]", "08:45").await;
    // By script: the frames above may still grow and move the button away under a pointer.
    browser
        .run("document.querySelector('#own button').click()")
        .await;
    browser
        .until("return document.querySelector('#own output').textContent === 'Saved'")
        .await;
    assert_eq!(stored().await, "08:45");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_product_on_another_site_embeds_the_pages_and_a_hostile_one_does_not() {
    let (shop, evil) = (listener().await, listener().await);
    let server = started(embedded_by(&origin_of(&shop))).await;
    let shop = product(&server, shop).await;
    let evil = product(&server, evil).await;
    let browser = browser().await;
    a_user_sets_preferences(&browser, &server, &shop).await;

    // Another site has even got links, and shows nothing with them: neither in a frame, nor by the API.
    browser.goto(&evil).await;
    for frame in [LINKED, COMPONENT] {
        until_in_frame(
            &browser,
            frame,
            "return location.protocol === 'chrome-error:'",
        )
        .await;
        let forms = "return document.querySelectorAll('form, #preference').length";
        assert_eq!(in_frame(&browser, frame, forms).await, 0, "{frame}");
    }
    browser
        .until("return document.querySelector('#event').textContent.startsWith('unreachable')")
        .await;
    let script = format!(
        "return fetch('{}/api/v1/{PREFERENCES}', {{headers}}).then(() => 'read', () => 'refused')",
        server.url
    );
    assert_eq!(browser.run(&script).await, "refused");
    browser.close().await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn over_https_a_product_on_another_site_embeds_the_pages_as_well() {
    let (shop, service) = (Tls::new().await, Tls::new().await);
    let server = started(EmbeddingSettings {
        embed_origins: Some(format!("https://localhost:{}", shop.port())),
        public_url: Some(format!("https://127.0.0.1:{}/own", service.port())),
        ..EmbeddingSettings::default()
    })
    .await;
    let public_url = format!("https://127.0.0.1:{}/own", service.port());
    let shop_url = format!("https://localhost:{}", shop.port());
    service.in_front_of(server.url.strip_prefix("http://").unwrap().parse().unwrap());
    let plain = listener().await;
    shop.in_front_of(plain.local_addr().unwrap());
    let product = Product::new(&server.url, &public_url, ADMIN).router();
    tokio::spawn(axum::serve(plain, product).into_future());
    let browser = browser().await;
    a_user_sets_preferences(&browser, &server, &shop_url).await;
    browser.close().await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_page_around_the_frame_is_believed_only_what_is_allowed() {
    let shop = listener().await;
    let server = started(embedded_by(&origin_of(&shop))).await;
    let shop = product(&server, shop).await;
    let browser = browser().await;
    browser.goto(&shop).await;
    until_in_frame(
        &browser,
        COMPONENT,
        "return !!document.querySelector('#preference')
        && document.documentElement.style.getPropertyValue('--font') !== ''",
    )
    .await;
    // A theme that is none changes nothing, and runs nothing.
    browser
        .run(&format!("{COMPONENT}.contentWindow.postMessage({{from: 'punctual-preferences', scheme: 'x; color: red', theme: {{
            accent: 'url(https://evil.example/)', background: 'red; --text: red', text: 'var(--bad)', radius: '1px; }}',
            font: 'x</style><script>', card: 'rgb(1 2 3)', line: {{}}, __proto__: {{quiet: 'red'}},
            constructor: 'red', 'other': 'red' }}}}, '*')"))
        .await;
    until_in_frame(
        &browser,
        COMPONENT,
        "return document.documentElement.style.getPropertyValue('--card') === 'rgb(1 2 3)'",
    )
    .await;
    let style = in_frame(
        &browser,
        COMPONENT,
        "return document.documentElement.getAttribute('style')",
    )
    .await;
    assert_eq!(style.as_str().unwrap().trim(), "--card: rgb(1 2 3);");
    // Who is not the frame cannot pretend to be it.
    browser
        .run("window.postMessage({from: 'punctual', type: 'saved', feature: 'forged'}, '*');
            window.dispatchEvent(new MessageEvent('message', {origin: 'https://evil.example', data: {from: 'punctual', type: 'saved'}}));")
        .await;
    // An answer that came later than those messages.
    browser
        .run("document.querySelector('#component').style.colorScheme = 'dark'")
        .await;
    until_in_frame(
        &browser,
        COMPONENT,
        "return document.documentElement.style.colorScheme === 'dark'",
    )
    .await;
    assert_eq!(browser.text("#event").await, "");

    // A session that has ended says so to the page around it.
    browser
        .run("document.querySelector('#component').setAttribute('token', 'a.b.c')")
        .await;
    browser
        .until("return document.querySelector('#event').textContent.startsWith('invalid: ')")
        .await;
    browser.close().await;
}
