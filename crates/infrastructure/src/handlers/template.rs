//! The handler `template`: renders a file of the folder of templates with the tenant's overrides. Overrides
//! are data and never templates; a name the template uses and nobody set is an error, and fuel bounds the
//! work one rendering may do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use minijinja::{
    Environment, UndefinedBehavior, context,
    syntax::SyntaxConfig,
    value::{Serde, merge_maps},
};
use punctual_application::ports::{HandlerError, PurposeHandler};
use punctual_domain::Item;
use serde_json::{Value, json};

/// How much work one rendering may do, in instructions of the template engine: some tens of milliseconds.
const FUEL: u64 = 200_000;

/// A template that is missing or cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct TemplateError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The templates of a folder; they may include and extend each other.
#[derive(Clone)]
pub struct Templates {
    folder: PathBuf,
    environment: Arc<Environment<'static>>,
}

impl Templates {
    /// The templates in `folder`, each read when it is first used.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.expect("no delimiter is changed"));
        environment.set_loader(minijinja::path_loader(folder));
        Self {
            folder: folder.to_owned(),
            environment: Arc::new(environment),
        }
    }
}

/// Renders one template.
pub struct TemplateHandler {
    templates: Templates,
    name: String,
}

impl TemplateHandler {
    /// The handler for the template `name` of the folder.
    ///
    /// # Errors
    /// When there is no such file, or it is not a template.
    pub fn new(templates: &Templates, name: &str) -> Result<Self, TemplateError> {
        match templates.environment.get_template(name) {
            Ok(_) => Ok(Self {
                templates: templates.clone(),
                name: name.to_owned(),
            }),
            Err(error) => Err(TemplateError {
                file: templates.folder.join(name).display().to_string(),
                problem: error.to_string(),
            }),
        }
    }
}

impl TemplateHandler {
    /// The rendered text. A template sees the tenant's overrides by name, as `overrides`, and the item as `item`.
    pub(super) fn render(&self, item: &Item) -> Result<String, HandlerError> {
        let overrides = item
            .preference
            .as_ref()
            .and_then(|preference| preference.get("template_overrides"));
        let names = overrides.cloned().unwrap_or_else(|| json!({}));
        let own = context! { item => Serde(item), overrides => Serde(&names) };
        // The last of two equal names counts, so no override can hide the item.
        let values = merge_maps([minijinja::Value::from(Serde(&names)), own]);
        let rendered = self
            .templates
            .environment
            .get_template(&self.name)
            .and_then(|t| t.render(values));
        match rendered {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(error) => Err(HandlerError::permanent(format!(
                "template `{}`: {error}",
                self.name
            ))),
        }
    }
}

#[async_trait]
impl PurposeHandler for TemplateHandler {
    /// The rendered text, as `{"text": …}`.
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        // An item that the process does not outlive: `run-TENANT=return`.
        #[cfg(feature = "failpoints")]
        if fail::eval(&format!("run-{}", item.tenant_id), |_| ()).is_some() {
            std::process::abort();
        }
        Ok(json!({ "text": self.render(item)? }))
    }
}

#[cfg(test)]
mod tests {
    use punctual_domain::{JobId, PurposeId, TenantId};

    use super::*;

    fn item(overrides: Value) -> Item {
        Item {
            tenant_id: TenantId::new("user123").unwrap(),
            job_id: JobId::new("job").unwrap(),
            purpose_id: PurposeId::new("purpose").unwrap(),
            feature_type: None,
            batch_id: uuid::Uuid::nil(),
            occurrence: "2026-03-01".parse().unwrap(),
            scheduled_at: "2026-03-01T09:00:00Z".parse().unwrap(),
            preference: Some(json!({ "template_overrides": overrides })),
            data: None,
            attempt: 1,
            key_form: punctual_domain::KeyForm::Slashes,
        }
    }

    async fn render(template: &str, overrides: Value) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.txt.j2"), template).unwrap();
        let handler =
            TemplateHandler::new(&Templates::in_folder(folder.path()), "t.txt.j2").unwrap();
        match handler.run(&item(overrides)).await {
            Ok(output) => Ok(output["text"].as_str().unwrap().to_owned()),
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
    async fn a_name_nobody_set_and_endless_work_are_errors() {
        let error = render("{{ tone }}", json!({})).await.unwrap_err();
        assert!(
            error.contains("undefined") && error.contains("t.txt.j2"),
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

    #[test]
    fn missing_and_broken_templates_name_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let templates = Templates::in_folder(folder.path());
        let error = |name: &str| {
            TemplateHandler::new(&templates, name)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(error("none.j2").contains("none.j2"));
        assert!(error("../../etc/passwd").contains("template"));
        std::fs::write(folder.path().join("broken.j2"), "{% if %}").unwrap();
        assert!(error("broken.j2").contains("syntax error"));
    }
}
