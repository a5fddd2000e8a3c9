//! Who is it? Hello, challenge, proof, welcome; and before that, for a new device, its enrolment.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use engine::command::{AdminAction, AdminAnswer, AdminCommand, IdempotencyKey};
use engine::gates::view::DeviceView;
use engine::model::ids::{DeviceId, FestivalId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use quinn::{Connection, RecvStream, SendStream};
use sha2::{Digest as _, Sha256};
use tapgate_wire::{FRAME_LEN_MAX, Frame, Refusal, WireError, decode, proof};

use super::Listener;
use super::failures::Blamed;
use super::limits::ConnectionPermit;
use super::outbox::End;

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
    listener: &Listener,
    permit: &ConnectionPermit,
    connection: &Connection,
    send: &mut SendStream,
    recv: &mut RecvStream,
) -> Result<Proven, End> {
    let mut ahead = Vec::new();
    let mut enrolled = false;
    let device = loop {
        let opening = match next(recv, &mut ahead).await {
            // It has what it came for, and goes; many do so without a word.
            Err(_) if enrolled && ahead.is_empty() => return Err(End::BYE),
            opening => opening?,
        };
        match opening {
            Opening::Hello(device) => break device,
            Opening::Enrol { festival, public_key, code_hash } => {
                let device = enrol(listener, permit, festival, public_key, code_hash).await?;
                listener.metrics.enrolments.increment(1);
                enrolled = true;
                send_frame(send, Frame::Enrolled { device, server_time: listener.node.now() }).await?;
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
    send_frame(send, Frame::Challenge { nonce: &nonce, server_time: listener.node.now() }).await?;
    let Opening::Proof(signature) = next(recv, &mut ahead).await? else {
        return Err(End::refused(Refusal::OutOfPlace));
    };
    // Asked however often this id has failed: what others say in its name is not its fault.
    let view = look_up(listener, device).await.map_err(|rejection| match rejection {
        Rejection::UnknownDevice => {
            failed(listener, &[Blamed::Device(device), Blamed::Strangers(permit.address)], Refusal::Rejected(rejection))
        }
        rejection => unavailable(rejection),
    })?;
    UnparsedPublicKey::new(&ED25519, view.public_key)
        .verify(&proof::message(&nonce, device, &binding), &signature)
        .map_err(|_| failed(listener, &[Blamed::Device(device)], Refusal::BadProof))?;
    if view.revoked {
        return Err(End::refused(Refusal::Rejected(Rejection::DeviceRevoked)));
    }
    Ok(Proven { device: view, ahead })
}

/// What the shard knows of a device now.
pub(super) async fn look_up(listener: &Listener, device: DeviceId) -> Result<DeviceView, Rejection> {
    match listener.node.query(Query::Device(device)).await {
        View::Device(view) => Ok(view),
        View::No(Rejection::UnknownFestival) => Err(Rejection::UnknownDevice),
        View::No(rejection) => Err(rejection),
        _ => Err(Rejection::Internal),
    }
}

async fn enrol(
    listener: &Listener,
    permit: &ConnectionPermit,
    festival: FestivalId,
    public_key: [u8; 32],
    code_hash: [u8; 32],
) -> Result<DeviceId, End> {
    let strangers = Blamed::Strangers(permit.address);
    let blamed = [Blamed::Code(code_hash), Blamed::Key(public_key), strangers];
    if let Some(wait) = listener.failures.wait(&blamed[..2], Instant::now()) {
        return Err(too_many(wait));
    }
    // Somebody here guesses, or has an old list of codes. A good code is not made to wait for that, and a bad one is told
    // so without leaving a trace in the journal.
    if listener.failures.wait(&[strangers], Instant::now()).is_some() {
        match listener.node.query(Query::EnrolmentCode(festival, code_hash)).await {
            View::EnrolmentCode { used_by } if used_by.is_none_or(|key| key == public_key) => {}
            View::No(rejection @ (Rejection::Busy | Rejection::Unavailable | Rejection::Internal)) => {
                return Err(unavailable(rejection));
            }
            View::No(rejection) => return Err(failed(listener, &blamed, Refusal::Rejected(rejection))),
            _ => return Err(failed(listener, &blamed, Refusal::Rejected(Rejection::UnknownCode))),
        }
    }
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
    let action = AdminAction::EnrolDevice { festival, code_hash, public_key };
    match listener.node.ask(AdminCommand { key: Some(key), by: Principal::Installation, action }).await.0 {
        AdminAnswer::Device(device) => Ok(device),
        AdminAnswer::Rejected(
            rejection @ (Rejection::Busy
            | Rejection::Unavailable
            | Rejection::Internal
            | Rejection::StillPending
            | Rejection::InDoubt),
        ) => Err(unavailable(rejection)),
        AdminAnswer::Rejected(rejection) => Err(failed(listener, &blamed, Refusal::Rejected(rejection))),
        _ => Err(unavailable(Rejection::Internal)),
    }
}

/// A bad code, id or proof: counted against these. Whoever has failed too often is told no more than when to come again.
fn failed(listener: &Listener, blamed: &[Blamed], refusal: Refusal) -> End {
    match listener.failures.failed(blamed, Instant::now()) {
        Some(wait) => too_many(wait),
        None => End::refused(refusal),
    }
}

fn too_many(wait: Duration) -> End {
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    End { retry_after_ms: wait_ms, ..End::refused(Refusal::TooMany) }
}

/// Nobody's fault out there: to be tried again.
pub(super) fn unavailable(rejection: Rejection) -> End {
    const COME_AGAIN_MS: u32 = 500;
    End { retry_after_ms: COME_AGAIN_MS, ..End::refused(Refusal::Rejected(rejection)) }
}

async fn send_frame(send: &mut SendStream, frame: Frame<'_>) -> Result<(), End> {
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
