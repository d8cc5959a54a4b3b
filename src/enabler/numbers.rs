//! Stage 6, numbers: which telephone numbers a caller may reach, and how often he may try those that cost much.
//!
//! Takes:   a request of a UE that begins something, or that sends somebody elsewhere (REFER); what is configured.
//! Gives:   what the number that it asks for is to its caller: [`Reach`]; and his [`Pace`].
//! Keeps:   nothing; how often each caller tried is kept with the rates of stage 6.
//! Refuses: nothing itself.
//! Sources: RFC 3966 sections 3 and 5.1.5 (phone-context); RFC 3261 section 19.1.6; V-134.
//!
//! A number is the user of a SIP URI or what a tel URI dials, without separators and `%HH`. The longest prefix that it
//! begins with decides; of two lists that name the same prefix, the one that refuses. Where there is a list of what is
//! allowed, any other number is refused. A name that is no number is nobody's telephone, and passes.

use std::time::Duration;

use smallvec::SmallVec;

use super::{Class, ClassSet};
use crate::admission::Rate;
use crate::instant::Instant;
use crate::wire::uri::{Scheme, Uri};
use crate::wire::{Address, Message, Method, Name};

/// The beginnings of numbers, as they are dialled: digits, `*` and `#`, with a plus sign in front or without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Where this holds any, no other number may be reached.
    pub allow: Vec<Box<str>>,
    /// May not be reached.
    pub deny: Vec<Box<str>>,
    /// May be reached, but not often.
    pub costly: Vec<Box<str>>,
}

/// Prefixes for some callers, or for some classes, in the place of everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    /// Usernames, or names that keys are known by; everybody if there are none.
    pub callers: Vec<Box<str>>,
    /// Classes; all if there are none.
    pub classes: Option<ClassSet>,
    /// The prefixes.
    pub prefixes: Prefixes,
}

/// What callers may dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Everybody's prefixes.
    pub usual: Prefixes,
    /// Those of some; the first that fits counts.
    pub special: Vec<Special>,
    /// Attempts at refused and costly numbers that one caller has in a period: what is more is refused, and one alarm.
    pub tolls: Rate,
}

impl Default for Numbers {
    fn default() -> Self {
        let tolls = Rate { count: 20, period: Duration::from_secs(3600), burst: 20 };
        Self { usual: Prefixes::default(), special: Vec::new(), tolls }
    }
}

/// What a number is to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Within his reach, or no number.
    Free,
    /// The same, but not often.
    Costly,
    /// Out of it.
    Denied,
}

/// How one attempt stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many are nothing to tell of.
    Within,
    /// This is the first too many of its period.
    Passes,
    /// That was told already.
    Past,
}

/// The attempts of one caller in the period that began with one of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempts {
    began: Instant,
    count: u32,
}

impl Attempts {
    /// Counts another one.
    pub fn another(&mut self, bound: Rate, now: Instant) -> Pace {
        if self.count == 0 || now.since(self.began) >= bound.period {
            *self = Self { began: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        match self.count.checked_sub(bound.count) {
            None | Some(0) => Pace::Within,
            Some(1) => Pace::Passes,
            Some(_) => Pace::Past,
        }
    }
}

impl Numbers {
    /// What a request asks for, of a caller of that name. `inside` is whether it stands in a dialog, whose target was
    /// judged when that began.
    pub fn reach(&self, message: &Message, class: Class, caller: &str, inside: bool) -> Reach {
        let prefixes = self.of(class, caller);
        if *prefixes == Prefixes::default() {
            return Reach::Free;
        }
        let target = if inside { None } else { message.uri() };
        let target = target.as_ref().map_or(Reach::Free, |uri| prefixes.reach(uri));
        let elsewhere = || {
            let address = Address::parse(message.first(Name::ReferTo)?)?;
            Some(prefixes.reach(&address.uri()))
        };
        let refers = message.method() == Some(Method::Refer);
        target.max(if refers { elsewhere().unwrap_or(Reach::Free) } else { Reach::Free })
    }

    fn of(&self, class: Class, caller: &str) -> &Prefixes {
        let fits = |special: &&Special| {
            let names = &special.callers;
            (names.is_empty() || names.iter().any(|name| **name == *caller))
                && special.classes.is_none_or(|classes| classes.has(class))
        };
        self.special.iter().find(fits).map_or(&self.usual, |special| &special.prefixes)
    }
}

impl Prefixes {
    fn reach(&self, uri: &Uri<'_>) -> Reach {
        let numbers = numbers(uri);
        let phone = uri.param("user").is_some_and(|user| user.eq_ignore_ascii_case(b"phone"));
        if numbers.is_empty() {
            // It says that it is a number, and nobody can say of which kind.
            let unread = phone && !self.allow.is_empty();
            return if unread { Reach::Denied } else { Reach::Free };
        }
        numbers.iter().map(|number| self.of_number(number)).max().unwrap_or(Reach::Free)
    }

    fn of_number(&self, number: &[u8]) -> Reach {
        let longest = |prefixes: &[Box<str>]| {
            let fits = prefixes.iter().filter(|prefix| number.starts_with(prefix.as_bytes()));
            fits.map(|prefix| prefix.len()).max()
        };
        let otherwise = if self.allow.is_empty() { Reach::Free } else { Reach::Denied };
        let lists = [
            (&self.allow, Reach::Free),
            (&self.costly, Reach::Costly),
            (&self.deny, Reach::Denied),
        ];
        let named = lists.into_iter().filter_map(|(list, reach)| Some((longest(list)?, reach)));
        named.max().map_or(otherwise, |(_, reach)| reach)
    }
}

/// The numbers that a URI may be read as: what is dialled, and the same behind the number that its phone-context is.
fn numbers(uri: &Uri<'_>) -> SmallVec<[Vec<u8>; 2]> {
    let mut found = SmallVec::new();
    let user = uri.user().unwrap_or_default();
    let (dialled, rest) = match user.iter().position(|octet| b";:".contains(octet)) {
        Some(at) => user.split_at_checked(at).unwrap_or((user, b"")),
        None => (user, &b""[..]),
    };
    let letters = uri.scheme() == Scheme::Tel;
    let Some(number) = canonical(dialled, letters) else { return found };
    let context = uri.param("phone-context").or_else(|| {
        let mut params = rest.split(|octet| *octet == b';');
        params.find_map(|param| {
            let (name, value) = param.split_at_checked("phone-context=".len())?;
            name.eq_ignore_ascii_case(b"phone-context=").then_some(value)
        })
    });
    if let Some(mut whole) = context.and_then(|context| canonical(context, false)) {
        whole.extend_from_slice(number.strip_prefix(b"+").unwrap_or(&number));
        found.push(whole);
    }
    found.push(number);
    found
}

/// A number without separators, its letters small; `None` if it is none.
fn canonical(text: &[u8], letters: bool) -> Option<Vec<u8>> {
    let mut number = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (octet, after) = match (first, after.split_at_checked(2)) {
            (b'%', Some((digits, after))) => {
                (u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?, after)
            }
            _ => (*first, after),
        };
        rest = after;
        match octet {
            b'-' | b'.' | b'(' | b')' | b' ' => {}
            b'+' if number.is_empty() => number.push(octet),
            b'0'..=b'9' | b'*' | b'#' => number.push(octet),
            b'a'..=b'f' | b'A'..=b'F' if letters => number.push(octet.to_ascii_lowercase()),
            _ => return None,
        }
    }
    number.iter().any(|octet| *octet != b'+').then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(prefixes: &[&str]) -> Vec<Box<str>> {
        prefixes.iter().map(|prefix| (*prefix).into()).collect()
    }

    /// V-134: however a number is written, and the longest prefix decides.
    #[test]
    fn v_134_a_number_is_the_same_however_it_is_written() {
        let deny = list(&["+882", "00882", "*72", "+49900"]);
        let open = Prefixes { deny, costly: list(&["+44", "+49900"]), allow: Vec::new() };
        let allow = list(&["+49", "112", "+4990012"]);
        let shut = Prefixes { deny: list(&["+49900", "+49177"]), allow, costly: list(&["+49180"]) };
        for (prefixes, uri, reach) in [
            (&open, "sip:+88212345@example.net", Reach::Denied),
            (&open, "sip:%2B882-12.345@example.net;user=phone", Reach::Denied),
            (&open, "sip:%2b%38%38%32@example.net", Reach::Denied),
            (&open, "sips:+(882)1:secret@example.net", Reach::Denied),
            (&open, "sip:+882;cic=1@example.net", Reach::Denied),
            (&open, "sip:12;phone-context=+882@example.net;user=phone", Reach::Denied),
            (&open, "tel:12;Phone-Context=+88-2", Reach::Denied),
            (&open, "tel:+882-1", Reach::Denied),
            (&open, "sip:00882@example.net", Reach::Denied),
            (&open, "sip:*72123@example.net", Reach::Denied),
            (&open, "sip:%2A72@example.net", Reach::Denied),
            (&open, "sip:+441@example.net", Reach::Costly),
            (&open, "sip:+499001@example.net", Reach::Denied),
            (&open, "sip:+88112345@example.net", Reach::Free),
            (&open, "sip:882@example.net", Reach::Free),
            (&open, "sip:alice@example.net", Reach::Free),
            (&open, "sip:example.net", Reach::Free),
            (&open, "sip:+@example.net", Reach::Free),
            (&shut, "sip:+4930123@example.net", Reach::Free),
            (&shut, "sip:112@example.net", Reach::Free),
            (&shut, "sip:+49900123@example.net", Reach::Free),
            (&shut, "sip:+49900999@example.net", Reach::Denied),
            (&shut, "sip:+49180@example.net", Reach::Costly),
            (&shut, "sip:+1202@example.net", Reach::Denied),
            (&shut, "tel:7042;phone-context=+49", Reach::Denied),
            (&shut, "tel:a1;phone-context=example.net", Reach::Denied),
            (&shut, "sip:x7@example.net;user=phone", Reach::Denied),
            (&shut, "sip:alice@example.net", Reach::Free),
        ] {
            let parsed = Uri::parse(uri.as_bytes()).unwrap_or_else(|| panic!("{uri}"));
            assert_eq!(prefixes.reach(&parsed), reach, "{uri}");
        }
    }

    #[test]
    fn a_period_begins_with_an_attempt_and_tells_once_that_it_is_full() {
        let bound = Rate::per_minute(2);
        let mut attempts = Attempts::default();
        let paces = [0, 1, 2, 3, 59, 60, 61, 62, 63]
            .map(|second| attempts.another(bound, Instant::START + Duration::from_secs(second)));
        let (within, passes, past) = (Pace::Within, Pace::Passes, Pace::Past);
        assert_eq!(paces, [within, within, passes, past, past, within, within, passes, past]);
    }
}
