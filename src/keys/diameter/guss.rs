//! Keys, Diameter, GUSS: a subscriber's settings as XML, whole on Zh and in part on Zn.
//!
//! Takes:   [`Guss`], or the octets of GBA-UserSecSettings.
//! Gives:   the XML of `guss` or `ussList`; what stands in it.
//! Keeps:   nothing. Bounds: those of [`xml`], at most [`USS_MAX`] settings and [`UIDS_MAX`] identities of each.
//! Refuses: what is no XML, another root, a service or flag that is no number. What stands beside is not looked at.
//! Sources: TS 29.109 annex A.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::authentication::Uss;
use crate::enabler::body::xml::{self, Element};
use crate::identity::{Impi, Impu};
use crate::keys::subscribers::{Card, Guss};

/// Most settings of one subscriber.
pub const USS_MAX: usize = 64;
/// Most identities of one setting.
pub const UIDS_MAX: usize = 64;

const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

/// What is in a list of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Identities, in order, each once.
    pub identities: Vec<Impu>,
    /// Settings, by service.
    pub uss: Vec<Uss>,
}

/// The `ussList` of Zn: of `services`, those that the subscriber has.
pub fn print_list(identities: &[Impu], uss: &[Uss], services: &[u32]) -> String {
    let mut text = String::from(XML);
    list(&mut text, identities, uss, |service| services.contains(&service));
    text
}

/// The `guss` of Zh.
pub fn print(impi: &Impi, guss: &Guss) -> String {
    let mut text = String::from(XML);
    let card = match guss.card {
        Card::Gba => "GBA",
        Card::GbaU => "GBA_U",
    };
    text.push_str("<guss id=\"");
    escape(&mut text, impi.as_str());
    let _ = write!(text, "\"><bsfInfo><uiccType>{card}</uiccType>");
    if let Some(lifetime) = guss.key_lifetime {
        let _ = write!(text, "<lifeTime>{}</lifeTime>", lifetime.as_secs());
    }
    text.push_str("</bsfInfo>");
    list(&mut text, &guss.impus, &guss.uss, |_| true);
    text.push_str("</guss>");
    text
}

fn list(text: &mut String, identities: &[Impu], uss: &[Uss], wanted: impl Fn(u32) -> bool) {
    text.push_str("<ussList>");
    let unspecific = Uss { gsid: Uss::UNSPECIFIC, flags: Vec::new() };
    let own = uss.iter().any(|uss| uss.gsid == Uss::UNSPECIFIC);
    let all = (!own).then_some(&unspecific).into_iter().chain(uss);
    for uss in all.filter(|uss| wanted(uss.gsid)) {
        let _ = write!(text, "<uss id=\"{}\" type=\"0\"><uids>", uss.gsid);
        for identity in identities {
            text.push_str("<uid>");
            escape(text, identity.as_str());
            text.push_str("</uid>");
        }
        text.push_str("</uids>");
        if uss.flags.is_empty() {
            text.push_str("<flags/>");
        } else {
            text.push_str("<flags>");
            for flag in &uss.flags {
                let _ = write!(text, "<flag>{flag}</flag>");
            }
            text.push_str("</flags>");
        }
        text.push_str("</uss>");
    }
    text.push_str("</ussList>");
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            other => text.push(other),
        }
    }
}

/// Reads a `ussList`; `None` if it is none.
pub fn parse_list(octets: &[u8]) -> Option<Listed> {
    let root = xml::read(octets).ok()?;
    (root.name == "ussList").then(|| listed(&root)).flatten()
}

/// Reads a `guss` of `impi`; `None` if it is none, or another's.
pub fn parse(octets: &[u8], impi: &Impi) -> Option<Guss> {
    let root = xml::read(octets).ok()?;
    if root.name != "guss" || root.attribute("id").is_some_and(|id| id != impi.as_str()) {
        return None;
    }
    let info = child(&root, "bsfInfo");
    let card = match info.and_then(|info| child(info, "uiccType")).map(|kind| kind.text.trim()) {
        Some("GBA_U") => Card::GbaU,
        _ => Card::Gba,
    };
    let key_lifetime = match info.and_then(|info| child(info, "lifeTime")) {
        Some(seconds) => Some(Duration::from_secs(seconds.text.trim().parse().ok()?)),
        None => None,
    };
    let Listed { identities, uss } =
        child(&root, "ussList").map_or(Some(Listed::default()), listed)?;
    Some(Guss { card, key_lifetime, impus: identities.into(), uss: Arc::from(uss) })
}

fn listed(list: &Element<'_>) -> Option<Listed> {
    let mut found = Listed::default();
    for uss in list.children.iter().filter(|child| child.name == "uss") {
        if found.uss.len() == USS_MAX {
            return None;
        }
        let gsid = uss.attribute("id")?.trim().parse().ok()?;
        let uids = child(uss, "uids").map(|uids| uids.children.as_slice()).unwrap_or_default();
        if uids.len() > UIDS_MAX {
            return None;
        }
        for uid in uids.iter().filter(|child| child.name == "uid") {
            let identity = Impu::new(uid.text.trim())?;
            if !found.identities.contains(&identity) {
                found.identities.push(identity);
            }
        }
        let flags = child(uss, "flags").map(|flags| flags.children.as_slice()).unwrap_or_default();
        let flags = flags.iter().filter(|child| child.name == "flag");
        let flags =
            flags.map(|flag| flag.text.trim().parse().ok()).collect::<Option<Vec<u32>>>()?;
        found.uss.push(Uss { gsid, flags });
    }
    Some(found)
}

fn child<'e, 'x>(of: &'e Element<'x>, name: &str) -> Option<&'e Element<'x>> {
    of.children.iter().find(|child| child.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guss() -> Guss {
        Guss {
            card: Card::GbaU,
            key_lifetime: Some(Duration::from_secs(600)),
            impus: ["sip:a&b@example.net", "tel:+15550100"].map(|id| Impu::new(id).unwrap()).into(),
            uss: Arc::from([Uss { gsid: 5, flags: vec![1, 2] }]),
        }
    }

    #[test]
    fn a_guss_is_read_as_it_was_printed() {
        let impi = Impi::new("a@example.net").unwrap();
        let printed = print(&impi, &guss());
        let read = parse(printed.as_bytes(), &impi).expect("as printed");
        let unspecific = Uss { gsid: Uss::UNSPECIFIC, flags: vec![] };
        assert_eq!((read.card, read.key_lifetime), (Card::GbaU, Some(Duration::from_secs(600))));
        assert_eq!(&read.impus, &guss().impus);
        assert_eq!(&*read.uss, [unspecific, Uss { gsid: 5, flags: vec![1, 2] }]);
        let other = Impi::new("b@example.net").unwrap();
        assert!(parse(printed.as_bytes(), &other).is_none(), "another's");
    }

    #[test]
    fn a_list_holds_what_was_asked_for() {
        let Guss { impus, uss, .. } = guss();
        for (services, expected) in
            [(&[0][..], &[0][..]), (&[5], &[5]), (&[0, 5, 9], &[0, 5]), (&[9], &[])]
        {
            let printed = print_list(&impus, &uss, services);
            let read = parse_list(printed.as_bytes()).expect("as printed");
            let listed: Vec<u32> = read.uss.iter().map(|uss| uss.gsid).collect();
            assert_eq!(listed, expected, "{printed}");
            assert_eq!(read.identities.is_empty(), expected.is_empty());
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            "<guss/>",
            "<ussList><uss type=\"0\"/></ussList>",
            "<ussList><uss id=\"x\"/></ussList>",
            "<ussList><uss id=\"1\"><flags><flag>x</flag></flags></uss></ussList>",
            "<ussList><uss id=\"1\"><uids><uid></uid></uids></uss></ussList>",
            "<!DOCTYPE a><ussList/>",
        ] {
            assert_eq!(parse_list(text.as_bytes()), None, "{text}");
        }
        let many = "<uss id=\"1\"/>".repeat(USS_MAX + 1);
        assert_eq!(parse_list(format!("<ussList>{many}</ussList>").as_bytes()), None);
        let spaced = "<u:ussList xmlns:u=\"urn:x\"><u:uss id=\"1\"/><u:other/></u:ussList>";
        let read = parse_list(spaced.as_bytes()).expect("local names count");
        assert_eq!(read.uss, [Uss { gsid: 1, flags: vec![] }]);
    }
}
