//! Moves the leaders of a topic's partitions from broker to broker, as whoever runs Kafka does before a broker is serviced:
//! the order of each partition's copies is changed, and then the first of them is to lead. Two requests of Kafka's protocol,
//! which the client library does not have.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// How long a broker may take for either.
const WITHIN: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes: 16 partitions take a few hundred.
const ANSWER_MAX: usize = 1 << 20;

const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
const ELECT_LEADERS: i16 = 43;
/// Of a partition: it leads already.
const ELECTION_NOT_NEEDED: i16 = 84;

/// Makes the broker `turn` places further lead each partition. How many have another leader now.
///
/// # Errors
/// The broker does not answer, or says no.
pub(super) fn rotate(broker: &str, brokers: usize, topic: &str, partitions: u16, turn: u32) -> anyhow::Result<usize> {
    // Brokers are numbered from 1.
    let copies = |partition: u16| {
        (0..brokers).map(move |copy| 1 + ((usize::from(partition) + turn as usize + copy) % brokers) as i32)
    };
    let mut request = Bytes::request(ALTER_PARTITION_REASSIGNMENTS, 0);
    request.tags().i32(WITHIN.as_millis() as i32).count(1).text(topic).count(partitions.into());
    for partition in 0..partitions {
        request.i32(partition.into()).count(brokers);
        for broker in copies(partition) {
            request.i32(broker);
        }
        request.tags();
    }
    request.tags().tags();
    let answer = ask(broker, request)?;
    let mut answer = Reader(&answer);
    answer.skip(1 + 4)?; // tags, and for how long it was throttled
    let error = answer.i16()?;
    ensure!(error == 0, "{broker} does not change the order of copies: error {error}");

    let mut request = Bytes::request(ELECT_LEADERS, 1);
    request.0.push(0); // whoever should lead, and not anybody
    request.i32(1).short_text(topic).i32(partitions.into());
    for partition in 0..partitions {
        request.i32(partition.into());
    }
    request.i32(WITHIN.as_millis() as i32);
    let answer = ask(broker, request)?;
    let mut answer = Reader(&answer);
    answer.skip(4)?;
    let error = answer.i16()?;
    ensure!(error == 0, "{broker} elects nobody: error {error}");
    let mut moved = 0;
    for _ in 0..answer.i32()? {
        answer.short_text()?;
        for _ in 0..answer.i32()? {
            let (partition, error) = (answer.i32()?, answer.i16()?);
            answer.short_text()?;
            ensure!(
                matches!(error, 0 | ELECTION_NOT_NEEDED),
                "partition {partition} gets no other leader: error {error}"
            );
            moved += usize::from(error == 0);
        }
    }
    Ok(moved)
}

/// Sends a request, and gives back what follows the answer's number.
fn ask(broker: &str, request: Bytes) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(broker).with_context(|| format!("{broker} is not there"))?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.write_all(&(request.0.len() as u32).to_be_bytes())?;
    stream.write_all(&request.0)?;
    let mut len = [0; 4];
    stream.read_exact(&mut len).with_context(|| format!("{broker} says nothing"))?;
    let len = u32::from_be_bytes(len) as usize;
    ensure!((4..=ANSWER_MAX).contains(&len), "{broker} answers with {len} bytes");
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4))
}

/// A request as it is written. What is called short has lengths of two bytes, as older versions have them.
struct Bytes(Vec<u8>);

impl Bytes {
    fn request(key: i16, version: i16) -> Self {
        let mut this = Self(Vec::new());
        this.i16(key).i16(version).i32(1).short_text("tapgate-loadtest");
        this
    }
    fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    /// How many follow, and one more, seven bits a byte.
    fn count(&mut self, count: usize) -> &mut Self {
        let mut rest = count + 1;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }
    fn text(&mut self, text: &str) -> &mut Self {
        self.count(text.len());
        self.0.extend(text.as_bytes());
        self
    }
    fn short_text(&mut self, text: &str) -> &mut Self {
        self.i16(text.len() as i16);
        self.0.extend(text.as_bytes());
        self
    }
    /// There are none.
    fn tags(&mut self) -> &mut Self {
        self.0.push(0);
        self
    }
}

/// An answer as it is read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn skip(&mut self, len: usize) -> anyhow::Result<()> {
        self.0 = self.0.get(len..).context("an answer was cut off")?;
        Ok(())
    }
    fn i16(&mut self) -> anyhow::Result<i16> {
        let bytes = *self.0.first_chunk().context("an answer was cut off")?;
        self.skip(2)?;
        Ok(i16::from_be_bytes(bytes))
    }
    fn i32(&mut self) -> anyhow::Result<i32> {
        let bytes = *self.0.first_chunk().context("an answer was cut off")?;
        self.skip(4)?;
        Ok(i32::from_be_bytes(bytes))
    }
    fn short_text(&mut self) -> anyhow::Result<()> {
        let len = self.i16()?;
        self.skip(usize::try_from(len).unwrap_or_default()) // -1: none
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_as_many_bytes_as_they_need() {
        for (count, bytes) in [(0, &[1][..]), (126, &[127]), (127, &[0x80, 1]), (16_383, &[0x80, 0x80, 1])] {
            assert_eq!(Bytes(Vec::new()).count(count).0, bytes, "{count}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        let mut reader = Reader(&[0, 2, b'a', b'b', 0, 0, 0, 7, 0]);
        reader.short_text().unwrap();
        assert_eq!(reader.i32().unwrap(), 7);
        assert!(reader.i16().is_err());
    }
}
