//! An operator's key as text, and what the engine stores of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// What every key begins with, so that one that has leaked can be found.
pub const KEY_PREFIX: &str = "tgk_";
/// Unpadded base 64 of 32 bytes.
const KEY_TEXT_LEN: usize = 43;

/// The key that these 32 random bytes make.
pub fn key_text(random: &[u8; 32]) -> String {
    format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// What the engine stores of a key; `None` if it cannot be one.
pub fn key_hash(key: &str) -> Option<[u8; 32]> {
    let text = key.strip_prefix(KEY_PREFIX)?;
    let well_formed = text.len() == KEY_TEXT_LEN && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32);
    well_formed.then(|| Sha256::digest(key.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_keys_are_keys() {
        let key = key_text(&[7; 32]);
        assert_eq!(key.len(), 47);
        assert!(key_hash(&key).is_some());
        for bad in ["", "tgk_", "Basic abc", &key[..46], &format!("{key}A"), &key.replace("tgk_", "tgx_")] {
            assert_eq!(key_hash(bad), None, "{bad}");
        }
    }
}
