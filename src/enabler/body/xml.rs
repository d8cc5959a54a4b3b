//! Stage 6, XML: a small document read whole, or not at all.
//!
//! Takes:   the octets of a document.
//! Gives:   its root [`Element`], names with their namespaces, text with its references opened.
//! Keeps:   nothing. Bounds: 64 KiB, 16 deep, 4096 elements, 32 attributes of an element, 1 KiB of an attribute,
//!          4096 namespace declarations.
//! Refuses: everything that readers differ in: a DTD, processing instructions, entities beyond the five, another
//!          encoding than UTF-8, prefixes that nothing declares, an attribute twice, text outside the root.
//! Sources: XML 1.0 sections 2 and 4; Namespaces in XML 1.0 sections 2 to 6; RFC 7303 section 3.

use std::borrow::Cow;

use crate::refusal::Refusal;

/// Longest document, in octets.
pub const OCTETS_MAX: usize = 64 * 1024;
/// How deep elements may lie in each other.
pub const DEPTH_MAX: usize = 16;
/// Most elements.
pub const ELEMENTS_MAX: usize = 4096;
/// Most attributes of one element, declarations of namespaces included.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest value of an attribute, in octets, references opened.
pub const VALUE_MAX: usize = 1024;

const XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// An element and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'x> {
    /// Its namespace; empty if it has none.
    pub space: Cow<'x, str>,
    /// Its name, without prefix.
    pub name: &'x str,
    /// Its attributes, declarations of namespaces left out.
    pub attributes: Vec<Attribute<'x>>,
    /// Elements in it.
    pub children: Vec<Element<'x>>,
    /// Text directly in it.
    pub text: String,
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute<'x> {
    /// Its namespace; empty without a prefix.
    pub space: Cow<'x, str>,
    /// Its name, without prefix.
    pub name: &'x str,
    /// Its value.
    pub value: Cow<'x, str>,
    /// The same as it stands between its quotes.
    pub written: &'x str,
}

impl<'x> Element<'x> {
    /// Whether it is this element of this namespace.
    pub fn is(&self, space: &str, name: &str) -> bool {
        self.space == space && self.name == name
    }

    /// The value of an attribute that has no namespace.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let is = |own: &&Attribute<'_>| own.space.is_empty() && own.name == name;
        self.attributes.iter().find(is).map(|own| &*own.value)
    }
}

/// Reads a document.
///
/// # Errors
///
/// [`Refusal::XmlRefused`].
pub fn read(octets: &[u8]) -> Result<Element<'_>, Refusal> {
    document(octets).ok_or(Refusal::XmlRefused)
}

/// Attributes as they are written: names with their prefixes, and values, opened and not.
type Written<'x> = Vec<(&'x str, Cow<'x, str>, &'x str)>;

struct Reader<'x> {
    rest: &'x str,
    /// Prefixes in scope and what they stand for, the innermost last.
    scopes: Vec<(&'x str, Cow<'x, str>)>,
    elements: usize,
}

fn document(octets: &[u8]) -> Option<Element<'_>> {
    if octets.len() > OCTETS_MAX {
        return None;
    }
    let text = std::str::from_utf8(octets).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.chars().all(is_char) {
        return None;
    }
    let rest = match text.strip_prefix("<?xml") {
        Some(rest) => declaration(rest)?,
        None => text,
    };
    let mut reader = Reader { rest, scopes: Vec::new(), elements: 0 };
    reader.between()?;
    let root = reader.element(1)?;
    reader.between()?;
    reader.rest.is_empty().then_some(root)
}

/// What follows `<?xml`: version 1.0, perhaps an encoding, which is UTF-8, perhaps `standalone`.
fn declaration(rest: &str) -> Option<&str> {
    let (inside, rest) = rest.split_once("?>")?;
    let mut inside = inside;
    for (number, known) in ["version", "encoding", "standalone"].into_iter().enumerate() {
        let Some(tail) = inside.trim_start_matches(is_white).strip_prefix(known) else {
            if number == 0 {
                return None;
            }
            continue;
        };
        if !inside.starts_with(is_white) {
            return None;
        }
        let tail = tail.trim_start_matches(is_white).strip_prefix('=')?;
        let tail = tail.trim_start_matches(is_white);
        let quote = tail.chars().next().filter(|mark| matches!(mark, '"' | '\''))?;
        let (value, tail) = tail.get(1..)?.split_once(quote)?;
        let fits = match known {
            "version" => value == "1.0",
            "encoding" => {
                value.eq_ignore_ascii_case("UTF-8") || value.eq_ignore_ascii_case("US-ASCII")
            }
            _ => matches!(value, "yes" | "no"),
        };
        if !fits {
            return None;
        }
        inside = tail;
    }
    inside.trim_matches(is_white).is_empty().then_some(rest)
}

impl<'x> Reader<'x> {
    /// White space and comments outside the root.
    fn between(&mut self) -> Option<()> {
        loop {
            self.rest = self.rest.trim_start_matches(is_white);
            if !self.rest.starts_with("<!--") {
                return Some(());
            }
            self.comment()?;
        }
    }

    /// `<!-- ... -->`, without two hyphens in it.
    fn comment(&mut self) -> Option<()> {
        let (inside, rest) = self.rest.strip_prefix("<!--")?.split_once("--")?;
        let _ = inside;
        self.rest = rest.strip_prefix('>')?;
        Some(())
    }

    fn element(&mut self, depth: usize) -> Option<Element<'x>> {
        self.elements = self.elements.saturating_add(1);
        if depth > DEPTH_MAX || self.elements > ELEMENTS_MAX {
            return None;
        }
        self.rest = self.rest.strip_prefix('<')?;
        let tag = self.name()?;
        let scope = self.scopes.len();
        let (written, empty) = self.attributes()?;
        let (space, name) = self.resolve(tag, true)?;
        let mut attributes: Vec<Attribute<'x>> = Vec::with_capacity(written.len());
        for (raw, value, written) in written {
            let (space, name) = self.resolve(raw, false)?;
            if attributes.iter().any(|other| other.space == space && other.name == name) {
                return None;
            }
            attributes.push(Attribute { space, name, value, written });
        }
        let (children, text) = (Vec::new(), String::new());
        let mut element = Element { space, name, attributes, children, text };
        if !empty {
            self.content(tag, depth, &mut element)?;
        }
        self.scopes.truncate(scope);
        Some(element)
    }

    /// Up to the end of the tag: attributes, and whether the element ends with it. Declarations go into scope.
    fn attributes(&mut self) -> Option<(Written<'x>, bool)> {
        let mut found = Written::new();
        let mut names: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest.trim_start_matches(is_white);
            let spaced = rest.len() < self.rest.len();
            self.rest = rest;
            if let Some(rest) = rest.strip_prefix("/>") {
                self.rest = rest;
                return Some((found, true));
            }
            if let Some(rest) = rest.strip_prefix('>') {
                self.rest = rest;
                return Some((found, false));
            }
            if !spaced || names.len() == ATTRIBUTES_MAX {
                return None;
            }
            let name = self.name()?;
            let (value, written) = self.value()?;
            if names.contains(&name) {
                return None;
            }
            names.push(name);
            match name.strip_prefix("xmlns") {
                Some("") => self.declare("", value)?,
                Some(prefix) if prefix.starts_with(':') => {
                    let prefix = prefix.get(1..)?;
                    if value.is_empty() || prefix.starts_with("xml") {
                        return None;
                    }
                    self.declare(prefix, value)?;
                }
                _ => found.push((name, value, written)),
            }
        }
    }

    fn declare(&mut self, prefix: &'x str, space: Cow<'x, str>) -> Option<()> {
        let reserved = space == XML || space == XMLNS;
        if reserved || self.scopes.len() == ELEMENTS_MAX {
            return None;
        }
        self.scopes.push((prefix, space));
        Some(())
    }

    /// `= "value"`
    fn value(&mut self) -> Option<(Cow<'x, str>, &'x str)> {
        let rest = self.rest.trim_start_matches(is_white).strip_prefix('=')?;
        let rest = rest.trim_start_matches(is_white);
        let quote = rest.chars().next().filter(|mark| matches!(mark, '"' | '\''))?;
        let (written, rest) = rest.get(1..)?.split_once(quote)?;
        self.rest = rest;
        if written.contains('<') {
            return None;
        }
        let value = opened(written)?;
        (value.len() <= VALUE_MAX).then_some((value, written))
    }

    /// What is in an element, up to its end tag.
    fn content(&mut self, tag: &str, depth: usize, element: &mut Element<'x>) -> Option<()> {
        loop {
            let at = self.rest.find('<')?;
            let (text, rest) = self.rest.split_at_checked(at)?;
            if text.contains("]]>") {
                return None;
            }
            element.text.push_str(&opened(text)?);
            self.rest = rest;
            if let Some(rest) = rest.strip_prefix("</") {
                let rest = rest.strip_prefix(tag)?.trim_start_matches(is_white);
                self.rest = rest.strip_prefix('>')?;
                return Some(());
            }
            if rest.starts_with("<!--") {
                self.comment()?;
            } else if let Some(rest) = rest.strip_prefix("<![CDATA[") {
                let (text, rest) = rest.split_once("]]>")?;
                element.text.push_str(text);
                self.rest = rest;
            } else {
                // `<!` and `<?` are no names, and end here.
                element.children.push(self.element(depth.saturating_add(1))?);
            }
        }
    }

    /// A name with at most one colon, which is neither first nor last.
    fn name(&mut self) -> Option<&'x str> {
        let end = self.rest.find(|c: char| !is_name_char(c) && c != ':')?;
        let (name, rest) = self.rest.split_at_checked(end)?;
        let mut parts = name.split(':');
        let begins = |part: &str| part.chars().next().is_some_and(is_name_start);
        let clean = begins(parts.next()?) && parts.next().is_none_or(begins);
        self.rest = rest;
        (clean && parts.next().is_none()).then_some(name)
    }

    /// Namespace and local part of a name as written.
    fn resolve(&self, raw: &'x str, element: bool) -> Option<(Cow<'x, str>, &'x str)> {
        let (prefix, name) = raw.split_once(':').unwrap_or(("", raw));
        if prefix.is_empty() && !element {
            return Some((Cow::Borrowed(""), name));
        }
        if prefix == "xml" {
            return (!element).then_some((Cow::Borrowed(XML), name));
        }
        let found = self.scopes.iter().rev().find(|(own, _)| *own == prefix);
        match found {
            Some((_, space)) => Some((space.clone(), name)),
            None if prefix.is_empty() => Some((Cow::Borrowed(""), name)),
            None => None,
        }
    }
}

/// Text with its references opened: characters by number, and the five entities that need no DTD.
fn opened(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('&') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('&') {
        out.push_str(before);
        let (name, tail) = tail.split_once(';')?;
        rest = tail;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            name => numbered(name.strip_prefix('#')?)?,
        });
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

fn numbered(digits: &str) -> Option<char> {
    let (digits, radix) = match digits.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    let plain =
        !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|o| o.is_ascii_hexdigit());
    let number = u32::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    char::from_u32(number).filter(|c| is_char(*c))
}

/// Whether XML has that character at all.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r') || c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn is_white(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii() && c.is_alphabetic()
}

fn is_name_char(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit() || matches!(c, '-' | '.' | '\u{b7}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_namespaces_and_text_its_characters() {
        let text = "<?xml version='1.0' encoding=\"utf-8\"?>\n<!-- c --><a xmlns='u' xmlns:p=\"v\" k='1&amp;2' p:k='3'>x<p:b xmlns=''><c/></p:b>&#x79;<![CDATA[<z>]]></a >\n";
        let root = read(text.as_bytes()).expect("a document");
        assert!(root.is("u", "a") && root.text == "xy<z>");
        assert_eq!((root.attribute("k"), root.attributes.len()), (Some("1&2"), 2));
        assert!(root.children[0].is("v", "b") && root.children[0].children[0].is("", "c"));
    }

    #[test]
    fn what_readers_differ_in_is_refused() {
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "<a",
            "<a b/>",
            "<a b=c/>",
            "<a b='1'c='2'/>",
            "<a b='1' b='2'/>",
            "<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>",
            "<a b='<'/>",
            "<a>&x;</a>",
            "<a>&#0;</a>",
            "<a>&#xd800;</a>",
            "<a>&amp</a>",
            "<a>]]></a>",
            "<p:a/>",
            "<a p:b='1'/>",
            "<a xmlns:p=''/>",
            "<a:b:c xmlns:a='u'/>",
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<a><!DOCTYPE a></a>",
            "<?pi x?><a/>",
            "<a><?pi x?></a>",
            " <?xml version='1.0'?><a/>",
            "<?xml version='1.1'?><a/>",
            "<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
            "<?xml encoding='UTF-8'?><a/>",
            "<a><!-- - -- --></a>",
            "<a>\u{1}</a>",
        ] {
            assert_eq!(read(bad.as_bytes()), Err(Refusal::XmlRefused), "{bad}");
        }
        assert!(read(b"<a>\xff</a>").is_err());
        assert!(
            read(
                "\u{feff}<a/>"
                    .encode_utf16()
                    .flat_map(u16::to_be_bytes)
                    .collect::<Vec<_>>()
                    .as_slice()
            )
            .is_err()
        );
    }

    #[test]
    fn bounds_hold() {
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(read(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert!(read(deep(DEPTH_MAX + 1).as_bytes()).is_err());
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(read(wide(ELEMENTS_MAX - 1).as_bytes()).is_ok());
        assert!(read(wide(ELEMENTS_MAX).as_bytes()).is_err());
        let long = |length: usize| format!("<a b='{}'/>", "x".repeat(length));
        assert!(read(long(VALUE_MAX).as_bytes()).is_ok());
        assert!(read(long(VALUE_MAX + 1).as_bytes()).is_err());
        let many = |count: usize| {
            let attributes: String = (0..count).map(|at| format!(" a{at}=''")).collect();
            format!("<a{attributes}/>")
        };
        assert!(read(many(ATTRIBUTES_MAX).as_bytes()).is_ok());
        assert!(read(many(ATTRIBUTES_MAX + 1).as_bytes()).is_err());
        assert!(read(format!("<a>{}</a>", "x".repeat(OCTETS_MAX)).as_bytes()).is_err());
    }
}
