//! Stage 1, ClientHello: what a TLS client asks for, read before anybody answers it.
//!
//! Takes:   the first octets of a connection, in pieces as they come; later those of a ClientKeyExchange.
//! Gives:   [`ClientHello`], and by [`ClientHello::choose`] who is to answer it; the PSK identity of TLS 1.2.
//! Keeps:   the message under way: at most [`MESSAGE_MAX`] octets in [`RECORDS_MAX`] records.
//! Refuses: what is over those bounds, is no handshake record, or has lengths that do not fit; what is not looked at
//!          here is left to whoever answers.
//! Sources: RFC 5246 sections 6.2.1, 7.4 and 7.4.1.2; RFC 8446 sections 4.1.2, 4.2.1, 4.2.11 and 5.1; RFC 6066 section 3;
//!          RFC 4279 section 2; RFC 7301 section 3.1; V-47, V-48.

use smallvec::SmallVec;

use crate::keys::psk::PskName;

/// Longest handshake message that is put together here, in octets, without its header.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// Most records that it may be cut into.
pub const RECORDS_MAX: usize = 64;
/// Most identities of TLS 1.3 that are looked at.
pub const IDENTITIES_MAX: usize = 4;

/// The name of SIP in the ALPN registry: whoever offers only other names speaks another protocol.
pub(super) const ALPN_SIP: &[u8] = b"sip/2";

/// Longest content of a record.
const FRAGMENT_MAX: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// Why octets were not what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HelloFault {
    /// Not a handshake record of TLS, or not the message that is due.
    Other,
    /// Over a bound.
    TooLong,
    /// Lengths that do not fit each other, or something twice.
    Malformed,
}

/// Puts one handshake message together from the records it is cut into.
#[derive(Debug)]
pub struct Assembler {
    kind: u8,
    /// The header of the record under way, as far as it came.
    header: SmallVec<[u8; 5]>,
    /// Octets of its content that are yet to come.
    left: usize,
    records: usize,
    /// The message with its header, as far as it came.
    message: Vec<u8>,
}

impl Assembler {
    /// For a ClientHello.
    pub fn hello() -> Self {
        Self::of(CLIENT_HELLO)
    }

    /// For a ClientKeyExchange in the clear, as TLS 1.2 sends it.
    pub fn key_exchange() -> Self {
        Self::of(CLIENT_KEY_EXCHANGE)
    }

    fn of(kind: u8) -> Self {
        Self { kind, header: SmallVec::new(), left: 0, records: 0, message: Vec::new() }
    }

    /// Takes in what came next: the body of the message once it is whole.
    ///
    /// # Errors
    ///
    /// [`HelloFault`]; it stays at that.
    pub fn push(&mut self, mut octets: &[u8]) -> Result<Option<&[u8]>, HelloFault> {
        loop {
            if self.is_whole()? {
                return Ok(self.message.get(4..));
            }
            let Some((first, rest)) = octets.split_first() else { return Ok(None) };
            if self.left == 0 {
                self.header.push(*first);
                octets = rest;
                self.begin_record()?;
                continue;
            }
            let (now, later) = octets.split_at(self.left.min(self.missing()).min(octets.len()));
            self.message.extend_from_slice(now);
            self.left = self.left.saturating_sub(now.len());
            octets = later;
        }
    }

    /// Whether the record that ended the message holds more than it.
    pub fn has_more(&self) -> bool {
        self.left > 0
    }

    fn begin_record(&mut self) -> Result<(), HelloFault> {
        let (kind, major) = (self.header.first(), self.header.get(1));
        if kind.is_some_and(|kind| *kind != HANDSHAKE) || major.is_some_and(|major| *major != 3) {
            return Err(HelloFault::Other);
        }
        let [_, _, _, high, low] = self.header.as_slice() else { return Ok(()) };
        self.left = usize::from(u16::from_be_bytes([*high, *low]));
        self.header.clear();
        self.records = self.records.saturating_add(1);
        match self.left {
            0 => Err(HelloFault::Malformed),
            left if left > FRAGMENT_MAX => Err(HelloFault::TooLong),
            _ if self.records > RECORDS_MAX => Err(HelloFault::TooLong),
            _ => Ok(()),
        }
    }

    /// Octets of the message that have yet to come, as far as is known.
    fn missing(&self) -> usize {
        let length = self.length().map_or(4, |length| length.saturating_add(4));
        length.saturating_sub(self.message.len())
    }

    fn length(&self) -> Option<usize> {
        let [_, a, b, c] = self.message.first_chunk::<4>()?;
        usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()
    }

    fn is_whole(&self) -> Result<bool, HelloFault> {
        if self.message.first().is_some_and(|kind| *kind != self.kind) {
            return Err(HelloFault::Other);
        }
        let Some(length) = self.length() else { return Ok(false) };
        if length > MESSAGE_MAX {
            return Err(HelloFault::TooLong);
        }
        Ok(self.missing() == 0)
    }
}

/// What a client asks for, as far as it decides who answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name it asks for.
    pub server_name: Option<Box<str>>,
    /// The shared-key suites of TLS up to 1.2 that it offers, in its order.
    pub psk_suites: SmallVec<[u16; 4]>,
    /// Identities of TLS 1.3 that name keys such as ours, at most [`IDENTITIES_MAX`].
    pub identities: SmallVec<[Box<[u8]>; 1]>,
    /// Whether it names protocols, and SIP is not among them.
    pub is_no_sip: bool,
    /// Whether it speaks TLS 1.2.
    pub speaks_12: bool,
    /// Whether it speaks TLS 1.3.
    pub speaks_13: bool,
}

/// Who is to answer a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// TLS with certificates.
    Certificate,
    /// TLS 1.2 with a shared key and this suite.
    Psk12(u16),
    /// TLS 1.3 with a shared key.
    Psk13,
}

impl ClientHello {
    /// Reads the body of a ClientHello.
    ///
    /// # Errors
    ///
    /// [`HelloFault::Malformed`].
    ///
    /// Source: RFC 8446 section 4.1.2; RFC 5246 section 7.4.1.2.
    pub fn read(body: &[u8]) -> Result<Self, HelloFault> {
        let mut left = Octets(body);
        let mut hello = Self::default();
        let legacy = left.number()?;
        left.take(32)?;
        left.short_list()?;
        let mut suites = Octets(left.list()?);
        while !suites.0.is_empty() {
            let suite = suites.number()?;
            if is_psk_suite(suite) {
                hello.psk_suites.push(suite);
            }
        }
        left.short_list()?;
        let mut versions = None;
        let mut seen = SmallVec::<[u16; 4]>::new();
        let mut extensions = Octets(if left.0.is_empty() { &[] } else { left.list()? });
        while !extensions.0.is_empty() {
            let (kind, content) = (extensions.number()?, extensions.list()?);
            if !matches!(kind, SERVER_NAME | ALPN | PRE_SHARED_KEY | SUPPORTED_VERSIONS) {
                continue;
            }
            if seen.contains(&kind) {
                return Err(HelloFault::Malformed);
            }
            seen.push(kind);
            match kind {
                SERVER_NAME => hello.server_name = server_name(content)?,
                ALPN => hello.is_no_sip = !names_sip(content)?,
                PRE_SHARED_KEY => hello.identities = identities(content)?,
                _ => versions = Some(content),
            }
        }
        if !left.0.is_empty() {
            return Err(HelloFault::Malformed);
        }
        (hello.speaks_12, hello.speaks_13) = match versions {
            Some(versions) => speaks(versions)?,
            None => (legacy >= TLS12, false),
        };
        Ok(hello)
    }

    /// Who answers, where `suites` are the shared-key suites of TLS 1.2 that we have, the preferred one first.
    ///
    /// A client that offers a shared key of ours gets no certificate instead: that handshake would prove nobody. An
    /// identity of another form may be that of a session, and is nothing to us.
    ///
    /// Source: RFC 8446 section 4.2.11 and appendix E.6.
    pub fn choose(&self, suites: &[u16]) -> Choice {
        if self.speaks_13 && !self.identities.is_empty() {
            return Choice::Psk13;
        }
        let both = suites.iter().find(|suite| self.psk_suites.contains(suite));
        both.filter(|_| self.speaks_12).map_or(Choice::Certificate, |suite| Choice::Psk12(*suite))
    }
}

/// The PSK identity in the body of a ClientKeyExchange, whichever exchange goes with it.
///
/// # Errors
///
/// [`HelloFault::Malformed`].
///
/// Source: RFC 4279 sections 2 to 4; RFC 5489 section 2.
pub fn psk_identity(body: &[u8]) -> Result<&[u8], HelloFault> {
    Octets(body).list()
}

/// Whether a suite of TLS up to 1.2 authenticates by a shared key, or by that and RSA.
///
/// Source: RFC 4279, RFC 5487, RFC 5489, RFC 6655, RFC 7905, RFC 8442.
pub fn is_psk_suite(suite: u16) -> bool {
    matches!(suite,
        0x002C..=0x002E | 0x008A..=0x0095 | 0x00A8..=0x00B9 | 0xC033..=0xC03B | 0xC064..=0xC06F
        | 0xC08E..=0xC09B | 0xC0A4..=0xC0AB | 0xCCAB..=0xCCAE | 0xD001..=0xD005)
}

const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;
/// Longest name that a host can have.
const NAME_MAX: usize = 255;

/// Source: RFC 6066 section 3.
fn server_name(content: &[u8]) -> Result<Option<Box<str>>, HelloFault> {
    let mut content = Octets(content);
    let mut names = Octets(content.list()?);
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.octet()?;
        let name = names.list()?;
        let text = std::str::from_utf8(name).ok().filter(|text| !text.is_empty());
        let text = text.filter(|text| text.len() <= NAME_MAX).ok_or(HelloFault::Malformed)?;
        if kind != 0 {
            continue;
        }
        if found.replace(text).is_some() {
            return Err(HelloFault::Malformed);
        }
    }
    content.end()?;
    Ok(found.map(Into::into))
}

/// Whether SIP is among the protocols.
///
/// Source: RFC 7301 section 3.1.
fn names_sip(content: &[u8]) -> Result<bool, HelloFault> {
    let mut content = Octets(content);
    let mut names = Octets(content.list()?);
    let mut found = false;
    while !names.0.is_empty() {
        found |= names.short_list()? == ALPN_SIP;
    }
    content.end()?;
    Ok(found)
}

/// Source: RFC 8446 section 4.2.11. Binders are left to whoever has the key.
fn identities(content: &[u8]) -> Result<SmallVec<[Box<[u8]>; 1]>, HelloFault> {
    let mut content = Octets(content);
    let mut list = Octets(content.list()?);
    let mut found = SmallVec::new();
    while !list.0.is_empty() {
        let identity = list.list()?;
        list.take(4)?;
        if found.len() < IDENTITIES_MAX && PskName::read(identity).is_some() {
            found.push(identity.into());
        }
    }
    content.list()?;
    content.end()?;
    Ok(found)
}

/// Source: RFC 8446 section 4.2.1.
fn speaks(content: &[u8]) -> Result<(bool, bool), HelloFault> {
    let mut content = Octets(content);
    let mut list = Octets(content.short_list()?);
    let mut found = (false, false);
    while !list.0.is_empty() {
        match list.number()? {
            TLS12 => found.0 = true,
            TLS13 => found.1 = true,
            _ => {}
        }
    }
    content.end()?;
    Ok(found)
}

/// What is left to read.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloFault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(HelloFault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, HelloFault> {
        self.take(1)?.first().copied().ok_or(HelloFault::Malformed)
    }

    fn number(&mut self) -> Result<u16, HelloFault> {
        let taken = self.take(2)?.first_chunk().ok_or(HelloFault::Malformed)?;
        Ok(u16::from_be_bytes(*taken))
    }

    /// Octets after their length in one octet.
    fn short_list(&mut self) -> Result<&'a [u8], HelloFault> {
        let count = self.octet()?;
        self.take(count.into())
    }

    /// Octets after their length in two octets.
    fn list(&mut self) -> Result<&'a [u8], HelloFault> {
        let count = self.number()?;
        self.take(count.into())
    }

    fn end(&self) -> Result<(), HelloFault> {
        if self.0.is_empty() { Ok(()) } else { Err(HelloFault::Malformed) }
    }
}

#[cfg(test)]
mod tests;
