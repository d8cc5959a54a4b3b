//! Stage 6, services: the names by which CPM is spoken of on the wire.
//!
//! Takes:   one communication service identifier or application reference, percent-decoded once.
//! Gives:   the class it names; the name of a class.
//! Keeps:   nothing.
//! Refuses: nothing; a name that is not known names no class.
//! Sources: RFC 6050 section 4.4 (compared without case, label by label); TS 24.229 section 7.2A.8.

use super::Class;
use crate::association::Bound;
use crate::transport::Side;

/// What all service identifiers of CPM begin with.
const ICSI: &[u8] = b"urn:urn-7:3gpp-service.ims.icsi.oma.cpm.";
/// What all application references begin with.
const IARI: &[u8] = b"urn:urn-7:3gpp-application.ims.iari.";

/// The class that a service identifier names: of the longest name known, since labels to the right only refine.
pub fn class_of_service(urn: &[u8]) -> Option<Class> {
    const NAMED: [(&str, Class); 6] = [
        ("msg", Class::CpmPager),
        ("largemsg", Class::CpmLarge),
        ("deferred", Class::CpmDeferred),
        ("filetransfer", Class::CpmFile),
        ("systemmsg", Class::CpmSystem),
        ("session", Class::CpmSession),
    ];
    let mut labels = after(urn, ICSI)?.split(|octet| *octet == b'.');
    let first = labels.next()?;
    let named = NAMED.iter().find(|(name, _)| first.eq_ignore_ascii_case(name.as_bytes()));
    let group = |label: &[u8]| label.eq_ignore_ascii_case(b"group");
    match named?.1 {
        Class::CpmSession if labels.next().is_some_and(group) => Some(Class::CpmGroup),
        class => Some(class),
    }
}

/// The class that an application reference names; most name none.
pub fn class_of_application(urn: &[u8]) -> Option<Class> {
    const NAMED: [(&str, &str, Class); 3] = [
        ("rcse", "im", Class::CpmSession),
        ("rcse", "ft", Class::CpmFile),
        ("rcs", "ftthumb", Class::CpmFile),
    ];
    let mut labels = after(urn, IARI)?.split(|octet| *octet == b'.');
    let (first, second) = (labels.next()?, labels.next()?);
    let is = |label: &[u8], name: &str| label.eq_ignore_ascii_case(name.as_bytes());
    let named = NAMED.iter().find(|(one, two, _)| is(first, one) && is(second, two));
    named.map(|(.., class)| *class)
}

/// The class that a bare feature tag names.
pub fn class_of_tag(tag: &[u8]) -> Option<Class> {
    const LARGE: [&str; 2] = ["+g.oma.sip-im.large-message", "+g.gsma.rcs.cpm.pager-large"];
    if LARGE.iter().any(|large| tag.eq_ignore_ascii_case(large.as_bytes())) {
        return Some(Class::CpmLarge);
    }
    let rest = after(tag, b"+g.oma.sip-im")?;
    matches!(rest.first(), None | Some(b'.')).then_some(Class::CpmSession)
}

/// The name that is asserted towards the core for a request of that class.
pub fn service_of_class(class: Class) -> Option<&'static str> {
    match class {
        Class::CpmPager => Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"),
        Class::CpmSystem => Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.systemmsg"),
        Class::CpmSession => Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.session"),
        Class::CpmLarge => Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.largemsg"),
        Class::CpmFile => Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.filetransfer"),
        Class::CpmDeferred => Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.deferred"),
        Class::CpmGroup => Some("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.session.group"),
        Class::Reg | Class::Sip | Class::Own(_) | Class::Locsip | Class::Push => None,
    }
}

/// The service to be asserted: that of a class which a caller was held to, where a request begins something.
///
/// Source: RFC 6050 section 4.1.
pub fn service_of(bound: &Bound<'_>) -> Option<&'static str> {
    let begins = bound.arrival().side == Side::Ue && !bound.in_dialog();
    begins.then(|| service_of_class(bound.class())).flatten()
}

/// What follows `prefix`, compared without case.
fn after<'u>(urn: &'u [u8], prefix: &[u8]) -> Option<&'u [u8]> {
    let (head, rest) = urn.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_named_by_the_name_it_is_asserted_with() {
        for class in [
            Class::CpmPager,
            Class::CpmSystem,
            Class::CpmSession,
            Class::CpmLarge,
            Class::CpmFile,
            Class::CpmDeferred,
            Class::CpmGroup,
        ] {
            let name = service_of_class(class).expect("a name");
            for spelt in [name.to_owned(), name.to_uppercase(), format!("{name}.more")] {
                assert_eq!(class_of_service(spelt.as_bytes()), Some(class), "{spelt}");
            }
            // A longer label is another one; what is left names a chat still.
            let other = (class == Class::CpmGroup).then_some(Class::CpmSession);
            assert_eq!(class_of_service(format!("{name}x").as_bytes()), other, "{name}x");
        }
    }

    #[test]
    fn other_names_name_what_they_name() {
        let service = "urn:urn-7:3gpp-service.ims.icsi";
        for other in [".mmtel", ".oma.cpm", ".oma.cpm.", ".oma.cpm.sessions.group", ""] {
            assert_eq!(class_of_service(format!("{service}{other}").as_bytes()), None, "{other}");
        }
        let application = "urn:urn-7:3gpp-application.ims.iari";
        for (name, class) in [
            (".rcse.im", Some(Class::CpmSession)),
            (".RCSE.FT", Some(Class::CpmFile)),
            (".rcs.ftthumb", Some(Class::CpmFile)),
            (".rcs.geopush", None),
            (".rcs.fthttp", None),
            (".rcse.dp", None),
            (".rcse", None),
        ] {
            let name = format!("{application}{name}");
            assert_eq!(class_of_application(name.as_bytes()), class, "{name}");
        }
        for (tag, class) in [
            ("+g.oma.sip-im", Some(Class::CpmSession)),
            ("+G.OMA.SIP-IM.large-message", Some(Class::CpmLarge)),
            ("+g.gsma.rcs.cpm.pager-large", Some(Class::CpmLarge)),
            ("+g.oma.sip-imx", None),
            ("+g.gsma.rcs.isbot", None),
        ] {
            assert_eq!(class_of_tag(tag.as_bytes()), class, "{tag}");
        }
    }
}
