use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{response::IntoResponse, routing::get, routing::post};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::*;

/// How a client takes a place without asking for anything.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Silent,
    DrippingHead,
    Http2,
    IdleAfterAnAnswer,
    UnfinishedBody,
    DrippingBody,
    NeverReads,
}

const KINDS: [Kind; 7] = [
    Kind::Silent,
    Kind::DrippingHead,
    Kind::Http2,
    Kind::IdleAfterAnAnswer,
    Kind::UnfinishedBody,
    Kind::DrippingBody,
    Kind::NeverReads,
];

impl Kind {
    fn first_bytes(self) -> &'static [u8] {
        match self {
            Self::Silent => b"",
            Self::DrippingHead => b"GET / HTTP/1.1\r\nhost: x\r\nx: ",
            Self::Http2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            Self::IdleAfterAnAnswer => b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            Self::UnfinishedBody | Self::DrippingBody => {
                b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nkey="
            }
            Self::NeverReads => b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n",
        }
    }

    /// Takes a place again and again.
    async fn hold(self, address: SocketAddr) {
        loop {
            let Ok(mut stream) = TcpStream::connect(address).await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.write_all(self.first_bytes()).await;
            let drips = matches!(self, Self::DrippingHead | Self::DrippingBody);
            let reads = !matches!(self, Self::NeverReads);
            loop {
                let mut buffer = [0; 512];
                tokio::select! {
                    read = stream.read(&mut buffer), if reads => {
                        if matches!(read, Ok(0) | Err(_)) { break }
                    }
                    () = sleep(Duration::from_secs(1)), if drips || !reads => {
                        if drips && stream.write_all(b"x").await.is_err() { break }
                        // A write fails when the server has closed the connection.
                        if !reads && stream.write_all(b"\r\n").await.is_err() { break }
                    }
                }
            }
            sleep(Duration::from_millis(250)).await;
        }
    }
}

fn short() -> Limits {
    Limits {
        connections: 200,
        for_health: 10,
        head: Duration::from_millis(500),
        idle: Duration::from_millis(800),
        body: Duration::from_millis(500),
        write: Duration::from_millis(500),
        stopping: Duration::from_millis(200),
        drain: Duration::from_secs(2),
        sweep: Duration::from_millis(50),
        ..Limits::default()
    }
}

struct Running {
    address: SocketAddr,
    /// How many requests for `/quiet` are being answered, or were.
    quiet: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

async fn start(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let quiet = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&quiet);
    let large = Bytes::from(vec![b'x'; 16 * 1024 * 1024]);
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/health/live", get(async || "live"))
        .route("/body", post(async |body: Bytes| body.len().to_string()))
        .route("/large", get(async move || large.clone().into_response()))
        .route(
            "/quiet",
            get(async move || {
                counted.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(3)).await;
                "at last"
            }),
        );
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve_within(listener, router, limits, async {
        let _ = stopped.await;
    }));
    Running {
        address,
        quiet,
        stop,
        serving,
    }
}

/// Asks as HTTP clients do: again when the connection was closed before there was an answer.
async fn ask_again(address: SocketAddr, path: &str) -> io::Result<String> {
    for _ in 0..4 {
        if let Ok(answer) = ask(address, path).await
            && !answer.is_empty()
        {
            return Ok(answer);
        }
    }
    ask(address, path).await
}

async fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// How long a good client waits while others hold places, sorted. It is never refused.
async fn waits_amid(kind: Kind, others: usize, limits: Limits, lasting: Duration) -> Vec<Duration> {
    let server = start(limits).await;
    let held: Vec<_> = (0..others)
        .map(|_| tokio::spawn(kind.hold(server.address)))
        .collect();
    sleep(Duration::from_millis(300)).await;
    let (begin, mut took) = (Instant::now(), Vec::new());
    while begin.elapsed() < lasting {
        let asked = Instant::now();
        let answer = timeout(Duration::from_mins(1), ask_again(server.address, "/")).await;
        let answer = answer.unwrap_or_else(|_| panic!("{kind:?}: no answer"));
        assert!(answer.unwrap().ends_with("here"), "{kind:?}");
        took.push(asked.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    held.iter().for_each(JoinHandle::abort);
    took.sort_unstable();
    took
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[sorted.len() * percent / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_only_take_places_keep_no_client_out() {
    // No time limit frees a place: only making room does.
    let long = Duration::from_mins(1);
    let limits = || Limits {
        head: long,
        idle: long,
        body: long,
        write: long,
        ..short()
    };
    for kind in KINDS {
        // How long it takes at most depends on how busy this machine is; the measurement below judges that.
        let waits = waits_amid(kind, 300, limits(), Duration::from_secs(1)).await;
        let half = percentile(&waits, 50);
        assert!(half < Duration::from_secs(1), "{kind:?}: {waits:?}");
    }
}

/// Two minutes of each kind (or `DOORS_SECONDS`), with the limits as they are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes 14 minutes"]
async fn two_thousand_clients_of_each_kind_keep_no_client_out() {
    let seconds = std::env::var("DOORS_SECONDS").map_or(120, |seconds| seconds.parse().unwrap());
    let lasting = Duration::from_secs(seconds);
    for kind in KINDS {
        let p99 = percentile(
            &waits_amid(kind, 2_000, Limits::default(), lasting).await,
            99,
        );
        eprintln!("{kind:?}: p99 {p99:?}");
        assert!(p99 < Duration::from_millis(250), "{kind:?}: {p99:?}");
    }
}

#[tokio::test]
async fn every_wait_for_a_client_ends_and_no_other() {
    let server = start(short()).await;
    let quiet = tokio::spawn(ask(server.address, "/quiet"));
    for kind in KINDS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(kind.first_bytes()).await.unwrap();
        let closed = async {
            // Until then nothing is read, so that the answer of a client that never reads does not fit.
            sleep(Duration::from_millis(1_500)).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            rest.len()
        };
        let sent = timeout(Duration::from_secs(5), closed).await;
        let sent = sent.unwrap_or_else(|_| panic!("{kind:?} is not closed"));
        assert!(sent < 16 * 1024 * 1024, "{kind:?}: {sent}");
    }
    let answer = quiet.await.unwrap().unwrap();
    assert!(answer.ends_with("at last"), "{answer}");
}

#[tokio::test]
async fn a_body_that_arrives_slowly_but_steadily_is_read() {
    let server = start(Limits {
        rate: 100.0,
        body: Duration::from_secs(1),
        ..short()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head =
        b"POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    // Four times as long as one wait may be, and more than twice as fast as needed.
    for _ in 0..20 {
        stream.write_all(&[b'x'; 50]).await.unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("1000"), "{answer}");
}

#[tokio::test]
async fn places_for_health_are_left_when_all_others_are_in_use() {
    let server = start(Limits {
        connections: 20,
        ..short()
    })
    .await;
    let in_use: Vec<_> = (0..20)
        .map(|_| tokio::spawn(ask(server.address, "/quiet")))
        .collect();
    while server.quiet.load(Ordering::Relaxed) < 20 {
        sleep(Duration::from_millis(5)).await;
    }
    let refused = ask(server.address, "/").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.to_ascii_lowercase().contains("retry-after: 1"),
        "{refused}"
    );
    assert!(
        ask(server.address, "/health/live")
            .await
            .unwrap()
            .ends_with("live")
    );
    for answer in in_use {
        assert!(answer.await.unwrap().unwrap().ends_with("at last"));
    }
    assert!(ask(server.address, "/").await.unwrap().ends_with("here"));
}

#[tokio::test]
async fn the_peer_with_the_most_connections_makes_room() {
    let server = start(Limits {
        head: Duration::from_mins(1),
        ..short()
    })
    .await;
    let from = async |peer: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, peer), 0));
        socket.bind(own).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    // It has waited longest, and has no part in what follows.
    let mut other = from(2).await;
    let mut many = Vec::new();
    for _ in 0..300 {
        many.push(from(3).await);
        tokio::task::yield_now().await;
    }
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    other.write_all(request).await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("here"), "{answer}");
    // There are no more than there may be.
    let is_open = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
    let is_closed = |stream: &&TcpStream| !stream.try_read(&mut [0]).is_err_and(is_open);
    let begun = Instant::now();
    while many.iter().filter(is_closed).count() < 300 - 200 - 10 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "too many are open"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_end_comes_whatever_clients_do() {
    for kind in KINDS {
        let server = start(Limits {
            head: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            body: Duration::from_mins(1),
            write: Duration::from_mins(1),
            ..short()
        })
        .await;
        let held: Vec<_> = (0..20)
            .map(|_| tokio::spawn(kind.hold(server.address)))
            .collect();
        sleep(Duration::from_millis(200)).await;
        server.stop.send(()).unwrap();
        let ended = timeout(Duration::from_secs(4), server.serving).await;
        assert!(ended.is_ok(), "{kind:?}");
        held.iter().for_each(JoinHandle::abort);
    }
    // Also while a request is being answered.
    let server = start(Limits {
        drain: Duration::from_millis(500),
        ..short()
    })
    .await;
    let _quiet = tokio::spawn(ask(server.address, "/quiet"));
    sleep(Duration::from_millis(200)).await;
    server.stop.send(()).unwrap();
    timeout(Duration::from_secs(2), server.serving)
        .await
        .unwrap()
        .unwrap();
}
