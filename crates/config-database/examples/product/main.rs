//! A product that embeds the preference pages in three ways: a frame with a link, the web component, and a form of its own
//! that calls the API. Run it beside a Config Database:
//!
//! ```sh
//! CONFIG_SERVICE_API_KEY=an-administrators-key CONFIG_EMBED_ORIGINS=http://localhost:3000 punctual-config-service &
//! CONFIG_SERVICE_API_KEY=an-administrators-key cargo run -p punctual-config-database --example product
//! ```

use tokio::net::TcpListener;

mod app;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = std::env::var("CONFIG_SERVICE_API_KEY")
        .map_err(|_| "CONFIG_SERVICE_API_KEY is not set; give a key with the scope `write`")?;
    let service = "http://127.0.0.1:8000";
    let product = app::Product::new(service, service, key);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("The product is at http://localhost:3000");
    axum::serve(listener, product.router()).await?;
    Ok(())
}
