//! Just enough DER to write a certificate and a key: every function gives one complete
//! element. Writing only; what comes in from outside is never read here.

use crate::model::Stamp;

/// An element of `tag` around `body`.
pub(crate) fn element(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = body.len();
    if let Ok(short) = u8::try_from(len)
        && short < 0x80
    {
        out.push(short);
    } else {
        let bytes = len.to_be_bytes();
        let skip = bytes.iter().take_while(|b| **b == 0).count();
        let rest = bytes.get(skip..).unwrap_or_default();
        out.push(0x80 | u8::try_from(rest.len()).unwrap_or(8));
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(body);
    out
}

/// SEQUENCE of `parts`.
pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// SET of one element.
pub(crate) fn set(part: &[u8]) -> Vec<u8> {
    element(0x31, part)
}

/// A non-negative INTEGER from big-endian bytes.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    let mut body = bytes.get(skip..).unwrap_or_default().to_vec();
    if body.first().is_none_or(|first| *first >= 0x80) {
        body.insert(0, 0);
    }
    element(0x02, &body)
}

/// BIT STRING of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes].concat())
}

/// OCTET STRING.
pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    element(0x04, bytes)
}

/// BOOLEAN TRUE.
pub(crate) fn truth() -> Vec<u8> {
    element(0x01, &[0xff])
}

/// NULL.
pub(crate) fn null() -> Vec<u8> {
    element(0x05, &[])
}

/// OBJECT IDENTIFIER from its numbers.
pub(crate) fn oid(numbers: &[u32]) -> Vec<u8> {
    let (first, second) = match numbers {
        [first, second, ..] => (*first, *second),
        _ => (0, 0),
    };
    let mut body = Vec::new();
    let head = first.saturating_mul(40).saturating_add(second);
    for number in std::iter::once(head).chain(numbers.iter().skip(2).copied()) {
        let mut groups = vec![(number & 0x7f) as u8];
        let mut rest = number >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        body.extend(groups.iter().rev());
    }
    element(0x06, &body)
}

/// UTF8String.
pub(crate) fn utf8(text: &str) -> Vec<u8> {
    element(0x0c, text.as_bytes())
}

/// PrintableString; the caller knows that `text` is one.
pub(crate) fn printable(text: &str) -> Vec<u8> {
    element(0x13, text.as_bytes())
}

/// IA5String, as directory names write domain components.
pub(crate) fn ia5(text: &str) -> Vec<u8> {
    element(0x16, text.as_bytes())
}

/// Time as certificates write it: UTCTime until 2049, GeneralizedTime after.
pub(crate) fn time(at: Stamp) -> Vec<u8> {
    let t = at.utc();
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    );
    if (1950..2050).contains(&t.year()) {
        element(
            0x17,
            format!("{:02}{rest}", t.year().rem_euclid(100)).as_bytes(),
        )
    } else {
        element(0x18, format!("{:04}{rest}", t.year().max(0)).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_written_as_x690_says() {
        assert_eq!(integer(&[0x00, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(
            oid(&[1, 2, 840, 113_549, 1, 1, 11]),
            [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]
        );
        assert_eq!(element(4, &[7; 200]).get(..3), Some(&[4, 0x81, 200][..]));
        assert_eq!(
            element(4, &[7; 300]).get(..4),
            Some(&[4, 0x82, 0x01, 0x2c][..])
        );
        assert_eq!(time(Stamp(0)), b"\x17\x0d700101000000Z");
        assert_eq!(
            time(Stamp::parse("2051-02-03T04:05:06Z").unwrap()),
            b"\x18\x0f20510203040506Z"
        );
    }
}
