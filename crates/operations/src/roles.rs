//! Which role who has: what settings say of groups and of names.

use std::str::FromStr;

use punctual_application::Role;
use utoipa::openapi::{
    Object, OpenApi, RefOr, Required, Type,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
};

/// The roles of groups, or of names, such as `view=staff,operate=oncall`. A name `*` stands for everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMap(Vec<(Role, String)>);

impl FromStr for RoleMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entry = |entry: &str| {
            let (role, name) = entry.split_once('=').ok_or_else(|| {
                format!(
                    "has `{entry}`; expected a role and a name, such as `operate=oncall`, with commas between several"
                )
            })?;
            let role: Role = role
                .trim()
                .parse()
                .map_err(|error| format!("has {error}"))?;
            match name.trim() {
                "" => Err(format!("names no one for the role {role}")),
                name => Ok((role, name.to_owned())),
            }
        };
        text.split(',')
            .map(str::trim)
            .map(entry)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl RoleMap {
    /// The highest role that one of these names has; `None`: none of them has a role.
    pub(crate) fn role_of<S: AsRef<str>>(&self, names: &[S]) -> Option<Role> {
        let holds = |name: &str| name == "*" || names.iter().any(|own| own.as_ref() == name);
        let roles = self.0.iter().filter(|(_, name)| holds(name));
        roles.map(|(role, _)| *role).max()
    }
}

/// Describes of calls that they need this role, and of those that change something that they take a reason.
pub(crate) fn describe(role: Role, calls: &mut OpenApi) {
    for item in calls.paths.paths.values_mut() {
        for operation in [
            item.get.as_mut(),
            item.post.as_mut(),
            item.put.as_mut(),
            item.patch.as_mut(),
            item.delete.as_mut(),
        ]
        .into_iter()
        .flatten()
        {
            needs(role, operation);
        }
        for operation in [
            item.post.as_mut(),
            item.put.as_mut(),
            item.patch.as_mut(),
            item.delete.as_mut(),
        ]
        .into_iter()
        .flatten()
        {
            let parameters = operation.parameters.get_or_insert_default();
            parameters.push(RefOr::T(reason()));
        }
    }
}

fn needs(role: Role, operation: &mut Operation) {
    let needs = format!("Needs the role `{role}`.");
    operation.description = Some(match operation.description.take() {
        Some(text) if !text.is_empty() => format!("{text}\n\n{needs}"),
        _ => needs,
    });
}

fn reason() -> Parameter {
    let text = "Why, at most 500 characters; the audit log keeps it";
    ParameterBuilder::new()
        .name("Punctual-Reason")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(text))
        .schema(Some(Object::with_type(Type::String)))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_of_all_groups_counts() {
        let roles: RoleMap = "view=staff, operate=oncall,administer=admins"
            .parse()
            .unwrap();
        assert_eq!(roles.role_of(&["staff", "oncall"]), Some(Role::Operate));
        assert_eq!(roles.role_of(&["admins", "x"]), Some(Role::Administer));
        assert_eq!(roles.role_of(&["Staff", "*"]), None);
        assert_eq!(roles.role_of::<&str>(&[]), None);
        let everyone: RoleMap = "view=*,administer=ann@shop.example".parse().unwrap();
        assert_eq!(everyone.role_of(&["bob"]), Some(Role::View));
        assert_eq!(
            everyone.role_of(&["ann@shop.example"]),
            Some(Role::Administer)
        );
    }

    #[test]
    fn what_is_wrong_with_a_map_is_named() {
        for (text, what) in [
            ("", "expected a role and a name"),
            ("view", "`view`"),
            ("admin=ann", "invalid role `admin`"),
            ("view=", "names no one for the role view"),
            ("view=a,,operate=b", "expected a role and a name"),
        ] {
            let error = text.parse::<RoleMap>().unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
