//! Previews on the pages.

use punctual_application::{
    Handlers,
    ports::{MockPurposeHandler, Rendered},
};
use punctual_domain::PurposeId;

use super::*;

/// A visit to an operator whose handler would send this. A dry run is answered.
fn visit(rendered: Rendered) -> Visit {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    bind(&operator, "post", rendered);
    Visit::of(testing::with_own_processor(operator, &store), store)
}

/// A visit to an operator whose job has a second purpose, `send`.
fn visit_of_two(rendered: [Option<Rendered>; 2]) -> Visit {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    for (purpose, rendered) in ["post", "send"].into_iter().zip(rendered) {
        if let Some(rendered) = rendered {
            bind(&operator, purpose, rendered);
        }
    }
    let mut jobs = (*operator.jobs.current()).clone();
    jobs.jobs[0].then = Some(PurposeId::new("send").unwrap());
    let operator = Operator {
        jobs: Arc::new(jobs).into(),
        ..operator
    };
    Visit::of(testing::with_own_processor(operator, &store), store)
}

fn bind(operator: &Operator, purpose: &str, rendered: Rendered) {
    let mut handler = MockPurposeHandler::new();
    handler.expect_preview().returning(move |_, call| {
        let mut rendered = rendered.clone();
        if call {
            rendered.outcome = Some(Ok(json!("pong").into()));
        }
        Ok(Some(rendered))
    });
    let (purpose, timeout) = (PurposeId::new(purpose).unwrap(), Handlers::DEFAULT_TIMEOUT);
    let mut handlers = operator.handlers.clone();
    handlers.bind(purpose, Arc::new(handler), timeout);
}

#[tokio::test(start_paused = true)]
async fn a_preview_is_shown_below_its_form_and_its_html_can_do_nothing() {
    let html = "<script>window.pwned = 1</script><b onclick=\"pwned = 1\">Hello</b>";
    let mut visit = visit(Rendered {
        to: Some("ann@shop.example".to_owned()),
        subject: Some("Your week".to_owned()),
        html: Some(html.to_owned()),
        body: Some(json!({"tone": "<i>dry</i>"})),
        ..Rendered::default()
    });
    let button = "<form method=\"post\" action=\"/jobs/posts/preview\"";
    let tenant = visit.open("/tenants/ann").await;
    tenant.has(button);
    assert_eq!(tenant.field("tenant_id"), "ann");
    let job = visit.open("/jobs/posts").await;
    job.has(button);
    let form = visit.open("/jobs/posts/preview?tenant_id=ann").await;
    form.has("value=\"ann\"")
        .lacks("would be sent now. Nothing");
    assert_eq!(form.policy, job.policy);
    assert!(!form.policy.contains("unsafe"), "{}", form.policy);

    let shown = visit
        .submit("/jobs/posts/preview", &[("tenant_id", " ann ")])
        .await;
    assert_eq!(shown.status, StatusCode::OK);
    shown
        .has("<div role=\"status\" id=\"preview\"><section")
        .has("This would be sent now. Nothing was sent.")
        .has("ann@shop.example")
        .has("Your week")
        .has(" sandbox srcdoc=\"")
        .lacks("<script>window")
        .lacks("<b onclick")
        .lacks("<i>dry");
    let of_mail = job
        .policy
        .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
        .replace("img-src 'self'", "img-src 'self' data:");
    assert_eq!(shown.policy, of_mail);
    for kept in [
        "default-src 'none'",
        "script-src 'self';",
        "frame-ancestors 'none'",
    ] {
        assert!(shown.policy.contains(kept), "{}", shown.policy);
    }
    let framed = shown.quoted("srcdoc=\"");
    assert!(
        framed.contains("Hello") && !framed.contains('<'),
        "{framed}"
    );
    visit.open("/audit-log").await.lacks("dry run");

    let call = [("tenant_id", "ann"), ("call", "yes")];
    let called = visit.submit("/jobs/posts/preview", &call).await;
    called
        .has("The endpoint was called for a dry run")
        .has("<pre>pong</pre>");
    visit.open("/audit-log").await.has("a dry run for ann");
}

#[tokio::test(start_paused = true)]
async fn a_preview_says_what_is_wrong_and_who_is_left_out() {
    let mut visit = visit(Rendered::nothing_to_do("no news"));
    let slip = visit
        .submit("/jobs/posts/preview", &[("tenant_id", "a/b")])
        .await;
    assert_eq!(slip.status, StatusCode::UNPROCESSABLE_ENTITY);
    slip.has("role=\"alert\" id=\"tenant_id-error\"")
        .has("value=\"a/b\"");
    for (tenant, says) in [
        ("ann", "There would be nothing to do: no news"),
        ("off", "preference is off"),
        ("never", "stored no preference"),
    ] {
        let shown = visit
            .submit("/jobs/posts/preview", &[("tenant_id", tenant)])
            .await;
        shown.has(says);
        assert!(!shown.policy.contains("unsafe"), "without an e-mail");
    }
    let none = visit.open("/jobs/none/preview").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn each_of_two_purposes_is_shown_by_itself() {
    let mut visit = visit_of_two([None, None]);
    let shown = visit
        .submit("/jobs/posts/preview", &[("tenant_id", "ann")])
        .await;
    shown
        .has("<h3>Purpose post</h3>")
        .has("Hello ann")
        .has("<h3>Purpose send</h3>")
        .has("which only a dry run shows");
}

#[tokio::test(start_paused = true)]
async fn an_e_mail_of_the_second_purpose_is_shown_with_its_styles() {
    let first = Rendered {
        output: Some(json!("Hello")),
        ..Rendered::default()
    };
    let second = Rendered {
        html: Some("<p style=\"color: red\">Hello</p>".to_owned()),
        ..Rendered::default()
    };
    let mut visit = visit_of_two([Some(first), Some(second)]);
    let shown = visit
        .submit("/jobs/posts/preview", &[("tenant_id", "ann")])
        .await;
    shown.has("<h3>Purpose send</h3>").has(" sandbox srcdoc=\"");
    assert!(shown.policy.contains("style-src 'self' 'unsafe-inline'"));
}
