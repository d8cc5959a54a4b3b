//! The UE, the answer's body: a reader for the few lines of XML that a BSF sends.
//!
//! Takes:   the body of the 200, after `rspauth` has proved it.
//! Gives:   [`Info`]: B-TID, end of the key, and the server's time if it tells it.
//! Keeps:   nothing. Bounds: [`BODY_MAX`] octets, [`DEPTH_MAX`] elements one in another.
//! Refuses: a document type, a processing instruction behind the root, tags that do not match, an entity that XML
//!          does not predefine. Elements are known by local name, with or without namespace; others are passed over.
//! Sources: TS 24.109 annex C.1; XML 1.0 clauses 2.4 to 2.8, 3.1 and 4.1.

use crate::identity::Btid;
use crate::instant::WallTime;
use crate::keys::calendar::parse_xml;

/// Longest body, in octets.
pub const BODY_MAX: usize = 65_536;
/// Most elements one in another.
pub const DEPTH_MAX: usize = 16;

/// What the body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The name of the key.
    pub btid: Btid,
    /// When the key ends.
    pub lifetime: WallTime,
    /// The server's time.
    pub current: Option<WallTime>,
}

impl Info {
    /// Reads a body; `None` if it is not one.
    pub fn parse(body: &[u8]) -> Option<Self> {
        if body.len() > BODY_MAX {
            return None;
        }
        let text = std::str::from_utf8(body).ok()?;
        let [mut btid, mut lifetime, mut current] = [None, None, None];
        walk(text.strip_prefix('\u{feff}').unwrap_or(text), |path, value| {
            let place = match path {
                ["BootstrappingInfo", "btid"] => &mut btid,
                ["BootstrappingInfo", "lifetime"] => &mut lifetime,
                ["BootstrappingInfo", "Extension", .., "currenttime"] => &mut current,
                _ => return Some(()),
            };
            place.replace(value.trim().to_owned()).is_none().then_some(())
        })?;
        let current = match current {
            Some(text) => Some(parse_xml(&text)?),
            None => None,
        };
        Some(Self { btid: Btid::new(&btid?)?, lifetime: parse_xml(&lifetime?)?, current })
    }
}

/// Goes through the elements and gives each one's path, in local names, and text to `leaf`.
fn walk(mut rest: &str, mut leaf: impl FnMut(&[&str], &str) -> Option<()>) -> Option<()> {
    let mut open: Vec<(&str, String)> = Vec::new();
    let mut roots = 0;
    while let Some((text, tail)) = rest.split_once('<') {
        take_text(&mut open, text)?;
        rest = if let Some(tail) = tail.strip_prefix("!--") {
            tail.split_once("-->")?.1
        } else if let Some(tail) = tail.strip_prefix('?') {
            (roots == 0).then_some(())?;
            tail.split_once("?>")?.1
        } else if let Some(tail) = tail.strip_prefix("![CDATA[") {
            let (text, tail) = tail.split_once("]]>")?;
            open.last_mut()?.1.push_str(text);
            tail
        } else if let Some(tail) = tail.strip_prefix('/') {
            let (name, tail) = tail.split_once('>')?;
            close(&mut open, name.trim_end(), &mut leaf)?;
            tail
        } else {
            let end = tag_end(tail)?;
            let (tag, tail) = tail.split_at_checked(end)?;
            let (tag, empty) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let name = tag.split(|c: char| c.is_ascii_whitespace()).next()?;
            let first = name.chars().next()?;
            if !(first.is_alphabetic() || first == '_') || open.len() >= DEPTH_MAX {
                return None;
            }
            if open.is_empty() {
                roots += 1;
                (roots == 1).then_some(())?;
            }
            open.push((name, String::new()));
            if empty {
                close(&mut open, name, &mut leaf)?;
            }
            tail.strip_prefix('>')?
        };
    }
    take_text(&mut open, rest)?;
    (open.is_empty() && roots == 1).then_some(())
}

/// Where the tag's `>` is, past quoted attribute values.
fn tag_end(tail: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in tail.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '<') => return None,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn close(
    open: &mut Vec<(&str, String)>,
    name: &str,
    leaf: &mut impl FnMut(&[&str], &str) -> Option<()>,
) -> Option<()> {
    let path: Vec<&str> = open.iter().map(|(name, _)| local(name)).collect();
    let (own, text) = open.pop()?;
    (own == name).then_some(())?;
    leaf(&path, &text)
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// Adds text to the innermost element; outside of the root there is none but space.
fn take_text(open: &mut [(&str, String)], text: &str) -> Option<()> {
    let Some((_, own)) = open.last_mut() else {
        return text.trim().is_empty().then_some(());
    };
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once('&') {
        own.push_str(plain);
        let (entity, tail) = tail.split_once(';')?;
        own.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = entity.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        });
        rest = tail;
    }
    own.push_str(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Info> {
        Info::parse(text.as_bytes())
    }

    #[test]
    fn reads_what_servers_send() {
        let expected = Info {
            btid: Btid::new("AAAA@bsf").unwrap(),
            lifetime: WallTime::from_unix(1_795_515_198),
            current: None,
        };
        for text in [
            "<BootstrappingInfo><btid>AAAA@bsf</btid><lifetime>2026-11-24T10:13:18Z</lifetime>\
             </BootstrappingInfo>",
            "\u{feff}<?xml version='1.0'?>\n<!-- <x> --><g:BootstrappingInfo xmlns:g='uri:3gpp-gba'>\
             <g:lifetime new='>'>\n 2026-11-24T10:13:18Z </g:lifetime><g:btid> AA&#65;&#x41;@bsf\
             </g:btid><g:Extension><other a=\"1\"/></g:Extension></g:BootstrappingInfo>\n",
            "<BootstrappingInfo xmlns=\"uri:3gpp-gba\"><btid><![CDATA[AAAA@bsf]]></btid>\
             <lifetime>2026-11-24T10:13:18Z</lifetime><deep><btid>other</btid></deep>\
             </BootstrappingInfo >",
        ] {
            assert_eq!(parse(text), Some(expected.clone()), "{text}");
        }
        let timed = "<BootstrappingInfo><btid>AAAA@bsf</btid><lifetime>2026-11-24T10:13:18Z\
            </lifetime><Extension><currenttime>2026-11-24T09:13:18Z</currenttime></Extension>\
            </BootstrappingInfo>";
        let current = Some(WallTime::from_unix(1_795_511_598));
        assert_eq!(parse(timed), Some(Info { current, ..expected }));
    }

    #[test]
    fn refuses_the_rest() {
        let inner = "<btid>AAAA@bsf</btid><lifetime>2026-11-24T10:13:18Z</lifetime>";
        let whole = format!("<BootstrappingInfo>{inner}</BootstrappingInfo>");
        assert!(parse(&whole).is_some());
        let deep = format!("{}{}", "<a>".repeat(20), "</a>".repeat(20));
        for bad in [
            String::new(),
            "not xml".to_owned(),
            format!("<!DOCTYPE x [<!ENTITY e 'f'>]>{whole}"),
            format!("{whole}{whole}"),
            format!("{whole}more"),
            format!("{whole}<?pi?>"),
            whole.replace("</btid>", "</x>"),
            whole.replace("</BootstrappingInfo>", ""),
            whole.replace("AAAA", "AA&e;AA"),
            whole.replace("AAAA", "AA&AA"),
            whole.replace("<btid>", "<btid a='>"),
            whole.replace("2026-11-24T10:13:18Z", "3600"),
            whole.replace("<btid>", "<btid>x</btid><btid>"),
            whole.replace("BootstrappingInfo", "Other"),
            whole.replace("<btid>", &format!("{deep}<btid>")),
            whole.replace("AAAA", &"A".repeat(BODY_MAX)),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
        assert_eq!(Info::parse(b"\xff\xfe"), None);
    }
}
