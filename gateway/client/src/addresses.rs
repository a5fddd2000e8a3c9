//! A server's name may have several addresses, and a device may know several servers of one cluster. Not all of them need to
//! lead anywhere: an IPv6 address behind a router that drops it, a second server that is down. They are tried side by side, each a little later than the one before
//! (Happy Eyeballs, RFC 8305), and the first that proves to be the server is taken.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::ClientError;

/// How much later the next address is tried while the ones before say nothing: what RFC 8305 recommends.
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried: beyond these it takes 4 s to come to one, and [`super::CONNECT_TIMEOUT`] is near.
const ADDRESSES_MAX: usize = 16;

/// The addresses of `host:port`, both families in turn, IPv6 first; of several with commas between, those of all servers, the
/// one at `first` first and each server's best address before anybody's second. A name that cannot be looked up is passed over
/// as long as another can.
///
/// # Errors
/// [`ClientError::Net`] if there is none.
pub(super) async fn addresses_of(servers: &str, first: usize) -> Result<Vec<SocketAddr>, ClientError> {
    let mut names: Vec<&str> = servers.split(',').collect();
    let count = names.len();
    names.rotate_left(first % count);
    let looked_up = futures_util::future::join_all(names.iter().map(tokio::net::lookup_host)).await;
    let (mut found, mut why) = (Vec::new(), None);
    for addresses in looked_up {
        match addresses {
            Ok(addresses) => found.push(in_turn(addresses)),
            Err(error) => why = Some(error.to_string()),
        }
    }
    let found = best_first(&found);
    if found.is_empty() {
        return Err(ClientError::Net(why.unwrap_or_else(|| format!("{servers} has no address"))));
    }
    Ok(found)
}

fn best_first(servers: &[Vec<SocketAddr>]) -> Vec<SocketAddr> {
    let longest = servers.iter().map(Vec::len).max().unwrap_or_default();
    let ranks = (0..longest).flat_map(|rank| servers.iter().filter_map(move |server| server.get(rank).copied()));
    ranks.take(ADDRESSES_MAX).collect()
}

fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut turns = Vec::new();
    loop {
        let before = turns.len();
        turns.extend(six.next());
        turns.extend(four.next());
        if turns.len() == before || turns.len() >= ADDRESSES_MAX {
            turns.truncate(ADDRESSES_MAX);
            return turns;
        }
    }
}

/// Tries all of these, each a little later than the one before, and gives back what the first comes to that succeeds. The
/// others are dropped.
///
/// # Errors
/// That of the last one to fail, if all do.
pub async fn first_of<T, E, A>(addresses: Vec<SocketAddr>, attempt: impl Fn(SocketAddr) -> A) -> Result<T, E>
where
    A: Future<Output = Result<T, E>>,
    E: From<ClientError>,
{
    let mut waiting = addresses.into_iter();
    let mut under_way: FuturesUnordered<A> = waiting.next().map(&attempt).into_iter().collect();
    loop {
        tokio::select! {
            ended = under_way.next() => match (ended, waiting.next()) {
                (Some(Ok(first)), _) => return Ok(first),
                (_, Some(next)) => under_way.push(attempt(next)), // at once: there is nothing to wait for
                (Some(Err(last)), None) if under_way.is_empty() => return Err(last),
                (Some(Err(_)), None) => {}
                (None, None) => return Err(ClientError::Net("there is no address".into()).into()),
            },
            () = tokio::time::sleep(NEXT_AFTER), if waiting.len() > 0 => {
                under_way.extend(waiting.next().map(&attempt));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn four(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 4433))
    }
    fn six(n: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xDB8, 0, 0, 0, 0, 0, n], 4433))
    }

    #[test]
    fn families_take_turns() {
        let found = [four(1), four(2), four(3), six(1)];
        assert_eq!(in_turn(found.into_iter()), [six(1), four(1), four(2), four(3)]);
        assert_eq!(in_turn([six(1), six(2)].into_iter()), [six(1), six(2)]);
        assert_eq!(in_turn((0..100).map(four)).len(), ADDRESSES_MAX);
        assert!(in_turn([].into_iter()).is_empty());
    }

    #[test]
    fn each_servers_best_address_comes_before_anybodys_second() {
        let servers = [vec![six(1), four(1)], vec![], vec![four(3)], vec![six(2), four(2)]];
        assert_eq!(best_first(&servers), [six(1), four(3), six(2), four(1), four(2)]);
        assert_eq!(best_first(&vec![(0..9).map(four).collect(); 9]).len(), ADDRESSES_MAX);
        assert!(best_first(&[]).is_empty());
    }

    #[tokio::test]
    async fn of_several_servers_another_comes_first_each_time() {
        let servers = "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3";
        for (first, ports) in [(0, [1, 2, 3]), (1, [2, 3, 1]), (5, [3, 1, 2])] {
            let found = addresses_of(servers, first).await.unwrap();
            assert_eq!(found.iter().map(SocketAddr::port).collect::<Vec<_>>(), ports);
        }
        let found = addresses_of("nobody.invalid:1,127.0.0.1:2", 0).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 2))], "one that nobody knows is no reason to give up");
        assert!(matches!(addresses_of("nobody.invalid:1", 0).await, Err(ClientError::Net(_))));
    }

    /// What each address does: answers, refuses, or says nothing for ever.
    #[tokio::test]
    async fn the_first_that_answers_is_taken() {
        let no = || ClientError::Net("no".into());
        for (what, plan, expected, tried) in [
            ("one that answers", "y", Some(1), 1),
            ("a black hole in front", ".y", Some(2), 2),
            ("a refusal in front", "ny", Some(2), 2),
            ("refusals and black holes", "n.ny", Some(4), 4),
            ("nobody behind the one that answers is asked", "yy", Some(1), 1),
            ("all refuse", "nnn", None, 3),
            ("nobody", "", None, 0),
        ] {
            let asked = Mutex::new(Vec::new());
            let addresses = (1..=plan.len() as u8).map(four).collect();
            let outcome = first_of(addresses, |address| {
                asked.lock().unwrap().push(address);
                async move {
                    let n = address.ip().to_string().rsplit_once('.').unwrap().1.parse::<usize>().unwrap();
                    match plan.as_bytes()[n - 1] {
                        b'y' => Ok(n),
                        b'n' => Err(no()),
                        _ => std::future::pending().await,
                    }
                }
            });
            let outcome = tokio::time::timeout(Duration::from_secs(20), outcome).await.expect(what);
            assert_eq!(outcome.ok(), expected, "{what}");
            assert_eq!(asked.lock().unwrap().len(), tried, "{what}");
        }
    }
}
