//! The name under which one planted thing calls back. Lower-case base32, because DNS
//! resolvers change the case of names at will (0x20) and a label ends at 63 letters.

use std::fmt;

use rand::Rng;

/// RFC 4648 alphabet, lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Letters of a slug: 128 bits, five in each.
const LEN: usize = 26;

/// 128 random bits as 26 letters of lower-case base32.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

impl Slug {
    /// A new one.
    #[must_use]
    pub fn new(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self::from_bits(u128::from_be_bytes(bytes))
    }

    fn from_bits(bits: u128) -> Self {
        // 26 letters hold 130 bits; the last two are padding.
        let letter = |at: usize| {
            let shift = 5 * (LEN - 1 - at);
            let value = if shift == 0 {
                bits << 2
            } else {
                bits >> (shift - 2)
            };
            let index = usize::try_from(value & 31).unwrap_or(0);
            ALPHABET.get(index).map_or('a', |b| char::from(*b))
        };
        Self((0..LEN).map(letter).collect())
    }

    /// Reads a slug in any case; `None` when it cannot be one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != LEN {
            return None;
        }
        let text = text.to_ascii_lowercase();
        let value = |b: u8| ALPHABET.iter().position(|a| *a == b);
        let values: Option<Vec<usize>> = text.bytes().map(value).collect();
        // The padding is zero.
        let last = values?.last().copied()?;
        last.is_multiple_of(4).then_some(Self(text))
    }

    /// The 26 letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_letters_are_those_of_rfc_4648() {
        assert_eq!(Slug::from_bits(0).as_str(), "aaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(
            Slug::from_bits(u128::MAX).as_str(),
            "7777777777777777777777777".to_owned() + "4"
        );
        let bytes = *b"foobar0123456789";
        assert_eq!(
            Slug::from_bits(u128::from_be_bytes(bytes)).as_str(),
            "mzxw6ytboiydcmrtgq2tmnzyhe"
        );
    }

    proptest! {
        #[test]
        fn a_slug_comes_back_in_whatever_case(bits: u128, flips in proptest::collection::vec(any::<bool>(), LEN)) {
            let slug = Slug::from_bits(bits);
            let mixed: String = slug
                .as_str()
                .chars()
                .zip(flips)
                .map(|(c, up)| if up { c.to_ascii_uppercase() } else { c })
                .collect();
            prop_assert_eq!(Slug::parse(&mixed), Some(slug));
        }

        #[test]
        fn anything_else_is_none_and_never_a_panic(text in ".{0,40}") {
            if let Some(slug) = Slug::parse(&text) {
                prop_assert_eq!(slug.as_str().len(), LEN);
            }
        }
    }
}
