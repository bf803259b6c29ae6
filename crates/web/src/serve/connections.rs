//! Open connections: what each is waiting for and how long, and which one is closed to make room for another.
//!
//! A connection that waits for its client (for a request's head or body, or for room to write an answer) has a time
//! limit. One whose request is being answered has none, so long polls and event streams live as long as they like.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use tokio::{sync::Notify, time::Instant};

/// How many connections there may be, and how long each may wait for its client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections for any request.
    pub(super) connections: usize,
    /// Further connections, for `/health/*` only.
    pub(super) for_health: usize,
    /// From the first byte of a head to its last, and from a new connection to its first head.
    pub(super) head: Duration,
    /// From an answer to the next request. Longer than the minute after which load balancers drop idle connections.
    pub(super) idle: Duration,
    /// Without a byte of the body, and altogether beyond what its bytes take at `rate`.
    pub(super) body: Duration,
    /// Bytes a second of a body.
    pub(super) rate: f64,
    /// Without room for a byte of the answer.
    pub(super) write: Duration,
    /// Any of these, once the server stops.
    pub(super) stopping: Duration,
    /// From the signal to stop until the last connection is closed.
    pub(super) drain: Duration,
    /// Between two looks at who has waited too long.
    pub(super) sweep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: places(),
            for_health: 64,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            rate: 1024.0,
            write: Duration::from_mins(1),
            stopping: Duration::from_secs(1),
            drain: Duration::from_secs(15),
            sweep: Duration::from_secs(1),
        }
    }
}

/// Room for thousands of clients who only wait, so that making room is seldom needed, and half of the files that the
/// process may open for everything else.
fn places() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 2).map_or(4_096, |half| half.clamp(64, 4_096))
}

/// Addresses that one client has at its disposal: an IPv4 address, or the /64 of an IPv6 address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The head of a request is awaited.
    Head,
    /// The handler reads the body of a request.
    Body,
    /// The request is being answered.
    Answer,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Whether all that has arrived was read. Before, the client waits for the server.
    all_read: bool,
    /// When the first byte of this head arrived.
    head_began: Option<Instant>,
    body_bytes: u64,
    body_waited: Duration,
    body_waits_since: Option<Instant>,
    write_waits_since: Option<Instant>,
    /// Whether a request on this connection has succeeded.
    useful: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    peer: IpAddr,
    /// It came when all places were taken, and may ask for `/health/*` only.
    pub(super) for_health: bool,
    pub(super) closed: Notify,
    state: Mutex<State>,
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn nothing_to_read(&self) {
        self.state().all_read = true;
    }

    pub(super) fn received(&self) {
        let mut state = self.state();
        state.all_read = false;
        if state.phase == Phase::Head {
            state.head_began.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn written(&self) {
        self.state().write_waits_since = None;
    }

    pub(super) fn cannot_write(&self) {
        self.state()
            .write_waits_since
            .get_or_insert_with(Instant::now);
    }

    pub(super) fn body_begins(&self) {
        let mut state = self.state();
        state.phase = Phase::Body;
        (state.body_bytes, state.body_waited) = (0, Duration::ZERO);
        state.body_waits_since = None;
    }

    pub(super) fn body_waits(&self) {
        self.state()
            .body_waits_since
            .get_or_insert_with(Instant::now);
    }

    pub(super) fn body_arrives(&self, bytes: usize) {
        let mut state = self.state();
        state.body_bytes += bytes as u64;
        if let Some(since) = state.body_waits_since.take() {
            state.body_waited += since.elapsed();
        }
    }

    /// The body has arrived, or the handler does not want the rest of it.
    pub(super) fn answer_begins(&self) {
        let mut state = self.state();
        if state.phase != Phase::Answer {
            state.phase = Phase::Answer;
            state.body_waits_since = None;
        }
    }

    pub(super) fn answered(&self, success: bool) {
        let mut state = self.state();
        state.phase = Phase::Head;
        state.since = Instant::now();
        state.head_began = None;
        state.useful |= success;
    }

    /// How long it has been waiting for its client, and how long it may; `None` while it is being answered. No time at
    /// all while what has arrived is still to be read.
    fn waits(&self, limits: &Limits, now: Instant) -> Option<(Duration, Duration)> {
        let state = self.state();
        if let Some(since) = state.write_waits_since {
            return Some((now - since, limits.write));
        }
        match (state.phase, state.head_began) {
            (Phase::Head, _) if !state.all_read => Some((Duration::ZERO, limits.head)),
            (Phase::Head, Some(began)) => Some((now - began, limits.head)),
            (Phase::Head, None) if state.useful => Some((now - state.since, limits.idle)),
            (Phase::Head, None) => Some((now - state.since, limits.head)),
            (Phase::Body, _) => {
                let stalled = state
                    .body_waits_since
                    .map_or(Duration::ZERO, |since| now - since);
                let earned = Duration::from_secs_f64(state.body_bytes as f64 / limits.rate);
                let late = (state.body_waited + stalled).saturating_sub(earned);
                Some((late.max(stalled), limits.body))
            }
            (Phase::Answer, _) => None,
        }
    }
}

/// The open connections of a server.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    pub(super) freed: Notify,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: AtomicU64::new(0),
            open: Mutex::default(),
            freed: Notify::new(),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open().is_empty()
    }

    /// Whether one more connection may be accepted. Only when all places are in use it may not, or for the moment in
    /// which nothing of what came last has been read.
    pub(super) fn has_room(&self) -> bool {
        let (open, limits, now) = (self.open(), &self.limits, Instant::now());
        if open.len() < limits.connections {
            return true;
        }
        let (mut in_use, mut ordinary) = (true, 0);
        for connection in open.values() {
            let waits = connection.waits(limits, now);
            if waits.is_some_and(|(waited, _)| !waited.is_zero()) {
                return true;
            }
            ordinary += usize::from(!connection.for_health);
            in_use &= connection.for_health || waits.is_none();
        }
        ordinary < limits.connections
            || in_use && open.len() < limits.connections + limits.for_health
    }

    /// Closes connections that wait for their client, if there are any.
    pub(super) fn make_room(&self) {
        let mut open = self.open();
        let _ =
            close_some(&mut open, &self.limits, false) || close_some(&mut open, &self.limits, true);
    }

    /// Takes a new connection in. When all places are taken, some that wait for their client are closed; when none does,
    /// the new one may ask for `/health/*` only.
    pub(super) fn admit(&self, peer: IpAddr) -> Arc<Connection> {
        let (mut open, limits) = (self.open(), &self.limits);
        let ordinary = if open.len() < limits.connections {
            open.len()
        } else {
            open.values().filter(|one| !one.for_health).count()
        };
        let full = ordinary >= limits.connections && !close_some(&mut open, limits, false);
        if full && open.len() >= limits.connections + limits.for_health {
            close_some(&mut open, limits, true);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            id,
            peer: network(peer),
            for_health: full,
            closed: Notify::new(),
            state: Mutex::new(State {
                phase: Phase::Head,
                since: Instant::now(),
                all_read: false,
                head_began: None,
                body_bytes: 0,
                body_waited: Duration::ZERO,
                body_waits_since: None,
                write_waits_since: None,
                useful: false,
            }),
        });
        open.insert(id, Arc::clone(&connection));
        connection
    }

    pub(super) fn remove(&self, connection: &Connection) {
        self.open().remove(&connection.id);
        self.freed.notify_one();
    }

    /// Closes every connection that has waited for its client longer than it may, or longer than `most`.
    pub(super) fn close_overdue(&self, most: Option<Duration>) {
        let now = Instant::now();
        self.open().retain(|_, connection| {
            let waits = connection.waits(&self.limits, now);
            let overdue =
                waits.is_some_and(|(waited, limit)| waited > most.unwrap_or(limit).min(limit));
            if overdue {
                connection.closed.notify_one();
            }
            !overdue
        });
    }

    pub(super) fn close_all(&self) {
        for (_, connection) in self.open().drain() {
            connection.closed.notify_one();
        }
    }
}

/// Closes connections that wait for their client: of the peer with the most of them, so that one peer cannot keep others
/// out; of those, the ones that have waited longest. A sixteenth at once, because looking for them takes time that a
/// flood of new connections does not leave.
fn close_some(open: &mut HashMap<u64, Arc<Connection>>, limits: &Limits, for_health: bool) -> bool {
    let now = Instant::now();
    let mut waiting = Vec::new();
    let mut of_peer: HashMap<IpAddr, usize> = HashMap::new();
    for connection in open.values().filter(|one| one.for_health == for_health) {
        if let Some((waited, _)) = connection.waits(limits, now)
            && !waited.is_zero()
        {
            *of_peer.entry(connection.peer).or_default() += 1;
            waiting.push((connection.peer, waited, connection.id));
        }
    }
    waiting.sort_unstable_by_key(|(peer, waited, _)| Reverse((of_peer[peer], *waited)));
    for (.., id) in waiting.iter().take(waiting.len().div_ceil(16)) {
        if let Some(connection) = open.remove(id) {
            connection.closed.notify_one();
        }
    }
    !waiting.is_empty()
}
