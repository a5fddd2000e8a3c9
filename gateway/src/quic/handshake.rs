//! Who is it? Hello, challenge, proof, welcome; and before that, for a new device, its enrolment.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use engine::command::{IdempotencyKey, OfficeAction, OfficeAnswer, OfficeCommand};
use engine::ids::{DeviceId, FestivalId};
use engine::rejection::Rejection;
use engine::time::Timestamp;
use engine::view::{DeviceView, Query, View};
use quinn::{Connection, RecvStream, SendStream};
use sha2::{Digest as _, Sha256};

use super::Door;
use super::limits::Permit;
use super::outbox::End;
use crate::wire::{FRAME_LEN_MAX, Frame, Refusal, WireError, decode, proof};

/// A device that has shown its key, and what it has sent beyond that.
pub(super) struct Proven {
    pub(super) device: DeviceView,
    pub(super) ahead: Vec<u8>,
}

/// What can come before a welcome.
enum Opening {
    Hello(DeviceId),
    Proof([u8; 64]),
    Enrol { festival: FestivalId, public_key: [u8; 32], code_hash: [u8; 32] },
    Bye,
    OutOfPlace,
}

/// Speaks with the peer until a device is proven, or there is nothing more to say.
pub(super) async fn prove(
    door: &Door,
    permit: &Permit,
    connection: &Connection,
    send: &mut SendStream,
    recv: &mut RecvStream,
) -> Result<Proven, End> {
    let mut ahead = Vec::new();
    let device = loop {
        match next(recv, &mut ahead).await? {
            Opening::Hello(device) => break device,
            Opening::Enrol { festival, public_key, code_hash } => {
                let device = enrol(door, permit, festival, public_key, code_hash).await?;
                say(send, Frame::Enrolled { device, server_time: now() }).await?;
            }
            Opening::Bye => return Err(End::BYE),
            Opening::Proof(_) | Opening::OutOfPlace => return Err(End::refused(Refusal::OutOfPlace)),
        }
    };

    let mut nonce = [0; 32];
    let mut binding = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_| unavailable(Rejection::Unavailable))?;
    connection
        .export_keying_material(&mut binding, proof::EXPORTER_LABEL, b"")
        .map_err(|_| unavailable(Rejection::Internal))?;
    say(send, Frame::Challenge { nonce: &nonce, server_time: now() }).await?;
    let Opening::Proof(signature) = next(recv, &mut ahead).await? else {
        return Err(End::refused(Refusal::OutOfPlace));
    };
    let view = look_up(door, device).await.map_err(|rejection| match rejection {
        Rejection::UnknownDevice => failed(permit, Refusal::Rejected(rejection)),
        rejection => unavailable(rejection),
    })?;
    UnparsedPublicKey::new(&ED25519, view.public_key)
        .verify(&proof::message(&nonce, device, &binding), &signature)
        .map_err(|_| failed(permit, Refusal::BadProof))?;
    if view.revoked {
        return Err(End::refused(Refusal::Rejected(Rejection::DeviceRevoked)));
    }
    Ok(Proven { device: view, ahead })
}

/// What the shard knows of a device now.
pub(super) async fn look_up(door: &Door, device: DeviceId) -> Result<DeviceView, Rejection> {
    match door.node.query(Query::Device(device)).await {
        View::Device(view) => Ok(view),
        View::No(Rejection::UnknownFestival) => Err(Rejection::UnknownDevice),
        View::No(rejection) => Err(rejection),
        _ => Err(Rejection::Internal),
    }
}

async fn enrol(
    door: &Door,
    permit: &Permit,
    festival: FestivalId,
    public_key: [u8; 32],
    code_hash: [u8; 32],
) -> Result<DeviceId, End> {
    // The same code with the same key is the same attempt: a device whose answer was lost asks again and gets its id.
    let digest = Sha256::new()
        .chain_update(b"tapgate/1 enrol")
        .chain_update(festival.0.to_le_bytes())
        .chain_update(code_hash)
        .chain_update(public_key)
        .finalize();
    let (id, rest) = digest.split_at(16);
    let key = IdempotencyKey {
        id: u128::from_le_bytes(id.try_into().expect("16 bytes")),
        fingerprint: u64::from_le_bytes(rest[..8].try_into().expect("8 bytes")),
        made_at: None,
    };
    let action = OfficeAction::EnrolDevice { festival, code_hash, public_key };
    match door.node.ask(OfficeCommand { key: Some(key), operator: 0, action }).await.0 {
        OfficeAnswer::Device(device) => Ok(device),
        OfficeAnswer::Rejected(rejection @ (Rejection::Busy | Rejection::Unavailable | Rejection::Internal)) => {
            Err(unavailable(rejection))
        }
        OfficeAnswer::Rejected(rejection) => Err(failed(permit, Refusal::Rejected(rejection))),
        _ => Err(unavailable(Rejection::Internal)),
    }
}

/// A bad code or proof: counted against the address.
fn failed(permit: &Permit, refusal: Refusal) -> End {
    let wait = permit.failed(Instant::now()).unwrap_or_default();
    End { retry_after_ms: wait.as_millis() as u32, ..End::refused(refusal) }
}

/// Nobody's fault out there: to be tried again.
pub(super) fn unavailable(rejection: Rejection) -> End {
    const COME_AGAIN_MS: u32 = 500;
    End { retry_after_ms: COME_AGAIN_MS, ..End::refused(Refusal::Rejected(rejection)) }
}

async fn say(send: &mut SendStream, frame: Frame<'_>) -> Result<(), End> {
    send.write_all(&frame.to_bytes()).await.map_err(|_| End::RESUME)
}

/// The next frame. `ahead` holds what was read beyond it: at most two frames' length.
async fn next(recv: &mut RecvStream, ahead: &mut Vec<u8>) -> Result<Opening, End> {
    loop {
        let malformed = |error| {
            End::refused(match error {
                WireError::Protocol(_) => Refusal::BadVersion,
                _ => Refusal::Malformed,
            })
        };
        if let Some((frame, len)) = decode(ahead).map_err(malformed)? {
            let opening = match frame {
                Frame::Hello(device) => Opening::Hello(device),
                Frame::Proof(signature) => Opening::Proof(*signature),
                Frame::Enrol(enrol) => Opening::Enrol {
                    festival: enrol.festival,
                    public_key: *enrol.public_key,
                    code_hash: crate::auth::enrolment_code_hash(enrol.code),
                },
                Frame::Bye => Opening::Bye,
                _ => Opening::OutOfPlace,
            };
            ahead.drain(..len);
            return Ok(opening);
        }
        let mut bytes = [0; FRAME_LEN_MAX];
        match recv.read(&mut bytes).await {
            Ok(Some(len)) => ahead.extend_from_slice(&bytes[..len]),
            Ok(None) if ahead.is_empty() => return Err(End::BYE),
            Ok(None) | Err(quinn::ReadError::Reset(_)) => return Err(End::refused(Refusal::Malformed)),
            Err(_) => return Err(End::RESUME),
        }
    }
}

/// The server's clock, for devices to set theirs by.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as i64)
}
