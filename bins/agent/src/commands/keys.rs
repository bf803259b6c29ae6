//! `keys`: the API keys of operators.

use punctual_application::{CreatedKey, NewOperatorKey};
use punctual_operations::model::OperatorKeys;

use super::Failure;
use crate::{
    cli::Keys,
    client::Client,
    output::{Table, View, cell, instant, print_line, show},
    settings::Settings,
};

pub(crate) async fn keys(settings: &Settings, what: Keys) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    match what {
        Keys::List { json } => list(&client, json).await,
        Keys::Add {
            name,
            role,
            expires_in,
            reason,
            json,
        } => {
            let new = NewOperatorKey {
                name,
                role,
                expires_in_days: expires_in,
            };
            let client = client.because(reason.as_deref())?;
            let made: CreatedKey = client.post("keys", Some(&new)).await?;
            show(json, &made, |made| {
                let until = made.expires_at.map(instant);
                let until = until.map_or_else(String::new, |until| format!(" until {until}"));
                View::default().line(&made.key).prose(format!(
                    "This is the key of {}, with the role {}{until}. It is not shown again",
                    made.name, made.role
                ))
            });
            Ok(())
        }
        Keys::Revoke { name, reason } => {
            let client = client.because(reason.as_deref())?;
            client.remove("keys", &name).await?;
            print_line(format!(
                "Revoked {name}: the key and its sessions have ended"
            ));
            Ok(())
        }
    }
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let keys: OperatorKeys = client.get("keys", &[]).await?;
    show(json, &keys, |keys| {
        if keys.keys.is_empty() {
            return View::default().line("No keys beside the one in BATCH_API_KEY");
        }
        let mut table = Table::new(["name", "role", "expires", "last used", "created"]);
        for key in &keys.keys {
            let day = key.last_used.map(|day| day.to_string());
            table.row([
                cell(&key.name),
                cell(key.role),
                cell(key.expires_at.map_or_else(|| "never".to_owned(), instant)),
                cell(day.as_deref().unwrap_or("never")),
                cell(instant(key.created_at)).below(&key.created_by),
            ]);
        }
        View::default().table(&table)
    });
    Ok(())
}
