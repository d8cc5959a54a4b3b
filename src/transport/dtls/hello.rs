//! Stage 1, DTLS hellos: what a client offers, read from the clear before anything is kept for it.
//!
//! Takes:   the octets of a datagram that may begin with a ClientHello.
//! Gives:   [`Hello`], a view of them; the same hello as it would be without a cookie.
//! Keeps:   nothing. Bounds: [`HELLO_MAX`] octets, [`SUITES_MAX`] suites.
//! Refuses: a hello in fragments, since those would have to be kept; one with anything behind it in its record, since
//!          nobody reads that; lengths that do not add up, a list that is empty, two extensions of one type.
//! Sources: RFC 6347 sections 4.2.1 and 4.3.2; RFC 5246 section 7.4.1.2; RFC 6066 sections 3 (SNI) and 4.

use smallvec::SmallVec;

use super::record::{self, Content, FRAGMENT_HEAD, Fragment, RECORD_HEAD, Record};

/// Longest hello, in octets of the message.
pub const HELLO_MAX: usize = 4096;
/// Most suites in a hello.
pub const SUITES_MAX: usize = 256;
/// Longest cookie.
pub const COOKIE_MAX: usize = 255;
/// Most extensions in a hello.
pub const EXTENSIONS_MAX: usize = 64;

/// The type of a ClientHello.
pub const CLIENT_HELLO: u8 = 1;
/// The type of a ServerHello.
pub const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
const MAX_FRAGMENT_LENGTH: u16 = 1;

/// What a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The newest version it speaks, as it stands there: 254.253 is DTLS 1.2, and numbers fall as versions rise.
    pub version: [u8; 2],
    /// What makes this handshake another one than all others.
    pub random: &'a [u8; 32],
    /// The cookie that it gives back; empty in the first hello.
    pub cookie: &'a [u8],
    /// The record's number.
    pub record: u64,
    /// The message's number.
    pub message: u16,
    /// Its record, which holds nothing else.
    pub octets: &'a [u8],
    suites: &'a [u8],
    extensions: Extensions<'a>,
    /// The message's body, up to the cookie's length and from behind the cookie.
    before: &'a [u8],
    after: &'a [u8],
}

/// What of its extensions is of use here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extensions<'a> {
    server_name: Option<&'a str>,
    fragment_max: Option<usize>,
}

/// Why octets are no hello that could be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoHello {
    /// Not a ClientHello.
    Other,
    /// A part of one.
    Fragment,
    /// One that is not well formed, or over a bound.
    Malformed,
}

impl<'a> Hello<'a> {
    /// Reads the hello that `datagram` begins with.
    ///
    /// # Errors
    ///
    /// [`NoHello`].
    pub fn read(datagram: &'a [u8]) -> Result<Self, NoHello> {
        let record = record::records(datagram).next().ok_or(NoHello::Other)?;
        if record.epoch != 0 || record.content != Some(Content::Handshake) {
            return Err(NoHello::Other);
        }
        if record.body.first() != Some(&CLIENT_HELLO) {
            return Err(NoHello::Other);
        }
        let (fragment, behind) = Fragment::split(record.body).ok_or(NoHello::Malformed)?;
        if !fragment.is_whole() {
            return Err(NoHello::Fragment);
        }
        if !behind.is_empty() {
            return Err(NoHello::Malformed);
        }
        Self::of(&fragment, &record).ok_or(NoHello::Malformed)
    }

    fn of(fragment: &Fragment<'a>, record: &Record<'a>) -> Option<Self> {
        let body = fragment.body;
        if body.len() > HELLO_MAX {
            return None;
        }
        let mut rest = Reader(body);
        let version = *rest.take(2)?.first_chunk::<2>()?;
        let random = rest.take(32)?.first_chunk::<32>()?;
        let session = rest.vector(1)?;
        let before = body.get(..35_usize.checked_add(session.len())?)?;
        let cookie = rest.vector(1)?;
        let after = rest.0;
        let suites = rest.vector(2)?;
        let compressions = rest.vector(1)?;
        let extensions = if rest.0.is_empty() { &[][..] } else { rest.vector(2)? };
        let extensions = Extensions::read(extensions)?;
        let fits = session.len() <= 32
            && rest.0.is_empty()
            && !suites.is_empty()
            && suites.len() <= 2 * SUITES_MAX
            && suites.len() % 2 == 0
            && compressions.contains(&0);
        let message = fragment.message;
        fits.then_some(Self {
            version,
            random,
            cookie,
            record: record.sequence,
            message,
            octets: record.octets,
            suites,
            extensions,
            before,
            after,
        })
    }

    /// Whether DTLS 1.2 is offered.
    pub fn speaks_dtls12(&self) -> bool {
        self.version[0] == 254 && self.version[1] <= 253
    }

    /// Whether DTLS 1.2 is the newest version that is offered.
    pub fn names_dtls12(&self) -> bool {
        self.version == [254, 253]
    }

    /// Whether it names a session that it wants to resume.
    pub fn resumes(&self) -> bool {
        // Version, random and the length of nothing.
        self.before.len() > 2 + 32 + 1
    }

    /// The suites, in the client's order.
    pub fn suites(&self) -> impl Iterator<Item = u16> + 'a {
        self.suites
            .chunks_exact(2)
            .filter_map(|pair| Some(u16::from_be_bytes(*pair.first_chunk()?)))
    }

    /// The server that is asked for.
    pub fn server_name(&self) -> Option<&'a str> {
        self.extensions.server_name
    }

    /// The longest message that it takes in one record, if it says so.
    ///
    /// Source: RFC 6066 section 4.
    pub fn fragment_max(&self) -> Option<usize> {
        self.extensions.fragment_max
    }

    /// All that must be the same in the hello that gives the cookie back.
    ///
    /// Source: RFC 6347 section 4.2.1.
    pub fn constant(&self) -> [&'a [u8]; 2] {
        [self.before, self.after]
    }

    /// A record with the hello as it was before it had a cookie: the first message, with that number of a record.
    pub fn without_cookie(&self, sequence: u64) -> Vec<u8> {
        let length = self.before.len().saturating_add(1).saturating_add(self.after.len());
        let mut octets = Vec::with_capacity(length.saturating_add(RECORD_HEAD + FRAGMENT_HEAD));
        let all = length.saturating_add(FRAGMENT_HEAD);
        octets.extend_from_slice(&record::head(22, [254, 255], sequence, all));
        octets.push(CLIENT_HELLO);
        octets.extend_from_slice(&record::to_three(length));
        octets.extend_from_slice(&[0; 5]);
        octets.extend_from_slice(&record::to_three(length));
        octets.extend_from_slice(self.before);
        octets.push(0);
        octets.extend_from_slice(self.after);
        octets
    }
}

impl<'a> Extensions<'a> {
    /// `None` for extensions that are not well formed.
    fn read(octets: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(octets);
        let (mut found, mut seen) = (Self::default(), SmallVec::<[u16; EXTENSIONS_MAX]>::new());
        while !rest.0.is_empty() {
            let kind = rest.number(2)?;
            let kind = u16::try_from(kind).ok()?;
            let body = rest.vector(2)?;
            if seen.contains(&kind) || seen.len() == EXTENSIONS_MAX {
                return None;
            }
            seen.push(kind);
            match kind {
                SERVER_NAME => {
                    let list = Reader(body).vector(2)?;
                    let mut list = Reader(list);
                    let host = list.take(1)? == [0];
                    let name = std::str::from_utf8(list.vector(2)?).ok();
                    found.server_name = name.filter(|name| host && !name.is_empty());
                }
                MAX_FRAGMENT_LENGTH => {
                    found.fragment_max = match body {
                        [1] => Some(512),
                        [2] => Some(1024),
                        [3] => Some(2048),
                        [4] => Some(4096),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        Some(found)
    }
}

/// Whether a datagram of a server's begins a ServerHello, which no client sees whose cookie was not good.
///
/// Source: RFC 6347 section 4.2.1.
pub fn is_answered(datagram: &[u8]) -> bool {
    let begins = |record: Record<'_>| {
        record.epoch == 0
            && record.content == Some(Content::Handshake)
            && record.body.first() == Some(&SERVER_HELLO)
    };
    record::records(datagram).any(begins)
}

/// Octets not yet read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, octets: usize) -> Option<usize> {
        let octets = self.take(octets)?;
        Some(octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet)))
    }

    /// A vector whose length stands before it in so many octets.
    fn vector(&mut self, octets: usize) -> Option<&'a [u8]> {
        let length = self.number(octets)?;
        self.take(length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A datagram with a hello.
    pub(in crate::transport::dtls) fn hello(random: u8, cookie: &[u8], suites: &[u16]) -> Vec<u8> {
        let mut body = vec![254, 253];
        body.extend_from_slice(&[random; 32]);
        body.push(0);
        body.push(u8::try_from(cookie.len()).unwrap());
        body.extend_from_slice(cookie);
        body.extend_from_slice(&u16::try_from(suites.len() * 2).unwrap().to_be_bytes());
        body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
        body.extend_from_slice(&[1, 0]);
        let name = b"edge.example.net";
        let list = [&[0, 0, 16][..], name].concat();
        let sni = [&[0, 0, 0, 21, 0, 19][..], &list].concat();
        body.extend_from_slice(&u16::try_from(sni.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&sni);
        let message = u8::from(!cookie.is_empty());
        let mut octets =
            record::head(22, [254, 255], u64::from(message), body.len() + FRAGMENT_HEAD).to_vec();
        octets.push(CLIENT_HELLO);
        octets.extend_from_slice(&record::to_three(body.len()));
        octets.extend_from_slice(&[0, message, 0, 0, 0]);
        octets.extend_from_slice(&record::to_three(body.len()));
        octets.extend_from_slice(&body);
        octets
    }

    #[test]
    fn a_hello_is_read_and_made_as_it_was() {
        let first = hello(7, b"", &[0x00A8, 0xCCAC]);
        let read = Hello::read(&first).unwrap();
        assert_eq!((read.version, read.random), ([254, 253], &[7; 32]));
        assert_eq!(read.suites().collect::<Vec<_>>(), [0x00A8, 0xCCAC]);
        assert_eq!(read.server_name(), Some("edge.example.net"));
        assert!(read.speaks_dtls12() && read.cookie.is_empty() && !read.resumes());
        let second = hello(7, b"a cookie", &[0x00A8, 0xCCAC]);
        let read_again = Hello::read(&second).unwrap();
        assert_eq!(
            (read_again.cookie, read_again.record, read_again.message),
            (&b"a cookie"[..], 1, 1)
        );
        assert_eq!(read_again.constant(), read.constant());
        assert_eq!(read_again.without_cookie(0), first);
        let more = [&first[..], &second].concat();
        assert_eq!(Hello::read(&more).unwrap().octets, first, "its own record alone");
        let old = Hello { version: [254, 255], ..read };
        assert!(!old.speaks_dtls12() && !old.names_dtls12());
        let new = Hello { version: [254, 252], ..read };
        assert!(new.speaks_dtls12() && !new.names_dtls12() && read.names_dtls12());
    }

    #[test]
    fn a_hello_may_name_a_session() {
        let good = hello(7, b"", &[0x00A8]);
        let (head, rest) = good.split_at(RECORD_HEAD + FRAGMENT_HEAD + 2 + 32);
        let mut named = [head, &[4], b"name", &rest[1..]].concat();
        for at in [12, 16, 24] {
            named[at] += 4;
        }
        let named = Hello::read(&named).unwrap();
        assert!(named.resumes() && named.cookie.is_empty());
        assert!(named.suites().eq([0x00A8]));
    }

    #[test]
    fn a_server_answers_by_its_own_hello() {
        let of = |kind: u8, epoch: u8, message: u8| {
            let mut octets = record::head(kind, [254, 253], 0, 2).to_vec();
            octets[4] = epoch;
            [octets, vec![message, 0]].concat()
        };
        for (about, datagram, answered) in [
            ("a ServerHello", of(22, 0, SERVER_HELLO), true),
            ("behind another", [of(22, 0, 3), of(22, 0, SERVER_HELLO)].concat(), true),
            ("a HelloVerifyRequest", of(22, 0, 3), false),
            ("an alert", of(21, 0, SERVER_HELLO), false),
            ("encrypted", of(22, 1, SERVER_HELLO), false),
            ("nothing", Vec::new(), false),
        ] {
            assert_eq!(is_answered(&datagram), answered, "{about}");
        }
    }

    /// RFC 6066 section 4: who has room for less says how much.
    #[test]
    fn a_hello_may_say_how_long_a_message_may_be() {
        let edge = [&[0, 0, 0, 21, 0, 19, 0, 0, 16][..], b"edge.example.net"].concat();
        for (about, octets, length) in [
            ("nothing", vec![], Some(None)),
            ("a name alone", edge.clone(), Some(None)),
            ("512", vec![0, 1, 0, 1, 1], Some(Some(512))),
            ("4096, behind a name", [&edge[..], &[0, 1, 0, 1, 4]].concat(), Some(Some(4096))),
            ("a length of nobody", vec![0, 1, 0, 1, 5], Some(None)),
            ("two lengths", vec![0, 1, 0, 2, 1, 1], Some(None)),
            ("twice", vec![0, 1, 0, 1, 1, 0, 1, 0, 1, 1], None),
            ("cut short", vec![0, 1, 0, 1], None),
        ] {
            let found = Extensions::read(&octets).map(|found| found.fragment_max);
            assert_eq!(found, length, "{about}");
        }
    }

    #[test]
    fn what_is_no_hello_is_told_apart() {
        let good = hello(7, b"", &[0x00A8]);
        let at = RECORD_HEAD + FRAGMENT_HEAD;
        let change = |place: usize, to: u8| {
            let mut octets = good.clone();
            octets[place] = to;
            octets
        };
        let with = |more: &[u8]| {
            let mut octets = [&good[..], more].concat();
            octets[12] += u8::try_from(more.len()).unwrap();
            octets
        };
        for (about, octets, why) in [
            ("nothing", Vec::new(), NoHello::Other),
            ("an alert", change(0, 21), NoHello::Other),
            ("another epoch", change(4, 1), NoHello::Other),
            ("another message", change(13, 16), NoHello::Other),
            ("a fragment", change(16, good[16] + 1), NoHello::Fragment),
            ("an octet behind it", with(&[0]), NoHello::Malformed),
            ("a message behind it", with(&[16; FRAGMENT_HEAD]), NoHello::Malformed),
            ("a session of 33 octets", change(at + 34, 33), NoHello::Malformed),
            ("a cookie beyond the end", change(at + 35, 200), NoHello::Malformed),
            ("an odd list of suites", change(at + 37, 1), NoHello::Malformed),
            ("compression alone", change(at + 41, 1), NoHello::Malformed),
            ("no suites", hello(7, b"", &[]), NoHello::Malformed),
            ("too many suites", hello(7, b"", &[1; SUITES_MAX + 1]), NoHello::Malformed),
        ] {
            assert_eq!(Hello::read(&octets).map(|_| ()), Err(why), "{about}");
        }
        for cut in 0..good.len() {
            assert!(Hello::read(&good[..cut]).is_err(), "cut at {cut}");
        }
    }
}
