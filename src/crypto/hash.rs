//! SHA-256, HMAC and HKDF in the shapes of PROTOCOL §1, and the comparison that takes constant time.

use hkdf::{Hkdf, HkdfExtract};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::keys::Label;
use super::secret::Secret;

/// Whether two byte strings are equal, in a time that depends on their lengths only (PROTOCOL §14).
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// `H(label | parts..)`.
pub(super) fn hash(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Sha256::new_with_prefix(label.as_bytes());
    parts.iter().for_each(|part| state.update(part));
    state.finalize().into()
}

/// `H(bytes)`, for the large fields that stand in a transcript by their hash.
pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// As [`hash`], where the result is a key.
pub(super) fn hash_secret(label: Label, parts: &[&[u8]]) -> Secret<32> {
    let mut bytes = hash(label, parts);
    let secret = Secret::fill(|place| place.copy_from_slice(&bytes));
    bytes.zeroize();
    secret
}

/// `HMAC(key, parts..)`.
pub(super) fn mac(key: &Secret<32>, parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut state = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| state.update(part));
    state.finalize().into_bytes().into()
}

/// The first 16 bytes of [`mac`].
pub(super) fn short_mac(key: &Secret<32>, parts: &[&[u8]]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = mac(key, parts);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// `HKDF-Expand(HKDF-Extract(salt, secrets..), info, N)`, N at most 8160.
pub(super) fn derive<const N: usize>(salt: &[u8; 32], secrets: &[&Secret<32>], info: Label) -> Secret<N> {
    const { assert!(N <= 255 * 32, "the limit of RFC 5869 §2.3") }
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    secrets.iter().for_each(|secret| extract.input_ikm(secret.expose()));
    let (mut pseudorandom_key, expand): (_, Hkdf<Sha256>) = extract.finalize();
    pseudorandom_key.as_mut_slice().zeroize();
    Secret::fill(|okm| {
        #[expect(clippy::expect_used, reason = "the length is checked at compile time")]
        expand.expand(info.as_bytes(), okm).expect("the length is checked at compile time");
    })
}
