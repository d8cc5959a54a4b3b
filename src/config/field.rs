//! Configuration, fields: what a single value may be.
//!
//! Takes:   one value as TOML has it.
//! Gives:   times, sizes, distances, rates, addresses, algorithms and texts; or what is wrong with it, and one that would do.
//! Keeps:   nothing.
//! Refuses: numbers without a unit where a unit is meant, times over ten years, sizes over 4 GiB, empty texts.
//! Sources: TS 33.220 annex B.3 (Ua security protocol identifiers); RFC 8760 section 2 (algorithms).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::admission::Rate;
use crate::authentication::aka::AkaAlgorithm;
use crate::authentication::digest::Hash;
use crate::keys::UaId;

/// Why a value cannot be what its key asks for.
#[derive(Debug)]
pub struct Wrong {
    /// Follows the value: "has no unit".
    pub what: String,
    /// The reason.
    pub why: &'static str,
    /// A value that would do.
    pub value: String,
}

impl Wrong {
    fn new<T: Field>(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: T::WHY, value: T::EXAMPLE.into() }
    }
}

/// A type that a value can have.
pub trait Field: Sized {
    /// What such a value is for, or looks like.
    const WHY: &'static str;
    /// A value that would do, as TOML.
    const EXAMPLE: &'static str;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong>;
}

/// A number of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Octets(pub usize);

/// A distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metres(pub u32);

/// Values that can be written the way they are read.
pub trait Shown {
    /// As TOML.
    fn shown(&self) -> String;
}

impl Shown for Duration {
    fn shown(&self) -> String {
        let (seconds, millis) = (self.as_secs(), self.subsec_millis());
        match seconds {
            _ if millis > 0 => format!("\"{}ms\"", self.as_millis()),
            0 => "\"0s\"".into(),
            _ if seconds.is_multiple_of(3600) => format!("\"{}h\"", seconds / 3600),
            _ => format!("\"{seconds}s\""),
        }
    }
}

impl Shown for Octets {
    fn shown(&self) -> String {
        match self.0 {
            0 => "\"0 octets\"".into(),
            n if n.is_multiple_of(1 << 20) => format!("\"{} MiB\"", n >> 20),
            n if n.is_multiple_of(1 << 10) => format!("\"{} KiB\"", n >> 10),
            n => format!("\"{n} octets\""),
        }
    }
}

impl Shown for Metres {
    fn shown(&self) -> String {
        format!("\"{} m\"", self.0)
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for SocketAddr {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        }

        impl Field for $type {
            const WHY: &'static str = "it counts something: a whole number without quotes";
            const EXAMPLE: &'static str = "64";

            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let DeValue::Integer(number) = value else {
                    return Err(Wrong::new::<Self>("is not a number"));
                };
                Self::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| Wrong::new::<Self>("is negative or too large"))
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64, usize);

impl Field for bool {
    const WHY: &'static str = "it is switched on or off, without quotes";
    const EXAMPLE: &'static str = "true";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value.as_bool().ok_or_else(|| Wrong::new::<Self>("is neither true nor false"))
    }
}

fn text<'v, T: Field>(value: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::new::<T>("is not a text in quotes"))
}

impl Field for String {
    const WHY: &'static str = "a text stands in quotes, and is not empty";
    const EXAMPLE: &'static str = "\"..\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text::<Self>(value)? {
            "" => Err(Wrong::new::<Self>("is empty")),
            text => Ok(text.to_owned()),
        }
    }
}

/// A word, or a list of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl Field for Words {
    const WHY: &'static str = String::WHY;
    const EXAMPLE: &'static str = String::EXAMPLE;

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::Array(_) => Vec::read(value).map(Self),
            _ => String::read(value).map(|word| Self(vec![word])),
        }
    }
}

impl Field for PathBuf {
    const WHY: &'static str = "a file; relative names start from where this file is";
    const EXAMPLE: &'static str = "\"file.pem\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text::<Self>(value)? {
            "" => Err(Wrong::new::<Self>("is empty")),
            text => Ok(text.into()),
        }
    }
}

impl Field for Duration {
    const WHY: &'static str = "times are written with ms, s, min, h or d";
    const EXAMPLE: &'static str = "\"90s\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let (number, unit) = measured::<Self>(value, "s")?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(Wrong::new::<Self>("has an unknown unit")),
        };
        let millis = number.checked_mul(millis).filter(|millis| *millis <= LONGEST_MILLIS);
        millis.map(Self::from_millis).ok_or_else(|| Wrong::new::<Self>("is longer than ten years"))
    }
}

/// Ten years: no time that is configured is longer, and none of them overflows a clock.
const LONGEST_MILLIS: u64 = 10 * 366 * 86_400_000;

impl Field for Octets {
    const WHY: &'static str = "sizes are written with octets, KiB or MiB";
    const EXAMPLE: &'static str = "\"64 KiB\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let (number, unit) = measured::<Self>(value, " octets")?;
        let octets: u64 = match unit {
            "octets" | "octet" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err(Wrong::new::<Self>("has an unknown unit")),
        };
        let octets = number.checked_mul(octets).filter(|octets| *octets <= 1 << 32);
        let octets = octets.and_then(|octets| usize::try_from(octets).ok());
        octets.map(Self).ok_or_else(|| Wrong::new::<Self>("is more than 4096 MiB"))
    }
}

impl Field for Metres {
    const WHY: &'static str = "distances are written with m or km";
    const EXAMPLE: &'static str = "\"10 m\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let (number, unit) = measured::<Self>(value, " m")?;
        let metres: u64 = match unit {
            "m" => 1,
            "km" => 1000,
            _ => return Err(Wrong::new::<Self>("has an unknown unit")),
        };
        let metres = number.checked_mul(metres).and_then(|metres| u32::try_from(metres).ok());
        metres.map(Self).ok_or_else(|| Wrong::new::<Self>("is farther than anybody is"))
    }
}

/// Number and unit of `"90s"` or `"64 KiB"`; `unit` is what a number without one probably meant.
fn measured<'v, T: Field>(value: &'v DeValue<'_>, unit: &str) -> Result<(u64, &'v str), Wrong> {
    let bare = |number: &str| Wrong {
        what: "has no unit".into(),
        why: T::WHY,
        value: format!("\"{number}{unit}\""),
    };
    let text = match value {
        DeValue::Integer(number) if number.radix() == 10 => return Err(bare(number.as_str())),
        value => text::<T>(value)?,
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let parsed = number.parse().map_err(|_| Wrong::new::<T>("does not begin with a number"))?;
    match rest.trim_start_matches(' ') {
        "" => Err(bare(number)),
        rest => Ok((parsed, rest)),
    }
}

impl Field for Rate {
    const WHY: &'static str = "so many in a second, minute or hour, and perhaps how many at once";
    const EXAMPLE: &'static str = "\"30/min burst 10\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = || Wrong::new::<Self>("is not a rate");
        if let DeValue::Integer(number) = value {
            let value = format!("\"{number}/min\"");
            return Err(Wrong { what: "has no unit".into(), why: Self::WHY, value });
        }
        let text = text::<Self>(value)?;
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(burst.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let is_number = !rate.is_empty() && rate.bytes().all(|octet| octet.is_ascii_digit());
        let (count, unit) = rate.split_once('/').ok_or_else(|| match is_number {
            true => Wrong {
                what: "has no unit".into(),
                why: Self::WHY,
                value: format!("\"{rate}/min\""),
            },
            false => wrong(),
        })?;
        let count: u32 = count.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let burst = burst.unwrap_or(count);
        if count == 0 || burst == 0 {
            return Err(Wrong::new::<Self>("lets nothing pass"));
        }
        Ok(Self { count, period: Duration::from_secs(seconds), burst })
    }
}

impl Shown for Rate {
    fn shown(&self) -> String {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "min",
            _ => "h",
        };
        let mut text = format!("\"{}/{unit}", self.count);
        if self.burst != self.count {
            let _ = write!(text, " burst {}", self.burst);
        }
        text + "\""
    }
}

impl Field for SocketAddr {
    const WHY: &'static str = "an address and a port, never a name; IPv6 in brackets";
    const EXAMPLE: &'static str = "\"0.0.0.0:5060\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text::<Self>(value)?;
        text.parse().map_err(|_| match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => Wrong { value: format!("\"[{ip}]:5060\""), ..no_port() },
            Ok(ip) => Wrong { value: format!("\"{ip}:5060\""), ..no_port() },
            Err(_) => Wrong::new::<Self>("is not an address with a port"),
        })
    }
}

fn no_port() -> Wrong {
    Wrong::new::<SocketAddr>("has no port")
}

impl Field for IpAddr {
    const WHY: &'static str = "an address without a port";
    const EXAMPLE: &'static str = "\"203.0.113.10\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        text::<Self>(value)?.parse().map_err(|_| Wrong::new::<Self>("is not an address"))
    }
}

impl Field for Hash {
    const WHY: &'static str = "algorithms are called MD5, SHA-256 and SHA-512-256";
    const EXAMPLE: &'static str = "\"SHA-256\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match Self::of(text::<Self>(value)?.as_bytes()) {
            Some((hash, false)) => Ok(hash),
            Some((_, true)) => Err(Wrong {
                why: "the -sess forms are verified wherever their hash is, but not offered",
                ..Wrong::new::<Self>("is not offered")
            }),
            None => Err(Wrong::new::<Self>("is not a digest algorithm")),
        }
    }
}

impl Field for AkaAlgorithm {
    const WHY: &'static str =
        "algorithms are called AKAv1-MD5, AKAv1-SHA-256, AKAv2-SHA-256 and so on";
    const EXAMPLE: &'static str = "\"AKAv1-MD5\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match Self::of(text::<Self>(value)?.as_bytes()) {
            Some(algorithm) if !algorithm.session => Ok(algorithm),
            Some(_) => Err(Wrong {
                why: "the -sess forms are verified wherever their hash is, but not offered",
                ..Wrong::new::<Self>("is not offered")
            }),
            None => Err(Wrong::new::<Self>("is not an AKA algorithm")),
        }
    }
}

impl Field for UaId {
    const WHY: &'static str =
        "five octets in hex (TS 33.220 annex B.3): the key is derived from them";
    const EXAMPLE: &'static str = "\"0300000003\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = || Wrong::new::<Self>("is not a Ua security protocol identifier");
        let digits = text::<Self>(value)?;
        if digits.len() != 10 || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u64::from_str_radix(digits, 16).map_err(|_| wrong())?;
        let [_, _, _, id @ ..] = number.to_be_bytes();
        Ok(Self(id))
    }
}

impl<T: Field> Field for Vec<T> {
    const WHY: &'static str = "a list stands in brackets";
    const EXAMPLE: &'static str = "[..]";

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let listed = |mut wrong: Wrong| {
            wrong.value = format!("[{}]", wrong.value);
            wrong
        };
        let DeValue::Array(values) = value else {
            return Err(listed(Wrong { why: Self::WHY, ..Wrong::new::<T>("is not a list") }));
        };
        let read = |value: &Spanned<DeValue<'_>>| {
            T::read(value.get_ref()).map_err(|mut wrong| {
                let shown = value.get_ref().as_str().map(|text| format!("{text:?}"));
                let shown = shown.unwrap_or_else(|| "an entry".into());
                wrong.what = format!("holds {shown}, which {}", wrong.what);
                listed(wrong)
            })
        };
        values.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Field>(text: &str) -> Result<T, String> {
        let value = DeValue::parse(text).expect("TOML");
        T::read(value.get_ref()).map_err(|wrong| format!("{} -> {}", wrong.what, wrong.value))
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("'500ms'", 500),
            ("'90s'", 90_000),
            ("'90 s'", 90_000),
            ("'2m'", 120_000),
            ("'2min'", 120_000),
            ("'12h'", 43_200_000),
            ("'1d'", 86_400_000),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, wrong) in [
            ("90", "has no unit -> \"90s\""),
            ("'90'", "has no unit -> \"90s\""),
            ("'s'", "does not begin with a number -> \"90s\""),
            ("'-1s'", "does not begin with a number -> \"90s\""),
            ("'1.5h'", "has an unknown unit -> \"90s\""),
            ("'99999999999999999999s'", "does not begin with a number -> \"90s\""),
            ("'18446744073709551615d'", "is longer than ten years -> \"90s\""),
            ("true", "is not a text in quotes -> \"90s\""),
        ] {
            assert_eq!(read::<Duration>(text), Err(wrong.into()), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, octets) in [("'1300 octets'", 1300), ("'64KiB'", 65_536), ("'1 MiB'", 1 << 20)] {
            assert_eq!(read(text), Ok(Octets(octets)), "{text}");
        }
        for text in ["1300", "'64 KB'", "'5000 MiB'", "'KiB'"] {
            assert!(read::<Octets>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn distances_have_units() {
        for (text, metres) in [("'10 m'", 10), ("'2km'", 2000)] {
            assert_eq!(read(text), Ok(Metres(metres)), "{text}");
        }
        for text in ["10", "'10'", "'10 miles'", "'5000000 km'"] {
            assert!(read::<Metres>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_may_have_a_burst() {
        for (text, count, seconds, burst) in [
            ("'30/min'", 30, 60, 30),
            ("'20/s'", 20, 1, 20),
            ("'60/min burst 10'", 60, 60, 10),
            ("'1/h burst 5'", 1, 3600, 5),
        ] {
            let rate = Rate { count, period: Duration::from_secs(seconds), burst };
            assert_eq!(read(text), Ok(rate), "{text}");
        }
        for text in
            ["30", "'30'", "'30/fortnight'", "'/s'", "'0/s'", "'3/s burst 0'", "'3/s burst x'"]
        {
            assert!(read::<Rate>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for millis in [0, 1, 500, 90_000, 3_600_000, 43_200_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(read(&time.shown()), Ok(time));
        }
        for octets in [0, 1, 1300, 65_536, 1 << 20] {
            assert_eq!(read(&Octets(octets).shown()), Ok(Octets(octets)));
        }
        for rate in [Rate::per_second(20), Rate { burst: 10, ..Rate::per_minute(60) }] {
            assert_eq!(read(&rate.shown()), Ok(rate));
        }
    }

    #[test]
    fn identifiers_of_protocols_are_five_octets() {
        assert_eq!(read("'0300000003'"), Ok(UaId::SIP_DIGEST));
        for text in ["'030000000'", "'03000000030'", "'+300000003'", "'03:00:00:00:03'", "3"] {
            assert!(read::<UaId>(text).is_err(), "{text}");
        }
    }
}
