//! Serving HTTP/1 to anyone who connects, so that no client keeps others out: connections are limited in number, each
//! has time limits while it waits for its client, and when all places are taken the one that has waited longest makes
//! room. `axum::serve` has neither. HTTP/2 is left out: behind a proxy it brings nothing here, and its idle connections
//! and streams would need limits of their own.

mod connections;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1::Builder,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval, sleep},
};
use tower::ServiceExt;
use tracing::debug;

pub(crate) use self::connections::network;
use self::connections::{Connection, Connections, Limits};
use crate::Problem;

/// Serves `router` until `stop` is done and every request that was being answered has its answer, 15 s later at most.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    serve_within(listener, router, Limits::default(), stop).await;
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let socket = SockRef::from(&listener);
    // The 128 that a listener has by itself overflow with the first wave of clients, and then a client tries again only
    // after a second. The system may allow less. What connections inherit keeps clients that read nothing from taking
    // megabytes of the system's memory each, and the time to fill them.
    if let Err(error) = socket
        .listen(4_096)
        .and_then(|()| socket.set_send_buffer_size(128 * 1024))
    {
        debug!(%error, "Failed to prepare the listener: {error}");
    }
    let mut builder = Builder::new();
    // The limits of `Connections` hold for heads as well.
    builder.header_read_timeout(None);
    let (open, graceful) = (Arc::new(Connections::new(limits)), GracefulShutdown::new());
    let (mut stop, mut tick) = (pin!(stop), interval(limits.sweep));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let has_room = open.has_room();
        let accepted = tokio::select! {
            accepted = listener.accept(), if has_room => accepted,
            () = open.freed.notified(), if !has_room => continue,
            () = sleep(Duration::from_millis(5)), if !has_room => continue,
            _ = tick.tick(), if !open.is_empty() => {
                open.close_overdue(None);
                continue;
            }
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule.
                debug!(%error, "Failed to accept a connection: {error}");
                open.make_room();
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = open.admit(peer.ip());
        let service = {
            let (router, connection) = (router.clone(), Arc::clone(&connection));
            service_fn(move |request| {
                answer(router.clone(), Arc::clone(&connection), peer, request)
            })
        };
        let stream = TokioIo::new(Stream {
            stream,
            connection: Arc::clone(&connection),
        });
        let serving = graceful.watch(builder.serve_connection(stream, service));
        let open = Arc::clone(&open);
        tokio::spawn(async move {
            tokio::select! {
                // What goes wrong on a connection is the client's business.
                _ = serving => {}
                () = connection.closed.notified() => {}
            }
            open.remove(&connection);
        });
    }
    drop(listener);
    let (mut drained, mut deadline) = (pin!(graceful.shutdown()), pin!(sleep(limits.drain)));
    let mut tick = interval(limits.stopping / 4);
    loop {
        tokio::select! {
            () = &mut drained => return,
            _ = tick.tick() => open.close_overdue(Some(limits.stopping)),
            () = &mut deadline => return open.close_all(),
        }
    }
}

/// Answers one request, and notes what its connection is waiting for meanwhile.
async fn answer(
    router: Router,
    connection: Arc<Connection>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let response = if connection.for_health && !request.uri().path().starts_with("/health/") {
        connection.answer_begins();
        let busy = "all connections are in use; try again in 1 s";
        let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, busy)
            .retry_after(Duration::from_secs(1))
            .into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    } else {
        let mut request = request.map(|body| Body::new(Received::new(body, &connection)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let Ok(response) = router.oneshot(request).await;
        response
    };
    let success = response.status().is_success();
    Ok(response.map(|body| {
        Body::new(Sent {
            body,
            _ended: Ended {
                connection,
                success,
            },
        })
    }))
}

/// The body of a request.
struct Received {
    body: Incoming,
    connection: Arc<Connection>,
}

impl Received {
    fn new(body: Incoming, connection: &Arc<Connection>) -> Self {
        if body.is_end_stream() {
            connection.answer_begins();
        } else {
            connection.body_begins();
        }
        let connection = Arc::clone(connection);
        Self { body, connection }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => self.connection.body_waits(),
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.connection.body_arrives(bytes);
            }
            Poll::Ready(_) => self.connection.answer_begins(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.connection.answer_begins();
    }
}

/// The body of an answer. What it holds is dropped before the end is noted.
struct Sent {
    body: Body,
    _ended: Ended,
}

struct Ended {
    connection: Arc<Connection>,
    success: bool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.connection.answered(self.success);
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's stream, which notes when the client sends something or does not take anything.
struct Stream {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Stream {
    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Pending => self.connection.cannot_write(),
            Poll::Ready(_) => self.connection.written(),
        }
        written
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            self.connection.nothing_to_read();
        } else if buffer.filled().len() > before {
            self.connection.received();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
