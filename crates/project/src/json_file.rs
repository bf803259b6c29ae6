//! JSON files that people write: comments and trailing commas are fine, and every error names file, line and
//! column beside the field, the value and the remedy.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{self, ObjectPropName},
    common::Ranged,
    parse_to_ast, parse_to_serde_value,
};
use punctual_domain::{FieldError, FieldErrorKind, FieldErrors};
use serde::Serialize;
use serde_json::Value;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileError {
    /// The file.
    pub file: String,
    /// Line, from 1; 0 when the file could not be read.
    pub line: usize,
    /// Column in characters, from 1; 0 when the file could not be read.
    pub column: usize,
    /// What is wrong, where in the document, and what to write instead.
    #[serde(flatten)]
    pub error: FieldError,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, error) = (&self.file, &self.error);
        if self.line == 0 {
            return write!(f, "{file}: {}; {}", error.problem, error.remedy);
        }
        write!(f, "{file}:{}:{}: {error}", self.line, self.column)
    }
}

/// Everything that is wrong with one or more files; never empty.
#[derive(Debug, Clone, thiserror::Error, Serialize)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
#[serde(transparent)]
pub struct FileErrors(pub Vec<FileError>);

/// A JSON file that has been read.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    text: String,
    /// Its content.
    pub value: Value,
}

impl JsonFile {
    /// Reads a file as JSON with comments.
    ///
    /// # Errors
    /// When it cannot be read, is not JSON, or names a field twice.
    pub fn read(path: &Path) -> Result<Self, FileErrors> {
        let fail = |line, column, problem: String, remedy: &str| {
            let error = FieldError {
                pointer: String::new(),
                value: None,
                problem,
                remedy: remedy.to_owned(),
                kind: FieldErrorKind::Other,
            };
            FileErrors(vec![FileError {
                file: path.display().to_string(),
                line,
                column,
                error,
            }])
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            fail(
                0,
                0,
                format!("cannot be read: {error}"),
                "check the path and its permissions",
            )
        })?;
        let options = parse_options();
        let value: Option<Value> = parse_to_serde_value(&text, &options).map_err(|error| {
            let problem = format!("is not JSON: {}", error.kind());
            fail(
                error.line_display(),
                error.column_display(),
                problem,
                "correct the syntax at this place",
            )
        })?;
        let value = value.ok_or_else(|| fail(1, 1, "is empty".into(), "write a JSON object"))?;
        let file = Self {
            path: path.to_owned(),
            text,
            value,
        };
        let repeated = file.repeated_fields();
        if repeated.is_empty() {
            Ok(file)
        } else {
            Err(FileErrors(repeated))
        }
    }

    /// Adds file, line and column to errors that name places in the document.
    #[must_use]
    pub fn locate(&self, errors: FieldErrors) -> FileErrors {
        FileErrors(
            errors
                .0
                .into_iter()
                .map(|error| self.at(self.offset(&error.pointer), error))
                .collect(),
        )
    }

    fn at(&self, offset: usize, error: FieldError) -> FileError {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FileError {
            file: self.path.display().to_string(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            error,
        }
    }

    fn with_ast<T>(&self, read: impl FnOnce(&ast::Value<'_>) -> T) -> Option<T> {
        let parsed = parse_to_ast(&self.text, &CollectOptions::default(), &parse_options()).ok()?;
        parsed.value.as_ref().map(read)
    }

    /// Where the value of a pointer begins, or the deepest place on the way to it that exists.
    fn offset(&self, pointer: &str) -> usize {
        let descend = |root: &ast::Value<'_>| {
            let mut here = root;
            for step in pointer.split('/').skip(1) {
                let step = step.replace("~1", "/").replace("~0", "~");
                let next = match here {
                    ast::Value::Object(object) => object
                        .properties
                        .iter()
                        .find(|property| name(property) == step)
                        .map(|property| &property.value),
                    ast::Value::Array(array) => step
                        .parse()
                        .ok()
                        .and_then(|index: usize| array.elements.get(index)),
                    _ => None,
                };
                let Some(next) = next else { break };
                here = next;
            }
            here.range().start
        };
        self.with_ast(descend).unwrap_or(0)
    }

    fn repeated_fields(&self) -> Vec<FileError> {
        let mut found = Vec::new();
        self.with_ast(|root| self.find_repeated(root, "", &mut found));
        found
    }

    fn find_repeated(&self, value: &ast::Value<'_>, pointer: &str, found: &mut Vec<FileError>) {
        match value {
            ast::Value::Object(object) => {
                for (index, property) in object.properties.iter().enumerate() {
                    let pointer = format!("{pointer}/{}", name(property));
                    if object.properties[..index]
                        .iter()
                        .any(|earlier| name(earlier) == name(property))
                    {
                        let error = FieldError {
                            pointer: pointer.clone(),
                            value: None,
                            problem: "is given twice".into(),
                            remedy: "keep one of them".into(),
                            kind: FieldErrorKind::Other,
                        };
                        found.push(self.at(property.range.start, error));
                    }
                    self.find_repeated(&property.value, &pointer, found);
                }
            }
            ast::Value::Array(array) => {
                for (index, element) in array.elements.iter().enumerate() {
                    self.find_repeated(element, &format!("{pointer}/{index}"), found);
                }
            }
            _ => {}
        }
    }
}

fn parse_options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        ..ParseOptions::default()
    }
}

fn name<'a>(property: &'a ast::ObjectProp<'_>) -> &'a str {
    match &property.name {
        ObjectPropName::String(name) => &name.value,
        ObjectPropName::Word(name) => name.value,
    }
}

#[cfg(test)]
mod tests {
    use punctual_domain::Zone;

    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batch_config.json");
        std::fs::write(&path, text).unwrap();
        let parse = |file: JsonFile| match crate::parse_batch_config(&file.value, &Zone::utc()) {
            Ok(_) => panic!("it has mistakes"),
            Err(errors) => file.locate(errors),
        };
        let errors = JsonFile::read(&path).map_or_else(|errors| errors, parse);
        let prefix = format!("{}:", path.display());
        errors
            .0
            .iter()
            .map(|error| error.to_string().replace(&prefix, ""))
            .collect()
    }

    #[test]
    fn every_mistake_is_shown_with_line_and_column() {
        let text = r#"{
  // the jobs
  "jobs": [
    { "job_id": "posts", "type": "individual_batch", "purpose_id": "p", "preference_based": true,
      "feature_type": "instagram_posts",
      "priority": "urgent",
      "default_preferences": { "frequency": "fortnightly" }, },
    { "job_id": "posts", "type": "individual_batch", "purpose_id": "é p" }
  ]
}"#;
        let found = errors(text);
        assert_eq!(
            found,
            [
                "6:19: /jobs/0/priority: \"urgent\" is not a priority; use one of low, medium, high, critical",
                "7:45: /jobs/0/default_preferences/frequency: \"fortnightly\" is not a frequency; use one of hourly, daily, weekly, biweekly, monthly, once",
                "8:68: /jobs/1/purpose_id: \"é p\" is not a valid purpose_id; use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -, but neither `.` nor `..`",
                "8:5: /jobs/1/schedule: is missing; add a schedule, or \"preference_based\": true for a job that follows preferences",
                "8:5: /jobs/1/source: is missing; add the file of records, such as {\"file\": \
                 \"items.ndjson\"}",
                "8:17: /jobs/1/job_id: \"posts\" is the name of an earlier job; give every job its own name",
            ]
        );
    }

    #[test]
    fn broken_syntax_and_repeated_fields_are_located() {
        assert!(errors("{ \"jobs\": [ }")[0].starts_with("1:13: /: is not JSON"));
        assert!(errors("")[0].starts_with("1:1: /: is empty"));
        assert_eq!(
            errors("{\"jobs\": [],\n \"jobs\": []}"),
            ["2:2: /jobs: is given twice; keep one of them"]
        );
        let missing = JsonFile::read(Path::new("no/such/file.json"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("no/such/file.json: cannot be read: "),
            "{missing}"
        );
    }
}
