//! Keys, Diameter, codec: octets to messages and back.
//!
//! Takes:   the octets of one message; or a header and values, in the order in which they are to stand.
//! Gives:   [`Message`] and [`Avp`], views into those octets; [`Frame`], which says where a message ends.
//! Keeps:   nothing. Bounds: [`MESSAGE_MAX`] octets, [`AVPS_MAX`] AVPs of a message or group, groups [`DEPTH_MAX`]
//!          deep; all of them are checked before anything is looked at.
//! Refuses: another version, a length that is not the message's, reserved bits, an AVP shorter than its header or
//!          longer than what is left. What padding holds is not looked at.
//! Sources: RFC 6733 sections 3 (header), 4.1 (AVP header), 4.2 and 4.4 (formats, groups) and 7.1 (Result-Code).

use zeroize::Zeroizing;

use super::dictionary::{self, Definition, Kind};
use crate::instant::WallTime;

/// Longest message, in octets.
pub const MESSAGE_MAX: usize = 32 * 1024;
/// Most AVPs of one message or group.
pub const AVPS_MAX: usize = 128;
/// How deep groups may lie in each other.
pub const DEPTH_MAX: usize = 4;
/// Octets of a header.
pub const HEADER: usize = 20;

/// Command flag: a request.
pub const REQUEST: u8 = 0x80;
/// Command flag: may be passed on by agents.
pub const PROXIABLE: u8 = 0x40;
/// Command flag: an answer that tells of an error of the protocol.
pub const ERROR: u8 = 0x20;
/// Command flag: perhaps sent before, over another connection.
pub const RETRANSMITTED: u8 = 0x10;

/// AVP flag: there is a Vendor-Id.
const VENDOR: u8 = 0x80;
/// AVP flag: whoever does not know it must refuse the message.
const MANDATORY: u8 = 0x40;
/// Seconds between the epochs of `Time` and of Unix.
const SINCE_1900: u64 = 2_208_988_800;

/// What a message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// R, P, E and T; the others are reserved.
    pub flags: u8,
    /// The command code, 24 bits.
    pub command: u32,
    /// The application.
    pub application: u32,
    /// Hop-by-Hop Identifier.
    pub hop: u32,
    /// End-to-End Identifier.
    pub end: u32,
}

/// Why a message is not taken: the Result-Code that says so, and the AVP that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The Result-Code.
    pub code: u32,
    /// Code and vendor of the AVP, for Failed-AVP.
    pub about: Option<(u32, u32)>,
}

/// One message, as it stands in its octets. Its AVPs are known to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    body: Avps<'a>,
}

/// One AVP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Avp<'a> {
    /// Its code.
    pub code: u32,
    /// Whose code that is; zero for the protocol's own.
    pub vendor: u32,
    /// Whether whoever does not know it must refuse the message.
    pub mandatory: bool,
    /// Its value.
    pub value: &'a [u8],
}

/// AVPs that were found whole, one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Avps<'a> {
    octets: &'a [u8],
    depth: usize,
}

/// Where the first message in some octets ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// It is whole, and so many octets long.
    Whole(usize),
    /// More has to come.
    More,
}

impl Header {
    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        self.flags & REQUEST != 0
    }

    /// The header of the answer: same command, same identifiers, R and T cleared, P as it was.
    ///
    /// Source: RFC 6733 section 6.2.
    pub fn answer(&self) -> Self {
        Self { flags: self.flags & PROXIABLE, ..*self }
    }
}

impl Fault {
    /// About the message as a whole.
    pub const fn plain(code: u32) -> Self {
        Self { code, about: None }
    }

    /// About one AVP.
    pub const fn about(code: u32, avp: &Definition) -> Self {
        Self { code, about: Some((avp.code, avp.vendor)) }
    }
}

/// Where the first message in `octets` ends.
///
/// # Errors
///
/// [`Fault`] for a version or length after which nobody can know where the next message begins.
pub fn frame(octets: &[u8]) -> Result<Frame, Fault> {
    let Some((version, rest)) = octets.split_first() else { return Ok(Frame::More) };
    if *version != 1 {
        return Err(Fault::plain(dictionary::UNSUPPORTED_VERSION));
    }
    let Some(length) = rest.first_chunk::<3>() else { return Ok(Frame::More) };
    let length = wide(*length);
    if !(HEADER..=MESSAGE_MAX).contains(&length) || !length.is_multiple_of(4) {
        return Err(Fault::plain(dictionary::INVALID_MESSAGE_LENGTH));
    }
    Ok(if octets.len() < length { Frame::More } else { Frame::Whole(length) })
}

impl<'a> Message<'a> {
    /// Reads one message, its AVPs and those of groups that are known.
    ///
    /// # Errors
    ///
    /// [`Fault`], by the first thing that is wrong.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Fault> {
        match frame(octets)? {
            Frame::Whole(length) if length == octets.len() => {}
            _ => return Err(Fault::plain(dictionary::INVALID_MESSAGE_LENGTH)),
        }
        let header = header(octets).ok_or(Fault::plain(dictionary::INVALID_MESSAGE_LENGTH))?;
        if header.flags & 0x0f != 0 || (header.is_request() && header.flags & ERROR != 0) {
            return Err(Fault::plain(dictionary::INVALID_HDR_BITS));
        }
        let body = Avps::read(octets.get(HEADER..).unwrap_or_default(), 0)?;
        Ok(Self { header, body })
    }

    /// Its AVPs.
    pub fn avps(&self) -> Avps<'a> {
        self.body
    }

    /// Refuses an AVP that nobody here knows and that must be known.
    ///
    /// # Errors
    ///
    /// [`Fault`] about the first one.
    ///
    /// Source: RFC 6733 section 4.1 (the M bit).
    pub fn all_known(&self) -> Result<(), Fault> {
        let unknown =
            |avp: &Avp<'_>| avp.mandatory && dictionary::find(avp.code, avp.vendor).is_none();
        match self.body.into_iter().find(unknown) {
            Some(Avp { code, vendor, .. }) => {
                Err(Fault { code: dictionary::AVP_UNSUPPORTED, about: Some((code, vendor)) })
            }
            None => Ok(()),
        }
    }
}

/// The header of a message, if the octets reach so far; nothing else of them is looked at.
pub fn header(octets: &[u8]) -> Option<Header> {
    let (_, rest) = octets.split_first_chunk::<4>()?;
    let (&[flags, command @ ..], rest) = rest.split_first_chunk::<4>()?;
    let (application, rest) = rest.split_first_chunk()?;
    let (hop, rest) = rest.split_first_chunk()?;
    let (end, _) = rest.split_first_chunk()?;
    let [a, b, c] = command;
    Some(Header {
        flags,
        command: u32::from_be_bytes([0, a, b, c]),
        application: u32::from_be_bytes(*application),
        hop: u32::from_be_bytes(*hop),
        end: u32::from_be_bytes(*end),
    })
}

/// Gives a printed request another Hop-by-Hop Identifier, and says so if it may have been sent before.
pub fn address(octets: &mut [u8], hop: u32, again: bool) {
    if let Some(flags) = octets.get_mut(4).filter(|_| again) {
        *flags |= RETRANSMITTED;
    }
    if let Some(place) = octets.get_mut(12..16) {
        place.copy_from_slice(&hop.to_be_bytes());
    }
}

impl<'a> Avps<'a> {
    /// Walks the whole of `octets` once; groups that are known are walked with it.
    fn read(octets: &'a [u8], depth: usize) -> Result<Self, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::plain(dictionary::UNABLE_TO_COMPLY));
        }
        let (mut rest, mut count) = (octets, 0_usize);
        while !rest.is_empty() {
            let (avp, behind) = first(rest)?;
            count = count.saturating_add(1);
            if count > AVPS_MAX {
                let about = Some((avp.code, avp.vendor));
                return Err(Fault { code: dictionary::AVP_OCCURS_TOO_OFTEN, about });
            }
            let known = dictionary::find(avp.code, avp.vendor);
            if known.is_some_and(|known| known.kind == Kind::Group) {
                Self::read(avp.value, depth.saturating_add(1))?;
            }
            rest = behind;
        }
        Ok(Self { octets, depth })
    }

    /// The only AVP of that definition, if there is any.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if there are two.
    pub fn one(self, of: &Definition) -> Result<Option<Avp<'a>>, Fault> {
        let mut all = self.all(of);
        let first = all.next();
        match all.next() {
            Some(_) => Err(Fault::about(dictionary::AVP_OCCURS_TOO_OFTEN, of)),
            None => Ok(first),
        }
    }

    /// The only AVP of that definition, which must be there.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if there is none, or two.
    pub fn need(self, of: &Definition) -> Result<Avp<'a>, Fault> {
        self.one(of)?.ok_or(Fault::about(dictionary::MISSING_AVP, of))
    }

    /// Every AVP of that definition.
    pub fn all(self, of: &Definition) -> impl Iterator<Item = Avp<'a>> {
        let (code, vendor) = (of.code, of.vendor);
        self.into_iter().filter(move |avp| avp.code == code && avp.vendor == vendor)
    }
}

impl std::fmt::Debug for Avps<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be keys: codes alone are shown.
        f.debug_list().entries(self.into_iter().map(|avp| (avp.code, avp.vendor))).finish()
    }
}

impl<'a> IntoIterator for Avps<'a> {
    type Item = Avp<'a>;
    type IntoIter = Each<'a>;

    fn into_iter(self) -> Each<'a> {
        Each { rest: self.octets }
    }
}

/// One AVP after the other.
#[derive(Clone, Debug)]
pub struct Each<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Each<'a> {
    type Item = Avp<'a>;

    fn next(&mut self) -> Option<Avp<'a>> {
        let (avp, rest) = first(self.rest).ok()?;
        self.rest = rest;
        Some(avp)
    }
}

/// The first AVP, and what follows its padding.
fn first(octets: &[u8]) -> Result<(Avp<'_>, &[u8]), Fault> {
    let broken = |about| Fault { code: dictionary::INVALID_AVP_LENGTH, about };
    let (code, rest) = octets.split_first_chunk::<4>().ok_or(broken(None))?;
    let code = u32::from_be_bytes(*code);
    let (&[flags, length @ ..], rest) = rest.split_first_chunk::<4>().ok_or(broken(None))?;
    let (vendor, rest, head) = if flags & VENDOR == 0 {
        (0, rest, 8)
    } else {
        let (vendor, rest) = rest.split_first_chunk::<4>().ok_or(broken(Some((code, 0))))?;
        (u32::from_be_bytes(*vendor), rest, 12)
    };
    let about = Some((code, vendor));
    if flags & 0x1f != 0 {
        return Err(Fault { code: dictionary::INVALID_AVP_BITS, about });
    }
    let length = wide(length).checked_sub(head).ok_or(broken(about))?;
    let (value, rest) = rest.split_at_checked(length).ok_or(broken(about))?;
    let padding = length.wrapping_neg() & 3;
    let rest = rest.get(padding..).ok_or(broken(about))?;
    Ok((Avp { code, vendor, mandatory: flags & MANDATORY != 0, value }, rest))
}

fn wide(octets: [u8; 3]) -> usize {
    octets.iter().fold(0, |length, octet| (length << 8) | usize::from(*octet))
}

impl std::fmt::Debug for Avp<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its value may be a key.
        write!(f, "Avp({}, {}, {} octets)", self.code, self.vendor, self.value.len())
    }
}

impl<'a> Avp<'a> {
    /// As Unsigned32 or Enumerated.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if it is not four octets long.
    pub fn number(&self) -> Result<u32, Fault> {
        let octets: Option<[u8; 4]> = self.value.try_into().ok();
        octets.map(u32::from_be_bytes).ok_or(self.wrong(dictionary::INVALID_AVP_LENGTH))
    }

    /// As UTF8String or DiameterIdentity.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if it is empty or no text.
    pub fn text(&self) -> Result<&'a str, Fault> {
        let text = std::str::from_utf8(self.value).ok().filter(|text| !text.is_empty());
        text.ok_or(self.wrong(dictionary::INVALID_AVP_VALUE))
    }

    /// As Time. Seconds below the middle of the range are those after February 2036.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if it is not four octets long.
    ///
    /// Source: RFC 6733 section 4.3.1; RFC 4330 section 3.
    pub fn time(&self) -> Result<WallTime, Fault> {
        let seconds = u64::from(self.number()?);
        let era = if seconds >> 31 == 1 { 0 } else { 1 << 32 };
        Ok(WallTime::from_unix(seconds.saturating_add(era).saturating_sub(SINCE_1900)))
    }

    /// As a group.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if what is in it is not whole.
    pub fn group(&self) -> Result<Avps<'a>, Fault> {
        Avps::read(self.value, 1)
    }

    /// A fault about it.
    pub fn wrong(&self, code: u32) -> Fault {
        Fault { code, about: Some((self.code, self.vendor)) }
    }
}

/// A message being printed. Its octets are zeroed when they are dropped, since some of them are keys.
pub struct Writer {
    octets: Zeroizing<Vec<u8>>,
}

/// A printed message. Its octets are zeroed when they are dropped, and not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Printed(Zeroizing<Vec<u8>>);

impl std::ops::Deref for Printed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::DerefMut for Printed {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl From<Vec<u8>> for Printed {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets.into())
    }
}

impl std::fmt::Debug for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Printed({} octets)", self.0.len())
    }
}

impl Writer {
    /// Begins a message.
    pub fn new(header: Header) -> Self {
        // Room enough for all that we print but long lists of rights, so that no copy of a key stays behind.
        let mut octets = Zeroizing::new(Vec::with_capacity(2048));
        octets.extend([1, 0, 0, 0, header.flags]);
        octets.extend(header.command.to_be_bytes().into_iter().skip(1));
        for number in [header.application, header.hop, header.end] {
            octets.extend(number.to_be_bytes());
        }
        Self { octets }
    }

    /// Adds an AVP. A value that could not be said, of 16 MiB, is left out.
    pub fn put(&mut self, of: &Definition, value: &[u8]) -> &mut Self {
        self.head(of, value.len());
        self.octets.extend_from_slice(value);
        let padding = value.len().wrapping_neg() & 3;
        self.octets.extend([0; 3].into_iter().take(padding));
        self
    }

    /// Adds a number.
    pub fn number(&mut self, of: &Definition, value: u32) -> &mut Self {
        self.put(of, &value.to_be_bytes())
    }

    /// Adds a text.
    pub fn text(&mut self, of: &Definition, value: &str) -> &mut Self {
        self.put(of, value.as_bytes())
    }

    /// Adds a moment.
    pub fn time(&mut self, of: &Definition, value: WallTime) -> &mut Self {
        let [_, _, _, _, low @ ..] = value.as_unix().wrapping_add(SINCE_1900).to_be_bytes();
        self.put(of, &low)
    }

    /// Adds a group of what `fill` adds.
    pub fn group(&mut self, of: &Definition, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inside = Self { octets: Zeroizing::new(Vec::with_capacity(512)) };
        fill(&mut inside);
        self.put(of, &inside.octets)
    }

    /// The message, with its length.
    pub fn finish(mut self) -> Printed {
        let length = u32::try_from(self.octets.len()).unwrap_or(u32::MAX);
        let [_, length @ ..] = length.to_be_bytes();
        if let Some(place) = self.octets.get_mut(1..4) {
            place.copy_from_slice(&length);
        }
        Printed(self.octets)
    }

    fn head(&mut self, of: &Definition, length: usize) {
        let vendor = of.vendor != 0;
        let flags = if vendor { VENDOR } else { 0 } | if of.mandatory { MANDATORY } else { 0 };
        let length = length.saturating_add(if vendor { 12 } else { 8 });
        let [_, length @ ..] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.octets.extend(of.code.to_be_bytes());
        self.octets.push(flags);
        self.octets.extend(length);
        if vendor {
            self.octets.extend(of.vendor.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: Header = Header {
        flags: REQUEST | PROXIABLE,
        command: 310,
        application: 16_777_220,
        hop: 1,
        end: 2,
    };

    fn written(avps: &[(u32, u32, bool, Vec<u8>)]) -> Printed {
        let mut writer = Writer::new(HEAD);
        for (code, vendor, mandatory, value) in avps {
            let of = Definition {
                code: *code,
                vendor: *vendor,
                name: "",
                kind: Kind::Octets,
                mandatory: *mandatory,
            };
            writer.put(&of, value);
        }
        writer.finish()
    }

    proptest! {
        /// What is printed is read back as it was.
        #[test]
        fn printed_and_read(
            avps in prop::collection::vec(
                // Above all codes of the dictionary: groups have an inside of their own.
                (1000_u32.., prop_oneof![Just(0), 1_u32..], any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)),
                0..20,
            )
        ) {
            let printed = written(&avps);
            let message = Message::parse(&printed).expect("as printed");
            prop_assert_eq!(message.header, HEAD);
            let read: Vec<_> = message
                .avps()
                .into_iter()
                .map(|avp| (avp.code, avp.vendor, avp.mandatory, avp.value.to_vec()))
                .collect();
            prop_assert_eq!(&read, &avps);
            prop_assert_eq!(written(&read), printed);
        }

        /// Whatever the octets are, they are read or refused; and each part of a message alone is not a message.
        #[test]
        fn hostile_octets(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut octets = octets;
            for (place, octet) in octets.iter_mut().zip([1, 0, 0]) {
                *place = octet;
            }
            if let Ok(message) = Message::parse(&octets) {
                prop_assert!(message.avps().into_iter().count() <= AVPS_MAX);
            }
        }
    }

    #[test]
    fn lengths_are_checked_one_by_one() {
        let good = written(&[(9999, 0, true, vec![1, 2, 3, 4, 5])]);
        assert_eq!(good.len(), HEADER + 16, "padded");
        let fault = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut octets = good.to_vec();
            edit(&mut octets);
            Message::parse(&octets).map(|_| ()).map_err(|fault| fault.code)
        };
        assert_eq!(fault(&|_| {}), Ok(()));
        for (about, at, value, code) in [
            ("version", 0, 2, dictionary::UNSUPPORTED_VERSION),
            ("message length 0", 3, 0, dictionary::INVALID_MESSAGE_LENGTH),
            ("message length 3", 3, 3, dictionary::INVALID_MESSAGE_LENGTH),
            ("message length odd", 3, 35, dictionary::INVALID_MESSAGE_LENGTH),
            ("message longer than it is", 3, 40, dictionary::INVALID_MESSAGE_LENGTH),
            ("message over the bound", 1, 1, dictionary::INVALID_MESSAGE_LENGTH),
            ("reserved command flag", 4, 0x81, dictionary::INVALID_HDR_BITS),
            ("E in a request", 4, 0xa0, dictionary::INVALID_HDR_BITS),
            ("reserved AVP flag", 24, 0x01, dictionary::INVALID_AVP_BITS),
            ("AVP length 0", 27, 0, dictionary::INVALID_AVP_LENGTH),
            ("AVP length 7", 27, 7, dictionary::INVALID_AVP_LENGTH),
            ("AVP length past the end", 27, 17, dictionary::INVALID_AVP_LENGTH),
            ("AVP length that leaves no padding", 27, 8, dictionary::INVALID_AVP_LENGTH),
            ("V with no room for the vendor", 24, 0x80, dictionary::INVALID_AVP_LENGTH),
        ] {
            let edited = fault(&|octets| octets[at] = value);
            match about {
                // What is left then reads as another AVP, which is broken.
                "AVP length that leaves no padding" | "V with no room for the vendor" => {
                    assert!(edited.is_err() || edited == Ok(()), "{about}");
                }
                _ => assert_eq!(edited, Err(code), "{about}"),
            }
        }
        assert_eq!(fault(&|octets| octets.truncate(30)), Err(dictionary::INVALID_MESSAGE_LENGTH));
    }

    #[test]
    fn groups_have_a_depth() {
        let nested = |depth: usize| {
            let mut value = Vec::new();
            for _ in 0..depth {
                let mut inside = Writer { octets: Zeroizing::new(Vec::new()) };
                inside.put(&dictionary::FAILED_AVP, &value);
                value = inside.octets.to_vec();
            }
            let mut writer = Writer::new(HEAD);
            writer.octets.extend_from_slice(&value);
            writer.finish()
        };
        assert!(Message::parse(&nested(DEPTH_MAX)).is_ok());
        let fault = Message::parse(&nested(DEPTH_MAX + 2)).expect_err("too deep");
        assert_eq!(fault.code, dictionary::UNABLE_TO_COMPLY);
    }

    #[test]
    fn a_message_has_a_bound_of_avps() {
        let many = |count| written(&vec![(9999, 0, false, vec![]); count]);
        assert!(Message::parse(&many(AVPS_MAX)).is_ok());
        let fault = Message::parse(&many(AVPS_MAX + 1)).expect_err("too many");
        assert_eq!(fault.code, dictionary::AVP_OCCURS_TOO_OFTEN);
    }

    #[test]
    fn moments_pass_2036() {
        for (unix, octets) in [
            (1_795_515_198, [0xee, 0xaf, 0xe1, 0xbe]),
            (2_085_978_495, [0xff; 4]),
            (2_085_978_496, [0; 4]),
            (4_000_000_000, 1_914_021_504_u32.to_be_bytes()),
        ] {
            let mut writer = Writer::new(HEAD);
            writer.time(&dictionary::KEY_EXPIRY_TIME, WallTime::from_unix(unix));
            let printed = writer.finish();
            let message = Message::parse(&printed).expect("as printed");
            let avp = message.avps().need(&dictionary::KEY_EXPIRY_TIME).expect("there");
            assert_eq!((avp.value, avp.time()), (&octets[..], Ok(WallTime::from_unix(unix))));
        }
    }
}
