//! Stage 6, multipart bodies: their parts, as every reader cuts them.
//!
//! Takes:   a multipart type and the octets of the body.
//! Gives:   each [`Leaf`], in order: a part that is no multipart itself.
//! Keeps:   nothing. Bounds: 4 deep, 16 parts in all, a boundary of 70 octets, 4 KiB of headers of a part.
//! Refuses: no boundary, or one that never ends; a line that begins with the boundary and is not its line; the
//!          boundary in a part's headers; bare line ends in headers or before a boundary; a header of a part twice.
//! Sources: RFC 2046 sections 5.1.1 and 5.1.2; RFC 5621 section 3.

use smallvec::SmallVec;

use crate::refusal::Refusal;
use crate::wire::MediaType;
use crate::wire::octets::{is_space, is_token, trim};

/// How deep multiparts may lie in each other.
pub const DEPTH_MAX: usize = 4;
/// Most parts of one body, in all.
pub const PARTS_MAX: usize = 16;
/// Longest boundary, in octets.
pub const BOUNDARY_MAX: usize = 70;
/// Longest headers of a part, in octets.
pub const HEAD_MAX: usize = 4 * 1024;

/// A part with something in it, or a body that has no parts.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'b> {
    /// What it is said to be.
    pub media: MediaType<'b>,
    /// Content-Disposition, as written.
    pub disposition: Option<&'b [u8]>,
    /// Its octets.
    pub content: &'b [u8],
    /// Whether its octets stand for others: its Content-Transfer-Encoding is none of 7bit, 8bit and binary.
    pub encoded: bool,
}

impl Leaf<'_> {
    /// Whether it is of this type, given as `type/subtype`.
    pub fn is(&self, wanted: &str) -> bool {
        super::is(&self.media, wanted)
    }

    /// Whether it is a list of those whom the request is for.
    pub fn is_recipient_list(&self) -> bool {
        let kind = self.disposition.and_then(|value| value.split(|octet| *octet == b';').next());
        self.is("application/resource-lists+xml")
            || kind.is_some_and(|kind| trim(kind).eq_ignore_ascii_case(b"recipient-list"))
    }

    /// Its octets, to be read.
    ///
    /// # Errors
    ///
    /// [`Refusal::EncodingForbidden`] if they stand for others, or are said to be of another charset.
    pub fn read(&self) -> Result<&[u8], Refusal> {
        if self.encoded || !self.is_plain_text() {
            return Err(Refusal::EncodingForbidden);
        }
        Ok(self.content)
    }

    /// Whether the octets are the letters that we take them for, to a reader who believes the charset too.
    fn is_plain_text(&self) -> bool {
        let plain = |charset: &[u8]| {
            [&b"utf-8"[..], b"us-ascii"].iter().any(|own| charset.eq_ignore_ascii_case(own))
        };
        self.media.param("charset").is_none_or(|charset| plain(&charset))
    }
}

/// Whether octets under that Content-Transfer-Encoding stand for others.
pub(super) fn is_encoding(value: &[u8]) -> bool {
    let plain = [&b"7bit"[..], b"8bit", b"binary"];
    !plain.iter().any(|own| value.eq_ignore_ascii_case(own))
}

/// Visits every leaf.
///
/// # Errors
///
/// [`Refusal::BodyMalformed`], or what `visit` says.
pub fn walk<'b>(
    media: MediaType<'b>,
    body: &'b [u8],
    visit: &mut dyn FnMut(&Leaf<'b>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut left = PARTS_MAX;
    descend(media, body, 1, &mut left, visit)
}

fn descend<'b>(
    media: MediaType<'b>,
    body: &'b [u8],
    depth: usize,
    left: &mut usize,
    visit: &mut dyn FnMut(&Leaf<'b>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if depth > DEPTH_MAX {
        return Err(Refusal::BodyMalformed);
    }
    let boundary = media.param("boundary").ok_or(Refusal::BodyMalformed)?;
    for part in parts(&boundary, body).ok_or(Refusal::BodyMalformed)? {
        *left = left.checked_sub(1).ok_or(Refusal::BodyMalformed)?;
        let leaf = leaf(part).ok_or(Refusal::BodyMalformed)?;
        if leaf.media.kind().eq_ignore_ascii_case(b"multipart") {
            if leaf.encoded {
                return Err(Refusal::EncodingForbidden);
            }
            descend(leaf.media, leaf.content, depth.saturating_add(1), left, visit)?;
        } else {
            visit(&leaf)?;
        }
    }
    Ok(())
}

type Parts<'b> = SmallVec<[&'b [u8]; 4]>;

/// What lies between the lines of `boundary`: headers and content of each part.
fn parts<'b>(boundary: &[u8], body: &'b [u8]) -> Option<Parts<'b>> {
    if boundary.is_empty() || boundary.len() > BOUNDARY_MAX || !boundary.iter().all(is_boundary) {
        return None;
    }
    let line = [b"--", boundary].concat();
    let (mut found, mut from) = (Parts::new(), None);
    for at in memchr::memmem::find_iter(body, &line) {
        let start = match body.get(..at)? {
            [] => 0,
            [.., b'\r', b'\n'] => at.checked_sub(2)?,
            // A reader that takes a bare line end for one would cut here.
            [.., b'\n' | b'\r'] => return None,
            _ => continue,
        };
        if let Some(from) = from.take() {
            if found.len() == PARTS_MAX {
                return None;
            }
            // Two lines in a row share one line end: there is nothing between them.
            found.push(body.get(from..start.max(from))?);
        }
        let rest = body.get(at.checked_add(line.len())?..)?;
        let closes = rest.strip_prefix(b"--");
        let tail = closes.unwrap_or(rest);
        let padding = tail.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        let tail = tail.get(padding..)?;
        if closes.is_some() {
            return (tail.is_empty() || tail.starts_with(b"\r\n")).then_some(found);
        }
        from = Some(body.len().checked_sub(tail.strip_prefix(b"\r\n")?.len())?);
    }
    None
}

fn is_boundary(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(octet)
}

/// Reads a part's headers.
fn leaf(part: &[u8]) -> Option<Leaf<'_>> {
    let (head, content) = split_head(part)?;
    let (mut media, mut disposition, mut encoding) = (None, None, None);
    for (name, value) in fields(head)? {
        let slot = if name.eq_ignore_ascii_case(b"Content-Type") {
            &mut media
        } else if name.eq_ignore_ascii_case(b"Content-Disposition") {
            &mut disposition
        } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
            &mut encoding
        } else {
            continue;
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    let media = MediaType::parse(media.unwrap_or(b"text/plain"))?;
    let encoded = encoding.is_some_and(is_encoding);
    Some(Leaf { media, disposition, content, encoded })
}

/// Headers up to the empty line, and what follows it.
pub(super) fn split_head(part: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(content) = part.strip_prefix(b"\r\n") {
        return Some((b"", content));
    }
    let is_end = |at: &usize| part.get(*at..).is_some_and(|rest| rest.starts_with(b"\r\n\r\n"));
    let end = memchr::memchr_iter(b'\r', part).find(is_end)?;
    let head = part.get(..end.checked_add(2)?)?;
    (head.len() <= HEAD_MAX).then_some((head, part.get(end.checked_add(4)?..)?))
}

/// Names and values of headers.
pub(super) type Fields<'h> = SmallVec<[(&'h [u8], &'h [u8]); 8]>;

/// Names and values of MIME headers, folds included.
pub(super) fn fields(head: &[u8]) -> Option<Fields<'_>> {
    let mut found = SmallVec::new();
    let mut rest = head;
    while !rest.is_empty() {
        let mut end = 0_usize;
        // Up to a line end that no fold follows.
        loop {
            let tail = rest.get(end..)?;
            let at = memchr::memchr2(b'\r', b'\n', tail)?;
            if !tail.get(at..)?.starts_with(b"\r\n") {
                return None;
            }
            end = end.checked_add(at)?.checked_add(2)?;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (line, tail) = rest.split_at_checked(end)?;
        rest = tail;
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        let name =
            name.iter().rposition(|octet| !is_space(*octet)).map(|end| name.get(..=end))??;
        if !is_token(name) {
            return None;
        }
        found.push((name, trim(value.get(1..)?)));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<(String, String)>, Refusal> {
        let media = MediaType::parse(b"multipart/mixed;boundary=\"b 1\"").expect("a type");
        let mut found = Vec::new();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        walk(media, body.as_bytes(), &mut |leaf| {
            found.push((text(leaf.media.subtype()), text(leaf.content)));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn parts_are_cut_at_their_lines() {
        let two = "x\r\n--b 1\r\nContent-Type: text/a\r\n\r\none\r\n--b 1 \r\n\r\ntwo\r\n\r\n--b 1--\r\nz";
        let expected = [("a", "one"), ("plain", "two\r\n")];
        let expected = expected.map(|(kind, text)| (kind.to_owned(), text.to_owned()));
        assert_eq!(read(two), Ok(expected.to_vec()));
        let inner = "--b 1\r\nContent-Type: multipart/related;\r\n boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b 1--";
        assert_eq!(read(inner), Ok(vec![("plain".into(), "x".into())]));
        assert_eq!(
            read("--b 1\r\n\r\na --b 1x\r\n--b 1--"),
            Ok(vec![("plain".into(), "a --b 1x".into())])
        );
    }

    #[test]
    fn what_two_readers_might_cut_otherwise_is_refused() {
        for bad in [
            "",
            "--b 1\r\n\r\nx",
            "--b 1\r\n\r\nx\r\n--b 1",
            "--b 1\r\nContent-Type: text/a\r\n--b 1--",
            "--b 1\r\n--b 1--",
            "--b 1\r\n\r\nx\n--b 1--",
            "--b 1\r\n\r\nx\r\n--b 12\r\n\r\ny\r\n--b 1--",
            "--b 1\n\nx\r\n--b 1--",
            "--b 1\r\nContent-Type: text/a\r\nContent-Type: text/b\r\n\r\nx\r\n--b 1--",
            "--b 1\r\nContent-Type: text/a\nX: y\r\n\r\nx\r\n--b 1--",
            "--b 1\r\nContent-Type text/a\r\n\r\nx\r\n--b 1--",
        ] {
            assert_eq!(read(bad), Err(Refusal::BodyMalformed), "{bad:?}");
        }
        let head = "X: y\r\n".repeat(700);
        assert!(read(&format!("--b 1\r\n{head}\r\nx\r\n--b 1--")).is_err(), "headers over 4 KiB");
        assert!(read(&format!("{}--b 1--", "--b 1\r\n\r\nx\r\n".repeat(16))).is_ok());
        assert!(read(&format!("{}--b 1--", "--b 1\r\n\r\nx\r\n".repeat(17))).is_err(), "17 parts");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let mut body = "x".to_owned();
            for level in (0..depth).rev() {
                let own = if level == 0 { "b 1".into() } else { format!("l{level}") };
                let kind = if level + 1 == depth {
                    "text/plain".to_owned()
                } else {
                    format!("multipart/mixed;boundary=l{}", level + 1)
                };
                body = format!("--{own}\r\nContent-Type: {kind}\r\n\r\n{body}\r\n--{own}--");
            }
            body
        };
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        assert!(read(&nested(DEPTH_MAX + 1)).is_err());
    }
}
