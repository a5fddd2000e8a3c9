//! The offer an operator shows to a new device, as a QR: where the server is, what its key's fingerprint is,
//! which festival it is for, and the one-time code. Where a server is one of several, all of them may be named, with commas
//! between: whichever answers is good.
//!
//! ```text
//! tapgate:enrol?server=192.0.2.7:4433&fingerprint=<64 hex digits>&festival=1a2b3c4d&code=7K2M-Q9XD
//! ```

use std::fmt;
use std::str::FromStr;

use engine::model::ids::FestivalId;

use super::{CODE_LEN_MAX, Fingerprint};

/// The longest address in an offer: a DNS name's 253 characters and a port.
const SERVER_LEN_MAX: usize = 260;
/// The most addresses in one. A QR with three of them is still read at arm's length.
const SERVERS_MAX: usize = 4;

const SCHEME: &str = "tapgate:enrol?";

/// What a new device needs to know. Reads and writes its text with [`FromStr`] and [`fmt::Display`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    server: String,
    fingerprint: Fingerprint,
    festival: FestivalId,
    code: String,
}

/// Why a text is no offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOffer {
    /// It is something else altogether.
    #[error("this is not an enrolment code of a Tapgate server")]
    OtherText,
    /// A field is missing, there twice, or not well formed.
    #[error("the enrolment code's {0} is missing or damaged")]
    Field(&'static str),
}

impl Offer {
    /// An offer with these values. `server` is `host:port`, or up to four of them with commas between; codes have 1 to 64 of
    /// `A-Z a-z 0-9 - _`.
    ///
    /// # Errors
    /// [`NoOffer::Field`].
    pub fn new(server: &str, fingerprint: Fingerprint, festival: FestivalId, code: &str) -> Result<Self, NoOffer> {
        let host_like = |c: u8| c.is_ascii_alphanumeric() || b".:-[]%_".contains(&c);
        for address in server.split(',') {
            let (host, port) = address.rsplit_once(':').ok_or(NoOffer::Field("server"))?;
            if host.is_empty() || port.parse::<u16>().is_err() || address.len() > SERVER_LEN_MAX {
                return Err(NoOffer::Field("server"));
            }
            if !address.bytes().all(host_like) {
                return Err(NoOffer::Field("server"));
            }
        }
        if server.split(',').count() > SERVERS_MAX {
            return Err(NoOffer::Field("server"));
        }
        let code_like = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if code.is_empty() || code.len() > CODE_LEN_MAX || !code.bytes().all(code_like) {
            return Err(NoOffer::Field("code"));
        }
        Ok(Self { server: server.to_owned(), fingerprint, festival, code: code.to_owned() })
    }

    /// `host:port`, or several with commas between.
    pub fn server(&self) -> &str {
        &self.server
    }
    /// Of the server's key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
    /// Where the device is to work.
    pub fn festival(&self) -> FestivalId {
        self.festival
    }
    /// Good once, for 15 minutes.
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, fingerprint, festival, code } = self;
        write!(f, "{SCHEME}server={server}&fingerprint={fingerprint}&festival={festival}&code={code}")
    }
}

impl FromStr for Offer {
    type Err = NoOffer;

    /// Fields may come in any order; those a later version adds are passed over.
    fn from_str(text: &str) -> Result<Self, NoOffer> {
        let fields = text.trim().strip_prefix(SCHEME).ok_or(NoOffer::OtherText)?;
        let field = |name: &'static str| {
            let mut values = fields.split('&').filter_map(|field| field.split_once('=')).filter(|(n, _)| *n == name);
            match (values.next(), values.next()) {
                (Some((_, value)), None) => Ok(value),
                _ => Err(NoOffer::Field(name)),
            }
        };
        let fingerprint = field("fingerprint")?.parse().map_err(|_| NoOffer::Field("fingerprint"))?;
        let festival = field("festival")?;
        let is_hex = festival.len() == 8 && festival.bytes().all(|c| c.is_ascii_hexdigit());
        let festival = u32::from_str_radix(festival, 16).ok().filter(|_| is_hex).ok_or(NoOffer::Field("festival"))?;
        Self::new(field("server")?, fingerprint, FestivalId(festival), field("code")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "tapgate:enrol?server=192.0.2.7:4433&fingerprint=\
        000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f&festival=cafef00d&code=7K2M-Q9XD";

    #[test]
    fn an_offer_reads_back() {
        let fingerprint = Fingerprint(core::array::from_fn(|i| i as u8));
        let offer = Offer::new("192.0.2.7:4433", fingerprint, FestivalId(0xCAFE_F00D), "7K2M-Q9XD").unwrap();
        assert_eq!(offer.to_string(), TEXT);
        assert_eq!(TEXT.parse(), Ok(offer.clone()));
        let reordered = TEXT.replace("server=192.0.2.7:4433&", "") + "&server=192.0.2.7:4433&later=1\r\n";
        assert_eq!(reordered.parse(), Ok(offer));
        for server in
            ["gate.example.org:1", "[2001:db8::1]:4433", "localhost:65535", "a:1,b.example.org:2,[2001:db8::1]:3"]
        {
            assert!(Offer::new(server, fingerprint, FestivalId(1), "x").is_ok(), "{server}");
        }
    }

    #[test]
    fn what_is_no_offer_says_why() {
        let twice = format!("{TEXT}&code=other");
        for (text, error) in [
            ("https://example.org", NoOffer::OtherText),
            ("", NoOffer::OtherText),
            (&TEXT.replace(":4433", ""), NoOffer::Field("server")),
            (&TEXT.replace("192.0.2.7", ""), NoOffer::Field("server")),
            (&TEXT.replace("192.0.2.7", "a b"), NoOffer::Field("server")),
            (&TEXT.replace("4433", "70000"), NoOffer::Field("server")),
            (&TEXT.replace(":4433", ":4433,"), NoOffer::Field("server")),
            (&TEXT.replace(":4433", ":4433,a:1,b:1,c:1,d:1"), NoOffer::Field("server")),
            (&TEXT.replace("0001", ""), NoOffer::Field("fingerprint")),
            (&TEXT.replace("cafef00d", "+afef00d"), NoOffer::Field("festival")),
            (&TEXT.replace("&code=7K2M-Q9XD", ""), NoOffer::Field("code")),
            (&TEXT.replace("7K2M-Q9XD", ""), NoOffer::Field("code")),
            (&TEXT.replace("7K2M-Q9XD", &"7".repeat(65)), NoOffer::Field("code")),
            (&twice, NoOffer::Field("code")),
        ] {
            assert_eq!(text.parse::<Offer>(), Err(error), "{text}");
        }
    }
}
