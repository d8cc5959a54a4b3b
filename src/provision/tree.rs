//! Provisioning, tree: a document as a management object, as device management carries it.
//!
//! ```text
//! SecCF  Enabler  Version  Server/1..  Realm/1..  Initiator/1..  Anchor/1..  Algorithms/{Version,Digest/1..,TLS}  Signature
//! ```
//!
//! Takes:   a signed document; octets of a serialized tree.
//! Gives:   [`print()`] and [`read`]. What is signed is the document's own text: the tree says the same in other words.
//! Keeps:   nothing. Bounds: those of [`xml`].
//! Refuses: nodes that are not of this object, there twice or not there; values that are none.
//! Sources: OMA DM tree and description serialization 1.2; SEC_CF 1.1 B.8.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Algorithms, Document, Signed, TlsFloor, enabler, hex};
use crate::authentication::digest::Hash;
use crate::enabler::body::xml::{self, Element};

/// The namespace of serialized trees.
const SPACE: &str = "syncml:dmddf1.2";
/// The name of the object.
const ROOT: &str = "SecCF";

/// The document as a tree.
pub fn print(signed: &Signed) -> String {
    let Signed { document, signature } = signed;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MgmtTree xmlns=\"{SPACE}\">\n<VerDTD>1.2</VerDTD>\n"
    );
    let anchors: Vec<String> = document.anchors.iter().map(|anchor| hex(anchor)).collect();
    let algorithms = &document.algorithms;
    let digests: Vec<&str> = algorithms.digests.iter().map(|hash| hash.as_str()).collect();
    open(&mut text, ROOT);
    leaf(&mut text, "Enabler", "chr", document.enabler);
    leaf(&mut text, "Version", "chr", &document.version.to_string());
    list(&mut text, "Server", &document.servers);
    list(&mut text, "Realm", &document.realms);
    list(&mut text, "Initiator", &document.initiators);
    list(&mut text, "Anchor", &anchors);
    open(&mut text, "Algorithms");
    leaf(&mut text, "Version", "chr", &algorithms.version.to_string());
    list(&mut text, "Digest", &digests);
    leaf(&mut text, "TLS", "chr", algorithms.tls.as_str());
    text.push_str("</Node>\n");
    leaf(&mut text, "Signature", "b64", &STANDARD.encode(signature));
    text.push_str("</Node>\n</MgmtTree>\n");
    text
}

fn open(text: &mut String, name: &str) {
    let _ = writeln!(
        text,
        "<Node><NodeName>{name}</NodeName><RTProperties><Format><node/></Format></RTProperties>"
    );
}

fn leaf(text: &mut String, name: &str, format: &str, value: &str) {
    let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        text,
        "<Node><NodeName>{name}</NodeName><RTProperties><Format><{format}/></Format></RTProperties>\
         <Value>{value}</Value></Node>"
    );
}

fn list<T: AsRef<str>>(text: &mut String, name: &str, entries: &[T]) {
    open(text, name);
    for (number, entry) in (1..).zip(entries) {
        let number: u32 = number;
        leaf(text, &number.to_string(), "chr", entry.as_ref());
    }
    text.push_str("</Node>\n");
}

/// Reads a tree.
///
/// # Errors
///
/// What is wrong with it.
pub fn read(octets: &[u8]) -> Result<Signed, String> {
    let root = xml::read(octets).map_err(|_| "it is no XML that is read here".to_owned())?;
    if !root.is(SPACE, "MgmtTree") {
        return Err(format!("it is no MgmtTree of {SPACE}"));
    }
    let mut tops = root.children.iter().filter(|child| child.is(SPACE, "Node"));
    let (Some(top), None) = (tops.next(), tops.next()) else {
        return Err("it has not one node at its top".to_owned());
    };
    let mut object = Nodes::of(top)?;
    if object.name != ROOT {
        return Err(format!("its node is {:?}, not {ROOT}", object.name));
    }
    let own = object.text("Enabler")?;
    let enabler = enabler(&own).ok_or_else(|| format!("no enabler is called {own:?}"))?;
    let version = number(&object.text("Version")?)?;
    let servers = object.list("Server")?;
    let realms = object.list("Realm")?;
    let initiators = object.list("Initiator")?;
    let anchors = object.list("Anchor")?;
    let anchors = anchors.iter().map(|text| anchor(text)).collect::<Result<_, _>>()?;
    let mut inner = object.inner("Algorithms")?;
    let digests = inner.list("Digest")?;
    let digests = digests.iter().map(|text| digest(text)).collect::<Result<_, _>>()?;
    let tls = inner.text("TLS")?;
    let tls = TlsFloor::read(&tls).ok_or_else(|| format!("there is no TLS {tls:?}"))?;
    let algorithms = Algorithms { version: number(&inner.text("Version")?)?, digests, tls };
    inner.finish()?;
    let signature = STANDARD.decode(object.text("Signature")?);
    let signature = signature.map_err(|_| "its signature is no base64".to_owned())?;
    object.finish()?;
    let document = Document { enabler, version, servers, realms, initiators, anchors, algorithms };
    Ok(Signed { document, signature })
}

/// Digits of a number.
fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("{text:?} is no version"))
}

/// The SHA-256 of an authority's certificate.
pub(super) fn anchor(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("{text:?} is no SHA-256 in hex");
    let mut octets = [0; 32];
    if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *octet = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(octets)
}

/// An algorithm of Digest.
pub(super) fn digest(text: &str) -> Result<Hash, String> {
    let found = Hash::of(text.as_bytes()).filter(|(_, session)| !session);
    found.map(|(hash, _)| hash).ok_or_else(|| format!("no algorithm is called {text:?}"))
}

/// A node and those under it, each of which is asked for once.
struct Nodes<'x> {
    name: &'x str,
    value: Option<&'x str>,
    under: Vec<Nodes<'x>>,
}

impl<'x> Nodes<'x> {
    fn of(element: &'x Element<'x>) -> Result<Self, String> {
        let (mut name, mut value, mut under) = (None, None, Vec::new());
        for child in &element.children {
            if child.space != SPACE {
                continue;
            }
            match child.name {
                "NodeName" if name.is_none() => name = Some(child.text.trim()),
                "Value" if value.is_none() => value = Some(child.text.trim()),
                "NodeName" | "Value" => return Err(format!("{} is there twice", child.name)),
                "Node" => under.push(Self::of(child)?),
                _ => {}
            }
        }
        let name = name.ok_or_else(|| "a node has no name".to_owned())?;
        Ok(Self { name, value, under })
    }

    fn inner(&mut self, name: &str) -> Result<Nodes<'x>, String> {
        let missing = || format!("node {name} is missing");
        let at = self.under.iter().position(|node| node.name == name).ok_or_else(missing)?;
        Ok(self.under.remove(at))
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        let node = self.inner(name)?;
        let fits = node.under.is_empty();
        node.value.filter(|_| fits).map(str::to_owned).ok_or_else(|| format!("{name} is no leaf"))
    }

    /// Leaves that are called 1, 2 and so on, in this order.
    fn list(&mut self, name: &str) -> Result<Vec<String>, String> {
        let mut node = self.inner(name)?;
        let count = node.under.len();
        let entries = (1..=count).map(|number| node.text(&number.to_string())).collect();
        if node.value.is_some() {
            return Err(format!("{name} is no list"));
        }
        entries
    }

    fn finish(self) -> Result<(), String> {
        match self.under.first() {
            None => Ok(()),
            Some(more) => Err(format!("node {:?} is not of this object", more.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    fn signed() -> Signed {
        let mut document = document();
        document.realms.push("a <b> & 'c'".into());
        Signed { document, signature: vec![1, 2, 3] }
    }

    #[test]
    fn a_tree_says_what_its_document_says() {
        let signed = signed();
        assert_eq!(read(print(&signed).as_bytes()), Ok(signed));
    }

    #[test]
    fn a_tree_that_is_not_this_object_is_not_read() {
        let good = print(&signed());
        for (from, to, expected) in [
            ("MgmtTree", "Tree", "no MgmtTree"),
            ("SecCF", "Other", "not SecCF"),
            ("<Value>push</Value>", "<Value>pull</Value>", "no enabler"),
            ("<Value>7</Value>", "<Value>+7</Value>", "no version"),
            ("<NodeName>Realm</NodeName>", "<NodeName>Realms</NodeName>", "Realm is missing"),
            ("<NodeName>2</NodeName>", "<NodeName>1</NodeName>", "node 2 is missing"),
            ("<Value>1.2</Value>", "<Value>1.1</Value>", "no TLS"),
            (">SHA-256<", ">SHA-1<", "no algorithm"),
            ("5a5a", "5a5", "no SHA-256"),
            ("<Value>AQID</Value>", "<Value>A</Value>", "no base64"),
            ("<Value>push</Value>", "<Value>push</Value><Value>sip</Value>", "there twice"),
        ] {
            let bad = good.replace(from, to);
            assert!(good.contains(from), "{from}");
            let why = read(bad.as_bytes()).unwrap_err();
            assert!(why.contains(expected), "{from} to {to}: {why}");
        }
        let more = good.replace(
            "<NodeName>Enabler",
            "<NodeName>More</NodeName></Node><Node><NodeName>Enabler",
        );
        assert!(read(more.as_bytes()).unwrap_err().contains("not of this object"));
        assert!(read(b"<!DOCTYPE a><a/>").is_err());
    }
}
