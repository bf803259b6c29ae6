//! The condition of a statement, put together of what is asked for: what there is an index for is found by it, which a
//! condition for all cases, such as `$1 IS NULL OR job_id = $1`, would not use.

use crate::driver::Value;

/// Conditions that must all hold, and their parameters.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds a condition; `?` in it is `value`.
    pub(crate) fn with(mut self, condition: &str, value: impl Into<Value>) -> Self {
        let parameter = self.parameter(value);
        self.and(&condition.replace('?', &parameter))
    }

    /// Adds a condition where there is a value for the `?` in it.
    pub(crate) fn given(self, condition: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(condition, value),
            None => self,
        }
    }

    /// Adds a condition without a parameter.
    pub(crate) fn and(mut self, condition: &str) -> Self {
        let word = if self.sql.is_empty() { "WHERE" } else { "AND" };
        self.sql.push_str(&format!(" {word} ({condition})"));
        self
    }

    /// The `WHERE` clause.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Adds a parameter of the rest of the statement, and says how it is written there.
    pub(crate) fn parameter(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// The parameters, in their order.
    pub(crate) fn values(self) -> Vec<Value> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_a_condition() {
        let mut conditions = Conditions::default()
            .with("id < ?", 7_i64)
            .given("job_id = ?", None::<&str>)
            .given("tenant_id = ?", Some("ann"))
            .and("a OR b");
        assert_eq!(conditions.parameter(20_i64), "$3");
        assert_eq!(
            conditions.sql(),
            " WHERE (id < $1) AND (tenant_id = $2) AND (a OR b)"
        );
        assert_eq!(conditions.values().len(), 3);
        assert_eq!(Conditions::default().sql(), "");
    }
}
