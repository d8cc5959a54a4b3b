//! Stage 6, classes of the operator's own: recognised by lines of configuration, judged by demands alone.
//!
//! Takes:   what is configured.
//! Gives:   [`Line`], a sign of such a class; [`Own`], its policy.
//! Keeps:   nothing.
//! Refuses: nothing beyond the demands, and a side that may not send it.
//! Sources: RFC 3840 section 9; RFC 6665 section 8.2.1.

use super::{Class, Demands, EnablerPolicy};
use crate::transport::{Arrival, GroupId, Side};
use crate::wire::features::Claim;
use crate::wire::{Message, Method, Name, Uri};

/// A sign of a class: everything that it names must be there. A line that names nothing fits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The method is this one.
    pub method: Option<Method>,
    /// The event package is this one.
    pub event: Option<String>,
    /// The body is of this type, `type/subtype`.
    pub content_type: Option<String>,
    /// Accept-Contact has this tag, with its plus sign.
    pub feature: Option<String>,
    /// The tag has this item.
    pub value: Option<String>,
    /// The Request-URI is of this domain.
    pub domain: Option<String>,
    /// It comes from this peer group.
    pub group: Option<GroupId>,
}

impl Line {
    /// Whether a request bears the sign.
    pub fn fits(&self, message: &Message, arrival: &Arrival) -> bool {
        let same = |one: &[u8], other: &String| one.eq_ignore_ascii_case(other.as_bytes());
        let signs = [
            self.method.map(|method| message.method() == Some(method)),
            self.event.as_ref().map(|event| same(message.event(), event)),
            self.content_type.as_ref().map(|wanted| {
                message.content_type().is_some_and(|media| super::body::is(&media, wanted))
            }),
            self.feature.as_ref().map(|tag| self.has_feature(message, tag)),
            self.domain.as_ref().map(|domain| {
                let is = |uri: &Uri<'_>| {
                    same(uri.host().strip_suffix(b".").unwrap_or(uri.host()), domain)
                };
                message.uri().is_some_and(|uri| is(&uri))
            }),
            self.group.map(|group| arrival.group.is_some_and(|found| found.id == group)),
        ];
        let mut signs = signs.into_iter().flatten().peekable();
        signs.peek().is_some() && signs.all(|there| there)
    }

    fn has_feature(&self, message: &Message, tag: &str) -> bool {
        message.features(Name::AcceptContact).flatten().any(|features| {
            features.claims(tag).any(|claim| match (&self.value, claim) {
                (None, _) => true,
                (Some(wanted), Claim::Item(item)) => item.eq_ignore_ascii_case(wanted.as_bytes()),
                (Some(wanted), Claim::Text(text)) => text == wanted.as_bytes(),
                (Some(_), Claim::True) => false,
            })
        })
    }
}

/// The policy of such a class.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its demands.
    pub demands: Demands,
    /// Whether UEs may send it.
    pub from_ue: bool,
    /// Whether the core may.
    pub from_core: bool,
}

impl EnablerPolicy for Own {
    fn demands(&self, _class: Class) -> &Demands {
        &self.demands
    }

    fn allows_direction(&self, side: Side, _in_dialog: bool) -> bool {
        match side {
            Side::Ue => self.from_ue,
            Side::Core => self.from_core,
        }
    }
}
