//! Stage 1, OCSP, DER: elements read one after the other, and put together.
//!
//! Takes:   octets of DER.
//! Gives:   each element with its tag, its content and all of its octets; elements around content.
//! Keeps:   nothing: what is read is borrowed.
//! Refuses: lengths that are not the shortest, or beyond the end.
//! Sources: X.690 sections 8 and 10.1.

use smallvec::SmallVec;
use x509_parser::asn1_rs::{Any, FromDer as _};

pub(super) const ENUMERATED: u8 = 0x0A;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BITS: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const SEQUENCE: u8 = 0x30;

/// The identifier octet of `[number]` around other elements.
pub(super) const fn around(number: u8) -> u8 {
    0xA0 | number
}

/// The identifier octet of `[number]` in the place of a simple element's own.
pub(super) const fn instead(number: u8) -> u8 {
    0x80 | number
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    /// Its identifier octet.
    pub(super) tag: u8,
    /// What is in it.
    pub(super) content: &'a [u8],
    /// All of it.
    pub(super) whole: &'a [u8],
}

/// Elements that follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The elements inside the one element that `octets` are, which has that tag.
    pub(super) fn inside(octets: &'a [u8], tag: u8) -> Option<Self> {
        let mut outer = Self(octets);
        let element = outer.take(tag)?;
        outer.is_empty().then_some(Self(element.content))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whichever it is.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let tag = *self.0.first()?;
        let (rest, any) = Any::from_der(self.0).ok()?;
        let whole = self.0.get(..self.0.len().checked_sub(rest.len())?)?;
        self.0 = rest;
        let shortest = head(tag, any.data.len());
        whole.starts_with(&shortest).then_some(Element { tag, content: any.data, whole })
    }

    /// The next element, which must have that tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// The next element, if it has that tag; `Err` if it cannot be read.
    pub(super) fn maybe(&mut self, tag: u8) -> Result<Option<Element<'a>>, Unread> {
        if self.0.first() != Some(&tag) {
            return Ok(None);
        }
        self.next().map(Some).ok_or(Unread)
    }

    /// What is inside the next element, which must have that tag.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(|element| Self(element.content))
    }
}

/// An element that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread;

/// An element around `parts`.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut octets = head(tag, parts.iter().map(|part| part.len()).sum()).to_vec();
    parts.iter().for_each(|part| octets.extend_from_slice(part));
    octets
}

/// Identifier and length, in the shortest form.
fn head(tag: u8, length: usize) -> SmallVec<[u8; 10]> {
    let mut octets = SmallVec::from_slice(&[tag]);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => octets.push(short),
        _ => {
            let long = length.to_be_bytes();
            let skipped = long.iter().take_while(|octet| **octet == 0).count();
            let digits = long.get(skipped..).unwrap_or_default();
            octets.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            octets.extend_from_slice(digits);
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_they_are_written() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let octets = element(OCTETS, &[&content]);
            let mut reader = Reader::new(&octets);
            let found = reader.take(OCTETS).unwrap();
            assert_eq!((found.content, found.whole), (&*content, &*octets), "{length}");
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn what_is_no_der_is_not_read() {
        for octets in [
            &[0x04][..],
            &[0x04, 0x02, 0x00],
            &[0x04, 0x81, 0x01, 0x00],
            &[0x04, 0x80, 0x00, 0x00],
            &[0x04, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ] {
            assert!(Reader::new(octets).next().is_none(), "{octets:02x?}");
        }
    }
}
