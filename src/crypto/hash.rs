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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    fn secret(text: &str) -> Secret<32> {
        Secret::fill(|bytes| *bytes = hex(text))
    }

    #[test]
    fn equal_compares_contents_and_lengths() {
        assert!(equal(b"same", b"same"));
        assert!(!equal(b"same", b"sama"));
        assert!(!equal(b"same", b"sam"));
    }

    #[test]
    fn sha_256_matches_fips_180() {
        assert_eq!(digest(b"abc"), hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    }

    #[test]
    fn hmac_matches_rfc_4231() {
        // HMAC pads its key with zeros, so that the 4-byte key of test case 2 may be written with 32.
        let jefe = secret("4a65666500000000000000000000000000000000000000000000000000000000");
        let expected = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(mac(&jefe, &[b"what do ya want ", b"for nothing?"]), expected);
        assert_eq!(short_mac(&jefe, &[b"what do ya want for nothing?"]), expected[..16]);
    }

    #[test]
    fn hkdf_matches_rfc_5869() {
        let expand = Hkdf::<Sha256>::new(Some(&hex::<13>("000102030405060708090a0b0c")), &[0x0b; 22]);
        let mut okm = [0; 42];
        expand.expand(&hex::<10>("f0f1f2f3f4f5f6f7f8f9"), &mut okm).unwrap();
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        assert_eq!(okm, hex(expected));
    }

    #[test]
    fn derive_is_extract_of_the_joined_secrets_and_expand() {
        let (salt, info) = ([7; 32], Label::new("test"));
        let [one, two] = [secret(&"01".repeat(32)), secret(&"02".repeat(32))];
        let pseudorandom_key = Secret::fill(|key| {
            let joined: &[&[u8]] = &[one.expose(), two.expose()];
            *key = mac(&Secret::fill(|bytes| *bytes = salt), joined);
        });
        let first = mac(&pseudorandom_key, &[info.as_bytes(), &[1]]);
        let second = mac(&pseudorandom_key, &[&first, info.as_bytes(), &[2]]);
        let okm: Secret<40> = derive(&salt, &[&one, &two], info);
        assert_eq!(okm.expose()[..32], first);
        assert_eq!(okm.expose()[32..], second[..8]);
    }

    #[test]
    fn a_hash_of_parts_is_the_hash_of_the_label_and_their_concatenation() {
        let label = Label::new("test");
        let whole = [label.as_bytes().as_slice(), b"onetwo"].concat();
        assert_eq!(hash(label, &[b"one", b"two"]), digest(&whole));
        assert_eq!(hash_secret(label, &[b"one", b"two"]).expose(), &digest(&whole));
    }
}
