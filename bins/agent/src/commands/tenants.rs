//! `export` and `erase`: what the agent holds of a tenant.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use punctual_application::{
    amount,
    ports::{ErasedRecords, TenantExport},
};
use punctual_domain::TenantId;

use super::Failure;
use crate::{
    cli::EraseOptions,
    client::{Client, LONG_TIMEOUT},
    output::{View, confirm_by_typing, print_line, show},
    settings::Settings,
};

/// Prints what is held of a tenant, or writes it to a file.
pub(crate) async fn export(
    settings: &Settings,
    tenant: &TenantId,
    to: Option<&Path>,
) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    let path = format!("tenants/{tenant}/export");
    let export: TenantExport = client.get_within(&path, &[], LONG_TIMEOUT).await?;
    let Some(to) = to else {
        show(true, &export, |_| View::default());
        return Ok(());
    };
    let text = serde_json::to_string_pretty(&export).map_err(Failure::failed)?;
    let cannot = |error: std::io::Error| {
        Failure::BadInput(format!(
            "cannot write {}: {error}; name a file that does not exist",
            to.display()
        ))
    };
    // It is about a person: no other user of the machine reads it.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    let mut file = file.map_err(cannot)?;
    writeln!(file, "{text}").map_err(cannot)?;
    let records: usize = export.0.values().map(Vec::len).sum();
    print_line(format!(
        "Wrote {} to {}",
        amount(records as u64, "record"),
        to.display()
    ));
    Ok(())
}

/// Erases what is held of a tenant.
pub(crate) async fn erase(settings: &Settings, options: EraseOptions) -> Result<(), Failure> {
    let EraseOptions {
        tenant,
        reason,
        yes,
        json,
    } = options;
    let client = Client::new(settings)?.because(reason.as_deref())?;
    if !yes {
        let question = format!(
            "Erase everything that the agent holds of tenant {tenant}? This cannot be undone."
        );
        confirm_by_typing(question, tenant.as_str())?;
    }
    let path = format!("tenants/{tenant}");
    let erased: ErasedRecords = client.delete_within(&path, LONG_TIMEOUT).await?;
    show(json, &erased, |erased| {
        if *erased == ErasedRecords::default() {
            return View::default().line(format!(
                "Nothing was held of tenant {tenant}; check the id, unless the tenant was erased before"
            ));
        }
        let ErasedRecords {
            runs,
            items,
            dead_letters,
            others,
        } = erased;
        let line = format!(
            "Erased tenant {tenant}: {}, {}, {} and {}",
            amount(*runs, "run"),
            amount(*items, "open item"),
            amount(*dead_letters, "dead letter"),
            amount(*others, "other record"),
        );
        View::default().line(line)
    });
    Ok(())
}
