//! What is shown once: enrolment codes, operators' keys.

use aws_lc_rs::hmac;
use engine::command::IdempotencyKey;
use engine::model::ids::{CROCKFORD, FestivalId, WalletId};
use sha2::{Digest, Sha256};

use super::api_key::key_text;

/// Makes what is shown once: enrolment codes and operators' keys. They are derived from the server's secret and the
/// request's idempotency key, so that a request repeated after a broken connection shows the same one again, and
/// nothing needs to be kept for that.
#[derive(Clone)]
pub struct OneTime(hmac::Key);

impl OneTime {
    /// From the server's secret: the one QR keys are derived from, under another label.
    pub fn new(server_secret: &[u8]) -> Self {
        let outer = hmac::Key::new(hmac::HMAC_SHA256, server_secret);
        let tag = hmac::sign(&outer, b"tapgate.one-time.v1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref()))
    }

    fn derive(&self, label: &[u8], key: &IdempotencyKey) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(label);
        context.update(&key.id.to_be_bytes());
        context.update(&key.fingerprint.to_be_bytes());
        context.sign().as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// The operator's key that this request makes.
    pub fn api_key(&self, key: &IdempotencyKey) -> String {
        key_text(&self.derive(b"api-key", key))
    }

    /// The wallet that this request makes: its id is random to everybody else.
    pub fn wallet(&self, key: &IdempotencyKey) -> WalletId {
        let mut low = [0; 8];
        low.copy_from_slice(&self.derive(b"wallet", key)[..8]);
        WalletId(u64::from_be_bytes(low).max(1))
    }

    /// The enrolment code that this request makes: see [`enrolment_code`].
    pub fn enrolment_code(&self, festival: FestivalId, key: &IdempotencyKey) -> String {
        enrolment_code(festival, &self.derive(b"enrolment-code", key))
    }
}

/// Twenty characters of Crockford's base 32 in groups of four: 32 bits of festival, so that the code alone says where
/// it belongs, and 68 random ones. At a million guesses a second for its 15 minutes, one in 3 · 10¹¹ codes is found.
pub fn enrolment_code(festival: FestivalId, random: &[u8; 32]) -> String {
    let mut low = [0; 16];
    low.copy_from_slice(&random[..16]);
    let bits = u128::from(festival.0) << 68 | u128::from_be_bytes(low) & ((1 << 68) - 1);
    let mut code = String::with_capacity(24);
    for i in 0..20 {
        if i > 0 && i % 4 == 0 {
            code.push('-');
        }
        code.push(char::from(CROCKFORD[(bits >> (5 * (19 - i))) as usize & 31]));
    }
    code
}

/// What the engine stores of a code. However it was typed, it is the same: hyphens, spaces and case do not matter, and
/// what can be misread for a digit is taken for it, as Crockford has it (O for 0, I and L for 1).
pub fn enrolment_code_hash(code: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for c in code.iter().filter(|c| !matches!(c, b'-' | b' ')) {
        hash.update([match c.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            c => c,
        }]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_once_is_the_same_for_the_same_request_only() {
        let one_time = OneTime::new(b"a secret of at least 32 bytes, for tests");
        let festival = FestivalId::of_slug("demo");
        let key = IdempotencyKey { id: 1, fingerprint: 2, made_at: None };
        let code = one_time.enrolment_code(festival, &key);
        assert_eq!(code, one_time.enrolment_code(festival, &key));
        assert_ne!(code, one_time.enrolment_code(festival, &IdempotencyKey { fingerprint: 3, ..key }));
        assert_ne!(one_time.api_key(&key), one_time.api_key(&IdempotencyKey { id: 9, ..key }));
        assert_eq!(code.len(), 24);
        let typed = code.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(enrolment_code_hash(typed.as_bytes()), enrolment_code_hash(code.as_bytes()));
        assert_eq!(enrolment_code_hash(b"7K2M-Q9XD"), <[u8; 32]>::from(Sha256::digest(b"7K2MQ9XD")));
        // The festival can be read back from the code alone.
        let bits = code.bytes().filter(|&c| c != b'-').fold(0_u128, |bits, c| {
            bits << 5 | CROCKFORD.iter().position(|&k| k == c).expect("one of Crockford's") as u128
        });
        assert_eq!((bits >> 68) as u32, festival.0);
    }

    #[test]
    fn a_code_is_as_hard_to_guess_as_it_says() {
        let (festival, random) = (FestivalId::of_slug("demo"), [0x5A; 32]);
        let code = enrolment_code(festival, &random);
        let told_apart = (0..128).filter(|bit| {
            let mut other = random;
            other[15 - bit / 8] ^= 1 << (bit % 8);
            enrolment_code(festival, &other) != code
        });
        assert!(told_apart.eq(0..68));
    }
}
