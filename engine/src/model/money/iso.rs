//! ISO 4217: which currencies there are, and how many decimals each is written with. Kept as a table, since the engine
//! imports nothing for it; `gateway/tests/currencies.rs` holds it against a crate that follows the standard.
//!
//! Who withdraws a currency here has to know that its books are read for ever: amounts in a code that is not in the table
//! are shown with two decimals.

/// By the number of decimals. Codes without a minor unit (gold, test codes, drawing rights) are no money here.
const BY_DECIMALS: [(u8, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE \
         CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL \
         HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR \
         MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK \
         SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD \
         XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// 26 × 26 × 26 codes in four bits each: looking one up takes a shift and no search.
const DECIMALS: [u8; 26 * 26 * 26 / 2] = {
    let mut table = [0xFF_u8; 26 * 26 * 26 / 2];
    let mut line = 0;
    while line < BY_DECIMALS.len() {
        let (decimals, codes) = BY_DECIMALS[line];
        let codes = codes.as_bytes();
        let mut at = 0;
        while at < codes.len() {
            let i = index([codes[at], codes[at + 1], codes[at + 2]]);
            let shift = (i % 2 * 4) as u8;
            table[i / 2] = table[i / 2] & !(0xF << shift) | decimals << shift;
            at += 4; // and the space behind it
        }
        line += 1;
    }
    table
};

const fn index(code: [u8; 3]) -> usize {
    ((code[0] - b'A') as usize * 26 + (code[1] - b'A') as usize) * 26 + (code[2] - b'A') as usize
}

/// How many decimals a currency of three capital letters is written with; `None` for a code that is not money.
pub(super) fn decimals(code: [u8; 3]) -> Option<u8> {
    let i = index(code);
    let decimals = DECIMALS[i / 2] >> (i % 2 * 4) & 0xF;
    (decimals != 0xF).then_some(decimals)
}

/// Every code, in the order of the alphabet within each number of decimals.
pub(super) fn codes() -> impl Iterator<Item = &'static str> {
    BY_DECIMALS.iter().flat_map(|(_, codes)| codes.split(' '))
}
