//! What stands around the agent in `make run`: a shop that knows what its users have sold, and a mailbox that takes every e-mail
//! and shows it in a browser. Both are on this machine alone, at the addresses of `data/batch`. It runs a command beside them, and
//! ends with it:
//!
//! ```text
//! punctual-demo punctual-agent run
//! ```

mod mailbox;
mod shop;
#[cfg(test)]
mod tests;

use std::process::{Command, ExitCode};

use anyhow::Context;
use axum::routing::post;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use crate::mailbox::Mailbox;

/// Where the shop answers, and where the pages of the mailbox are.
const HTTP: &str = "127.0.0.1:8090";
/// Where the mailbox takes e-mails.
const SMTP: &str = "127.0.0.1:2525";

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words
        .next()
        .context("no command is given; run `punctual-demo COMMAND [ARGUMENT…]`")?;
    let (http, smtp) = (listen(HTTP).await?, listen(SMTP).await?);
    let mailbox = Mailbox::new(&format!("http://{HTTP}"));
    let router = mailbox
        .clone()
        .pages()
        .route("/activity", post(shop::activity));
    tokio::spawn(async move { axum::serve(http, router).await });
    tokio::spawn(mailbox.receive(smtp));
    // At a terminal, Ctrl-C reaches the command as well, which decides when it ends.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("E-mails of the demo: http://{HTTP}/");
    let mut command = Command::new(&program);
    let started = command.args(words).spawn();
    let mut child =
        started.with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    let id = Pid::from_child(&child);
    let mut ended = spawn_blocking(move || child.wait());
    loop {
        tokio::select! {
            status = &mut ended => {
                let code = status??.code().and_then(|code| u8::try_from(code).ok());
                return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => kill_process(id, Signal::TERM)?,
        }
    }
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| {
        format!("cannot listen on {address}; end what uses it, such as another demo")
    })
}
