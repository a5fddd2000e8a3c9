//! Behind a proxy every connection comes from the proxy. Who is behind it is believed of the proxies that the settings
//! name, and of nobody else: whoever reaches the HTTP door directly can write any header.
//!
//! Which header they write is a setting too. A proxy that adds to one of them passes the other on as it came, so a server
//! that read both would believe what a client had made up.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::Deserialize;

/// Addresses in one header that are looked at, from the nearest: proxies behind proxies are few.
const HOPS_MAX: usize = 16;

/// Where a proxy says for whom it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses, the nearest last.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the same, as `for=`.
    Forwarded,
}

/// Whose word is taken for an address, and where they write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    nets: Vec<IpNet>,
    header: ProxyHeader,
}

impl TrustedProxies {
    /// From networks (`10.0.0.0/8`, `2001:db8::/32`) or single addresses.
    ///
    /// # Errors
    /// The one that is neither.
    pub fn new(nets: &[String], header: ProxyHeader) -> Result<Self, String> {
        let net = |text: &String| {
            let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
            text.parse::<IpNet>().ok().or_else(single).ok_or_else(|| text.clone())
        };
        Ok(Self { nets: nets.iter().map(net).collect::<Result<_, _>>()?, header })
    }

    /// Whether this is one of them.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Who has asked: the peer, or, where that is a trusted proxy, the nearest address in its header that is not one. An
    /// address that cannot be read counts as the proxy that has passed it on.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ProxyHeader::Forwarded => axum::http::header::FORWARDED,
        };
        let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
        let hops = lines.iter().rev().flat_map(|line| elements(line).into_iter().rev()).take(HOPS_MAX);
        for hop in hops {
            let address = match self.header {
                ProxyHeader::XForwardedFor => Some(hop.as_str()),
                ProxyHeader::Forwarded => hop.split(';').find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("for").then_some(value)
                }),
            };
            let Some(address) = address.and_then(parse) else { return client };
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }
}

/// The parts of a list, without their quotes; a comma between quotes is none.
fn elements(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => {
                escaped = true;
                continue;
            }
            '"' => {
                quoted = !quoted;
                continue;
            }
            ',' if !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// An address, perhaps with a port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:80`.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None if text.matches(':').count() == 1 => text.split(':').next()?,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_proxy_is_believed_and_nobody_else() {
        let nets = ["10.0.0.0/8".to_owned(), "2001:db8:aa::/48".to_owned(), "127.0.0.1".to_owned()];
        let (xff, forwarded) = ("x-forwarded-for", "forwarded");
        for (peer, name, lines, client) in [
            ("198.51.100.9", xff, &["192.0.2.7"][..], "198.51.100.9"),
            ("10.1.1.1", xff, &["192.0.2.7"], "192.0.2.7"),
            ("::ffff:10.1.1.1", xff, &["192.0.2.7"], "192.0.2.7"),
            ("10.1.1.1", xff, &[], "10.1.1.1"),
            ("10.1.1.1", xff, &["6.6.6.6, 192.0.2.7, 10.2.2.2"], "192.0.2.7"),
            ("10.1.1.1", xff, &["6.6.6.6", "192.0.2.7:8443"], "192.0.2.7"),
            ("10.1.1.1", xff, &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("10.1.1.1", xff, &["192.0.2.7, unknown"], "10.1.1.1"),
            ("127.0.0.1", xff, &["[2001:db8::7]:443"], "2001:db8::7"),
            ("2001:db8:aa::1", xff, &["2001:db8::7"], "2001:db8::7"),
            ("10.1.1.1", forwarded, &["for=6.6.6.6, For=192.0.2.7;proto=https;by=10.1.1.1"], "192.0.2.7"),
            ("10.1.1.1", forwarded, &["for=\"[2001:db8::7]:4711\";host=\"a,b\""], "2001:db8::7"),
            ("10.1.1.1", forwarded, &["for=_hidden"], "10.1.1.1"),
            ("10.1.1.1", forwarded, &["proto=https"], "10.1.1.1"),
        ] {
            let header = if name == xff { ProxyHeader::XForwardedFor } else { ProxyHeader::Forwarded };
            let proxies = TrustedProxies::new(&nets, header).unwrap();
            let mut headers = HeaderMap::new();
            // What a client makes up in the other header is never read.
            headers.append(if name == xff { forwarded } else { xff }, HeaderValue::from_static("for=6.6.6.6"));
            for line in lines {
                headers.append(name, HeaderValue::from_str(line).unwrap());
            }
            let found = proxies.client(peer.parse().unwrap(), &headers);
            assert_eq!(found.to_string(), client, "{peer} {name} {lines:?}");
        }
        assert_eq!(
            TrustedProxies::new(&["10.0.0.0/33".to_owned()], ProxyHeader::default()).unwrap_err(),
            "10.0.0.0/33"
        );
    }
}
