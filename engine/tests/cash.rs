//! Nights at the bar.

mod bar;
use bar::Bar;

/// The same night whatever the number of shards.
fn nights(script: &str) {
    for shards in [1, 2, 5, 16] {
        Bar::open(shards).play(script);
    }
}

#[test]
fn an_evening() {
    nights(
        "
        topup W1 50.00                → 50.00
        pay W1 12.50 bar-7 as P1      → 37.50
        pay W1 40.00 bar-7            → rejected: insufficient_funds
        pay W1 7.50 bar-7 lines 0x1@5.00,1x1@2.50 → 30.00
        refund P1 2.50 by bar-7       → 32.50
        refund P1 by bar-7b           → 42.50
        refund P1 by bar-7            → rejected: already_refunded
        payable bar-7                 → 6.75 after 2 payments and 2 refunds
        commission                    → 0.75
        transfer W1 W2 20.00          → 22.50
        balance W2                    → 20.00
        transfer W1 W3 20.00          → 2.50
        transfer W3 W1 20.00          → 0.00
        correct W2 -5.00 miscounted   → 15.00
        cashout W2                    → 0.00
        cashout W2                    → rejected: nothing_left
        ",
    );
}
