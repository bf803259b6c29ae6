//! Serving HTTP to whoever comes: connections are counted, and one that does not say what it wants in time is closed, so
//! that many idle or dripping ones keep nobody out for long. `axum::serve` knows neither.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tracing::debug;

/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 1_024;
/// How long a client may take for the head of a request, also of the next one on a connection that is kept.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Serves `router` until `stop` is done and every request that was being answered has its answer.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    serve_within(listener, router, CONNECTIONS, HEAD_WITHIN, stop).await;
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    connections: usize,
    head_within: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within);
    let (open, graceful) = (
        Arc::new(Semaphore::new(connections)),
        GracefulShutdown::new(),
    );
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&open).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule: some will be free in a moment.
                debug!(%error, "A connection cannot be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone().layer(Extension(ConnectInfo(peer)));
        let service = TowerToHyperService::new(router);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            // What goes wrong on a connection is the client's business.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn clients_that_never_finish_a_request_are_closed_and_keep_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let within = Duration::from_secs(1);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(serve_within(listener, router, 20, within, async {
            let _ = stopped.await;
        }));
        let mut dripping = Vec::new();
        for _ in 0..19 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
            dripping.push(stream);
        }
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        assert!(ask().await.ends_with("here"), "there is one place left");
        let mut one_more = TcpStream::connect(address).await.unwrap();
        one_more.write_all(b"GET").await.unwrap();
        // All places are taken now, until those who drip are closed.
        let soon = within + Duration::from_secs(10);
        let answer = tokio::time::timeout(soon, ask()).await.unwrap();
        assert!(answer.ends_with("here"));
        let mut rest = Vec::new();
        let mut first = dripping.swap_remove(0);
        let ended = tokio::time::timeout(soon, first.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it is closed");
        stop.send(()).unwrap();
        drop((dripping, one_more));
        serving.await.unwrap();
    }
}
