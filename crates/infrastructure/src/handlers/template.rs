//! The handler `template`: renders a file of the folder of templates with the tenant's overrides. Overrides are data and
//! never templates, and a name that is used and not set is an error. What one rendering may do is bounded: in
//! steps and in the length of its text here, in time and memory by [`renderer`].

mod renderer;
mod unset;

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, context,
    syntax::SyntaxConfig,
    value::{Serde, merge_maps},
};
use punctual_application::ports::{HandlerError, PurposeHandler, Rendered};
use punctual_domain::{Fields, Invalid, Item, Outcome, Preference, values::text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

pub use self::renderer::{RENDERER, render_in, serve};
use self::{
    renderer::{Renderers, read_all},
    unset::unset_names,
};
use super::HandlerKind;

/// How much work one rendering may do, in instructions of the template engine: some tens of milliseconds.
const FUEL: u64 = 200_000;
/// Bytes of a rendered text.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// Templates by name.
type Sources = BTreeMap<String, String>;

/// What is rendered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Source {
    /// Name of a file in the folder, or of what is rendered in its place.
    name: String,
    /// What is rendered in place of a file.
    text: Option<String>,
    /// Whether values are escaped for HTML.
    html: bool,
}

impl Source {
    fn template<'e>(
        &'e self,
        environment: &'e Environment<'e>,
    ) -> Result<minijinja::Template<'e, 'e>, minijinja::Error> {
        match &self.text {
            Some(text) => environment.template_from_named_str(&self.name, text),
            None => environment.get_template(&self.name),
        }
    }
}

/// What a template sees: the item, and the tenant's overrides.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub(super) item: Value,
    pub(super) overrides: Value,
}

impl From<&Item> for Values {
    fn from(item: &Item) -> Self {
        Self {
            overrides: Value::Object(item.overrides().cloned().unwrap_or_default()),
            item: json!(item),
        }
    }
}

/// A template that is missing or cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct TemplateError {
    /// The file.
    pub file: String,
    /// Problem with the template.
    pub problem: String,
}

/// The templates of a folder; they may include and extend each other.
#[derive(Clone)]
pub struct Templates {
    folder: PathBuf,
    sources: Arc<Sources>,
    environments: Arc<Environments>,
    renderers: Option<Arc<Renderers>>,
}

impl Templates {
    /// The templates in `folder`, as they are now. They are rendered in processes of their own where
    /// [a program for them](render_in) has been named, else within this process: then a template that takes too long ends
    /// with its item, and its thread goes on.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let sources = Arc::new(read_all(folder));
        Self {
            folder: folder.to_owned(),
            renderers: Renderers::of(&sources).map(Arc::new),
            environments: Arc::new(Environments::new(Arc::clone(&sources))),
            sources,
        }
    }

    /// Whether a template, or one that it may include, may look at this field of the item.
    pub(super) fn may_read(&self, name: &str, field: &str) -> bool {
        let source = self.sources.get(name);
        source.is_none_or(|source| self.text_may_read(source, field))
    }

    /// The same of a template that stands in a field itself.
    pub(super) fn text_may_read(&self, template: &str, field: &str) -> bool {
        let joins = ["include", "import", "extends"];
        let joined = joins.iter().any(|tag| template.contains(tag));
        let mut others = self.sources.values();
        mentions(template, field) || (joined && others.any(|any| mentions(any, field)))
    }

    /// The handler of the template that a field names.
    pub(super) fn handler(&self, name: &Value) -> Result<TemplateHandler, Invalid> {
        self.handler_of(Source {
            name: text(name)?.to_owned(),
            text: None,
            html: false,
        })
    }

    /// The same, where values are escaped for HTML.
    pub(super) fn html_handler(&self, name: &Value) -> Result<TemplateHandler, Invalid> {
        self.handler_of(Source {
            name: text(name)?.to_owned(),
            text: None,
            html: true,
        })
    }

    /// The handler of a template that stands in a field itself, at `pointer`.
    pub(super) fn inline_handler(
        &self,
        pointer: &str,
        template: &Value,
    ) -> Result<TemplateHandler, Invalid> {
        self.handler_of(Source {
            name: pointer.to_owned(),
            text: Some(text(template)?.to_owned()),
            html: false,
        })
    }

    fn handler_of(&self, source: Source) -> Result<TemplateHandler, Invalid> {
        let remedy = match source.text {
            Some(_) => "correct the template",
            None => "correct the template, or name another file of the folder of templates",
        };
        TemplateHandler::of(self, source)
            .map_err(|problem| Invalid::new(format!("cannot be used: {problem}"), remedy))
    }

    /// A file of the folder that is not a template, such as a picture, if it has at most `most` bytes. `name` may not lead out of
    /// the folder.
    pub(super) fn file(&self, name: &str, most: usize) -> Result<Vec<u8>, Invalid> {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(inside) {
            return Err(Invalid::new(
                "is not the name of a file in the folder of templates",
                "use a name such as `logo.png` or `mail/logo.png`",
            ));
        }
        let path = self.folder.join(name);
        let content = std::fs::read(&path).map_err(|error| {
            Invalid::new(
                format!("cannot be read: {}: {error}", path.display()),
                "name a file of the folder of templates",
            )
        })?;
        if content.len() > most {
            return Err(Invalid::new(
                format!("has {} bytes", content.len()),
                format!("use a file of at most {most} bytes"),
            ));
        }
        Ok(content)
    }
}

/// Whether a text names a field of the item, or the item as a whole.
fn mentions(source: &str, field: &str) -> bool {
    let in_word = |character: char| character.is_alphanumeric() || character == '_';
    let whole_item = source.match_indices("item").any(|(at, item)| {
        let (before, after) = (&source[..at], &source[at + item.len()..]);
        !before.ends_with(in_word)
            && !after.starts_with(in_word)
            && !after.trim_start().starts_with('.')
    });
    whole_item || source.contains(field)
}

/// The templates of a folder, as texts and as HTML.
struct Environments {
    text: Environment<'static>,
    html: Environment<'static>,
}

impl Environments {
    fn new(sources: Arc<Sources>) -> Self {
        Self {
            text: environment(Arc::clone(&sources), AutoEscape::None),
            html: environment(sources, AutoEscape::Html),
        }
    }

    fn of(&self, source: &Source) -> &Environment<'static> {
        if source.html { &self.html } else { &self.text }
    }
}

/// Whatever their names are, all templates of it are escaped in the same way, also those that others include.
fn environment(sources: Arc<Sources>, escape: AutoEscape) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Errors say which name is not set.
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(move |_| escape.clone());
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.expect("no delimiter is changed"));
    environment.set_loader(move |name| Ok(sources.get(name).cloned()));
    environment
}

/// The text of a template, or what is wrong and where.
fn rendered(
    environments: &Environments,
    source: &Source,
    values: &Values,
) -> Result<String, String> {
    let Values { item, overrides } = values;
    let name = &source.name;
    let own = context! {
        item => Serde(item), overrides => Serde(overrides), data => Serde(&item["data"]),
        previous => Serde(&item["previous"]), organization => Serde(&item["organization"]),
    };
    // Only a second purpose has it, so that overrides of other jobs may have this name.
    let written = match &item["written"] {
        Value::Null => context! {},
        written => context! { written => Serde(written) },
    };
    // The last of two equal names counts, so no override can hide the item or what is in it.
    let values = merge_maps([minijinja::Value::from(Serde(overrides)), own, written]);
    let mut text = BoundedWriter(Vec::new());
    let rendered = source
        .template(environments.of(source))
        .and_then(|template| template.render_captured_to(values, &mut text).map(drop));
    match rendered {
        Ok(()) => Ok(String::from_utf8_lossy(&text.0).trim_end().to_owned()),
        Err(_) if text.0.len() >= MAX_TEXT_BYTES => Err(format!(
            "template `{name}`: the text is longer than {MAX_TEXT_BYTES} bytes"
        )),
        Err(error) => Err(format!("template `{name}`: {error}")),
    }
}

/// Takes so many bytes and no more.
struct BoundedWriter(Vec<u8>);

impl io::Write for BoundedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_TEXT_BYTES - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            Err(io::Error::from(io::ErrorKind::FileTooLarge))
        } else {
            Ok(bytes.len())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the field `template`: the name of a file in the folder.
pub(crate) struct TemplateKind(pub(super) Templates);

impl HandlerKind for TemplateKind {
    fn name(&self) -> &'static str {
        "template"
    }

    fn target(&self, options: &mut Fields<'_>) -> Option<String> {
        options.raw("template")?.as_str().map(str::to_owned)
    }

    fn read(&self, fields: &mut Fields<'_>, _: Duration) -> Option<Arc<dyn PurposeHandler>> {
        let handler = fields.required("template", TEMPLATE_REMEDY, |name| self.0.handler(name))?;
        Some(Arc::new(handler))
    }

    fn reads_previous(&self, options: &mut Fields<'_>) -> bool {
        let template = options.raw("template").and_then(Value::as_str);
        template.is_none_or(|name| self.0.may_read(name, "previous"))
    }
}

/// What to do where no template is named.
pub(super) const TEMPLATE_REMEDY: &str = "add the name of a file in the folder of templates";

/// Renders one template.
pub struct TemplateHandler {
    templates: Templates,
    source: Source,
}

impl TemplateHandler {
    /// The handler for the template `name` of the folder.
    ///
    /// # Errors
    /// When the file does not exist or is not a template.
    pub fn new(templates: &Templates, name: &str) -> Result<Self, TemplateError> {
        let source = Source {
            name: name.to_owned(),
            text: None,
            html: false,
        };
        Self::of(templates, source)
    }

    fn of(templates: &Templates, source: Source) -> Result<Self, TemplateError> {
        let found = source.template(templates.environments.of(&source));
        if let Err(error) = found.map(drop) {
            let file = match source.text {
                Some(_) => source.name,
                None => templates.folder.join(source.name).display().to_string(),
            };
            return Err(TemplateError {
                file,
                problem: error.to_string(),
            });
        }
        Ok(Self {
            templates: templates.clone(),
            source,
        })
    }
}

impl TemplateHandler {
    /// The rendered text. A template sees the tenant's overrides by name, as `overrides`, and the item as `item`, of which
    /// `data`, `previous` and `organization` are seen by name too, and `written` in the second purpose of a job.
    pub(super) async fn render(&self, item: &Item) -> Result<String, HandlerError> {
        self.render_values(item.into()).await
    }

    /// Why there is nothing to do, if this text is all that there is.
    fn nothing_in(&self, text: &str) -> Option<String> {
        let is_empty = text.trim().is_empty();
        is_empty.then(|| format!("template `{}` gave an empty text", self.source.name))
    }

    /// The text that these values give.
    pub(super) async fn render_values(&self, values: Values) -> Result<String, HandlerError> {
        if let Some(renderers) = &self.templates.renderers {
            return renderers.render(&self.source, values).await;
        }
        let environments = Arc::clone(&self.templates.environments);
        let source = self.source.clone();
        let text = spawn_blocking(move || rendered(&environments, &source, &values)).await;
        let text = text.unwrap_or_else(|error| {
            Err(format!(
                "template `{}` cannot be rendered: {error}",
                self.source.name
            ))
        });
        text.map_err(HandlerError::permanent)
    }
}

/// What a run returns.
fn result_of(text: &str) -> Value {
    json!({ "text": text })
}

#[async_trait]
impl PurposeHandler for TemplateHandler {
    /// The rendered text, as `{"text": …}`; with an empty one there was nothing to do.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        // An item that the process does not outlive: `run-TENANT=return`.
        #[cfg(feature = "failpoints")]
        if fail::eval(&format!("run-{}", item.item_id), |_| ()).is_some() {
            std::process::abort();
        }
        let text = self.render(item).await?;
        Ok(match self.nothing_in(&text) {
            Some(reason) => Outcome::NothingToDo(reason),
            None => result_of(&text).into(),
        })
    }

    async fn preview(&self, item: &Item, _call: bool) -> Result<Option<Rendered>, HandlerError> {
        let text = self.render(item).await?;
        Ok(Some(match self.nothing_in(&text) {
            Some(reason) => Rendered::nothing_to_do(reason),
            None => Rendered {
                output: Some(result_of(&text)),
                text: Some(text),
                ..Rendered::default()
            },
        }))
    }

    fn missing_parameters(&self, defaults: &Preference) -> Vec<String> {
        let overrides = &defaults.template_overrides;
        let environment = self.templates.environments.of(&self.source);
        unset_names(environment, &self.source, overrides)
    }
}

#[cfg(test)]
mod tests {
    use punctual_application::testing;
    use punctual_domain::Previous;

    use super::*;

    fn item(overrides: Value) -> Item {
        testing::item_preferring("user123", json!({ "template_overrides": overrides }))
    }

    async fn render(template: &str, overrides: Value) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.txt.j2"), template).unwrap();
        let handler =
            TemplateHandler::new(&Templates::in_folder(folder.path()), "t.txt.j2").unwrap();
        match handler.run(&item(overrides)).await {
            Ok(Outcome::Done(output)) => Ok(output["text"].as_str().unwrap().to_owned()),
            Ok(Outcome::NothingToDo(reason)) => Ok(format!("nothing to do: {reason}")),
            Ok(Outcome::Waiting(_)) => Err("a template does not wait".to_owned()),
            Err(error) => Err(error.message),
        }
    }

    #[tokio::test]
    async fn overrides_are_seen_by_name_and_the_item_beside_them() {
        let text = render(
            "{{ item.tenant_id }}: {{ tone }} on {{ item.occurrence }}",
            json!({"tone": "dry"}),
        )
        .await;
        assert_eq!(text.unwrap(), "user123: dry on 2026-03-01");
    }

    #[tokio::test]
    async fn overrides_are_never_run_as_templates_and_cannot_hide_the_item() {
        let text = render(
            "{{ tone }} {{ item.tenant_id }}",
            json!({"tone": "{{ 7 * 7 }}", "item": "mine"}),
        )
        .await;
        assert_eq!(text.unwrap(), "{{ 7 * 7 }} user123");
    }

    #[tokio::test]
    async fn the_sample_text_has_the_local_date_of_a_run_and_the_day_of_a_manual_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/templates");
        let templates = Templates::in_folder(&folder);
        let handler = TemplateHandler::new(&templates, "instagram_post.txt.j2").unwrap();
        let overrides = json!({"brand": "Fern", "topic": "rain", "tone": "dry", "length": "short", "focus_areas": [],
            "hashtags": [], "emoji": false, "call_to_action": "Come in."});
        for (occurrence, date) in [
            ("2026-03-02", "2026-03-02"),
            ("2026-03-02#2", "2026-03-02"),
            ("2026-03-01T22:00:00Z", "2026-03-01"),
            ("run-6ba7b811-9dad-11d1-80b4-00c04fd430c8", "2026-03-01"),
        ] {
            let run = Item {
                occurrence: occurrence.parse().unwrap(),
                scheduled_at: "2026-03-01T22:00:00Z".parse().unwrap(),
                ..item(overrides.clone())
            };
            let text = handler.render(&run).await.unwrap();
            let expected = format!("It is {date}. Fern has something to say.");
            assert!(text.starts_with(&expected), "{occurrence}: {text}");
        }
    }

    #[tokio::test]
    async fn the_last_successful_run_is_seen_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let template = "{% if previous %}since {{ previous.occurrence }}, {{ previous.finished_at }}{% else %}the first\
                        {% endif %} {{ item.previous.occurrence | default('none') }}";
        std::fs::write(folder.path().join("t.j2"), template).unwrap();
        let templates = Templates::in_folder(folder.path());
        let handler = TemplateHandler::new(&templates, "t.j2").unwrap();
        let first = item(json!({"previous": "an override"}));
        let again = Item {
            previous: Some(Previous {
                occurrence: "2026-02-28".parse().unwrap(),
                scheduled_at: "2026-02-28T09:00:00Z".parse().unwrap(),
                finished_at: "2026-02-28T09:00:02Z".parse().unwrap(),
            }),
            ..first.clone()
        };
        for (item, expected) in [
            (first, "the first none"),
            (again, "since 2026-02-28, 2026-02-28T09:00:02Z 2026-02-28"),
        ] {
            assert_eq!(handler.render(&item).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn the_organization_is_seen_where_there_is_one_and_no_override_hides_it() {
        let folder = tempfile::tempdir().unwrap();
        let template = "{% if organization %}of {{ organization }}{% else %}alone{% endif %} {{ item.organization }}";
        std::fs::write(folder.path().join("t.j2"), template).unwrap();
        let templates = Templates::in_folder(folder.path());
        let handler = TemplateHandler::new(&templates, "t.j2").unwrap();
        let overrides = json!({ "template_overrides": {"organization": "an override"} });
        for (organization, expected) in [(None, "alone None"), (Some("acme"), "of acme acme")] {
            let item = testing::item_of(organization, "user123", overrides.clone());
            assert_eq!(handler.render(&item).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_second_purpose_sees_what_the_first_has_written_and_another_its_override() {
        let folder = tempfile::tempdir().unwrap();
        let template = "{{ written.text }}, {{ item.written.text | default('of no item') }}";
        std::fs::write(folder.path().join("t.j2"), template).unwrap();
        let templates = Templates::in_folder(folder.path());
        let handler = TemplateHandler::new(&templates, "t.j2").unwrap();
        let alone = item(json!({"written": {"text": "an override"}}));
        let second = Item {
            written: Some(json!({"text": "{{ 7 * 7 }}"})),
            ..alone.clone()
        };
        for (item, expected) in [
            (alone, "an override, of no item"),
            (second, "{{ 7 * 7 }}, {{ 7 * 7 }}"),
        ] {
            assert_eq!(handler.render(&item).await.unwrap(), expected);
        }
        let error = handler.render(&item(json!({}))).await.unwrap_err();
        assert!(error.message.contains("written"), "{}", error.message);
        let missing = handler.missing_parameters(&Preference::default());
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].starts_with("written"), "{missing:?}");
    }

    #[tokio::test]
    async fn the_tenants_own_data_is_seen_and_never_run_as_a_template() {
        let folder = tempfile::tempdir().unwrap();
        let template =
            "{% for order in data %}{{ order.name }};{% endfor %}{{ item.data | length }}";
        std::fs::write(folder.path().join("t.j2"), template).unwrap();
        let templates = Templates::in_folder(folder.path());
        let handler = TemplateHandler::new(&templates, "t.j2").unwrap();
        let item = Item {
            fetched: Some(json!([{"name": "a mug"}, {"name": "{{ tone }}"}])),
            ..item(json!({"tone": "dry", "data": "an override"}))
        };
        assert_eq!(handler.render(&item).await.unwrap(), "a mug;{{ tone }};2");
    }

    #[test]
    fn a_template_that_does_without_a_field_is_known() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "plain.j2",
                "{{ item.tenant_id }} {{ tone }} items {{ item .occurrence }}",
            ),
            ("named.j2", "{% if previous %}{{ tone }}{% endif %}"),
            ("of_item.j2", "{{ item.previous }}"),
            ("whole.j2", "{{ item | tojson }}"),
            ("by_name.j2", "{{ item['prev' ~ 'ious'] }}"),
            ("includes.j2", "{% include 'named.j2' %}"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let templates = Templates::in_folder(folder.path());
        assert!(!templates.may_read("plain.j2", "previous"));
        for name in [
            "named.j2",
            "of_item.j2",
            "whole.j2",
            "by_name.j2",
            "includes.j2",
            "none.j2",
        ] {
            assert!(templates.may_read(name, "previous"), "{name}");
        }
    }

    #[tokio::test]
    async fn an_empty_text_is_nothing_to_do() {
        let nothing = "nothing to do: template `t.txt.j2` gave an empty text";
        for template in [
            "",
            " \n\t",
            "{% if tone == 'dry' %}{{ tone }}{% endif %}\n",
            "{{ '  ' }}",
        ] {
            let text = render(template, json!({"tone": "warm"})).await;
            assert_eq!(text.unwrap(), nothing, "{template:?}");
        }
        let text = render(
            "{% if tone == 'dry' %}{{ tone }}{% endif %}",
            json!({"tone": "dry"}),
        );
        assert_eq!(text.await.unwrap(), "dry");
    }

    #[tokio::test]
    async fn an_unset_name_and_endless_work_are_errors() {
        let error = render("{{ tone }}", json!({})).await.unwrap_err();
        assert!(
            error.contains("`tone` is undefined") && error.contains("t.txt.j2"),
            "{error}"
        );
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        assert!(
            render(endless, json!({}))
                .await
                .unwrap_err()
                .contains("fuel")
        );
    }

    #[tokio::test]
    async fn the_text_is_bounded() {
        let long = "{% for a in range(99) %}{{ 'x' * 100000 }}{% endfor %}";
        let error = render(long, json!({})).await.unwrap_err();
        assert!(
            error.contains("longer than") && error.contains("t.txt.j2"),
            "{error}"
        );
        let doubled = "{% set ns = namespace(s=[1,2,3]) %}{% for i in range(30) %}{% set ns.s = [ns.s, ns.s] %}\
                       {% endfor %}{{ ns.s }}";
        let error = render(doubled, json!({})).await.unwrap_err();
        assert!(error.contains("longer than"), "{error}");
    }

    #[tokio::test]
    async fn templates_include_others_of_the_folder_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("parts")).unwrap();
        std::fs::write(folder.path().join("parts/a.j2"), "part").unwrap();
        std::fs::write(folder.path().join("t.j2"), "{% include 'parts/a.j2' %}").unwrap();
        let outside = "{% include '../outside.j2' %}{% include '/etc/hostname' %}";
        std::fs::write(folder.path().join("o.j2"), outside).unwrap();
        let templates = Templates::in_folder(folder.path());
        let run = async |name| {
            let handler = TemplateHandler::new(&templates, name).unwrap();
            handler.run(&item(json!({}))).await
        };
        let text = run("t.j2").await.unwrap().into_output().unwrap();
        assert_eq!(text["text"], "part");
        assert!(
            run("o.j2")
                .await
                .unwrap_err()
                .message
                .contains("outside.j2")
        );
    }

    #[tokio::test]
    async fn html_is_escaped_whatever_its_file_is_called_and_text_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("part.txt"), "{{ tone }}").unwrap();
        std::fs::write(
            folder.path().join("mail.j2"),
            "{{ tone }}{% include 'part.txt' %}",
        )
        .unwrap();
        let templates = Templates::in_folder(folder.path());
        let hostile = item(json!({"tone": "<b onclick='x'>&"}));
        let name = json!("mail.j2");
        let html = templates.html_handler(&name).unwrap();
        let escaped = "&lt;b onclick=&#x27;x&#x27;&gt;&amp;";
        assert_eq!(html.render(&hostile).await.unwrap(), escaped.repeat(2));
        let text = templates.handler(&name).unwrap();
        assert_eq!(
            text.render(&hostile).await.unwrap(),
            "<b onclick='x'>&".repeat(2)
        );
    }

    #[tokio::test]
    async fn a_template_may_stand_in_the_field_itself() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("greeting.j2"), "Dear").unwrap();
        let templates = Templates::in_folder(folder.path());
        let of = |text: &str| templates.inline_handler("/purposes/a/subject", &json!(text));
        let subject = of("{% include 'greeting.j2' %} {{ tone }} {{ item.tenant_id }}").unwrap();
        let text = subject.render(&item(json!({"tone": "old"}))).await;
        assert_eq!(text.unwrap(), "Dear old user123");
        let error = subject.render(&item(json!({}))).await.unwrap_err();
        assert!(
            error.message.contains("/purposes/a/subject") && error.message.contains("`tone`"),
            "{error}"
        );
        let none = Preference::default();
        assert_eq!(subject.missing_parameters(&none), ["tone"]);
        assert!(of("{% if %}").is_err());
    }

    #[test]
    fn files_are_of_the_folder_and_small() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mail")).unwrap();
        std::fs::write(folder.path().join("mail/logo.png"), [0xff; 10]).unwrap();
        let templates = Templates::in_folder(folder.path());
        assert_eq!(templates.file("mail/logo.png", 10).unwrap().len(), 10);
        assert!(templates.file("mail/logo.png", 9).is_err());
        for name in [
            "",
            "none.png",
            "../mail/logo.png",
            "/etc/hostname",
            "mail/..",
        ] {
            assert!(templates.file(name, 10).is_err(), "{name}");
        }
    }

    #[test]
    fn missing_and_broken_templates_name_their_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("broken.j2"), "{% if %}").unwrap();
        let templates = Templates::in_folder(folder.path());
        let error = |name: &str| {
            TemplateHandler::new(&templates, name)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(error("none.j2").contains("none.j2"));
        assert!(error("../../etc/passwd").contains("template"));
        assert!(error("broken.j2").contains("syntax error"));
    }
}
