//! A device whose server was killed still believes in its connection, and would until its patience of 30 s is at an end.
//! What it sends meanwhile reaches the next process at that address, which can say at once that there is no such
//! connection (RFC 9000, section 10.3: a stateless reset), if it has the same key as the one before. So the key follows
//! from the server's secret.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use engine::model::credential::QrSecret;
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};

const KEY_LABEL: &[u8] = b"tapgate.quic.reset.v1";
const ID_LEN: usize = 8;
/// At most a thousand resets a second: 10,000 devices of a killed server are back within ten seconds. Each is shorter
/// than what it answers, so nobody gains by asking for them.
const RESET_EVERY: Duration = Duration::from_millis(1);

/// How the endpoint names connections, and denies those it does not know.
pub(super) fn endpoint_config(secret: &QrSecret) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.derive(KEY_LABEL));
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(|| Box::new(Ids)).min_reset_interval(RESET_EVERY);
    config
}

/// Eight random bytes each. quinn's own ids carry a mark by which a process knows its own, and drops all others.
struct Ids;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        // Without randomness there are no handshakes either; ids of zeros only collide.
        let _ = SystemRandom::new().fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
