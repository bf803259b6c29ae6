//! The program around Punctual installs drivers of sqlx too, before or after the store is opened.

use std::{env, process::Command};

use punctual_infrastructure::SqliteStore;
use sqlx::any::{AnyPoolOptions, install_default_drivers, install_drivers};

/// Which order the process runs.
const ORDER: &str = "ORDER_OF_DRIVERS";

/// Drivers are installed once in a process, so each order has one.
#[test]
fn stores_open_in_every_order_of_installing_the_drivers() {
    for order in ["default first", "own first", "store first"] {
        let test = "drivers::in_a_process_of_its_own";
        let ran = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(ORDER, order)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ran.stdout);
        assert!(
            ran.status.success() && text.contains("opened"),
            "{order}: {text}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}

#[tokio::test]
async fn in_a_process_of_its_own() {
    let Ok(order) = env::var(ORDER) else { return };
    match order.as_str() {
        "default first" => install_default_drivers(),
        "own first" => install_drivers(&[sqlx::sqlite::any::DRIVER]).unwrap(),
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    for name in ["one.db", "two.db"] {
        SqliteStore::open(&file(name)).await.unwrap();
    }
    if order == "store first" {
        install_default_drivers();
        install_drivers(&[]).unwrap_err();
    }
    let host = format!("{}?mode=rwc", file("host.db"));
    AnyPoolOptions::new().connect(&host).await.unwrap();
    println!("opened");
}
