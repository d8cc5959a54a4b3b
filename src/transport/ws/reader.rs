//! Stage 1, WebSocket messages: pieces put together, whatever the segments they come in.
//!
//! Takes:   what was read from one connection and not yet taken.
//! Gives:   [`Item`]s, in order.
//! Keeps:   the message under way, at most its bound: a length that is announced costs nothing before its octets are there.
//! Refuses: what [`Header::read`] refuses; a continuation of nothing, a new message inside another; a text that is no UTF-8;
//!          a message over the bound, by its header. After that, and after a close, nothing more is to be read.
//! Sources: RFC 6455 sections 5.4, 5.5, 5.6, 7.1.5 and 8.1; `TR-07`, `V-13`.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::frame::{CONTROL_MAX, CloseCode, Header, Opcode, Role, apply_mask};

/// What lies at the front of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Not enough octets yet.
    More,
    /// A message, whole.
    Message(Bytes),
    /// To be answered by a pong with the same octets.
    Ping(Bytes),
    /// An answer to a ping, or none.
    Pong,
    /// The other end ends it, with this number or none.
    Close(Option<CloseCode>),
    /// It is to be ended with this number.
    Fail(CloseCode),
}

/// Puts messages together.
#[derive(Debug)]
pub struct Reader {
    role: Role,
    /// What the message under way is; `None` between messages.
    kind: Option<Opcode>,
    /// What is still to come of its piece under way, if one is.
    piece: Option<Piece>,
    message: BytesMut,
    /// Octets of the message in which the end of a SIP head was looked for in vain; none once it was found.
    searched: Option<usize>,
}

#[derive(Debug)]
struct Piece {
    left: usize,
    taken: usize,
    mask: [u8; 4],
    is_last: bool,
}

impl Reader {
    /// A reader at that end of a connection.
    pub fn new(role: Role) -> Self {
        Self { role, kind: None, piece: None, message: BytesMut::new(), searched: Some(0) }
    }

    /// Whether part of a message was taken, and not the whole.
    pub fn is_under_way(&self) -> bool {
        self.kind.is_some()
    }

    /// Whether what was taken of the message under way has a whole SIP head in it.
    pub fn has_head(&self) -> bool {
        self.searched.is_none()
    }

    /// Takes the next item off the front of `octets`, whose first chunk must be all of them; no message may be longer than
    /// `bound`. Where it says [`Item::More`], less than a header, or than a control frame, is left.
    pub fn next(&mut self, octets: &mut impl Buf, bound: usize) -> Item {
        loop {
            let taken = match self.piece.take() {
                Some(piece) => self.take_piece(piece, octets),
                None => {
                    self.take_header(octets, bound).unwrap_or_else(|code| Some(Item::Fail(code)))
                }
            };
            if let Some(item) = taken {
                return item;
            }
        }
    }

    /// Begins a piece, or takes a control frame; nothing if a piece has begun.
    fn take_header(
        &mut self,
        octets: &mut impl Buf,
        bound: usize,
    ) -> Result<Option<Item>, CloseCode> {
        let Some(header) = Header::read(octets.chunk(), self.role)? else {
            self.look_for_head();
            return Ok(Some(Item::More));
        };
        if header.opcode.is_control() {
            return self.take_control(&header, octets).map(Some);
        }
        match (header.opcode, self.kind) {
            (Opcode::Continuation, Some(_)) => {}
            (Opcode::Continuation, None) | (_, Some(_)) => return Err(CloseCode::PROTOCOL),
            (opcode, None) => self.kind = Some(opcode),
        }
        let left = usize::try_from(header.length).map_err(|_| CloseCode::TOO_BIG)?;
        if self.message.len().checked_add(left).is_none_or(|whole| whole > bound) {
            return Err(CloseCode::TOO_BIG);
        }
        octets.advance(header.octets);
        self.piece = Some(Piece { left, taken: 0, mask: header.mask, is_last: header.is_final });
        Ok(None)
    }

    /// Takes what is there of a piece; nothing if it is whole and the message is not.
    fn take_piece(&mut self, mut piece: Piece, octets: &mut impl Buf) -> Option<Item> {
        let there = octets.chunk().get(..piece.left).unwrap_or(octets.chunk());
        let (count, from) = (there.len(), self.message.len());
        self.message.extend_from_slice(there);
        if let Some(fresh) = self.message.get_mut(from..) {
            apply_mask(fresh, piece.mask, piece.taken);
        }
        octets.advance(count);
        piece.left = piece.left.saturating_sub(count);
        piece.taken = piece.taken.saturating_add(count);
        if piece.left > 0 {
            self.piece = Some(piece);
            self.look_for_head();
            return Some(Item::More);
        }
        piece.is_last.then(|| self.end_message())
    }

    fn end_message(&mut self) -> Item {
        let message = std::mem::take(&mut self.message).freeze();
        self.searched = Some(0);
        let is_text = self.kind.take() == Some(Opcode::Text);
        if is_text && std::str::from_utf8(&message).is_err() {
            return Item::Fail(CloseCode::PAYLOAD);
        }
        Item::Message(message)
    }

    fn take_control(&self, header: &Header, octets: &mut impl Buf) -> Result<Item, CloseCode> {
        let length = usize::try_from(header.length).unwrap_or(CONTROL_MAX);
        let whole = header.octets.saturating_add(length);
        let Some(payload) = octets.chunk().get(header.octets..whole) else {
            return Ok(Item::More);
        };
        let mut payload = BytesMut::from(payload);
        apply_mask(&mut payload, header.mask, 0);
        octets.advance(whole);
        Ok(match header.opcode {
            Opcode::Ping => Item::Ping(payload.freeze()),
            Opcode::Pong => Item::Pong,
            _ => Item::Close(close_code(&payload)?),
        })
    }

    /// Looks for the blank line in what came since it was looked for last.
    fn look_for_head(&mut self) {
        let Some(searched) = self.searched else { return };
        let fresh = self.message.get(searched.saturating_sub(3)..).unwrap_or_default();
        let found = memmem::find(fresh, b"\r\n\r\n").is_some();
        self.searched = (!found).then_some(self.message.len());
    }
}

/// The number in the payload of a close; `None` if that is empty.
fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, CloseCode> {
    let Some((number, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(CloseCode::PROTOCOL) };
    };
    if std::str::from_utf8(reason).is_err() {
        return Err(CloseCode::PAYLOAD);
    }
    let code = CloseCode::received(u16::from_be_bytes(*number)).ok_or(CloseCode::PROTOCOL)?;
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use super::super::frame::{put, put_close};
    use super::*;

    const BOUND: usize = 1000;

    /// All items of `octets`, read `step` at a time; what is left over never is more than a control frame.
    fn items(octets: &[u8], step: usize, role: Role) -> Vec<Item> {
        let (mut reader, mut held, mut items) = (Reader::new(role), BytesMut::new(), Vec::new());
        for chunk in octets.chunks(step) {
            held.extend_from_slice(chunk);
            loop {
                match reader.next(&mut held, BOUND) {
                    Item::More => break,
                    last @ (Item::Close(_) | Item::Fail(_)) => {
                        items.push(last);
                        return items;
                    }
                    item => items.push(item),
                }
            }
            assert!(held.len() < CONTROL_MAX + 6, "{} octets are left", held.len());
        }
        items
    }

    fn message(text: &'static [u8]) -> Item {
        Item::Message(Bytes::from_static(text))
    }

    /// RFC 6455 section 5.7, octet for octet.
    #[test]
    fn the_examples_of_the_document() {
        let hello = || message(b"Hello");
        for (about, octets, role, expected) in [
            (
                "one unmasked text",
                &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f][..],
                Role::Client,
                hello(),
            ),
            (
                "one masked text",
                &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
                Role::Server,
                hello(),
            ),
            (
                "a text in two pieces",
                &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f],
                Role::Client,
                hello(),
            ),
            (
                "a ping",
                &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
                Role::Client,
                Item::Ping(Bytes::from_static(b"Hello")),
            ),
            (
                "a masked pong",
                &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
                Role::Server,
                Item::Pong,
            ),
        ] {
            for step in [1, 3, octets.len()] {
                assert_eq!(
                    items(octets, step, role),
                    std::slice::from_ref(&expected),
                    "{about}, {step} at a time"
                );
            }
        }
    }

    /// V-13.
    #[test]
    fn pieces_of_one_octet_are_one_message_with_pings_between_them() {
        let mut octets = BytesMut::new();
        for (at, octet) in b"Hello".iter().enumerate() {
            let mut piece = BytesMut::new();
            put(
                &mut piece,
                if at == 0 { Opcode::Text } else { Opcode::Continuation },
                &[*octet],
                Some([9; 4]),
            );
            piece[0] = if at == 4 { piece[0] } else { piece[0] & 0x7F };
            octets.extend_from_slice(&piece);
            if at == 2 {
                put(&mut octets, Opcode::Ping, b"", Some([7; 4]));
            }
        }
        let expected = [Item::Ping(Bytes::new()), message(b"Hello")];
        for step in [1, 2, octets.len()] {
            assert_eq!(items(&octets, step, Role::Server), expected, "{step} at a time");
        }
    }

    #[test]
    fn a_message_over_the_bound_is_refused_by_its_header() {
        let too_big = [Item::Fail(CloseCode::TOO_BIG)];
        // 10 MiB announced, of which not one octet is there.
        let announced = [0x82, 0xFF, 0, 0, 0, 0, 0, 0xA0, 0, 0, 0, 0, 0, 0];
        assert_eq!(items(&announced, 14, Role::Server), too_big);
        for (length, fits) in [(BOUND, true), (BOUND + 1, false)] {
            let mut octets = BytesMut::new();
            put(&mut octets, Opcode::Binary, &vec![b'x'; length - 1], Some([0; 4]));
            octets[0] &= 0x7F;
            put(&mut octets, Opcode::Continuation, b"x", Some([0; 4]));
            let found = items(&octets, 7, Role::Server);
            assert_eq!(matches!(found[..], [Item::Message(_)]), fits, "{length} in two pieces");
            assert_eq!(found == too_big, !fits, "{length} in two pieces");
        }
    }

    #[test]
    fn what_is_out_of_order_ends_it() {
        let masked = |opcode, payload: &[u8]| {
            let mut octets = BytesMut::new();
            put(&mut octets, opcode, payload, Some([1, 2, 3, 4]));
            octets.to_vec()
        };
        let mut begun = masked(Opcode::Text, b"a");
        begun[0] &= 0x7F;
        let again = [begun, masked(Opcode::Text, b"b")].concat();
        for (why, octets, code) in [
            ("a continuation of nothing", masked(Opcode::Continuation, b"a"), CloseCode::PROTOCOL),
            ("a message inside another", again, CloseCode::PROTOCOL),
            ("a text that is none", masked(Opcode::Text, b"\xE9"), CloseCode::PAYLOAD),
            ("a close of one octet", masked(Opcode::Close, b"\x03"), CloseCode::PROTOCOL),
            (
                "a close with a number of nobody",
                masked(Opcode::Close, b"\x03\xED"),
                CloseCode::PROTOCOL,
            ),
            (
                "a close with a reason that is none",
                masked(Opcode::Close, b"\x03\xE8\xE9"),
                CloseCode::PAYLOAD,
            ),
        ] {
            for step in [1, octets.len()] {
                assert_eq!(items(&octets, step, Role::Server), [Item::Fail(code)], "{why}");
            }
        }
        let mut close = BytesMut::new();
        put_close(&mut close, CloseCode::GOING_AWAY, Some([5; 4]));
        assert_eq!(items(&close, 1, Role::Server), [Item::Close(Some(CloseCode::GOING_AWAY))]);
        assert_eq!(items(&masked(Opcode::Close, b""), 1, Role::Server), [Item::Close(None)]);
    }

    #[test]
    fn it_knows_whether_a_message_and_its_head_are_under_way() {
        let mut octets = BytesMut::new();
        put(&mut octets, Opcode::Text, b"A\r\n\r\nbody", Some([3; 4]));
        let mut reader = Reader::new(Role::Server);
        let mut held = octets;
        let mut front = held.split_to(9);
        assert_eq!(reader.next(&mut front, BOUND), Item::More);
        assert_eq!((reader.is_under_way(), reader.has_head()), (true, false));
        let mut head = held.split_to(2);
        assert_eq!(reader.next(&mut head, BOUND), Item::More);
        assert_eq!((reader.is_under_way(), reader.has_head()), (true, true));
        assert_eq!(reader.next(&mut held, BOUND), message(b"A\r\n\r\nbody"));
        assert_eq!((reader.is_under_way(), reader.has_head()), (false, false));
    }
}
