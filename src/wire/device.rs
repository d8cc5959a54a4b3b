//! Stage 2, devices: which instance registers over which of its flows, and what it was granted.
//!
//! Takes:   a REGISTER, and the 2xx to it.
//! Gives:   [`Device`]: an instance and its reg-id; the devices that are taken away; the rest of this one.
//! Keeps:   nothing; an instance is kept as 16 octets of a hash, however long its name.
//! Refuses: nothing here: a reg-id without instance, or out of its range, is none (`RG-05`).
//! Sources: RFC 5626 sections 4.1 (instances are compared as URNs), 6 and 11.2; RFC 3261 section 10.3; RFC 8141
//!          section 3.1; `RG-06`.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::headers::seconds;
use super::{Address, Message, Name, split};

/// The name of an instance, hashed.
pub type Instance = [u8; 16];

/// One flow of one instance, as its UE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Which instance.
    pub instance: Instance,
    /// Which of its flows; `None` if it does not say.
    pub reg_id: Option<u32>,
}

/// What a REGISTER is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The device that it registers; where it takes all away, the first of those.
    pub device: Option<Device>,
    /// Devices with reg-id that it takes away; others are known by their Contact, which is the registrar's to know.
    pub ended: SmallVec<[Device; 1]>,
    /// Whether it takes everything away: `*`.
    pub ends_all: bool,
    /// Whether it leaves nothing registered: each Contact, or `*`, ends.
    pub ends: bool,
}

impl Device {
    /// The device that a Contact speaks of; `None` if it names no instance.
    pub fn of(contact: &Address<'_>) -> Option<Self> {
        let value = contact.param("+sip.instance")?;
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        let urn = value.strip_prefix(b"<").and_then(|v| v.strip_suffix(b">")).unwrap_or(value);
        if urn.is_empty() {
            return None;
        }
        let reg_id = contact.param("reg-id").and_then(split::number);
        let reg_id = reg_id.and_then(|number| u32::try_from(number).ok());
        let reg_id = reg_id.filter(|number| (1..=REG_ID_MAX).contains(number));
        Some(Self { instance: hashed(urn), reg_id })
    }
}

impl Asked {
    /// What `register` is about.
    pub fn of(register: &Message) -> Self {
        let mut asked = Self::default();
        let mut contacts =
            register.addresses(Name::Contact).zip(register.values(Name::Contact)).peekable();
        asked.ends = contacts.peek().is_some();
        let mut first = None;
        for (contact, value) in contacts {
            if value == b"*" {
                asked.ends_all = true;
                continue;
            }
            let Some(contact) = contact else { continue };
            let device = Device::of(&contact);
            if is_over(&contact, register) {
                first = first.or(device);
                asked.ended.extend(device.filter(|device| device.reg_id.is_some()));
            } else {
                asked.ends = false;
                asked.device = asked.device.or(device);
            }
        }
        if asked.ends {
            asked.device = first;
        }
        asked
    }
}

/// Whether a REGISTER speaks of flows in a way that nobody could keep: a reg-id beside another Contact that is to
/// stay, or a reg-id or instance written twice.
///
/// Source: RFC 5626 section 6 (400).
pub fn contradicts(register: &Message) -> bool {
    let contacts = || register.addresses(Name::Contact).flatten();
    let twice = contacts().any(|contact| contact.params().has_twice(["reg-id", "+sip.instance"]));
    let stay = contacts().filter(|contact| !is_over(contact, register));
    twice || stay.clone().count() > 1 && stay.clone().any(|it| it.param("reg-id").is_some())
}

/// Whether a REGISTER asks for outbound: a reg-id, and the tag in Supported.
///
/// Source: RFC 5626 sections 6 and 11.6.
pub fn asks_outbound(register: &Message) -> bool {
    let mut contacts = register.addresses(Name::Contact).flatten();
    let lists = [Name::Supported, Name::Require];
    contacts.any(|contact| contact.param("reg-id").is_some())
        && lists.into_iter().any(|name| register.has_option(name, "outbound"))
}

/// What `response` grants to the Contacts of `register`, the shortest of them; zero if it lists no Contact at all.
///
/// A Contact with reg-id is known again by its device, another one by its URI. Where the registrar lists none of them,
/// it has rewritten them: then it is the shortest of all.
pub fn granted(response: &Message, register: &Message) -> Duration {
    let contacts = || response.addresses(Name::Contact).flatten();
    let ours: SmallVec<[Address<'_>; 1]> = register
        .addresses(Name::Contact)
        .flatten()
        .filter(|contact| !is_over(contact, register))
        .collect();
    let rest = |contact: Address<'_>| {
        let of_contact = contact.param("expires").and_then(seconds);
        of_contact.or_else(|| response.expires()).unwrap_or(DEFAULT_EXPIRES)
    };
    let listed = |theirs: &Address<'_>| ours.iter().any(|ours| is_same(ours, theirs));
    let shortest = contacts().filter(listed).map(rest).min();
    let shortest = shortest.or_else(|| contacts().map(rest).min());
    Duration::from_secs(u64::from(shortest.unwrap_or(0)))
}

/// Whether a registrar that tells of `theirs` means the binding of `ours`.
fn is_same(ours: &Address<'_>, theirs: &Address<'_>) -> bool {
    let by_device = |contact| Device::of(contact).filter(|device| device.reg_id.is_some());
    match (by_device(ours), by_device(theirs)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => ours.uri().equivalent(&theirs.uri()),
    }
}

/// Whether a Contact of a request is to end.
fn is_over(contact: &Address<'_>, register: &Message) -> bool {
    contact.param("expires").and_then(seconds).or_else(|| register.expires()) == Some(0)
}

/// A hash under which equal URNs are one: without case in `urn:`, the namespace and a UUID.
fn hashed(urn: &[u8]) -> Instance {
    let parts = urn.iter().enumerate().filter(|(_, octet)| **octet == b':').map(|(at, _)| at);
    let nid_end = parts.take(2).last().unwrap_or(0);
    let (prefix, name) = urn.split_at_checked(nid_end).unwrap_or((b"", urn));
    let prefix = prefix.to_ascii_lowercase();
    let name = if prefix == b"urn:uuid" { name.to_ascii_lowercase() } else { name.to_vec() };
    let digest = Sha256::new().chain_update(&prefix).chain_update(&name).finalize();
    digest.first_chunk().copied().unwrap_or_default()
}

/// RFC 5626 section 11.2.
const REG_ID_MAX: u32 = 0x7FFF_FFFF;
/// RFC 3261 section 10.2.1.1: what no expiry means is the registrar's choice; an hour is the usual one.
const DEFAULT_EXPIRES: u32 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"";
    const A_LOWER: &str = "\"<URN:UUID:00000000-0000-1000-8000-aabbccddeeff>\"";
    const B: &str = "\"<urn:uuid:00000000-0000-1000-8000-000000000002>\"";

    fn message(start: &str, fields: &str) -> Message {
        let text = format!("{start}\r\n{fields}\r\n");
        Message::from_datagram(bytes::Bytes::from(text)).expect("well formed")
    }

    fn register(fields: &str) -> Message {
        message("REGISTER sip:example.net SIP/2.0", fields)
    }

    #[test]
    fn a_device_is_an_instance_and_a_reg_id_in_its_range() {
        let device = |params: &str| {
            let value = format!("<sip:a@192.0.2.1>{params}");
            Device::of(&Address::parse(value.as_bytes()).expect("an address"))
        };
        let one = device(&format!(";+sip.instance={A};reg-id=1")).expect("a device");
        assert_eq!(one.reg_id, Some(1));
        assert_eq!(device(&format!(";reg-id=1;+sip.instance={A_LOWER}")), Some(one), "one URN");
        assert_ne!(device(&format!(";+sip.instance={B};reg-id=1")), Some(one));
        for (bad, why) in [("0", "below"), ("2147483648", "above"), ("x", "no number")] {
            let found = device(&format!(";+sip.instance={A};reg-id={bad}")).expect("an instance");
            assert_eq!((found.instance, found.reg_id), (one.instance, None), "{why}");
        }
        assert_eq!(device(";reg-id=1"), None, "RFC 5626 section 6: without instance it is ignored");
        assert_eq!(device(";+sip.instance=\"<>\";reg-id=1"), None);
        let other = |nss: &str| device(&format!(";+sip.instance=\"<urn:x:{nss}>\""));
        assert_ne!(other("Ab"), other("ab"), "case counts where the namespace is not known");
    }

    #[test]
    fn what_is_asked_and_what_ends() {
        let kept = format!("Contact: <sip:a@h>;reg-id=2;+sip.instance={A}\r\n");
        let gone = format!("Contact: <sip:a@h>;reg-id=1;expires=0;+sip.instance={A}\r\n");
        let asked = Asked::of(&register(&format!("{kept}{gone}")));
        assert_eq!(asked.device.and_then(|device| device.reg_id), Some(2));
        assert_eq!(asked.ended.iter().map(|device| device.reg_id).collect::<Vec<_>>(), [Some(1)]);
        assert!(!asked.ends && !asked.ends_all);
        let asked = Asked::of(&register(&gone));
        assert!(asked.ends && asked.device.and_then(|device| device.reg_id) == Some(1));
        let plain = format!("Contact: <sip:a@h>;expires=0;+sip.instance={A}\r\n");
        let asked = Asked::of(&register(&plain));
        assert!(asked.ends && asked.device.is_some() && asked.ended.is_empty(), "one Contact");
        let asked = Asked::of(&register("Contact: *\r\nExpires: 0\r\n"));
        assert!(asked.ends && asked.ends_all);
        assert!(!Asked::of(&register("")).ends, "a question ends nothing");
    }

    #[test]
    fn flows_that_nobody_could_keep() {
        let both = format!("<sip:a@h>;+sip.instance={A};reg-id=1");
        for (contacts, expected) in [
            (both.clone(), false),
            (format!("{both}, <sip:a@i>;expires=0"), false),
            ("<sip:a@h>, <sip:a@i>".into(), false),
            (format!("{both}, <sip:a@i>"), true),
            (format!("{both};reg-id=2"), true),
            (format!("{both};+sip.instance={B}"), true),
        ] {
            let message = register(&format!("Contact: {contacts}\r\n"));
            assert_eq!(contradicts(&message), expected, "{contacts}");
        }
    }

    /// RFC 5626 section 9.2: the 200 lists both flows; the rest of the other one is not ours.
    #[test]
    fn the_rest_of_another_flow_shortens_nothing() {
        let contact = |id: u32, expires: u32| {
            format!("Contact: <sip:a@h>;reg-id={id};expires={expires};+sip.instance={A}\r\n")
        };
        let asks = register(&format!("Contact: <sip:a@h>;reg-id=2;+sip.instance={A_LOWER}\r\n"));
        let plain = register("Contact: <sip:a@192.0.2.1:5060>\r\n");
        let nothing = String::new();
        for (what, asks, listed, seconds) in [
            ("both flows", &asks, contact(1, 60) + &contact(2, 3600), 3600),
            ("another alone: rewritten", &asks, contact(1, 60), 60),
            ("nothing", &asks, nothing, 0),
            (
                "by its URI",
                &plain,
                "Contact: <sip:a@192.0.2.9>;expires=5, <sip:a@192.0.2.1:5060>;expires=600\r\n"
                    .into(),
                600,
            ),
            (
                "without reg-id, as a registrar without outbound lists it",
                &asks,
                "Contact: <sip:a@h>;expires=90, <sip:b@h>;expires=9\r\n".into(),
                90,
            ),
            ("Expires", &plain, "Contact: <sip:a@192.0.2.1:5060>\r\nExpires: 70\r\n".into(), 70),
            ("no expiry", &plain, "Contact: <sip:a@192.0.2.1:5060>\r\n".into(), 3600),
        ] {
            let response = message("SIP/2.0 200 OK", &listed);
            assert_eq!(granted(&response, asks), Duration::from_secs(seconds), "{what}");
        }
    }
}
