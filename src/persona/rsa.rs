//! RSA keys drawn from a [`Stream`]: the primes are the first ones at or after numbers the
//! stream names, so the same host has the same key whichever library version looks for
//! it. Key generation takes a noticeable moment; nothing here is called before the key
//! is wanted. PKCS#1 v1.5 signatures with SHA-256, the kind every product of the tables
//! signs with. A decoy's key protects nothing, so blinding is not attempted.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, ConcatenatingMul, Limb, NonZero, Odd, Resize};
use sha2::{Digest, Sha256};

use super::der;
use super::stream::Stream;

/// The public exponent of every key.
const E: u64 = 65_537;

/// A key pair.
#[derive(Clone, Debug)]
pub(super) struct RsaKey {
    n: BoxedUint,
    d: BoxedUint,
    p: BoxedUint,
    q: BoxedUint,
}

impl RsaKey {
    /// The key of `bits` (a multiple of 128) that `stream` gives.
    pub(super) fn draw(stream: &mut Stream, bits: u32) -> Self {
        let half = bits / 2;
        let mut p = prime(stream, half);
        let mut q = prime(stream, half);
        while p == q {
            q = prime(stream, half);
        }
        if p < q {
            std::mem::swap(&mut p, &mut q);
        }
        let n = p.concatenating_mul(&q);
        let phi = less_one(&p).concatenating_mul(less_one(&q));
        let d = inverse_of_e(&phi);
        Self { n, d, p, q }
    }

    /// Modulus, big-endian without leading zeros.
    pub(super) fn modulus(&self) -> Vec<u8> {
        self.n.to_be_bytes_trimmed_vartime().to_vec()
    }

    /// Public exponent, big-endian without leading zeros.
    pub(super) fn exponent() -> Vec<u8> {
        vec![1, 0, 1]
    }

    /// Private exponent, `q^-1 mod p` and both primes, as OpenSSH writes them.
    pub(super) fn private(&self) -> [Vec<u8>; 4] {
        [&self.d, &self.coefficient(), &self.p, &self.q]
            .map(|n| n.to_be_bytes_trimmed_vartime().to_vec())
    }

    /// PKCS#1 v1.5 signature over SHA-256 of `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        // DigestInfo of SHA-256 up to the digest (RFC 8017, section 9.2, note 1).
        const PREFIX: [u8; 19] = [
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x01, 0x05, 0x00, 0x04, 0x20,
        ];
        let size = self.modulus().len();
        let mut block = vec![0, 1];
        block.resize(size.saturating_sub(PREFIX.len() + 33), 0xff);
        block.push(0);
        block.extend_from_slice(&PREFIX);
        block.extend_from_slice(&Sha256::digest(message));
        let number = BoxedUint::from_be_slice_truncated(&block, self.n.bits_precision());
        let signed = power(&number, &self.d, &self.n);
        let bytes = signed.to_be_bytes();
        bytes
            .get(bytes.len().saturating_sub(size)..)
            .unwrap_or_default()
            .to_vec()
    }

    /// SubjectPublicKeyInfo.
    pub(super) fn spki(&self) -> Vec<u8> {
        der::sequence(&[algorithm(), der::bit_string(&self.public_der())])
    }

    /// RSAPublicKey.
    pub(super) fn public_der(&self) -> Vec<u8> {
        der::sequence(&[
            der::integer(&self.modulus()),
            der::integer(&Self::exponent()),
        ])
    }

    /// PKCS#8 PrivateKeyInfo.
    pub(super) fn pkcs8(&self) -> Vec<u8> {
        let number = |n: &BoxedUint| der::integer(&n.to_be_bytes());
        let key = der::sequence(&[
            der::integer(&[0]),
            number(&self.n),
            der::integer(&Self::exponent()),
            number(&self.d),
            number(&self.p),
            number(&self.q),
            number(&inverse_of_e(&less_one(&self.p))),
            number(&inverse_of_e(&less_one(&self.q))),
            number(&self.coefficient()),
        ]);
        der::sequence(&[der::integer(&[0]), algorithm(), der::octet_string(&key)])
    }

    /// `q^-1 mod p`, by Fermat.
    fn coefficient(&self) -> BoxedUint {
        let exponent = less_one(&less_one(&self.p));
        power(&self.q, &exponent, &self.p)
    }
}

/// AlgorithmIdentifier of rsaEncryption.
fn algorithm() -> Vec<u8> {
    der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 1]), der::null()])
}

/// The first suitable prime at or after the number of `bits` that the stream names. Its
/// two highest bits are set, so that a product of two has twice the bits.
fn prime(stream: &mut Stream, bits: u32) -> BoxedUint {
    let mut bytes = vec![0; bits as usize / 8];
    loop {
        stream.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first |= 0xc0;
        }
        if let Some(last) = bytes.last_mut() {
            *last |= 1;
        }
        let start = BoxedUint::from_be_slice_truncated(&bytes, bits);
        if let Some(found) = search(&start) {
            return found;
        }
    }
}

/// Candidates looked at from one start; the gap between primes of 1,536 bits is 1,065 on
/// average, so this nearly always holds one.
const SPAN: usize = 20_000;

/// The first prime `p >= start` with `p mod e != 1` inside the span.
fn search(start: &BoxedUint) -> Option<BoxedUint> {
    let mut composite = vec![false; SPAN / 2];
    for small in small_primes() {
        let Some(divisor) = limb(small) else { continue };
        let rest = start.rem_limb(divisor).0;
        // start + 2i is divisible by small where 2i = -rest (mod small).
        let ahead = (small - rest % small) % small;
        let first = if ahead.is_multiple_of(2) {
            ahead
        } else {
            ahead + small
        } / 2;
        for index in (usize::try_from(first).unwrap_or(SPAN)..composite.len())
            .step_by(usize::try_from(small).unwrap_or(1))
        {
            if let Some(flag) = composite.get_mut(index) {
                *flag = true;
            }
        }
    }
    let e = limb(E)?;
    composite
        .iter()
        .enumerate()
        .filter(|(_, composite)| !**composite)
        .find_map(|(index, _)| {
            let ahead = BoxedUint::from(2 * index as u64);
            let (candidate, overflow) = start.overflowing_add(&ahead);
            (!overflow.to_bool() && candidate.rem_limb(e).0 != 1 && probably_prime(&candidate))
                .then_some(candidate)
        })
}

/// Odd primes below 4,096.
fn small_primes() -> impl Iterator<Item = u64> {
    (3..4096u64).step_by(2).filter(|n| {
        (3..)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    })
}

/// Miller and Rabin with the first eight primes as bases: for numbers drawn at random
/// of this size the chance of an error is far below 2^-100.
fn probably_prime(n: &BoxedUint) -> bool {
    let Some(odd) = Odd::new(n.clone()).into_option() else {
        return false;
    };
    let params = BoxedMontyParams::new_vartime(odd);
    let last = less_one(n);
    let twos = last.trailing_zeros();
    let odd_part = last.shr(twos);
    let one = BoxedMontyForm::one(&params);
    let minus_one = -&one;
    [2u64, 3, 5, 7, 11, 13, 17, 19].iter().all(|base| {
        let base = BoxedUint::from(*base).resize(n.bits_precision());
        let mut x = BoxedMontyForm::new(base, &params).pow(&odd_part);
        if x == one || x == minus_one {
            return true;
        }
        for _ in 1..twos {
            x = x.square();
            if x == minus_one {
                return true;
            }
        }
        false
    })
}

/// `base^exponent mod modulus`; the modulus is odd.
fn power(base: &BoxedUint, exponent: &BoxedUint, modulus: &BoxedUint) -> BoxedUint {
    let Some(odd) = Odd::new(modulus.clone()).into_option() else {
        return BoxedUint::zero();
    };
    let params = BoxedMontyParams::new_vartime(odd);
    let base = base.resize(modulus.bits_precision());
    BoxedMontyForm::new(base, &params).pow(exponent).retrieve()
}

/// `e^-1 mod modulus`: the one `k` below `e` for which `k * modulus + 1` is a multiple
/// of `e` gives it as the quotient.
fn inverse_of_e(modulus: &BoxedUint) -> BoxedUint {
    let Some(e) = limb(E) else {
        return BoxedUint::zero();
    };
    let rest = modulus.rem_limb(e).0;
    let k = (1..E)
        .find(|k| (k * rest + 1).is_multiple_of(E))
        .unwrap_or(1);
    let wide = modulus.concatenating_mul(BoxedUint::from(k));
    let (wide, _) = wide.overflowing_add(BoxedUint::one());
    wide.div_rem_limb(e).0
}

fn less_one(n: &BoxedUint) -> BoxedUint {
    n.wrapping_sub(BoxedUint::one())
}

fn limb(n: u64) -> Option<NonZero<Limb>> {
    NonZero::new(Limb(n)).into_option()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_comes_back_under_the_public_exponent() {
        let key = RsaKey::draw(&mut Stream::new("00", "rsa"), 1024);
        assert_eq!(key.modulus().len(), 128);
        let signature = key.sign(b"text");
        let number = BoxedUint::from_be_slice_vartime(&signature);
        let opened = power(&number, &BoxedUint::from(E), &key.n).to_be_bytes();
        assert!(opened.starts_with(&[0, 1, 0xff]));
        assert!(opened.ends_with(&Sha256::digest(b"text")));
        assert_eq!(
            key.modulus(),
            RsaKey::draw(&mut Stream::new("00", "rsa"), 1024).modulus()
        );
    }

    #[test]
    fn composites_and_carmichael_numbers_are_seen() {
        let prime = |n: u64| probably_prime(&BoxedUint::from(n));
        assert!(prime(1_000_003) && prime(18_446_744_073_709_551_557));
        for composite in [561, 41_041, 825_265, 321_197_185, 3_215_031_751] {
            assert!(!prime(composite), "{composite}");
        }
    }
}
