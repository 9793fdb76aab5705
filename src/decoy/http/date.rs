//! HTTP dates.

use crate::model::Stamp;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// `Tue, 14 Nov 2023 22:13:20 GMT`.
#[must_use]
pub(super) fn print(at: Stamp) -> String {
    let t = at.utc();
    let name = |list: &[&'static str], number: i8| -> &'static str {
        usize::try_from(number)
            .ok()
            .and_then(|n| n.checked_sub(1))
            .and_then(|n| list.get(n))
            .copied()
            .unwrap_or_default()
    };
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, t.weekday().to_monday_one_offset()),
        t.day(),
        name(&MONTHS, t.month()),
        t.year(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// Seconds since the epoch; `None` when it is no such date.
#[must_use]
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    text.strip_suffix(" GMT")?;
    let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_survives_the_trip() {
        let stamp = Stamp(1_700_000_000_000_000);
        assert_eq!(print(stamp), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(parse(&print(stamp)), Some(1_700_000_000));
        assert_eq!(parse("x"), None);
    }
}
