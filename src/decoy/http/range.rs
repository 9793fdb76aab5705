//! Byte ranges, as nginx and as Apache read them.

use crate::decoy::http::request::decimal;

/// What a Range field comes to on a body of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    /// The field is ignored.
    Whole,
    /// These parts, first and last byte each.
    Parts(Vec<(u64, u64)>),
    /// Nothing of it can be had.
    Unsatisfiable,
}

/// Most ranges looked at; more make no difference to either server's answer here.
const MAX: usize = 200;

/// nginx: a bad list is 416, a list that asks for more than the file is ignored.
#[must_use]
pub(super) fn nginx(value: &str, size: u64) -> Ranges {
    let prefix = value.get(..6).unwrap_or_default();
    let Some(list) = value
        .get(6..)
        .filter(|_| prefix.eq_ignore_ascii_case("bytes="))
    else {
        return Ranges::Whole;
    };
    if list.is_empty() {
        return Ranges::Whole;
    }
    let mut parts = Vec::new();
    let mut sum = 0u64;
    for spec in list.split(',').take(MAX) {
        let spec = spec.trim_matches(' ');
        let Some((first, last)) = spec.split_once('-') else {
            return Ranges::Unsatisfiable;
        };
        let (first, last) = (first.trim_end_matches(' '), last.trim_start_matches(' '));
        let range = if first.is_empty() {
            let Some(count) = signed(last) else {
                return Ranges::Unsatisfiable;
            };
            (size.saturating_sub(count), size)
        } else {
            let Some(first) = signed(first) else {
                return Ranges::Unsatisfiable;
            };
            if last.is_empty() {
                (first, size)
            } else {
                let Some(last) = signed(last) else {
                    return Ranges::Unsatisfiable;
                };
                (first, last.saturating_add(1).min(size))
            }
        };
        if range.0 < range.1 {
            sum = sum.saturating_add(range.1.saturating_sub(range.0));
            parts.push((range.0, range.1.saturating_sub(1)));
        }
    }
    if parts.is_empty() {
        Ranges::Unsatisfiable
    } else if sum > size {
        Ranges::Whole
    } else {
        Ranges::Parts(parts)
    }
}

/// Apache: a bad list is ignored, neighbours and overlaps are one range.
#[must_use]
pub(super) fn apache(value: &str, size: u64) -> Ranges {
    let Some(list) = value.strip_prefix("bytes=") else {
        return Ranges::Whole;
    };
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut unsatisfiable = false;
    for spec in list.split(',').take(MAX) {
        let spec = spec.trim_start_matches([' ', '\t']);
        if spec.is_empty() {
            continue;
        }
        let Some((first, last)) = spec.split_once('-') else {
            return Ranges::Whole;
        };
        let range = if first.is_empty() {
            let Some(count) = signed(last) else {
                return Ranges::Whole;
            };
            if count == 0 {
                return Ranges::Whole;
            }
            (size.saturating_sub(count), size.saturating_sub(1))
        } else {
            let Some(first) = signed(first) else {
                return Ranges::Whole;
            };
            if last.is_empty() {
                (first, size.saturating_sub(1))
            } else {
                let Some(last) = signed(last) else {
                    return Ranges::Whole;
                };
                if last < first {
                    return Ranges::Whole;
                }
                (first, last.min(size.saturating_sub(1)))
            }
        };
        if range.0 >= size {
            unsatisfiable = true;
            continue;
        }
        match parts.last_mut() {
            Some(previous)
                if range.0 <= previous.1.saturating_add(1)
                    && range.1.saturating_add(1) >= previous.0 =>
            {
                previous.0 = previous.0.min(range.0);
                previous.1 = previous.1.max(range.1);
            }
            _ => parts.push(range),
        }
    }
    match (parts.is_empty(), unsatisfiable) {
        (true, true) => Ranges::Unsatisfiable,
        (true, false) => Ranges::Whole,
        _ => Ranges::Parts(parts),
    }
}

/// A number that fits a signed 64-bit one.
fn signed(text: &str) -> Option<u64> {
    decimal(text.as_bytes()).filter(|n| i64::try_from(*n).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_refuses_what_apache_ignores() {
        assert_eq!(nginx("bytes=5-4", 32), Ranges::Unsatisfiable);
        assert_eq!(apache("bytes=5-4", 32), Ranges::Whole);
        assert_eq!(nginx("bytes=a-b", 32), Ranges::Unsatisfiable);
        assert_eq!(apache("bytes=a-b", 32), Ranges::Whole);
    }

    #[test]
    fn both_take_the_end_of_a_file() {
        assert_eq!(nginx("bytes=-5", 32), Ranges::Parts(vec![(27, 31)]));
        assert_eq!(apache("bytes=-5", 32), Ranges::Parts(vec![(27, 31)]));
        assert_eq!(apache("bytes=0-1,1-2,2-3", 32), Ranges::Parts(vec![(0, 3)]));
        assert_eq!(nginx("bytes=0-499,0-1", 32), Ranges::Whole);
    }
}
