//! Just enough of reading SIP for a load generator: header rows, status, tags, and the marks it made itself.
//!
//! What it reads comes from processes that this bench has started, so it is quick rather than wary.

use memchr::{memchr, memmem};

/// Name and value of each header row, up to the empty line. No folding: nobody here folds.
pub(crate) struct Rows<'a>(&'a [u8]);

/// The rows of a message.
pub(crate) fn rows(message: &[u8]) -> Rows<'_> {
    Rows(memchr(b'\n', message).map_or(&[], |end| &message[end + 1..]))
}

impl<'a> Iterator for Rows<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr(b'\n', self.0)?;
        let row = self.0[..end].strip_suffix(b"\r").unwrap_or(&self.0[..end]);
        let colon = memchr(b':', row)?;
        self.0 = &self.0[end + 1..];
        Some((row[..colon].trim_ascii_end(), row[colon + 1..].trim_ascii_start()))
    }
}

/// Whether a row has that name, or its short form.
pub(crate) fn is(name: &[u8], long: &str, short: Option<u8>) -> bool {
    match name {
        [one] => Some(one | 32) == short,
        _ => name.eq_ignore_ascii_case(long.as_bytes()),
    }
}

/// The value of the first row of that name.
pub(crate) fn row<'a>(message: &'a [u8], long: &str, short: Option<u8>) -> Option<&'a [u8]> {
    rows(message).find(|(name, _)| is(name, long, short)).map(|(_, value)| value)
}

/// The status of a response; `None` for a request.
pub(crate) fn status(message: &[u8]) -> Option<u16> {
    let digits = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0'))))
}

/// The number at the start, and what follows it.
pub(crate) fn number(text: &[u8]) -> (u64, &[u8]) {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let value = text[..digits]
        .iter()
        .fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    (value, &text[digits..])
}

/// Appends a number in decimal.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends all parts.
pub(crate) fn join(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Two numbers with a dash between, behind `mark`: how branches and Call-IDs of this bench are made.
pub(crate) fn marked(text: &[u8], mark: &[u8]) -> Option<(usize, u64)> {
    let at = memmem::find(text, mark)?;
    let (first, rest) = number(&text[at + mark.len()..]);
    let (second, _) = number(rest.strip_prefix(b"-")?);
    Some((first as usize, second))
}

/// The tag of From or To, empty if there is none.
pub(crate) fn tag(value: &[u8]) -> &[u8] {
    let Some(at) = memmem::find(value, b";tag=") else { return b"" };
    let tag = &value[at + 5..];
    let end = tag.iter().position(|octet| b";> ,".contains(octet)).unwrap_or(tag.len());
    &tag[..end]
}

/// The URI of a name-addr or addr-spec.
pub(crate) fn uri(value: &[u8]) -> &[u8] {
    match (memchr(b'<', value), memchr(b'>', value)) {
        (Some(open), Some(close)) if open < close => &value[open + 1..close],
        _ => &value[..memchr(b';', value).unwrap_or(value.len())],
    }
}

/// The value of a parameter of a challenge, without its quotes.
pub(crate) fn parameter<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let start = memmem::find_iter(value, name).find(|at| {
        let before = at.checked_sub(1).and_then(|before| value.get(before));
        before.is_none_or(|octet| b" ,\t".contains(octet))
            && value.get(at + name.len()) == Some(&b'=')
    })?;
    let text = &value[start + name.len() + 1..];
    match text.strip_prefix(b"\"") {
        Some(quoted) => Some(&quoted[..memchr(b'"', quoted)?]),
        None => Some(&text[..text.iter().position(|o| b", \r".contains(o)).unwrap_or(text.len())]),
    }
}

/// The values of a list of routes, split at commas outside of angle brackets.
pub(crate) fn routes(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut inside = false;
    let split = value.split(move |octet| {
        inside = match octet {
            b'<' => true,
            b'>' => false,
            _ => inside,
        };
        *octet == b',' && !inside
    });
    split.map(<[u8]>::trim_ascii)
}

/// The first whole message of what arrived, copied into `into`.
pub(crate) fn take_message(incoming: &mut Vec<u8>, into: &mut Vec<u8>) -> bool {
    let blank = incoming.iter().take_while(|octet| b"\r\n".contains(octet)).count();
    incoming.drain(..blank);
    let Some(length) = frame(incoming) else { return false };
    into.clear();
    into.extend(incoming.drain(..length));
    true
}

/// The length of the first whole message of a stream.
pub(crate) fn frame(octets: &[u8]) -> Option<usize> {
    let head = memmem::find(octets, b"\r\n\r\n")? + 4;
    let body = row(&octets[..head], "Content-Length", Some(b'l'));
    let length = head + body.map_or(0, |text| number(text).0 as usize);
    (octets.len() >= length).then_some(length)
}
