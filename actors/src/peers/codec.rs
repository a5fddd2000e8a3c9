//! What nodes send each other, as bytes: frames, each its length in four bytes (little endian) and then its content. Commands
//! and answers are what their types say, field by field, without names or numbers, so nodes understand each other only if they
//! have the same types: [`PROTOCOL`] is what they compare first.
//!
//! Whoever sends is a node of the same cluster, which has proven that; all the same, no bytes make a reader panic or take more
//! than their bound of memory.

#[cfg(test)]
mod samples;

use engine::model::ids::ShardId;
use engine::model::rejection::Rejection;
use engine::view::{Notice, View};
use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::pipeline::Work;
use crate::reply::Answered;

/// The number of what is said here: raised with every change to the types in these frames, down to the last field. The test
/// `another_shape_is_another_protocol` knows when that is due.
pub const PROTOCOL: u16 = 1;

/// The longest [`Request`], in bytes: 512 messages of another shard at 450 B (money in sixteen lots) = 230 KiB, a read of a
/// device's stream at most 2,112 commands of 70 B = 145 KiB, 1,024 tickets' holders at 20 B; and room.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// The longest [`Response`], in bytes: all of 16,384 operators' keys with 200 B of name and 64 festivals each = 13 MiB. Nearly
/// all have less than 200 B. Vendors with all the products that they may have would be longer still: an answer that is too long
/// becomes a refusal ([`Response::shortened`]).
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// The bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// What a node sends to one that has a shard.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Commands or a question. Answers name this number, and no other request of this connection has it.
    Work { id: u64, shard: ShardId, work: Work },
    /// What a shard has for one of that node's: nobody answers it here.
    Message { shard: ShardId, work: Work },
    /// Is anybody there? The answer is [`Response::Pong`].
    Ping,
}

/// What that one sends back.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// Some of the answers to a request.
    Answered {
        id: u64,
        answered: Answered,
    },
    /// No more answers to it will come, whether all of it was answered or not.
    Closed {
        id: u64,
    },
    /// What connected devices are to be told.
    Notice(Notice),
    Pong,
}

impl Response {
    /// What is said instead of an answer that does not fit in a frame: only a view can be so long.
    pub fn shortened(self) -> Self {
        match self {
            Self::Answered { id, .. } => {
                Self::Answered { id, answered: Answered::View(View::No(Rejection::LimitReached)) }
            }
            other => other,
        }
    }
}

/// A frame of either direction.
pub trait Frame: Serialize + DeserializeOwned {
    /// The longest there is, in bytes.
    const BYTES_MAX: usize;
}

impl Frame for Request {
    const BYTES_MAX: usize = REQUEST_BYTES_MAX;
}

impl Frame for Response {
    const BYTES_MAX: usize = RESPONSE_BYTES_MAX;
}

/// A frame would be longer than its bound. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame would have more than {max} bytes")]
pub struct TooLong {
    pub max: usize,
}

/// Bytes that no node of this protocol sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a frame of {bytes} bytes, where {max} is the most")]
    TooLong { bytes: usize, max: usize },
    #[error("{bytes} bytes that are no frame of protocol {PROTOCOL}")]
    Content { bytes: usize },
}

/// Writes a frame behind what is there.
///
/// # Errors
/// [`TooLong`]: then nothing was written.
pub fn encode<F: Frame>(frame: &F, into: &mut Vec<u8>) -> Result<(), TooLong> {
    let begin = into.len();
    into.extend_from_slice(&[0; LENGTH_BYTES]);
    let content = begin + LENGTH_BYTES;
    let bounded = Bounded { into, end_max: content + F::BYTES_MAX };
    // Nothing else can fail: these are plain data.
    if postcard::serialize_with_flavor(frame, bounded).is_err() {
        into.truncate(begin);
        return Err(TooLong { max: F::BYTES_MAX });
    }
    let bytes = (into.len() - content) as u32;
    into[begin..content].copy_from_slice(&bytes.to_le_bytes());
    Ok(())
}

/// The first frame in these bytes, and how many of them it takes; `None` if its end is not there yet, for which no more than
/// [`Frame::BYTES_MAX`] and its length have to be kept.
///
/// # Errors
/// [`Malformed`]: there is no going on behind it.
pub fn decode<F: Frame>(bytes: &[u8]) -> Result<Option<(F, usize)>, Malformed> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > F::BYTES_MAX {
        return Err(Malformed::TooLong { bytes: length, max: F::BYTES_MAX });
    }
    let Some(content) = rest.get(..length) else { return Ok(None) };
    match postcard::take_from_bytes(content) {
        Ok((frame, [])) => Ok(Some((frame, LENGTH_BYTES + length))),
        Ok(_) | Err(_) => Err(Malformed::Content { bytes: length }),
    }
}

/// Behind what is there, up to a bound.
struct Bounded<'a> {
    into: &'a mut Vec<u8>,
    end_max: usize,
}

impl Flavor for Bounded<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        if self.end_max - self.into.len() < data.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.into.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use engine::gates::view::LiveView;
    use engine::model::status::FestivalStatus;
    use engine::model::time::Timestamp;

    use super::samples::Samples;
    use super::*;

    fn bytes<F: Frame>(frame: &F) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(frame, &mut bytes).expect("short enough");
        bytes
    }

    /// Samples until every kind of everything in such a frame was among them: commands, questions, views, answers, and what
    /// they are made of. Each with the names of its types and their parts.
    fn all_kinds<F: Frame + std::fmt::Debug>(mut with: impl FnMut(F, Vec<u8>)) {
        let mut samples = Samples::new(7);
        for count in 0.. {
            let frame = samples.next();
            with(frame, samples.take_names());
            if count >= 3_000 && samples.missing().is_empty() {
                return;
            }
            assert!(count < 100_000, "these never come: {:?}", samples.missing());
        }
    }

    fn survives<F: Frame + std::fmt::Debug>() {
        all_kinds(|frame: F, _| {
            let bytes = bytes(&frame);
            let (again, taken) = decode::<F>(&bytes).expect("well-formed").expect("whole");
            assert_eq!((format!("{again:?}"), taken), (format!("{frame:?}"), bytes.len()));
        });
    }

    #[test]
    fn whatever_a_node_sends_another_reads() {
        survives::<Request>();
        survives::<Response>();
    }

    /// The hash of many samples' names and bytes changes with the types, and then nodes of before do not understand nodes of
    /// now.
    #[test]
    fn another_shape_is_another_protocol() {
        let mut shape = 0xCBF2_9CE4_8422_2325_u64; // FNV-1a
        let mut add = |bytes: Vec<u8>| {
            shape = bytes.iter().fold(shape, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3));
        };
        all_kinds(|frame: Request, names| add([names, bytes(&frame)].concat()));
        all_kinds(|frame: Response, names| add([names, bytes(&frame)].concat()));
        let known = (1, 4_090_511_126_847_168_269);
        assert_eq!((PROTOCOL, shape), known, "raise PROTOCOL, and write down both here");
    }

    #[test]
    fn frames_follow_one_another_and_may_come_in_pieces() {
        let mut stream = Vec::new();
        let mut samples = Samples::new(3);
        let sent: Vec<Request> = (0..20).map(|_| samples.next()).collect();
        sent.iter().for_each(|frame| encode(frame, &mut stream).unwrap());
        let (mut came, mut read) = (Vec::new(), Vec::new());
        for piece in stream.chunks(7) {
            came.extend_from_slice(piece);
            while let Some((frame, taken)) = decode::<Request>(&came).unwrap() {
                came.drain(..taken);
                read.push(frame);
            }
        }
        assert_eq!(format!("{read:?}"), format!("{sent:?}"));
        assert!(came.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_takes_no_memory() {
        // Announced longer than there is: refused before anything is kept.
        let announced = u32::MAX.to_le_bytes();
        let too_long = Malformed::TooLong { bytes: u32::MAX as usize, max: REQUEST_BYTES_MAX };
        assert_eq!(decode::<Request>(&announced).unwrap_err(), too_long);
        // A list of 2^60 scans in a frame of 12 bytes.
        let list = [0, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        let frame = [&(list.len() as u32).to_le_bytes()[..], &list].concat();
        assert_eq!(decode::<Request>(&frame).unwrap_err(), Malformed::Content { bytes: list.len() });
        // One byte too many.
        let mut behind = bytes(&Request::Ping);
        behind[0] += 1;
        behind.push(0);
        assert_eq!(decode::<Request>(&behind).unwrap_err(), Malformed::Content { bytes: 2 });

        let mut random = 1_u64;
        let mut refused = 0;
        all_kinds(|frame: Request, _| {
            let mut bytes = bytes(&frame);
            for _ in 0..4 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = LENGTH_BYTES + (random >> 33) as usize % (bytes.len() - LENGTH_BYTES);
                bytes[at] ^= 1 << (random >> 20 & 7);
                // Another frame, or none; never a panic.
                refused += usize::from(decode::<Request>(&bytes).is_err());
            }
            let cut = bytes.len() - 1;
            assert!(matches!(decode::<Request>(&bytes[..cut]), Ok(None)), "it has no end yet");
        });
        assert!(refused > 1_000, "{refused}");
    }

    #[test]
    fn an_answer_that_is_too_long_becomes_a_refusal() {
        let view = LiveView {
            at: Timestamp(0),
            status: FestivalStatus::Ongoing,
            zones: Vec::new(),
            gates: Vec::new(),
            rejections: vec![(Rejection::Busy, u64::MAX); RESPONSE_BYTES_MAX / 11 + 1],
            conflicts: 0,
            latest: Vec::new(),
        };
        let long = Response::Answered { id: 9, answered: Answered::View(View::Live(Box::new(view))) };
        let mut out = bytes(&Response::Pong);
        let before = out.clone();
        assert_eq!(encode(&long, &mut out), Err(TooLong { max: RESPONSE_BYTES_MAX }));
        assert_eq!(out, before, "nothing was written");
        let short = bytes(&long.shortened());
        let (frame, _) = decode::<Response>(&short).unwrap().unwrap();
        let refusal = Answered::View(View::No(Rejection::LimitReached));
        assert_eq!(format!("{frame:?}"), format!("{:?}", Response::Answered { id: 9, answered: refusal }));
    }
}
