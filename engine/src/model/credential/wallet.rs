//! A wallet's QR: what an account shows on its phone when there is no wristband at hand. Signed like a ticket's, with the
//! key of the festival that issued the wallet; only [`KeyCache::verify_wallet`] can make a [`VerifiedWallet`].
//!
//! `{"walletId":…,"festival":…,"hash":…,"version":…}`: the wallet's UUID, the issuer's eight hex digits, HMAC-SHA256 in
//! unpadded URL-safe base 64, the number of the key. There is this one spelling and no other. What is signed is 29 bytes:
//! label (13) · wallet (8) · festival (4) · version (4), integers big endian. No ticket is signed over bytes of that label
//! or length, so neither QR can stand in for the other under the key they share.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::model::credential::{KeyCache, QR_LEN_MAX, QrKey, QrSecret, version_number, without_additions};
use crate::model::ids::{FestivalId, WalletId};
use crate::model::rejection::Rejection;

const SIGN_LABEL: &[u8; 13] = b"tapgate.wq.v1";

/// What a wallet's QR says, before anybody has checked whether it is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalletClaim {
    /// The wallet it names.
    pub wallet: WalletId,
    /// The festival it says has issued the wallet.
    pub festival: FestivalId,
    /// The version of the key it says it was signed with.
    pub version: u32,
    /// The signature.
    pub hash: [u8; 32],
}

/// A wallet whose QR's signature held under the key that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedWallet {
    wallet: WalletId,
    festival: FestivalId,
    version: u32,
}

impl VerifiedWallet {
    pub fn id(&self) -> WalletId {
        self.wallet
    }
    /// Whose key signed it.
    pub fn festival(&self) -> FestivalId {
        self.festival
    }
    /// The version of that key.
    pub fn version(&self) -> u32 {
        self.version
    }
}

impl QrKey {
    fn wallet_mac(&self, wallet: WalletId, festival: FestivalId, version: u32) -> Hmac<Sha256> {
        let mut signed = [0; 29];
        signed[..13].copy_from_slice(SIGN_LABEL);
        signed[13..21].copy_from_slice(&wallet.0.to_be_bytes());
        signed[21..25].copy_from_slice(&festival.0.to_be_bytes());
        signed[25..].copy_from_slice(&version.to_be_bytes());
        let mut mac = self.0.clone();
        mac.update(&signed);
        mac
    }
    /// The signature of a wallet; `festival` and `version` are the key's own.
    pub fn sign_wallet(&self, wallet: WalletId, festival: FestivalId, version: u32) -> WalletClaim {
        let hash = self.wallet_mac(wallet, festival, version).finalize().into_bytes().into();
        WalletClaim { wallet, festival, version, hash }
    }
}

impl KeyCache {
    /// Checks a claim's signature in constant time. Whether the key is still accepted, its festival says.
    ///
    /// # Errors
    /// [`Rejection::TamperedQr`].
    pub fn verify_wallet(&mut self, secret: &QrSecret, claim: &WalletClaim) -> Result<VerifiedWallet, Rejection> {
        let WalletClaim { wallet, festival, version, hash } = *claim;
        let holds = |key: &QrKey| key.wallet_mac(wallet, festival, version).verify_slice(&hash).is_ok();
        if self.holds(secret, festival, version, holds) {
            Ok(VerifiedWallet { wallet, festival, version })
        } else {
            Err(Rejection::TamperedQr)
        }
    }
}

const OPEN: &[u8; 13] = br#"{"walletId":""#;
const FESTIVAL: &[u8; 14] = br#"","festival":""#;
const HASH: &[u8; 10] = br#"","hash":""#;
const VERSION: &[u8; 12] = br#"","version":"#;

/// The text of a wallet's QR.
pub fn wallet_text(claim: &WalletClaim) -> String {
    let mut hash = [0; 43];
    URL_SAFE_NO_PAD.encode_slice(claim.hash, &mut hash).expect("32 bytes take 43 characters");
    let hash = str::from_utf8(&hash).expect("base 64 is ASCII");
    let WalletClaim { wallet, festival, version, .. } = claim;
    format!(r#"{{"walletId":"{wallet}","festival":"{festival}","hash":"{hash}","version":{version}}}"#)
}

/// Reads a wallet's QR. What scanners add around it is forgiven ([`without_additions`]); nothing else is.
///
/// # Errors
/// [`Rejection::InvalidQr`].
pub fn parse_wallet(qr: &[u8]) -> Result<WalletClaim, Rejection> {
    if qr.len() > QR_LEN_MAX {
        return Err(Rejection::InvalidQr);
    }
    read(without_additions(qr)).ok_or(Rejection::InvalidQr)
}

fn read(qr: &[u8]) -> Option<WalletClaim> {
    let (wallet, qr) = qr.strip_prefix(OPEN)?.split_at_checked(36)?;
    let (festival, qr) = qr.strip_prefix(FESTIVAL)?.split_first_chunk::<8>()?;
    let (hash, qr) = qr.strip_prefix(HASH)?.split_at_checked(43)?;
    let version = version_number(qr.strip_prefix(VERSION)?.strip_suffix(b"}")?)?;
    let mut bytes = [0; 32];
    // The decoder's own rule refuses bits set behind the last whole byte.
    if URL_SAFE_NO_PAD.decode_slice(hash, &mut bytes) != Ok(32) {
        return None;
    }
    let mut number: u32 = 0;
    for &digit in festival {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u32::from(digit);
    }
    Some(WalletClaim { wallet: WalletId::parse(wallet)?, festival: FestivalId(number), version, hash: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::credential::{parse, text};
    use crate::model::ids::{CategoryNo, TicketId};
    use proptest::prelude::*;

    const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";
    const FESTIVAL: FestivalId = FestivalId(0xCAFE_F00D);

    fn signed(wallet: u64, version: u32) -> String {
        let key = QrSecret::new(SECRET).unwrap().key(FESTIVAL, version);
        wallet_text(&key.sign_wallet(WalletId(wallet), FESTIVAL, version))
    }

    fn verify(qr: &[u8]) -> Result<VerifiedWallet, Rejection> {
        KeyCache::default().verify_wallet(&QrSecret::new(SECRET).unwrap(), &parse_wallet(qr)?)
    }

    #[test]
    fn golden() {
        // Written down once: a change here would make every wallet's QR void.
        assert_eq!(
            signed(0x123_4567_89AB_CDEF, 1),
            r#"{"walletId":"01234567-89ab-83a1-b37b-c00000000000","festival":"cafef00d","hash":"uaJ1yuswaVsaeTnC2gfJJhc009D4mzNu-s7K782cGrc","version":1}"#
        );
    }

    #[test]
    fn a_signed_wallet_verifies() {
        let qr = signed(7, 3);
        let verified = verify(format!(" {qr}\r\n").as_bytes()).unwrap();
        assert_eq!((verified.id(), verified.festival(), verified.version()), (WalletId(7), FESTIVAL, 3));
        assert_eq!(verify(qr.as_bytes()), Ok(verified));
    }

    #[test]
    fn every_single_bit_flip_is_refused() {
        let qr = signed(u64::MAX, 1).into_bytes();
        for bit in 0..qr.len() * 8 {
            let mut flipped = qr.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let rejection = verify(&flipped).unwrap_err();
            assert!(matches!(rejection, Rejection::InvalidQr | Rejection::TamperedQr), "bit {bit}: {rejection:?}");
        }
    }

    #[test]
    fn what_is_no_wallet() {
        let good = signed(9, 1);
        let ticket = TicketId::new(FESTIVAL, CategoryNo(2), 41, 7);
        let ticket = text(&QrSecret::new(SECRET).unwrap().key(FESTIVAL, 1).sign(ticket, 1));
        let padded = format!("{good}{}", " ".repeat(QR_LEN_MAX + 1 - good.len()));
        for (qr, what) in [
            (padded, "513 bytes"),
            (ticket.clone(), "a ticket"),
            (good.replace(':', " : "), "another spelling"),
            (good.replace("cafef00d", "CAFEF00D"), "capitals"),
            (good.replace(r#""version":1"#, r#""version":01"#), "a number that is none"),
            (good.replace(r#""version":1"#, r#""version":4294967296"#), "a version beyond all"),
            (good.replace(r#""version":1"#, r#""version":1,"admin":true"#), "a field too many"),
            (String::new(), "nothing"),
        ] {
            assert_eq!(verify(qr.as_bytes()), Err(Rejection::InvalidQr), "{what}");
        }
        for (qr, what) in [
            (good.replace("cafef00d", "cafef00e"), "another festival's"),
            (good.replace(r#""version":1"#, r#""version":2"#), "another key's"),
        ] {
            assert_eq!(verify(qr.as_bytes()), Err(Rejection::TamperedQr), "{what}");
        }
        assert!(parse(good.as_bytes()).is_err(), "nor is a wallet a ticket");
    }

    #[test]
    fn a_tickets_signature_is_no_wallets() {
        // The same key, the same version, a ticket's hash under a wallet's name.
        let secret = QrSecret::new(SECRET).unwrap();
        let key = secret.key(FESTIVAL, 1);
        let hash = key.sign(TicketId::new(FESTIVAL, CategoryNo(2), 41, 7), 1).hash;
        let mut cache = KeyCache::default();
        let claim = WalletClaim { wallet: WalletId(7), festival: FESTIVAL, version: 1, hash };
        assert_eq!(cache.verify_wallet(&secret, &claim), Err(Rejection::TamperedQr));
        assert!(cache.keys.is_empty(), "a forgery leaves nothing behind");
        assert!(cache.verify_wallet(&secret, &key.sign_wallet(WalletId(7), FESTIVAL, 1)).is_ok());
        assert_eq!(cache.keys.len(), 1);
        assert_eq!(cache.verify_wallet(&secret, &claim), Err(Rejection::TamperedQr), "with the key at hand neither");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn one_spelling_of_each(wallet in 1_u64.., festival: u32, version: u32, hash: [u8; 32]) {
            let claim = WalletClaim { wallet: WalletId(wallet), festival: FestivalId(festival), version, hash };
            let text = wallet_text(&claim);
            prop_assert!(text.len() <= QR_LEN_MAX);
            prop_assert_eq!(parse_wallet(text.as_bytes()), Ok(claim));
        }
        #[test]
        fn random_bytes_are_never_a_wallet(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(verify(&bytes).is_err());
        }
    }
}
