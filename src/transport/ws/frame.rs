//! Stage 1, WebSocket frames: the header before each piece of a message, and the mask over it.
//!
//! Takes:   the front of what was read; payloads to send.
//! Gives:   [`Header`]; frames as octets.
//! Keeps:   nothing. Bounds: a header has at most 14 octets.
//! Refuses: reserved bits and opcodes, lengths not written in the fewest octets or of 2^63 and more, control frames that are
//!          fragmented or over 125 octets, a client's frame without mask and a server's with one.
//! Sources: RFC 6455 sections 5.1 to 5.5, 7.4 and 7.1.5.

use bytes::{BufMut as _, BytesMut};

/// Longest payload of a control frame, in octets.
pub const CONTROL_MAX: usize = 125;

/// Which end of the connection reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its frames are not masked; what it reads is.
    Server,
    /// The other way round.
    Client,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message under way.
    Continuation,
    /// A message of UTF-8, or its first piece.
    Text,
    /// A message of any octets, or its first piece.
    Binary,
    /// The end.
    Close,
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether it may stand between the pieces of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Why a connection ends, as a number in its last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(u16);

impl CloseCode {
    /// All was said.
    pub const NORMAL: Self = Self(1000);
    /// This end stops.
    pub const GOING_AWAY: Self = Self(1001);
    /// What came was no WebSocket.
    pub const PROTOCOL: Self = Self(1002);
    /// What came was not what the type of the message promises: no UTF-8, or no SIP.
    pub const PAYLOAD: Self = Self(1007);
    /// What this end does not put up with, for which there is no number of its own.
    pub const POLICY: Self = Self(1008);
    /// A message over the bound.
    pub const TOO_BIG: Self = Self(1009);

    /// The number that stands in a frame; `None` if it is one that must not.
    pub fn received(number: u16) -> Option<Self> {
        matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub opcode: Opcode,
    /// Whether it is the last piece of its message.
    pub is_final: bool,
    /// Octets of the payload.
    pub length: u64,
    /// What the payload was masked with; zeros change nothing.
    pub mask: [u8; 4],
    /// Octets of the header itself.
    pub octets: usize,
}

impl Header {
    /// Reads the header at the front of `octets`, as `role` has to; `Ok(None)` if it is not whole yet.
    ///
    /// # Errors
    ///
    /// [`CloseCode::PROTOCOL`] for what the file's header lists.
    pub fn read(octets: &[u8], role: Role) -> Result<Option<Self>, CloseCode> {
        let [first, second, rest @ ..] = octets else { return Ok(None) };
        let opcode = Opcode::of(first & 0x0F).ok_or(CloseCode::PROTOCOL)?;
        let (is_final, masked) = (first & 0x80 != 0, second & 0x80 != 0);
        let short = second & 0x7F;
        let control_fits = is_final && usize::from(short) <= CONTROL_MAX;
        if first & 0x70 != 0
            || masked != (role == Role::Server)
            || opcode.is_control() && !control_fits
        {
            return Err(CloseCode::PROTOCOL);
        }
        let Some((length, rest)) = length(short, rest)? else { return Ok(None) };
        let (mask, rest) = match (masked, rest.split_first_chunk()) {
            (false, _) => ([0; 4], rest),
            (true, Some((mask, rest))) => (*mask, rest),
            (true, None) => return Ok(None),
        };
        let octets = octets.len().saturating_sub(rest.len());
        Ok(Some(Self { opcode, is_final, length, mask, octets }))
    }
}

/// The length that `short` announces, and what follows it.
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, CloseCode> {
    let (length, least, rest) = match short {
        127 => match rest.split_first_chunk() {
            Some((long, rest)) => (u64::from_be_bytes(*long), 1 << 16, rest),
            None => return Ok(None),
        },
        126 => match rest.split_first_chunk() {
            Some((long, rest)) => (u64::from(u16::from_be_bytes(*long)), 126, rest),
            None => return Ok(None),
        },
        short => (u64::from(short), 0, rest),
    };
    let fits = length >= least && length < 1 << 63;
    if fits { Ok(Some((length, rest))) } else { Err(CloseCode::PROTOCOL) }
}

/// Takes the mask off `payload`, or puts it on; `at` is how many octets of the same payload lie before it.
///
/// Source: RFC 6455 section 5.3.
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4], at: usize) {
    let mut mask = mask;
    mask.rotate_left(at % 4);
    let mut fours = payload.chunks_exact_mut(4);
    for four in &mut fours {
        four.iter_mut().zip(mask).for_each(|(octet, with)| *octet ^= with);
    }
    fours.into_remainder().iter_mut().zip(mask).for_each(|(octet, with)| *octet ^= with);
}

/// Appends one frame that is a whole message, or a control frame. A client's has a random `mask`, a server's none.
pub fn put(out: &mut BytesMut, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(payload.len().saturating_add(14));
    out.put_u8(0x80 | opcode.bits());
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.put_u8(masked | short),
        (_, Ok(length)) => {
            out.put_u8(masked | 126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(payload.len() as u64);
        }
    }
    if let Some(mask) = mask {
        out.put_slice(&mask);
    }
    let from = out.len();
    out.put_slice(payload);
    if let (Some(mask), Some(payload)) = (mask, out.get_mut(from..)) {
        apply_mask(payload, mask, 0);
    }
}

/// Appends one SIP message: as text if it is UTF-8, which scripts read more easily, else as binary.
///
/// Source: RFC 7118 section 4.2.
pub fn put_message(out: &mut BytesMut, message: &[u8], mask: Option<[u8; 4]>) {
    let is_text = std::str::from_utf8(message).is_ok();
    put(out, if is_text { Opcode::Text } else { Opcode::Binary }, message, mask);
}

/// Appends the last frame.
pub fn put_close(out: &mut BytesMut, code: CloseCode, mask: Option<[u8; 4]>) {
    put(out, Opcode::Close, &code.0.to_be_bytes(), mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 section 5.7, and the lengths around each border.
    #[test]
    fn headers_of_the_document_and_at_the_borders() {
        let header = |opcode, is_final, length, mask, octets| {
            Ok(Some(Header { opcode, is_final, length, mask, octets }))
        };
        let (server, client) = (Role::Server, Role::Client);
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for (octets, role, expected) in [
            (&[0x81, 0x05][..], client, header(Opcode::Text, true, 5, [0; 4], 2)),
            (
                &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f],
                server,
                header(Opcode::Text, true, 5, key, 6),
            ),
            (&[0x01, 0x03, 0x48], client, header(Opcode::Text, false, 3, [0; 4], 2)),
            (&[0x80, 0x02, 0x6c], client, header(Opcode::Continuation, true, 2, [0; 4], 2)),
            (&[0x89, 0x05], client, header(Opcode::Ping, true, 5, [0; 4], 2)),
            (&[0x82, 0x7E, 0x01, 0x00], client, header(Opcode::Binary, true, 256, [0; 4], 4)),
            (&[0x82, 0x7E, 0x00, 0x7E], client, header(Opcode::Binary, true, 126, [0; 4], 4)),
            (
                &[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0],
                client,
                header(Opcode::Binary, true, 65_536, [0; 4], 10),
            ),
            (&[], client, Ok(None)),
            (&[0x81], client, Ok(None)),
            (&[0x82, 0x7E, 0x01], client, Ok(None)),
            (&[0x81, 0x85, 0x37, 0xfa, 0x21], server, Ok(None)),
        ] {
            assert_eq!(Header::read(octets, role), expected, "{octets:02x?} read by {role:?}");
        }
    }

    #[test]
    fn what_no_end_may_send_is_refused() {
        for (why, octets, role) in [
            ("a client's frame without mask", &[0x81, 0x05][..], Role::Server),
            ("a server's frame with one", &[0x81, 0x85, 1, 2, 3, 4], Role::Client),
            ("a reserved bit", &[0xC1, 0x85], Role::Server),
            ("a reserved opcode for data", &[0x83, 0x85], Role::Server),
            ("a reserved opcode for control", &[0x8B, 0x85], Role::Server),
            ("a ping in pieces", &[0x09, 0x85], Role::Server),
            ("a ping of 126 octets", &[0x89, 0xFE], Role::Server),
            ("125 in three octets", &[0x82, 0xFE, 0, 125], Role::Server),
            ("65535 in nine", &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Role::Server),
            ("2^63", &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], Role::Server),
        ] {
            assert_eq!(Header::read(octets, role), Err(CloseCode::PROTOCOL), "{why}");
        }
    }

    #[test]
    fn what_is_put_is_read_back() {
        let mask = [1, 2, 3, 250];
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            for mask in [None, Some(mask)] {
                let mut out = BytesMut::new();
                put(&mut out, Opcode::Binary, &payload, mask);
                let role = if mask.is_some() { Role::Server } else { Role::Client };
                let header = Header::read(&out, role).unwrap().unwrap();
                assert_eq!(header.length, length as u64);
                let mut found = out[header.octets..].to_vec();
                // Whatever the pieces in which it is unmasked.
                let (front, back) = found.split_at_mut(length / 3);
                apply_mask(front, header.mask, 0);
                apply_mask(back, header.mask, length / 3);
                assert!(found == payload, "{length} octets, masked: {}", mask.is_some());
            }
        }
    }

    #[test]
    fn text_is_what_is_utf_8() {
        for (message, first) in [(&b"caf\xC3\xA9"[..], 0x81), (b"caf\xE9", 0x82)] {
            let mut out = BytesMut::new();
            put_message(&mut out, message, None);
            assert_eq!(out[0], first, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn some_numbers_never_stand_in_a_frame() {
        for number in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535] {
            assert_eq!(CloseCode::received(number), None, "{number}");
        }
        for number in [1000, 1001, 1003, 1011, 3000, 4999] {
            assert_eq!(CloseCode::received(number).map(CloseCode::number), Some(number));
        }
    }
}
