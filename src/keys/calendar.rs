//! Keys, calendar: the two spellings of a moment that Ub uses.
//!
//! Takes:   [`WallTime`], or an `xs:dateTime` as a BSF writes it.
//! Gives:   `2026-11-24T10:13:18Z` and `Tue, 24 Nov 2026 10:13:18 GMT`, and the way back from the first.
//! Keeps:   nothing.
//! Refuses: a moment before 1970 or after 9999, without zone, or with a day that its month does not have.
//! Sources: TS 24.109 annex C.1 (`lifetime`); XML Schema part 2 clause 3.2.7; RFC 9110 section 5.6.7.

use crate::instant::WallTime;

const DAY: u64 = 86_400;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// The last second of 9999.
const LAST: u64 = 253_402_300_799;

/// A moment as `xs:dateTime` in UTC.
pub fn print_xml(at: WallTime) -> String {
    let (year, month, day) = civil(at);
    let (hour, minute, second) = clock(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A moment as an HTTP date.
pub fn print_http(at: WallTime) -> String {
    let (year, month, day) = civil(at);
    let (hour, minute, second) = clock(at);
    let name = |names: &[&'static str], index: u64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or("")
    };
    let weekday = name(&WEEKDAYS, days(at) % 7);
    let month = name(&MONTHS, month.saturating_sub(1));
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads an `xs:dateTime` with a zone, `Z` or an offset; a fraction of a second is dropped.
pub fn parse_xml(text: &str) -> Option<WallTime> {
    let (date, time) = text.trim().split_once('T')?;
    let mut date = date.split('-');
    let (year, month, day) =
        (digits(date.next()?, 4)?, digits(date.next()?, 2)?, digits(date.next()?, 2)?);
    if date.next().is_some() {
        return None;
    }
    let at = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(at)?;
    let time = match time.split_once('.') {
        Some((whole, part)) if !part.is_empty() && part.bytes().all(|d| d.is_ascii_digit()) => {
            whole
        }
        Some(_) => return None,
        None => time,
    };
    let mut time = time.split(':');
    let (hour, minute, second) =
        (digits(time.next()?, 2)?, digits(time.next()?, 2)?, digits(time.next()?, 2)?);
    let day_right = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    let time_right = hour < 24 && minute < 60 && second < 60 && time.next().is_none();
    if year < 1970 || !day_right || !time_right {
        return None;
    }
    let local = days_of(year, month, day)
        .checked_mul(DAY)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?;
    let utc = match zone.split_at_checked(1)? {
        ("Z", "") => local,
        ("+", offset) => local.checked_sub(zone_seconds(offset)?)?,
        ("-", offset) => local.checked_add(zone_seconds(offset)?)?,
        _ => return None,
    };
    Some(WallTime::from_unix(utc))
}

fn zone_seconds(offset: &str) -> Option<u64> {
    let (hours, minutes) = offset.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours <= 14 && minutes < 60)
        .then(|| hours.saturating_mul(3600).saturating_add(minutes.saturating_mul(60)))
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let clean = text.len() == count && text.bytes().all(|octet| octet.is_ascii_digit());
    clean.then(|| text.parse().ok()).flatten()
}

fn days(at: WallTime) -> u64 {
    at.as_unix().min(LAST) / DAY
}

fn clock(at: WallTime) -> (u64, u64, u64) {
    let seconds = at.as_unix().min(LAST) % DAY;
    (seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Year, month and day of a moment, by counting whole years and months.
fn civil(at: WallTime) -> (u64, u64, u64) {
    let mut left = days(at);
    let mut year: u64 = 1970;
    while left >= year_days(year) {
        left = left.saturating_sub(year_days(year));
        year = year.saturating_add(1);
    }
    let mut month: u64 = 1;
    while left >= month_days(year, month) {
        left = left.saturating_sub(month_days(year, month));
        month = month.saturating_add(1);
    }
    (year, month, left.saturating_add(1))
}

/// Days from 1970 to a date; the year is 1970 to 9999, so the loop is short.
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let years = (1970..year).map(year_days).fold(0, u64::saturating_add);
    let months = (1..month).map(|month| month_days(year, month)).fold(0, u64::saturating_add);
    years.saturating_add(months).saturating_add(day.saturating_sub(1))
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_days(year: u64) -> u64 {
    if leap(year) { 366 } else { 365 }
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_there_and_back() {
        for (unix, xml, http) in [
            (0, "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "2000-02-29T00:00:00Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_795_515_198, "2026-11-24T10:13:18Z", "Tue, 24 Nov 2026 10:13:18 GMT"),
            (4_107_542_399, "2100-02-28T23:59:59Z", "Sun, 28 Feb 2100 23:59:59 GMT"),
            (LAST, "9999-12-31T23:59:59Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let at = WallTime::from_unix(unix);
            assert_eq!(print_xml(at), xml);
            assert_eq!(print_http(at), http);
            assert_eq!(parse_xml(xml), Some(at), "{xml}");
        }
        assert_eq!(print_xml(WallTime::from_unix(u64::MAX)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn other_spellings() {
        for (text, unix) in [
            (" 2026-11-24T10:13:18.250Z\r\n", Some(1_795_515_198)),
            ("2026-11-24T12:13:18+02:00", Some(1_795_515_198)),
            ("2026-11-24T04:43:18-05:30", Some(1_795_515_198)),
            ("2026-11-24T10:13:18", None),
            ("2026-11-24T10:13:18.Z", None),
            ("2026-02-29T10:13:18Z", None),
            ("2026-13-01T10:13:18Z", None),
            ("2026-11-24T24:13:18Z", None),
            ("2026-11-24T10:13:18Zx", None),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01T00:00:00+01:00", None),
            ("3600", None),
            ("", None),
        ] {
            assert_eq!(parse_xml(text), unix.map(WallTime::from_unix), "{text}");
        }
    }
}
