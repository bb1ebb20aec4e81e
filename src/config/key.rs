//! Public keys as people write them: standard base64, 44 characters.

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::VerifyingKey;

use crate::base::PeerId;

/// Characters of a written key.
pub const LENGTH: usize = 44;

/// Why a written public key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Another number of characters.
    #[error("is not a public key: one has 44 characters of base64, as `handfast pubkey` prints it")]
    Length,
    /// Not base64, or not the one way to write these bytes.
    #[error("is not a public key: not valid base64; copy it again as `handfast pubkey` prints it")]
    Encoding,
    /// No Ed25519 key, or one under which anyone can sign (PROTOCOL §14).
    #[error("is base64, but not a usable Ed25519 public key; copy it again as `handfast pubkey` prints it")]
    Unusable,
}

/// The 44 characters of a public key.
pub fn format_public(id: &PeerId) -> String {
    Base64::encode_string(id.as_bytes())
}

/// The public key that `text` is.
///
/// # Errors
/// Anything but the canonical writing of a key that signatures can be checked against.
pub fn parse_public(text: &str) -> Result<PeerId, KeyTextError> {
    let mut bytes = [0; 32];
    decode(text, &mut bytes)?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyTextError::Unusable)?;
    let canonical = key.to_edwards().compress().to_bytes() == bytes;
    if !canonical || key.is_weak() {
        return Err(KeyTextError::Unusable);
    }
    Ok(PeerId(bytes))
}

/// Decodes 44 characters into 32 bytes, in constant time for a given length; `bytes` is complete only on `Ok`.
pub(super) fn decode(text: &str, bytes: &mut [u8; 32]) -> Result<(), KeyTextError> {
    if text.len() != LENGTH {
        return Err(KeyTextError::Length);
    }
    let length = bytes.len();
    match Base64::decode(text, bytes) {
        Ok(decoded) if decoded.len() == length => Ok(()),
        Ok(_) | Err(_) => Err(KeyTextError::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    fn key(seed: [u8; 32]) -> PeerId {
        PeerId(SigningKey::from_bytes(&seed).verifying_key().to_bytes())
    }

    proptest! {
        #[test]
        fn every_key_survives_being_written_and_read(seed: [u8; 32]) {
            let text = format_public(&key(seed));
            prop_assert_eq!(text.len(), LENGTH);
            prop_assert_eq!(parse_public(&text), Ok(key(seed)));
        }

        #[test]
        fn what_is_accepted_is_written_in_one_way_only(text in "[A-Za-z0-9+/]{43}=") {
            if let Ok(id) = parse_public(&text) {
                prop_assert_eq!(format_public(&id), text);
            }
        }
    }

    #[test]
    fn an_undecodable_key_is_never_a_key_of_zeros() {
        for text in ["", "short", &"!".repeat(44), &"A".repeat(44), &"A".repeat(43), &"=".repeat(44)] {
            assert!(parse_public(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bits_beyond_the_last_byte_are_refused() {
        let text = format_public(&key([7; 32]));
        let last = text.as_bytes()[42];
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digit = alphabet.iter().position(|c| *c == last).unwrap();
        let altered = format!("{}{}=", &text[..42], char::from(alphabet[digit ^ 1]));
        assert_eq!(parse_public(&altered), Err(KeyTextError::Encoding));
    }

    #[test]
    fn points_of_small_order_and_non_canonical_ones_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut beyond_the_field = [0xff; 32]; // y = 2^255 - 1 - 18 is the prime itself; this writes p + 1, which is 1 again
        beyond_the_field[0] = 0xee;
        beyond_the_field[31] = 0x7f;
        for bytes in [identity, [0; 32], beyond_the_field, [0xff; 32]] {
            assert_eq!(parse_public(&Base64::encode_string(&bytes)), Err(KeyTextError::Unusable));
        }
    }
}
