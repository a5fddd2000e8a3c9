//! How many requests one key and one address may make, and how long one may take. Connections, and how slow they may be,
//! are bounded where they are accepted.
//!
//! A festival is behind one address, so requests count against the key that makes them. An address is counted for what
//! comes without a key, and apart from that for keys that nobody has seen yet: a key that was good once is known from then
//! on. What protects people ([`PROTECTED`]) has a lane of its own, at every one of these counters and where connections
//! are few: it is never refused because somebody else, or the same key, asks too much of something else.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::auth::key_hash;
use crate::http::kit::asking;
use crate::http::kit::problem::{Fault, Problem};
use crate::shared_counts::{SHARED_WINDOW, SharedCounts};

/// What protects people and what they own from what is happening now, by method and route.
pub const PROTECTED: &[(Method, &str)] = &[
    (Method::POST, "/api/v1/festivals/{slug}/zones/{zone}/state"),
    (Method::POST, "/api/v1/devices/{device}/revoke"),
    (Method::POST, "/api/v1/tickets/{ticket}/block"),
    (Method::POST, "/api/v1/tickets/{ticket}/unblock"),
    (Method::POST, "/api/v1/tickets/{ticket}/tag/lost"),
    (Method::POST, "/api/v1/wristbands/{uid}/lost"),
    (Method::POST, "/api/v1/tickets/{ticket}/admit"),
    (Method::POST, "/api/v1/cashless/wallets/{wallet}/block"),
    (Method::POST, "/api/v1/cashless/wallets/{wallet}/unblock"),
    (Method::POST, "/api/v1/cashless/wallets/{wallet}/tag/lost"),
    (Method::DELETE, "/api/v1/keys/{no}"),
];

/// What one key and one address may do, and how long they wait.
#[derive(Clone)]
pub struct Limits {
    /// Requests a second of one key in the long run, and as many of its protected ones; `None` for as many as it likes.
    pub key_requests_per_s: Option<NonZeroU32>,
    /// The same of one address without a key, and with keys that are not known yet.
    pub requests_per_s: Option<NonZeroU32>,
    /// How many at once before that counts: a page of an organiser's tool asks for some dozens.
    pub burst: NonZeroU32,
    /// How long a handler may take until its answer begins; bulk calls and live streams bound their own time.
    pub answer_within: Duration,
    /// Where requests to other nodes are counted too.
    pub shared: Option<Arc<dyn SharedCounts>>,
}

/// The node answers within 30 s at worst (`durability.md`, 17).
const ANSWER_WITHIN: Duration = Duration::from_secs(35);

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_requests_per_s: NonZeroU32::new(100),
            requests_per_s: NonZeroU32::new(100),
            burst: NonZeroU32::new(500).unwrap_or(NonZeroU32::MIN),
            answer_within: ANSWER_WITHIN,
            shared: None,
        }
    }
}

/// How often those that have not come lately are forgotten. At 64 B each, a million addresses in between are 64 MB.
const FORGET_EVERY: Duration = Duration::from_secs(5);
/// Keys that were good, 32 B each: 2 MiB. Beyond it all are forgotten, and are known again with their next request.
const KNOWN_MAX: usize = 65_536;

/// Set where a connection is accepted: who is behind it.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Set where a connection is accepted that had no place any more: only what protects people is answered there.
#[derive(Clone, Copy, Debug)]
pub struct Narrow;

/// As what an address is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stranger {
    /// It shows no key.
    NoKey,
    /// It shows one that nobody has seen yet.
    NewKey,
    /// The same, for what protects people.
    NewKeyProtected,
}

/// All counters, shared by all requests.
struct Guard {
    /// By key's hash, and whether it is for what protects people.
    keys: Option<DefaultKeyedRateLimiter<([u8; 32], bool)>>,
    addresses: Option<DefaultKeyedRateLimiter<(IpAddr, Stranger)>>,
    known: Mutex<HashSet<[u8; 32]>>,
    clock: DefaultClock,
    /// With how many requests of one key and of one address all nodes together let pass in [`SHARED_WINDOW`].
    shared: Option<(Arc<dyn SharedCounts>, u64, u64)>,
}

/// A request's key on its way to whoever looks it up.
#[derive(Clone)]
pub struct Shown(Arc<Guard>, [u8; 32]);

impl Shown {
    /// It has been looked up: it is good, or is not.
    pub fn is(&self, good: bool) {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !good {
            known.remove(&self.1);
        } else if !known.contains(&self.1) {
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(self.1);
        }
    }
}

impl Limits {
    /// Stands before these routes. The future forgets who has not come lately; it has no end, and is to be run beside the
    /// door.
    pub fn guard(self, router: Router) -> (Router, impl Future<Output = ()> + Send + 'static) {
        let guard = Arc::new(Guard::new(self));
        let router = router.layer(middleware::from_fn_with_state(Arc::clone(&guard), admit));
        let forget = async move {
            let mut every = tokio::time::interval(FORGET_EVERY);
            loop {
                every.tick().await;
                if let Some(keys) = &guard.keys {
                    keys.retain_recent();
                }
                if let Some(addresses) = &guard.addresses {
                    addresses.retain_recent();
                }
            }
        };
        (router, forget)
    }
}

fn limiter<K: Hash + Eq + Clone>(per_s: Option<NonZeroU32>, burst: NonZeroU32) -> Option<DefaultKeyedRateLimiter<K>> {
    let quota = Quota::with_period(Duration::from_secs(1) / per_s?.get())?;
    Some(DefaultKeyedRateLimiter::keyed(quota.allow_burst(burst)))
}

async fn admit(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let protected = is_protected(&request);
    if !protected && request.extensions().get::<Narrow>().is_some() {
        return Problem::from(Fault::TooManyConnections).into_response();
    }
    let key = shown_key(request.headers());
    if let Some(wait) = guard.wait(key, client(&request), protected) {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        return Problem::from(Fault::TooManyRequests).retry_after_s(seconds).into_response();
    }
    if let Some(key) = key {
        request.extensions_mut().insert(Shown(guard, key));
    }
    asking::on_behalf(next.run(request)).await
}

impl Guard {
    fn new(limits: Limits) -> Self {
        let in_window = |per_s: Option<NonZeroU32>| {
            let in_long_run = per_s.map_or(u64::MAX / 2, |per_s| u64::from(per_s.get()) * SHARED_WINDOW.as_secs());
            in_long_run + u64::from(limits.burst.get())
        };
        let (of_key, of_address) = (in_window(limits.key_requests_per_s), in_window(limits.requests_per_s));
        Self {
            keys: limiter(limits.key_requests_per_s, limits.burst),
            addresses: limiter(limits.requests_per_s, limits.burst),
            known: Mutex::default(),
            clock: DefaultClock::default(),
            shared: limits.shared.map(|shared| (shared, of_key, of_address)),
        }
    }

    /// Counts a request; how long it has to wait if it comes too soon.
    fn wait(&self, key: Option<[u8; 32]>, from: IpAddr, protected: bool) -> Option<Duration> {
        let known = |key| self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(key);
        let refused = match key {
            Some(key) if known(&key) => match self.keys.as_ref()?.check_key(&(key, protected)) {
                Ok(()) => return self.elsewhere(&[b"key".as_slice(), &key, &[protected.into()]], true),
                Err(until) => until,
            },
            other => {
                let stranger = match (other, protected) {
                    (None, _) => Stranger::NoKey,
                    (Some(_), false) => Stranger::NewKey,
                    (Some(_), true) => Stranger::NewKeyProtected,
                };
                let from = counted_as(from);
                match self.addresses.as_ref()?.check_key(&(from, stranger)) {
                    Ok(()) => {
                        let address = from.to_string();
                        return self.elsewhere(&[b"address".as_slice(), address.as_bytes(), &[stranger as u8]], false);
                    }
                    Err(until) => until,
                }
            }
        };
        Some(refused.wait_time_from(self.clock.now()))
    }

    /// The same over all nodes, of what this one lets pass.
    fn elsewhere(&self, who: &[&[u8]], is_key: bool) -> Option<Duration> {
        let (shared, of_key, of_address) = self.shared.as_ref()?;
        shared.count(&who.concat(), if is_key { *of_key } else { *of_address })
    }
}

fn is_protected(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    PROTECTED.iter().any(|(method, path)| method == request.method() && *path == route)
}

/// The hash of what may be a key; nobody has looked it up yet.
fn shown_key(headers: &HeaderMap) -> Option<[u8; 32]> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { key_hash(key.trim()) } else { None }
}

/// Who asks. Without an address (the control socket, tests) everybody is one.
fn client(request: &Request) -> IpAddr {
    let extensions = request.extensions();
    let client = extensions.get::<ClientAddress>().map(|ClientAddress(client)| *client);
    let peer = || extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    client.or_else(peer).unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

/// An IPv6 client is its /64: that is what one customer gets, and could walk through.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_one_customer_gets() {
        let peer = |text: &str| counted_as(text.parse().unwrap()).to_string();
        assert_eq!(peer("192.0.2.7"), "192.0.2.7");
        assert_eq!(peer("::ffff:192.0.2.7"), "192.0.2.7", "the same peer through a dual-stack socket");
        assert_eq!(peer("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn requests_count_against_the_key_and_only_strangers_against_the_address() {
        let one = NonZeroU32::MIN;
        let limits =
            Limits { key_requests_per_s: Some(one), requests_per_s: Some(one), burst: one, ..Limits::default() };
        let guard = Arc::new(Guard::new(limits));
        let here = IpAddr::from([192, 0, 2, 1]);
        let passes = |key: Option<u8>, protected| guard.wait(key.map(|n| [n; 32]), here, protected).is_none();
        let table = [
            (None, false, true),
            (None, false, false), // the address has used up what it had without a key
            (Some(1), false, true),
            (Some(2), false, false), // and with keys that nobody knows
            (Some(2), true, true),   // but not what protects people
        ];
        for (key, protected, passed) in table {
            assert_eq!(passes(key, protected), passed, "{key:?} {protected}");
        }
        for n in [1, 2] {
            Shown(Arc::clone(&guard), [n; 32]).is(true);
        }
        assert!(passes(Some(1), false) && passes(Some(2), false), "keys that are known have their own");
        assert!(!passes(Some(1), false), "and no more than that");
        assert!(passes(Some(1), true), "what protects people has a lane of its own");
        Shown(Arc::clone(&guard), [2; 32]).is(false);
        assert!(!passes(Some(2), false), "a key that was revoked is a stranger's");
    }
}
