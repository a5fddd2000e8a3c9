//! The stream, compressed for those who take it so. A second is 18 KB of JSON for a festival with six gates and twelve
//! vendors, and nearly the same as the one before it: with what went before as its dictionary it takes a twentieth.

use std::io::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Whether whoever asks takes gzip.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let said = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*")
            && !parts.any(|weight| weight.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0))
    })
}

/// One viewer's compressor: about 300 KiB, so 128 viewers hold 38 MiB.
pub(super) struct Zipped(GzEncoder<Vec<u8>>);

impl Zipped {
    pub(super) fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::default()))
    }

    /// What to send for these bytes, whole: nothing waits for the next second to fill a block.
    pub(super) fn frame(&mut self, bytes: &[u8]) -> Bytes {
        let written = self.0.write_all(bytes).and_then(|()| self.0.flush());
        written.expect("a Vec takes everything");
        std::mem::take(self.0.get_mut()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn each_event_can_be_read_as_soon_as_it_is_sent_and_the_next_costs_little() {
        let mut zipped = Zipped::new();
        let event = |n: u32| {
            let gates: Vec<String> = (0..400).map(|gate| format!("[{},{}]", gate * 7_919 % 1_000, gate)).collect();
            format!("event: second\ndata: {{\"at\":{n},\"gates\":[{}]}}\n\n", gates.join(","))
        };
        let (mut sent, mut plain) = (Vec::new(), String::new());
        let mut sizes = Vec::new();
        for n in 0..5 {
            let frame = zipped.frame(event(n).as_bytes());
            sizes.push(frame.len());
            sent.extend_from_slice(&frame);
            plain += &event(n);
            let mut read = vec![0; plain.len()];
            flate2::read::GzDecoder::new(&sent[..]).read_exact(&mut read).expect("all of it is there");
            assert_eq!(String::from_utf8(read).unwrap(), plain);
        }
        assert!(sizes[1..].iter().all(|size| size * 10 < event(0).len()), "{sizes:?} of {}", event(0).len());
    }

    #[test]
    fn only_those_who_ask_for_it_get_it() {
        let asked =
            |value: &'static str| wanted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]));
        for yes in ["gzip", "br, GZIP;q=0.5", "deflate, gzip, br, zstd", "*"] {
            assert!(asked(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "identity, gzip; q=0.0", "x-gzipped"] {
            assert!(!asked(no), "{no}");
        }
        assert!(!wanted(&HeaderMap::new()));
    }
}
