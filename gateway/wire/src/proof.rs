//! What a device signs to prove itself. The server's nonce makes a recorded proof worthless on any other connection;
//! the TLS exporter ties it to this one, so that nobody in between can pass it on; the device's id keeps two devices
//! that share a key (a cloned disk) apart.

use engine::model::ids::DeviceId;

/// The label with which both sides ask TLS for [`Binding`] (RFC 5705, RFC 8446 section 7.5), with an empty context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-tapgate-device-proof";
/// 32 bytes that only the two ends of one TLS connection know.
pub type Binding = [u8; 32];

const LABEL: &[u8; 22] = b"tapgate/2 device proof";

/// Label (22) · nonce (32) · device id (8, little endian) · binding (32).
pub fn message(nonce: &[u8; 32], device: DeviceId, binding: &Binding) -> [u8; 94] {
    let mut message = [0; 94];
    message[..22].copy_from_slice(LABEL);
    message[22..54].copy_from_slice(nonce);
    message[54..62].copy_from_slice(&device.0.to_le_bytes());
    message[62..].copy_from_slice(binding);
    message
}
