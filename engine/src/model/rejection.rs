//! Rejections: a polite no, as data. Each has a stable code for machines and a sentence a steward can say aloud.

use serde::{Deserialize, Serialize};

macro_rules! rejections {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $code:literal, $say:literal;)*) => {
        /// Why a command was not carried out. Numbers and codes are part of the wire format and the journal:
        /// new ones are added at the end, none is ever reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Rejection { $($(#[$doc])* $name = $number,)* }

        impl Rejection {
            /// Every rejection there is, by number.
            pub const ALL: &'static [Rejection] = &[$(Rejection::$name,)*];

            /// The stable code, as in `domain words`: `already_used`.
            pub fn code(self) -> &'static str {
                match self { $(Rejection::$name => $code,)* }
            }
            /// What to say to the person in front of you.
            pub fn sentence(self) -> &'static str {
                match self { $(Rejection::$name => $say,)* }
            }
            /// The rejection with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Rejection::$name),)* _ => None }
            }
        }
    };
}

rejections! {
    // Admission, in the order of its checks.
    /// The QR is not ours to read: not JSON with our four fields, or longer than 512 bytes.
    InvalidQr = 1, "invalid_qr", "This is not one of our tickets.";
    /// The signature does not hold.
    TamperedQr = 2, "tampered_qr", "This ticket has been altered.";
    /// Signed with a key that is no longer accepted.
    KeyRetired = 3, "key_retired", "This ticket was replaced. Please open the newest one in your account.";
    /// Well signed, but no such ticket was issued.
    UnknownTicket = 4, "unknown_ticket", "We do not know this ticket.";
    /// A ticket of another festival.
    WrongFestival = 5, "wrong_festival", "This ticket is for another festival.";
    /// Entered before, and the policy is single entry.
    AlreadyUsed = 6, "already_used", "This ticket has been used already.";
    /// Cancelled.
    Cancelled = 7, "cancelled", "This ticket was cancelled.";
    /// Refunded.
    Refunded = 8, "refunded", "This ticket was refunded.";
    /// Reserved, not paid.
    Unpaid = 9, "unpaid", "This ticket has not been paid.";
    /// Blocked by the organiser.
    Blocked = 10, "blocked", "This ticket is blocked. Please go to the help desk.";
    /// The festival is not ONGOING.
    FestivalNotActive = 11, "festival_not_active", "The festival is not open.";
    /// Before the category's validity window.
    NotYetValid = 12, "not_yet_valid", "This ticket is not valid yet.";
    /// After the category's validity window.
    NoLongerValid = 13, "no_longer_valid", "This ticket is no longer valid.";
    /// The zone does not let this category in.
    ZoneDenied = 14, "zone_denied", "This ticket does not include this area.";
    /// The zone is closed, or being evacuated.
    ZoneClosed = 15, "zone_closed", "This area is closed.";
    /// The ticket's holder is inside already.
    AlreadyInside = 16, "already_inside", "This ticket is inside already.";
    /// The zone lies inside another one, and the holder is not in that.
    NotInsideParent = 17, "not_inside_parent", "Please enter through the main gate first.";
    /// Occupancy has reached capacity.
    ZoneFull = 18, "zone_full", "This area is full. Please wait.";
    /// No ticket is bound to this wristband.
    UnknownTag = 19, "unknown_tag", "We do not know this wristband.";

    // By hand.
    /// A festival is to be completed while people are inside, and nobody has confirmed that.
    PeopleInside = 24, "people_inside", "There are still people inside.";
    /// A festival's scans can be reset until an hour after its beginning.
    TooLateToReset = 25, "too_late_to_reset", "The festival has begun. Its scans can no longer be reset.";
    /// What was ended is opened again only for a reason.
    ReasonNeeded = 26, "reason_needed", "Please say why.";

    // Devices and doing it again.
    /// No such device.
    UnknownDevice = 32, "unknown_device", "This device is not enrolled.";
    /// The device was revoked.
    DeviceRevoked = 33, "device_revoked", "This device was revoked. Please fetch another one.";
    /// The device stands at a gate of another zone.
    WrongGate = 34, "wrong_gate", "This reader belongs to another gate.";
    /// Below the device's floor: answered before, and the device said that it had the answer.
    StaleSeq = 35, "stale_seq", "This message was answered before.";
    /// More than 4,096 above the device's floor.
    WindowFull = 36, "window_full", "Too many unanswered messages.";
    /// The same id was sent with other content.
    IdempotencyConflict = 37, "idempotency_conflict", "This id was used for something else.";
    /// The idempotency key is older than what is remembered.
    IdempotencyKeyExpired = 38, "idempotency_key_expired", "This idempotency key is too old.";
    /// The enrolment code is unknown or was used.
    UnknownCode = 39, "unknown_code", "This enrolment code is not known, or was used already.";
    /// The enrolment code's 15 minutes are over.
    CodeExpired = 40, "code_expired", "This enrolment code has expired.";
    /// It was decided, and whether it is recorded cannot be said now: the same id, asked again, is told.
    InDoubt = 41, "in_doubt", "We cannot say yet whether this was recorded. It is being asked again.";

    // Undo.
    /// Nothing of this ticket can be undone: not scanned, or scanned again since.
    NothingToUndo = 48, "nothing_to_undo", "There is nothing to undo.";
    /// The device's 15 minutes are over; a supervisor still can.
    UndoTooLate = 49, "undo_too_late", "Too late to undo here. Please ask a supervisor.";
    /// Another device made this scan; a supervisor can undo it.
    NotYourScan = 50, "not_your_scan", "Another reader made this scan. Please ask a supervisor.";

    // The office.
    /// No such festival.
    UnknownFestival = 64, "unknown_festival", "There is no such festival.";
    /// No such zone.
    UnknownZone = 65, "unknown_zone", "There is no such zone.";
    /// No such gate.
    UnknownGate = 66, "unknown_gate", "There is no such gate.";
    /// No such category.
    UnknownCategory = 67, "unknown_category", "There is no such category.";
    /// No such key.
    UnknownKey = 68, "unknown_key", "There is no such key.";
    /// The slug is in use.
    SlugTaken = 69, "slug_taken", "There is a festival with this slug already.";
    /// The status cannot be reached from the present one.
    InvalidTransition = 70, "invalid_transition", "This is not possible from the present status.";
    /// Not enough places left under the quota.
    SoldOut = 71, "sold_out", "There are not enough places left.";
    /// A limit of the installation is reached (zones, gates, categories, devices, codes), or of the operator (idempotency keys).
    LimitReached = 72, "limit_reached", "A limit is reached.";
    /// A field is out of bounds.
    InvalidValue = 73, "invalid_value", "A value is out of bounds.";
    /// The wristband is bound to another ticket, or linked to another wallet.
    TagTaken = 74, "tag_taken", "This wristband belongs to somebody else.";

    // Faults that are still answers.
    /// A bug: the command was set aside, nothing was changed.
    Internal = 96, "internal", "Something went wrong. Please try again, then call support.";
    /// A queue is full; come again in the time that the answer names.
    Busy = 97, "busy", "One moment, please scan again.";
    /// The journal takes no writes (full or broken disk), or the shard is down. Nothing was done.
    Unavailable = 98, "unavailable", "The system cannot record anything right now.";

    /// Another shard has not answered yet: what was asked may still happen, and the same key is told how it ended.
    StillPending = 99, "still_pending", "This is still under way. Please look again in a moment.";

    // Cashless.
    /// Not between one minor unit and 10^12 of them.
    InvalidAmount = 100, "invalid_amount", "This amount is not possible.";
    /// The wallet or the festival uses another currency.
    WrongCurrency = 101, "wrong_currency", "This wallet uses another currency.";
    /// Less than the festival's least top-up.
    BelowMinTopup = 102, "below_min_topup", "This is less than can be topped up at once.";
    /// More than the festival's largest top-up.
    AboveMaxTopup = 103, "above_max_topup", "This is more than can be topped up at once.";
    /// The wallet would hold more than the festival allows.
    AboveMaxBalance = 104, "above_max_balance", "The wallet would hold more than is allowed.";
    /// Less than the festival's least payment.
    BelowMinPayment = 105, "below_min_payment", "This amount is too small to pay.";
    /// Not enough in the wallet.
    InsufficientFunds = 106, "insufficient_funds", "There is not enough money on this wristband.";
    /// The wallet was blocked.
    WalletBlocked = 107, "wallet_blocked", "This wallet is blocked. Please go to the help desk.";
    /// No such wallet.
    UnknownWallet = 108, "unknown_wallet", "We do not know this wallet.";
    /// From a wallet to itself.
    SameWallet = 109, "same_wallet", "Both wallets are the same.";
    /// No such transaction.
    UnknownTransaction = 110, "unknown_transaction", "We do not know this payment.";
    /// A top-up, a refund or a transfer.
    NotAPayment = 111, "not_a_payment", "This was not a payment.";
    /// All of the payment has been refunded.
    AlreadyRefunded = 112, "already_refunded", "This payment was refunded already.";
    /// More than is left of the payment.
    RefundExceedsPayment = 113, "refund_exceeds_payment", "This is more than is left of the payment.";
    /// The payment is older than the shard remembers.
    RefundTooLate = 114, "refund_too_late", "This payment is too old to refund here. Please go to the help desk.";
    /// Another vendor took the payment.
    NotYourPayment = 115, "not_your_payment", "Another stand took this payment.";
    /// The lines' sum is not the amount, or there are too many lines.
    LinesMismatch = 116, "lines_mismatch", "The items do not add up to the amount.";
    /// The vendor is closed.
    VendorClosed = 117, "vendor_closed", "This stand is closed.";
    /// No such vendor.
    UnknownVendor = 118, "unknown_vendor", "We do not know this stand.";
    /// No such product at this vendor.
    UnknownProduct = 119, "unknown_product", "This stand does not sell this.";
    /// The terminal does not take cash.
    NotACashier = 120, "not_a_cashier", "This terminal cannot top up. Please go to a cash desk.";
    /// The wristband was reported lost.
    TagLost = 121, "tag_lost", "This wristband was reported lost. Please go to the help desk.";
    /// The wristband names another wallet by now, or was linked anew. Nothing has happened: resolve it again.
    TagMoved = 122, "tag_moved", "This wristband was changed just now. Please tap again.";
    /// Nothing is left to pay out.
    NothingLeft = 123, "nothing_left", "This wallet is empty.";
    /// It took too long, and was taken back before the other side had decided.
    TransferCancelled = 124, "transfer_cancelled", "This transfer took too long and was taken back.";
    /// Another account has claimed the wallet.
    WalletClaimed = 125, "wallet_claimed", "This wallet belongs to another account.";
    /// The wallet has a wristband; it can be replaced.
    AlreadyTagged = 126, "already_tagged", "This wallet has a wristband already.";
    /// The festival has no cashless payments, or this shard does not know of them yet.
    NotCashless = 127, "not_cashless", "This festival takes no cashless payments.";
    /// A UID that cannot name anybody: made anew at each reading, or no whole UID ([`crate::model::ids::TagUid::can_name_anybody`]).
    UnusableTag = 136, "unusable_tag", "This wristband cannot be used: its number is not its own. Please take another one.";
    /// Wallets of different accounts, or of nobody, are not merged.
    NotOneAccount = 137, "not_one_account", "These wallets do not belong to one account.";
    /// A wallet that another festival issued, where only the own ones are taken.
    ForeignWallet = 80, "foreign_wallet", "This wallet belongs to another festival.";
    /// ISO 4217 has no such currency, or it is one without amounts, such as gold.
    UnknownCurrency = 144, "unknown_currency", "There is no such currency.";
    /// Something has been booked in the currency that there is: it stays.
    CurrencyInUse = 145, "currency_in_use", "Money has moved in this currency already; it can no longer be changed.";

    // What was given up.
    /// It reached its shard after the time that it carried. Nothing has happened, and nothing will.
    Expired = 128, "expired", "This took too long, and nothing was charged. Please tap again.";
    /// It was sent before, and who may have decided it is not remembered any more. Nothing is decided now.
    OutcomeUnknown = 129, "outcome_unknown", "Nobody knows whether this went through. Please ask at the office.";
}

impl Rejection {
    /// How many counters a tally by reason needs: numbers are below this, since verdicts that are no rejection begin here
    /// ([`crate::gates::command::Verdict::number`]).
    pub const NUMBERS: usize = 200;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_codes_are_unique_and_lead_back() {
        let codes: BTreeSet<_> = Rejection::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Rejection::ALL.len());
        for &rejection in Rejection::ALL {
            assert_eq!(Rejection::from_number(rejection as u8), Some(rejection));
            assert!((rejection as usize) < Rejection::NUMBERS);
            assert!(rejection.code().bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
        }
    }
}
