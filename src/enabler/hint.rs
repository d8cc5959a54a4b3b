//! Stage 6, the hint: the class that a request claims, read from its headers in stage 3.
//!
//! 1. Most requests carry nothing that any class is known by; that is seen at a glance.
//! 2. Else each sign is a claim. Accept-Contact and the services named are meant; Contact tells abilities, and counts
//!    where they fit the method. Reject-Contact and negations claim nothing.
//! 3. The class is the strictest claim. Claims of two families are refused, and so is a class on a method that does
//!    not have it; inside a dialog every method fits.
//!
//! Takes:   a request, its arrival, and what is configured of classes.
//! Gives:   [`Class`]; or [`Unfit`], with the class that it would be of and why it is refused.
//! Keeps:   nothing. Bounds: 16 values of a header, 64 parameters of a value; multiparts as `body::multipart`.
//! Refuses: a header or a multipart that does not parse and in which a class's own words are all the same.
//! Sources: RFC 3840 section 9; RFC 3841 section 7.2; RFC 6050 sections 4.4 and 5.1.2; RFC 6809 section 4.2.1;
//!          TS 24.229 section 7.2A.8; V-118, V-119, V-122.

use std::borrow::Cow;

use super::body::{cpim, filter, media, multipart};
use super::service::{class_of_application, class_of_service, class_of_tag};
use super::{Class, own};
use crate::keys::push::{GPI_TYPE, GPL_TYPE};
use crate::refusal::Refusal;
use crate::transport::{Arrival, GroupId, Side};
use crate::wire::features::{Claim, claims_of};
use crate::wire::octets::contains;
use crate::wire::uri::decode;
use crate::wire::{Address, Fault, MediaType, Message, Method, Name, Uri};

/// What classes are recognised by beside their own words.
#[derive(Clone, Debug, Default)]
pub struct Recognisers {
    /// Peer groups of the location service.
    pub locsip_groups: Vec<GroupId>,
    /// Domains of the location service.
    pub locsip_domains: Vec<String>,
    /// Domain to group, as stage 7 routes.
    pub routes: Vec<(String, GroupId)>,
    /// The group of other domains.
    pub default_route: Option<GroupId>,
    /// The lines of each class of the operator's own: any of them is a claim.
    pub own: Vec<Vec<own::Line>>,
}

/// A request that cannot be of the class that it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The strictest class that it claims.
    pub class: Class,
    /// Why it cannot be.
    pub refusal: Refusal,
}

/// What a push is known by in Accept-Contact.
pub const PUSH_TAG: &str = "+g.oma.pusheventapp";
const LOCSIP_TAG: &str = "+g.oma.locsip";
const ICSI_TAG: &str = "+g.3gpp.icsi-ref";
const IARI_TAG: &str = "+g.3gpp.iari-ref";
/// What no UE may send, whatever it is wrapped in.
pub const PUSH_TYPES: [&str; 4] =
    ["application/vnd.oma.push", "application/vnd.omaloc-supl-init", GPI_TYPE, GPL_TYPE];

/// What the subtype of each of them begins with: where it does not stand, none does.
const VENDOR: &str = "vnd.";

/// Claims as they are found.
#[derive(Debug)]
struct Claims {
    method: Method,
    in_dialog: bool,
    presence: bool,
    conference: bool,
    class: Class,
    /// Families claimed, a bit for each.
    families: u8,
    method_unfit: bool,
    locsip_tag: bool,
}

impl Claims {
    /// Notes a class that the sender means.
    fn mean(&mut self, class: Class) {
        let class = self.adapted(class);
        self.method_unfit |= !self.fits(class);
        self.add(class);
    }

    /// Notes a class that the sender is able to, where it fits.
    fn may(&mut self, class: Class) {
        let class = self.adapted(class);
        if self.fits(class) {
            self.add(class);
        }
    }

    fn add(&mut self, class: Class) {
        // To ask what somebody is able to begins nothing.
        if self.method == Method::Options && class != Class::Push {
            return;
        }
        self.families |= 1_u8.wrapping_shl(class.family() as u32);
        self.class = self.class.stricter(class);
    }

    /// A session's name on a MESSAGE means a message of that session's kind.
    fn adapted(&self, class: Class) -> Class {
        match (class, self.method) {
            (Class::CpmSession, Method::Message) => Class::CpmPager,
            _ => class,
        }
    }

    fn fits(&self, class: Class) -> bool {
        let event: &[u8] = if self.conference { b"conference" } else { b"" };
        self.in_dialog || self.method == Method::Options || class.fits(self.method, event)
    }
}

impl Recognisers {
    /// The class that a request claims.
    ///
    /// # Errors
    ///
    /// [`Unfit`]: two families, a method that does not fit, or what does not parse and should.
    pub fn hint(&self, message: &Message, arrival: &Arrival) -> Result<Class, Unfit> {
        let method = message.method().unwrap_or(Method::Other);
        match method {
            Method::Register => return Ok(Class::Reg),
            Method::Cancel => return Ok(Class::Sip),
            _ if !self.has_signs(message) => return Ok(Class::Sip),
            _ => {}
        }
        let event = message.event();
        let mut claims = Claims {
            method,
            in_dialog: !message.to_tag().is_empty(),
            presence: event.eq_ignore_ascii_case(b"presence"),
            conference: event.eq_ignore_ascii_case(b"conference"),
            class: Class::Sip,
            families: 0,
            method_unfit: false,
            locsip_tag: false,
        };
        let read = self.read(message, arrival, &mut claims);
        let class = claims.class;
        let pushed_by_ue = class == Class::Push && arrival.side == Side::Ue;
        let refusal = match read {
            Err(refusal) => refusal,
            Ok(()) if claims.families.count_ones() > 1 => Refusal::ClassConflict,
            Ok(()) if claims.method_unfit && !pushed_by_ue => Refusal::ClassMethodUnfit,
            Ok(()) => return Ok(class),
        };
        Err(Unfit { class, refusal })
    }

    /// Whether there is anything in it that a class may be known by.
    fn has_signs(&self, message: &Message) -> bool {
        message.has(Name::ContentType)
            || message.has(Name::Event)
            || message.has(Name::AcceptContact)
            || message.has(Name::PPreferredService)
            || message.has(Name::PAssertedService)
            || message.has(Name::FeatureCaps)
            || has_feature(message, Name::Contact)
            || !self.own.is_empty()
    }

    fn read(
        &self,
        message: &Message,
        arrival: &Arrival,
        claims: &mut Claims,
    ) -> Result<(), Refusal> {
        let from_ue = arrival.side == Side::Ue;
        read_features(message, Name::AcceptContact, true, claims)?;
        if from_ue && message.features(Name::AcceptContact).any(|features| features.is_none()) {
            // Somebody behind us may read a class there.
            return Err(Refusal::Malformed(Fault::HeaderMalformed));
        }
        if has_feature(message, Name::Contact) {
            read_features(message, Name::Contact, false, claims)?;
        }
        let named = match arrival.side {
            Side::Ue => Name::PPreferredService,
            Side::Core => Name::PAssertedService,
        };
        for urn in message.values(named) {
            let decoded = memchr::memchr(b'%', urn).map(|_| decode(urn));
            if let Some(class) = class_of_service(decoded.as_deref().unwrap_or(urn)) {
                claims.mean(class);
            }
        }
        if arrival.side == Side::Core {
            read_features(message, Name::FeatureCaps, false, claims)?;
        }
        read_body(message, from_ue, claims)?;
        if claims.presence && (claims.locsip_tag || self.is_location(message, arrival, claims)) {
            claims.mean(Class::Locsip);
        }
        for (place, lines) in (0_u8..).zip(&self.own) {
            if lines.iter().any(|line| line.fits(message, arrival)) {
                claims.mean(Class::Own(place));
            }
        }
        Ok(())
    }

    /// Whether it goes to, or comes from, the location service. Whoever reaches that is judged as one who does,
    /// whatever he calls himself.
    fn is_location(&self, message: &Message, arrival: &Arrival, claims: &Claims) -> bool {
        if arrival.side == Side::Core {
            return arrival.group.is_some_and(|group| self.locsip_groups.contains(&group.id));
        }
        if claims.in_dialog || self.locsip_groups.is_empty() && self.locsip_domains.is_empty() {
            return false;
        }
        // A strict router before us may have put the target into the last Route.
        let routes = message.values(Name::Route).filter_map(Address::parse);
        let mut hosts = message.uri().into_iter().chain(routes.map(|route| route.uri()));
        hosts.any(|uri| self.is_location_host(&uri))
    }

    fn is_location_host(&self, uri: &Uri<'_>) -> bool {
        let host = uri.host().strip_suffix(b".").unwrap_or(uri.host());
        let is = |domain: &String| host.eq_ignore_ascii_case(domain.as_bytes());
        let group = self.routes.iter().find(|(domain, _)| is(domain)).map(|(_, group)| *group);
        self.locsip_domains.iter().any(is)
            || group.or(self.default_route).is_some_and(|group| self.locsip_groups.contains(&group))
    }
}

/// Whether a header has a feature tag of somebody's own tree.
fn has_feature(message: &Message, name: Name) -> bool {
    message.fields_named(name).any(|row| memchr::memmem::find(row, b"g.").is_some())
        || name == Name::Contact
            && message.fields_named(name).any(|row| memchr::memmem::find(row, b"G.").is_some())
}

/// Reads one header of features. `meant` says whether its sender means them.
fn read_features(
    message: &Message,
    name: Name,
    meant: bool,
    claims: &mut Claims,
) -> Result<(), Refusal> {
    if !message.has(name) {
        return Ok(());
    }
    let mut note = |class| if meant { claims.mean(class) } else { claims.may(class) };
    let mut locsip = false;
    for features in message.features(name) {
        let Some(features) = features else {
            // Nobody knows how another reader takes it.
            const WORDS: [&str; 3] = ["g.oma.pusheventapp", "g.oma.locsip", "ims.icsi.oma.cpm"];
            let raw =
                message.fields_named(name).any(|row| WORDS.iter().any(|it| contains(row, it)));
            if raw {
                return Err(Refusal::Malformed(Fault::HeaderMalformed));
            }
            continue;
        };
        for (tag, value) in features.iter() {
            let is = |known: &str| tag.eq_ignore_ascii_case(known.as_bytes());
            if is(ICSI_TAG) {
                items(ICSI_TAG, value).filter_map(|urn| class_of_service(&urn)).for_each(&mut note);
            } else if is(IARI_TAG) {
                let classes = items(IARI_TAG, value).filter_map(|urn| class_of_application(&urn));
                classes.for_each(&mut note);
            } else if is(PUSH_TAG) {
                if meant && claims_of(PUSH_TAG, value).next().is_some() {
                    note(Class::Push);
                }
            } else if is(LOCSIP_TAG) || LOCSIP_TAG.strip_prefix('+').is_some_and(is) {
                locsip |= is_true(LOCSIP_TAG, value);
            } else if let Some(class) = class_of_tag(tag) {
                note(class);
            }
        }
    }
    claims.locsip_tag |= locsip;
    Ok(())
}

/// The items of the lists that a parameter claims.
fn items<'a>(tag: &str, value: Option<&'a [u8]>) -> impl Iterator<Item = Cow<'a, [u8]>> {
    claims_of(tag, value).filter_map(|claim| match claim {
        Claim::Item(item) => Some(item),
        Claim::True | Claim::Text(_) => None,
    })
}

/// Whether a switch is claimed and not off.
fn is_true(tag: &str, value: Option<&[u8]>) -> bool {
    claims_of(tag, value).any(|claim| match claim {
        Claim::True => true,
        Claim::Text(_) => false,
        Claim::Item(item) => !item.eq_ignore_ascii_case(b"FALSE"),
    })
}

/// Reads what the body says of the class. What a UE sends has to be readable, for somebody behind us may read it.
fn read_body(message: &Message, from_ue: bool, claims: &mut Claims) -> Result<(), Refusal> {
    let Some(raw) = message.first(Name::ContentType) else { return Ok(()) };
    let Some(media) = MediaType::parse(raw) else {
        if names_push(raw) {
            claims.mean(Class::Push);
        }
        let unread = from_ue && !message.body().is_empty();
        return if unread { Err(Refusal::Malformed(Fault::HeaderMalformed)) } else { Ok(()) };
    };
    if from_ue && tells_a_class(&media) && !super::body::is_plain(message) {
        return Err(Refusal::EncodingForbidden);
    }
    if !media.kind().eq_ignore_ascii_case(b"multipart") {
        claims.body(&media, message.body());
        return Ok(());
    }
    let read = multipart::walk(media, message.body(), &mut |leaf| {
        claims.body(&leaf.media, leaf.content);
        let hidden = from_ue && leaf.encoded && tells_a_class(&leaf.media);
        if hidden { Err(Refusal::EncodingForbidden) } else { Ok(()) }
    });
    match read {
        Err(Refusal::EncodingForbidden) if from_ue => Err(Refusal::EncodingForbidden),
        Err(refusal) if names_push(message.body()) => {
            claims.mean(Class::Push);
            Err(refusal)
        }
        // Classes that read bodies refuse it then; others take it as it is.
        _ => Ok(()),
    }
}

/// Whether a body of that type may say of which class its message is.
fn tells_a_class(media: &MediaType<'_>) -> bool {
    let is = |wanted: &str| super::body::is(media, wanted);
    media.kind().eq_ignore_ascii_case(b"multipart")
        || is("message/cpim")
        || is("application/sdp")
        || PUSH_TYPES.iter().any(|kind| is(kind))
}

impl Claims {
    fn body(&mut self, media: &MediaType<'_>, content: &[u8]) {
        let is = |wanted: &str| super::body::is(media, wanted);
        if PUSH_TYPES.iter().any(|kind| is(kind)) {
            self.mean(Class::Push);
        } else if is("message/cpim") {
            // Wrapped or not, a push is one.
            if names_push(content) && cpim::read(content).is_ok_and(|cpim| wraps_push(&cpim)) {
                self.mean(Class::Push);
            }
            if self.method == Method::Message {
                self.mean(Class::CpmPager);
            }
        } else if matches!(self.method, Method::Invite | Method::Update)
            && is("application/sdp")
            && media::has_msrp(content)
        {
            self.mean(Class::CpmSession);
        } else if self.presence && is("application/simple-filter+xml") {
            self.locsip_tag |= memchr::memmem::find(content, filter::LOCATION.as_bytes()).is_some();
        }
    }
}

/// Whether the subtype of a push stands in `text`, whatever it means there.
fn names_push(text: &[u8]) -> bool {
    let subtypes = PUSH_TYPES.iter().filter_map(|kind| kind.split_once('/'));
    let mut subtypes = subtypes.map(|(_, subtype)| subtype);
    contains(text, VENDOR) && subtypes.any(|subtype| contains(text, subtype))
}

fn wraps_push(cpim: &cpim::Cpim<'_>) -> bool {
    cpim.media().is_some_and(|media| PUSH_TYPES.iter().any(|kind| super::body::is(&media, kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_names_a_push_is_a_vendors() {
        for kind in PUSH_TYPES {
            let (_, subtype) = kind.split_once('/').expect("type and subtype");
            assert!(subtype.starts_with(VENDOR), "{kind}");
            assert!(names_push(subtype.to_ascii_uppercase().as_bytes()), "{kind}");
        }
        assert!(!names_push(b"application/vnd.3gpp.sms"));
    }
}
