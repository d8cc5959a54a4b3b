//! Stage 6, classes: the kinds of service that a request can be part of.
//!
//! Takes:   nothing.
//! Gives:   [`Class`] and [`Family`]: their names, their order, the methods that fit them; [`ClassSet`].
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: OMA CPM, LOCSIP and SIP Push as their identifiers are registered; RFC 6050 section 4.4.

use crate::wire::Method;

/// Most classes of an operator's own.
pub const OWN_MAX: usize = 8;

/// The kind of service that a request is part of.
///
/// Within CPM a later one is the stricter: what names two of them is judged by the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Any other SIP.
    Sip,
    /// Registration.
    Reg,
    /// A class of the operator's own, by its place in the list of them.
    Own(u8),
    /// CPM: a message by itself.
    CpmPager,
    /// CPM: a message of the system, a disposition notification above all.
    CpmSystem,
    /// CPM: a chat.
    CpmSession,
    /// CPM: a message too large for MESSAGE.
    CpmLarge,
    /// CPM: a file.
    CpmFile,
    /// CPM: what was kept for somebody who was away.
    CpmDeferred,
    /// CPM: a chat of many.
    CpmGroup,
    /// Where somebody is.
    Locsip,
    /// OMA Push.
    Push,
}

/// Classes with one policy and one Ua security protocol identifier. A later one is the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// [`Class::Sip`] and [`Class::Reg`].
    Sip,
    /// Classes of the operator's own.
    Own,
    /// Messaging.
    Cpm,
    /// Location.
    Locsip,
    /// Push.
    Push,
}

impl Family {
    /// How many there are.
    pub const COUNT: usize = 5;
}

/// A set of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassSet(u32);

impl ClassSet {
    /// The classes that a name stands for: one class, or all of CPM. Push is no caller's, and any other SIP asks for no
    /// right; classes of the operator's own have names of his own.
    pub fn named(name: &str) -> Option<Self> {
        let fits = |class: &&Class| {
            let own = class.as_str();
            own == name || own.split_once('.').is_some_and(|(family, _)| family == name)
        };
        let set = NAMED.iter().filter(fits).fold(Self::default(), |set, class| set.with(*class));
        (set != Self::default()).then_some(set)
    }

    /// The same, and that class too.
    pub fn with(self, class: Class) -> Self {
        Self(self.0 | class.bit())
    }

    /// What is in either.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it holds that class.
    pub fn has(self, class: Class) -> bool {
        self.0 & class.bit() != 0
    }
}

/// The classes that a caller may be given a right to by name.
pub const NAMED: [Class; 8] = [
    Class::CpmPager,
    Class::CpmSystem,
    Class::CpmSession,
    Class::CpmLarge,
    Class::CpmFile,
    Class::CpmDeferred,
    Class::CpmGroup,
    Class::Locsip,
];

impl Class {
    /// A bit of its own.
    fn bit(self) -> u32 {
        let place = match self {
            Self::Sip => 0,
            Self::Reg => 1,
            Self::CpmPager => 2,
            Self::CpmSystem => 3,
            Self::CpmSession => 4,
            Self::CpmLarge => 5,
            Self::CpmFile => 6,
            Self::CpmDeferred => 7,
            Self::CpmGroup => 8,
            Self::Locsip => 9,
            Self::Push => 10,
            Self::Own(place) => u32::from(place).saturating_add(16),
        };
        1_u32.checked_shl(place).unwrap_or(0)
    }

    /// Its name in configuration, counters and spans; a class of the operator's own has a number there, so that
    /// sets of labels stay closed.
    pub fn as_str(self) -> &'static str {
        const OWN: [&str; OWN_MAX] =
            ["own-1", "own-2", "own-3", "own-4", "own-5", "own-6", "own-7", "own-8"];
        match self {
            Self::Reg => "reg",
            Self::Sip => "sip",
            Self::Own(place) => OWN.get(usize::from(place)).copied().unwrap_or("own"),
            Self::CpmPager => "cpm.pager",
            Self::CpmSystem => "cpm.system",
            Self::CpmSession => "cpm.session",
            Self::CpmLarge => "cpm.large",
            Self::CpmFile => "cpm.file",
            Self::CpmDeferred => "cpm.deferred",
            Self::CpmGroup => "cpm.group",
            Self::Locsip => "locsip",
            Self::Push => "push",
        }
    }

    /// Its family.
    pub fn family(self) -> Family {
        match self {
            Self::Sip | Self::Reg => Family::Sip,
            Self::Own(_) => Family::Own,
            Self::CpmPager
            | Self::CpmSystem
            | Self::CpmSession
            | Self::CpmLarge
            | Self::CpmFile
            | Self::CpmDeferred
            | Self::CpmGroup => Family::Cpm,
            Self::Locsip => Family::Locsip,
            Self::Push => Family::Push,
        }
    }

    /// The stricter of two: by family, then by order.
    pub fn stricter(self, other: Self) -> Self {
        if (other.family(), other) > (self.family(), self) { other } else { self }
    }

    /// Whether a request of that method, outside any dialog, may be of this class. `event` is its event package.
    pub fn fits(self, method: Method, event: &[u8]) -> bool {
        match self {
            Self::Sip | Self::Own(_) => true,
            Self::Reg => method == Method::Register,
            Self::CpmPager | Self::CpmSystem => method == Method::Message,
            Self::CpmSession | Self::CpmLarge | Self::CpmFile => method == Method::Invite,
            Self::CpmDeferred => matches!(method, Method::Invite | Method::Message),
            Self::CpmGroup => match method {
                Method::Invite | Method::Refer => true,
                Method::Subscribe => event.eq_ignore_ascii_case(b"conference"),
                _ => false,
            },
            Self::Locsip => matches!(method, Method::Subscribe | Method::Notify),
            Self::Push => matches!(method, Method::Message | Method::Invite),
        }
    }

    /// Whether it sets up a session, in CPM.
    pub fn is_session(self) -> bool {
        self.family() == Family::Cpm && !matches!(self, Self::CpmPager | Self::CpmSystem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_a_class_or_for_all_of_cpm() {
        let locsip = ClassSet::named("locsip").expect("a class");
        assert!(locsip.has(Class::Locsip) && !locsip.has(Class::CpmPager));
        let cpm = ClassSet::named("cpm").expect("classes");
        for class in NAMED {
            let alone = ClassSet::named(class.as_str()).expect("a class");
            assert_eq!(alone, ClassSet::default().with(class), "{class:?}");
            assert_eq!(cpm.has(class), class.family() == Family::Cpm, "{class:?}");
        }
        for none in ["push", "sip", "reg", "own-1", "", "cpm.", "CPM"] {
            assert_eq!(ClassSet::named(none), None, "{none}");
        }
    }

    #[test]
    fn families_decide_before_order_does() {
        for (one, other, expected) in [
            (Class::Sip, Class::CpmPager, Class::CpmPager),
            (Class::CpmSession, Class::CpmPager, Class::CpmSession),
            (Class::CpmFile, Class::CpmGroup, Class::CpmGroup),
            (Class::Locsip, Class::CpmGroup, Class::Locsip),
            (Class::Own(7), Class::CpmPager, Class::CpmPager),
            (Class::Push, Class::Locsip, Class::Push),
        ] {
            assert_eq!(one.stricter(other), expected, "{one:?} and {other:?}");
            assert_eq!(other.stricter(one), expected, "{other:?} and {one:?}");
        }
    }
}
