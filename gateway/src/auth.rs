//! Who asks, and what they may: operators' keys, roles, and the rule that nobody sees another organiser's festival.
//!
//! A key is `tgk_` and 43 characters of URL-safe base 64 (32 random bytes), sent as `Authorization: Bearer …`. The
//! engine knows its SHA-256 only, and is asked on every request: a revoked key is refused by the next one.
//! What a key may not see does not exist for it: a foreign festival answers exactly as one that was never made.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::command::IdempotencyKey;
use engine::ids::{CROCKFORD, FestivalId, WalletId};
use engine::principal::Principal;
use engine::rejection::Rejection;
use engine::status::Role;
use engine::view::ApiKeyView;
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

/// Something that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Make a festival. One who may is shown every festival.
    CreateFestivals,
    /// See, make and revoke operators' keys.
    ManageKeys,
    /// Status, policy, QR keys, zones, gates, categories.
    ManageFestival,
    /// See a festival, its live counts, who is inside, a ticket and its history, the access log.
    LookUp,
    /// Open, close, evacuate a zone.
    SteerZones,
    /// Issue tickets, list them, change their status, bind wristbands; fetch their QR.
    ManageTickets,
    /// Block a ticket, and let it go again.
    BlockTickets,
    /// Undo a scan as a supervisor.
    UndoScans,
    /// Let somebody in by hand, in spite of what may be overruled.
    AdmitByHand,
    /// Enrol, see and revoke readers and terminals.
    ManageDevices,
    /// Cashless policy, vendors, products.
    ManageCash,
    /// See stands and wallets, find or make a wallet, link wristbands and report them lost, give a wallet to an account.
    ServeWallets,
    /// Top up with cash, pay out what is left; let a terminal do the former.
    TakeCash,
    /// Pay, refund, transfer, block and unblock; see transactions and orders.
    MoveMoney,
    /// Correct a balance.
    CorrectBalances,
    /// See the books, settlements, sales.
    SeeBooks,
}

impl Right {
    /// The roles that have it.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.iter().copied().filter(move |&role| role_may(role, self))
    }

    /// Whether it concerns the whole installation, so that a key bound to festivals never has it.
    pub fn is_of_installation(self) -> bool {
        matches!(self, Self::CreateFestivals | Self::ManageKeys)
    }
}

/// The table of roles.
fn role_may(role: Role, right: Right) -> bool {
    use Right::*;
    match role {
        Role::Admin => true,
        Role::Organizer => !matches!(right, CreateFestivals | ManageKeys | CorrectBalances),
        Role::Staff => {
            matches!(right, LookUp | ManageTickets | UndoScans | ManageDevices | ServeWallets | MoveMoney)
        }
        Role::Security => matches!(right, LookUp | SteerZones | BlockTickets | AdmitByHand),
        // At a cash desk, not at the gates.
        Role::Cashier => matches!(right, ServeWallets | TakeCash),
        // Comes with people's accounts.
        Role::User => false,
    }
}

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// What it is about does not exist, as far as this key is concerned.
    Unknown(Rejection),
    /// The key's role may not do this there.
    Forbidden {
        /// Which role. If it is ADMIN, the key is bound to festivals.
        role: Role,
    },
}

/// Whoever is signed in. Taking this as a handler's argument is what makes a route need a key; what the key may do is
/// then asked with [`Operator::at`], [`Operator::sees`] or [`Operator::everywhere`].
#[derive(Clone, Debug)]
pub struct Operator {
    /// The number of the key; commands and idempotency keys belong to it.
    pub no: u32,
    /// What the key may do.
    pub role: Role,
    festivals: Vec<FestivalId>,
}

impl Operator {
    /// The operator that an unrevoked key stands for.
    pub fn of(key: &ApiKeyView) -> Option<Self> {
        (!key.revoked).then(|| Self { no: key.no, role: key.role, festivals: key.festivals.clone() })
    }

    /// Who that is in the journal.
    pub fn principal(&self) -> Principal {
        if self.no == 0 { Principal::Installation } else { Principal::ApiKey(self.no) }
    }

    /// Bound to no festival: an ADMIN whose key names none.
    pub fn sees_all(&self) -> bool {
        self.role == Role::Admin && self.festivals.is_empty()
    }

    /// Whether this festival exists as far as this key is concerned.
    pub fn sees(&self, festival: FestivalId) -> bool {
        self.sees_all() || self.festivals.contains(&festival)
    }

    /// The festival with this slug, if this key sees it and may do this there.
    ///
    /// # Errors
    /// `unknown_festival` for one it does not see, whether or not there is one; [`Denied::Forbidden`].
    pub fn at(&self, right: Right, slug: &str) -> Result<FestivalId, Denied> {
        let festival = FestivalId::of_slug(slug);
        self.within(right, festival, Rejection::UnknownFestival)?;
        Ok(festival)
    }

    /// The same for something whose id names its festival; `unknown` is the answer for a foreign one.
    ///
    /// # Errors
    /// As [`Operator::at`].
    pub fn within(&self, right: Right, festival: FestivalId, unknown: Rejection) -> Result<(), Denied> {
        if !self.sees(festival) {
            return Err(Denied::Unknown(unknown));
        }
        if role_may(self.role, right) { Ok(()) } else { Err(self.forbidden()) }
    }

    /// For what concerns the whole installation. A key bound to festivals may not, whatever its role.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn everywhere(&self, right: Right) -> Result<(), Denied> {
        if self.sees_all() && role_may(self.role, right) { Ok(()) } else { Err(self.forbidden()) }
    }

    /// For lists that are filtered by [`Operator::sees`] afterwards.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn anywhere(&self, right: Right) -> Result<(), Denied> {
        if role_may(self.role, right) { Ok(()) } else { Err(self.forbidden()) }
    }

    fn forbidden(&self) -> Denied {
        Denied::Forbidden { role: self.role }
    }
}

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
    fn only_our_keys_are_keys() {
        let key = key_text(&[7; 32]);
        assert_eq!(key.len(), 47);
        assert!(key_hash(&key).is_some());
        for bad in ["", "tgk_", "Basic abc", &key[..46], &format!("{key}A"), &key.replace("tgk_", "tgx_")] {
            assert_eq!(key_hash(bad), None, "{bad}");
        }
    }

    #[test]
    fn roles() {
        use Right::*;
        let all = [
            CreateFestivals,
            ManageKeys,
            ManageFestival,
            LookUp,
            SteerZones,
            ManageTickets,
            BlockTickets,
            UndoScans,
            AdmitByHand,
            ManageDevices,
            ManageCash,
            ServeWallets,
            TakeCash,
            MoveMoney,
            CorrectBalances,
            SeeBooks,
        ];
        let table = Role::ALL.iter().map(|&role| all.map(|right| if role_may(role, right) { 'x' } else { '.' }));
        let table: Vec<String> = table.map(|row| row.iter().collect()).collect();
        assert_eq!(
            table,
            [
                "xxxxxxxxxx xxxxxx", // ADMIN
                "..xxxxxxxx xxxx.x", // ORGANIZER
                "...x.x.x.x .x.x..", // STAFF
                ".......... .xx...", // CASHIER
                "...xx.x.x. ......", // SECURITY
                ".......... ......", // USER
            ]
            .map(|row| row.replace(' ', ""))
        );
    }

    #[test]
    fn a_bound_admin_is_admin_there_only() {
        let (own, foreign) = (FestivalId::of_slug("own"), FestivalId::of_slug("foreign"));
        let bound = Operator { no: 1, role: Role::Admin, festivals: vec![own] };
        assert!(bound.sees(own) && !bound.sees(foreign));
        assert!(bound.everywhere(Right::ManageKeys).is_err(), "or it could make itself an unbound key");
        let nobody = Operator { no: 2, role: Role::Organizer, festivals: vec![] };
        assert!(!nobody.sees(own), "no festivals means all for ADMIN only");
        let foreign = bound.at(Right::LookUp, "foreign").unwrap_err();
        assert_eq!(foreign, Denied::Unknown(Rejection::UnknownFestival));
    }

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
