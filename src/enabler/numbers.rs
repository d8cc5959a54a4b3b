//! Stage 6, numbers: which telephone numbers a caller may reach, and how often he may try those that cost much.
//!
//! Takes:   a request of a UE that begins something, or that sends somebody elsewhere (REFER); what is configured.
//! Gives:   what the number that it asks for is to its caller: [`Reach`]; and his [`Pace`].
//! Keeps:   nothing; how often each caller tried is kept with the rates of stage 6.
//! Refuses: nothing itself.
//! Sources: RFC 3966 sections 3 and 5.1.5 (phone-context); RFC 3261 sections 16.4 and 19.1.6; V-134.
//!
//! A number is the user of a SIP URI or what a tel URI dials, without separators and `%HH`. The longest prefix that it
//! begins with decides; of two lists that name the same prefix, the one that refuses. Where there is a list of what is
//! allowed, any other number is refused. A name that is no number is nobody's telephone, and passes.

use std::time::Duration;

use smallvec::SmallVec;

use super::{Class, ClassSet};
use crate::admission::Rate;
use crate::instant::Instant;
use crate::wire::uri::{Scheme, Uri, decode};
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
    /// What a request asks for, of a caller of that name. `leads_back` says whether a target is where its dialog leads
    /// anyway, which was judged when that began.
    pub fn reach(
        &self,
        message: &Message,
        class: Class,
        caller: &str,
        leads_back: impl Fn(&Uri<'_>) -> bool,
    ) -> Reach {
        let prefixes = self.of(class, caller);
        if *prefixes == Prefixes::default() {
            return Reach::Free;
        }
        let target = message.uri();
        // A strict router puts its own name here, and the target into the last Route.
        let is_moved = target.as_ref().is_some_and(|uri| uri.param("lr").is_some());
        let moved = if is_moved { message.values(Name::Route).last() } else { None };
        let referred = message.first(Name::ReferTo);
        let referred = referred.filter(|_| message.method() == Some(Method::Refer));
        let led = |uri: &Uri<'_>| if leads_back(uri) { Reach::Free } else { prefixes.reach(uri) };
        // What nobody can read here, somebody behind us may.
        let unread = Reach::Denied;
        let moved = moved.map(|to| Address::parse(to).map_or(unread, |to| led(&to.uri())));
        let referred =
            referred.map(|to| Address::parse(to).map_or(unread, |to| prefixes.reach(&to.uri())));
        let named = target.as_ref().map(led);
        [named, moved, referred].into_iter().flatten().max().unwrap_or(Reach::Free)
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
        let phone = uri.param("user").is_some_and(|user| user.eq_ignore_ascii_case(b"phone"));
        let numbers = numbers(uri);
        // It says that it is a number, and nobody can say of which kind.
        let is_unread =
            phone && !self.allow.is_empty() && !numbers.iter().any(|number| number.whole);
        let otherwise = if is_unread { Reach::Denied } else { Reach::Free };
        numbers.iter().map(|number| self.of_number(number)).fold(otherwise, Reach::max)
    }

    fn of_number(&self, number: &Dialled) -> Reach {
        let longest = |prefixes: &[Box<str>]| {
            let fits = prefixes.iter().filter(|it| number.digits.starts_with(it.as_bytes()));
            fits.map(|prefix| prefix.len()).max()
        };
        // Only a number is let pass as one; a name that begins like a number is nobody's to allow.
        let allow = if number.whole { &*self.allow } else { &[] };
        let otherwise = if allow.is_empty() { Reach::Free } else { Reach::Denied };
        let lists =
            [(allow, Reach::Free), (&*self.costly, Reach::Costly), (&*self.deny, Reach::Denied)];
        let named = lists.into_iter().filter_map(|(list, reach)| Some((longest(list)?, reach)));
        named.max().map_or(otherwise, |(_, reach)| reach)
    }
}

/// What would be dialled: a core that routes by prefixes may take the beginning for the whole.
struct Dialled {
    /// The longest beginning that is a number, without separators, its letters small.
    digits: Vec<u8>,
    /// Whether nothing follows.
    whole: bool,
}

/// The numbers that a URI may be read as: what is dialled, and the same behind the number that its phone-context is.
///
/// Each phone-context counts, wherever it stands: of several, nobody knows which another reader takes.
fn numbers(uri: &Uri<'_>) -> SmallVec<[Dialled; 2]> {
    let mut found = SmallVec::new();
    let user = uri.user().unwrap_or_default();
    let (dialled, rest) = match user.iter().position(|octet| b";:".contains(octet)) {
        Some(at) => user.split_at_checked(at).unwrap_or((user, b"")),
        None => (user, &b""[..]),
    };
    let letters = uri.scheme() == Scheme::Tel;
    let Some(number) = Dialled::read(dialled, letters) else { return found };
    let params = [rest, uri.params()].into_iter().flat_map(|params| params.split(|it| *it == b';'));
    let contexts = params.filter_map(|param| {
        let (name, value) = param.split_at_checked(memchr::memchr(b'=', param)?)?;
        let is = decode(name).eq_ignore_ascii_case(b"phone-context");
        is.then(|| Dialled::read(value.get(1..).unwrap_or_default(), false)).flatten()
    });
    for Dialled { mut digits, whole } in contexts {
        digits.extend_from_slice(number.digits.strip_prefix(b"+").unwrap_or(&number.digits));
        found.push(Dialled { digits, whole: whole && number.whole });
    }
    found.push(number);
    found
}

impl Dialled {
    /// `None` if `text` does not begin as a number does.
    fn read(text: &[u8], letters: bool) -> Option<Self> {
        let (mut digits, mut whole, mut rest) = (Vec::with_capacity(text.len()), true, text);
        while let Some((octet, after)) = first_octet(rest) {
            match octet {
                b'-' | b'.' | b'(' | b')' | b' ' => {}
                b'+' if digits.is_empty() => digits.push(octet),
                b'0'..=b'9' | b'*' | b'#' => digits.push(octet),
                b'a'..=b'f' | b'A'..=b'F' if letters => digits.push(octet.to_ascii_lowercase()),
                _ => {
                    whole = false;
                    break;
                }
            }
            rest = after;
        }
        digits.iter().any(|octet| *octet != b'+').then_some(Self { digits, whole })
    }
}

/// The first octet, unescaped, and what follows; an escape that is none stands for itself.
fn first_octet(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = text.split_first()?;
    let escaped = || {
        let (digits, after) = rest.split_first_chunk::<2>().filter(|_| *first == b'%')?;
        let value = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
        let [high, low] = digits.map(value);
        Some((high? << 4 | low?, after))
    };
    Some(escaped().unwrap_or((*first, rest)))
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
            (&open, "sip:+88212345x@example.net", Reach::Denied),
            (&open, "sip:+88212345p1@example.net;user=phone", Reach::Denied),
            (&open, "sip:+88212345%3Bx@example.net", Reach::Denied),
            (&open, "sip:+882%0012345@example.net", Reach::Denied),
            (&open, "sip:+44w1@example.net", Reach::Costly),
            (&open, "sip:12;phone-context=+882x@example.net", Reach::Denied),
            (
                &open,
                "sip:12;phone-context=+882@example.net;phone-context=x;user=phone",
                Reach::Denied,
            ),
            (&open, "sip:12;phone-context=x;phone-context=+882@example.net", Reach::Denied),
            (&open, "sip:12;%70hone-context=+882@example.net;user=phone", Reach::Denied),
            (&open, "tel:12;phone-context=x;phone-context=+882", Reach::Denied),
            (&open, "sip:x+882@example.net", Reach::Free),
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
            (&shut, "sip:+49x@example.net;user=phone", Reach::Denied),
            (&shut, "sip:+49177x@example.net", Reach::Denied),
            (&shut, "sip:7alice@example.net", Reach::Free),
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
