//! What scanners put around the text that they have read. It says nothing about the ticket, and differs from scanner to
//! scanner and from setting to setting, so it is taken off in this one place: for tickets and wallets, at the server and
//! in the device's library.

/// The code identifier of ISO/IEC 15424 (AIM): `]`, a letter for the kind of code, one character for its options. A QR
/// is `]Q0` to `]Q6`, but a scanner that is set up for something else says what it likes.
const IDENTIFIER_LEN: usize = 3;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A QR's own text: without white space, NUL, STX, ETX, EOT and GS at either end, and without a byte order mark and an AIM
/// identifier in front, in whichever order they come. Nothing inside is touched.
pub fn without_additions(read: &[u8]) -> &[u8] {
    let mut text = read;
    loop {
        text = match text {
            [first, rest @ ..] if is_addition(*first) => rest,
            [rest @ .., last] if is_addition(*last) => rest,
            [b']', kind, option, rest @ ..] if kind.is_ascii_alphabetic() && option.is_ascii_alphanumeric() => {
                debug_assert_eq!(text.len() - rest.len(), IDENTIFIER_LEN);
                rest
            }
            _ => match text.strip_prefix(BOM) {
                Some(rest) => rest,
                None => return text,
            },
        };
    }
}

/// NUL, STX, ETX, EOT, GS (FNC1 in disguise), tabs, line ends and blanks.
fn is_addition(byte: u8) -> bool {
    matches!(byte, 0x00 | 0x02 | 0x03 | 0x04 | 0x0B | 0x1D) || byte.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::credential::{QR_LEN_MAX, QrSecret};
    use crate::model::credential::{parse, parse_wallet, text, wallet_text};
    use crate::model::ids::{CategoryNo, FestivalId, TicketId, WalletId};
    use crate::model::rejection::Rejection;
    use proptest::prelude::*;

    fn ticket_and_wallet() -> (String, String) {
        let key = QrSecret::new(&[7; 32]).unwrap().key(FestivalId(0xCAFE_F00D), 1);
        let ticket = TicketId::new(FestivalId(0xCAFE_F00D), CategoryNo(2), 41, 7);
        (text(&key.sign(ticket, 1)), wallet_text(&key.sign_wallet(WalletId(9), FestivalId(0xCAFE_F00D), 1)))
    }

    #[test]
    fn what_scanners_add_is_forgiven() {
        let (ticket, wallet) = ticket_and_wallet();
        for (what, before, after) in [
            ("nothing", "", ""),
            ("a line end", "", "\r\n"),
            ("an AIM identifier", "]Q1", ""),
            ("another one", "]d2", "\n"),
            ("one for ECI", "]Q4", "\r"),
            ("a byte order mark", "\u{FEFF}", ""),
            ("STX and ETX", "\x02", "\x03"),
            ("a string of C", "", "\0"),
            ("NULs on both sides", "\0\0", "\0\0"),
            ("GS", "\x1D", "\x1D"),
            ("EOT", "", "\x04"),
            ("tabs and blanks", "\t  ", " \t\x0B"),
            ("all of it", "\x02]Q1\u{FEFF}\x1D", "\0\r\n\x03\x04"),
            ("all of it, the other way round", "\u{FEFF}\x02 ]Q1", "\x03\r\n"),
        ] {
            let [scanned, shown] = [&ticket, &wallet].map(|qr| format!("{before}{qr}{after}"));
            assert_eq!(without_additions(scanned.as_bytes()), ticket.as_bytes(), "{what}");
            assert_eq!(parse(scanned.as_bytes()), parse(ticket.as_bytes()), "{what}");
            assert_eq!(parse_wallet(shown.as_bytes()), parse_wallet(wallet.as_bytes()), "{what}");
        }
        assert!(parse(ticket.as_bytes()).is_ok() && parse_wallet(wallet.as_bytes()).is_ok());
    }

    #[test]
    fn what_scanners_change_is_not() {
        let (ticket, wallet) = ticket_and_wallet();
        for (what, change) in [
            ("caps lock", (|qr: &str| qr.to_uppercase()) as fn(&str) -> String),
            ("a German keyboard", |qr| qr.replace('-', "ß").replace('y', "z")),
            ("a French keyboard", |qr| qr.replace('"', "3").replace('a', "q")),
            ("GS inside", |qr| qr.replacen(',', "\x1D,", 1)),
            ("half an identifier", |qr| format!("]Q{qr}")),
            ("a word in front", |qr| format!("QR:{qr}")),
            ("cut", |qr| qr[..qr.len() - 1].to_owned()),
            ("nothing but additions", |_| "\x02]Q1\x03\r\n".to_owned()),
            ("more than is looked at", |qr| format!("{qr}{}", "\0".repeat(QR_LEN_MAX))),
        ] {
            assert_eq!(parse(change(&ticket).as_bytes()), Err(Rejection::InvalidQr), "a ticket with {what}");
            assert_eq!(parse_wallet(change(&wallet).as_bytes()), Err(Rejection::InvalidQr), "a wallet with {what}");
        }
    }

    proptest! {
        #[test]
        fn it_only_ever_takes_off_the_ends(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = without_additions(&bytes);
            prop_assert!(text.is_empty() || bytes.windows(text.len()).any(|window| window == text));
            prop_assert_eq!(without_additions(text), text);
        }
    }
}
