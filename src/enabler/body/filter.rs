//! Stage 6, location filters: what a watcher asks to be told of, within what a location server can bear.
//!
//! Takes:   a document of `application/simple-filter+xml`, and whose location is asked for.
//! Gives:   nothing; a filter that passes is one that RFC 6447 knows.
//! Keeps:   nothing. Bounds: as configured, and 16 triggers of a filter, 32 `changed` and 64 points in all.
//! Refuses: more than that; an XPath other than `//` and one element; `moved` by less than is allowed; two shapes
//!          for one region; `added` and `removed`; a filter for somebody else, or for a domain.
//! Sources: RFC 4661 section 3; RFC 6447 sections 3.1 to 3.5; V-125.

use super::xml::{self, Element};
use crate::refusal::Refusal;
use crate::wire::Uri;

const SPACE: &str = "urn:ietf:params:xml:ns:simple-filter";
/// The namespace of location filters.
pub const LOCATION: &str = "urn:ietf:params:xml:ns:location-filter";
/// Most triggers of one filter.
pub const TRIGGERS_MAX: usize = 16;
/// Most `changed` of one document.
pub const CHANGED_MAX: usize = 32;
/// Most points of one shape.
pub const POINTS_MAX: usize = 64;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Filters of one document.
    pub filters: usize,
    /// Least movement, in metres.
    pub min_moved: u32,
}

/// Reads a filter for the location of `target`, which is a URI's identity.
///
/// # Errors
///
/// [`Refusal::XmlRefused`], [`Refusal::FilterRefused`].
pub fn check(octets: &[u8], target: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let root = xml::read(octets)?;
    if !root.is(SPACE, "filter-set") {
        return Err(Refusal::FilterRefused);
    }
    let (mut filters, mut changed) = (0_usize, 0_usize);
    let mut fits = true;
    for child in &root.children {
        if child.is(SPACE, "filter") {
            filters = filters.saturating_add(1);
            fits &= filter(child, target, limits, &mut changed).is_some();
        } else {
            fits &= child.is(SPACE, "ns-bindings");
        }
    }
    let fits = fits && filters <= limits.filters && changed <= CHANGED_MAX;
    if fits { Ok(()) } else { Err(Refusal::FilterRefused) }
}

fn filter(filter: &Element<'_>, target: &[u8], limits: &Limits, changed: &mut usize) -> Option<()> {
    if let Some(uri) = filter.attribute("uri") {
        let uri = Uri::parse(uri.trim().as_bytes())?;
        (uri.identity() == target).then_some(())?;
    }
    filter.attribute("domain").is_none().then_some(())?;
    let mut triggers = 0_usize;
    for child in &filter.children {
        if child.is(SPACE, "what") {
            what(child)?;
        } else if child.is(SPACE, "trigger") {
            triggers = triggers.saturating_add(1);
            trigger(child, limits, changed)?;
        } else {
            return None;
        }
    }
    (triggers <= TRIGGERS_MAX).then_some(())
}

/// `include` and `exclude`: one element, or a namespace.
fn what(what: &Element<'_>) -> Option<()> {
    let fits = |part: &Element<'_>| {
        let known = part.is(SPACE, "include") || part.is(SPACE, "exclude");
        let by_space = part.attribute("type") == Some("namespace");
        known && part.children.is_empty() && (by_space || is_one_element(&part.text))
    };
    what.children.iter().all(fits).then_some(())
}

fn trigger(trigger: &Element<'_>, limits: &Limits, changed: &mut usize) -> Option<()> {
    let mut moved = false;
    for part in &trigger.children {
        if part.is(SPACE, "changed") {
            *changed = changed.saturating_add(1);
            (part.children.is_empty() && is_one_element(&part.text)).then_some(())?;
        } else if part.is(LOCATION, "moved") {
            let again = std::mem::replace(&mut moved, true);
            let metres = metres(&part.text)?;
            (!again && metres >= u64::from(limits.min_moved)).then_some(())?;
        } else if part.is(LOCATION, "enterOrExit") {
            let [shape] = part.children.as_slice() else { return None };
            is_region(shape).then_some(())?;
        } else {
            return None;
        }
    }
    Some(())
}

/// `//` and one element name, a prefix allowed.
fn is_one_element(path: &str) -> bool {
    let Some(name) = path.trim().strip_prefix("//") else { return false };
    let mut parts = name.split(':');
    let is_name = |part: &str| {
        part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    parts.next().is_some_and(is_name) && parts.next().is_none_or(is_name) && parts.next().is_none()
}

/// A distance in whole metres, what is behind the point left off.
fn metres(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    (digits(whole) && digits(fraction)).then(|| whole.parse().ok())?
}

/// One circle, or one polygon of few points.
fn is_region(shape: &Element<'_>) -> bool {
    let circle = shape.name == "Circle";
    let points = count_points(shape);
    (circle || shape.name == "Polygon") && (1..=POINTS_MAX).contains(&points)
}

/// Positions in a shape: each `pos` one, each `posList` half of its numbers.
fn count_points(shape: &Element<'_>) -> usize {
    let own = match shape.name {
        "pos" => 1,
        "posList" => shape.text.split_whitespace().count().div_ceil(2),
        _ => 0,
    };
    shape.children.iter().map(count_points).fold(own, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { filters: 8, min_moved: 10 };
    const VAN: &[u8] = b"van7@example.net";

    fn set(inside: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<filter-set xmlns=\"{SPACE}\" xmlns:lf=\"{LOCATION}\" xmlns:gml=\"http://www.opengis.net/gml\" xmlns:gs=\"http://www.opengis.net/pidflo/1.0\">{inside}</filter-set>"
        )
    }

    fn one(trigger: &str) -> String {
        set(&format!(
            "<filter id=\"f\" uri=\"sip:van7@example.net\"><trigger>{trigger}</trigger></filter>"
        ))
    }

    fn polygon(points: usize) -> String {
        let points = "<gml:pos>42.5 -73.2</gml:pos>".repeat(points);
        format!(
            "<lf:enterOrExit><gml:Polygon><gml:exterior><gml:LinearRing>{points}</gml:LinearRing></gml:exterior></gml:Polygon></lf:enterOrExit>"
        )
    }

    #[test]
    fn what_rfc_6447_shows_passes() {
        for text in [
            one("<lf:moved>300</lf:moved>"),
            one("<lf:moved> 10.0 </lf:moved><changed by=\"3\">\n //dyn:speed\n</changed>"),
            one("<changed from=\"FR\">//ca:country</changed>"),
            one(&polygon(POINTS_MAX)),
            one(
                "<lf:enterOrExit><gs:Circle><gml:pos>42.5 -73.2</gml:pos><gs:radius>850</gs:radius></gs:Circle></lf:enterOrExit>",
            ),
            set(
                "<ns-bindings><ns-binding prefix=\"dyn\" urn=\"u\"/></ns-bindings><filter id=\"1\"><what><include>//presence</include></what></filter>",
            ),
        ] {
            assert_eq!(check(text.as_bytes(), VAN, &LIMITS), Ok(()), "{text}");
        }
    }

    #[test]
    fn v_125_what_asks_too_much_is_refused() {
        let filter = "<filter id=\"1\"/>";
        let two = polygon(1).replace("</lf:enterOrExit>", "<gs:Circle/></lf:enterOrExit>");
        for text in [
            set(&filter.repeat(9)),
            set(&format!("<filter id=\"1\">{}</filter>", "<trigger/>".repeat(17))),
            one(&"<changed>//a</changed>".repeat(33)),
            one(&polygon(POINTS_MAX + 1)),
            one(&polygon(0)),
            one(&format!(
                "<lf:enterOrExit><gml:Polygon><gml:posList>{}</gml:posList></gml:Polygon></lf:enterOrExit>",
                "1 2 ".repeat(200)
            )),
            one(&two),
            one("<lf:moved>9</lf:moved>"),
            one("<lf:moved>0</lf:moved>"),
            one("<lf:moved>-300</lf:moved>"),
            one("<lf:moved>300</lf:moved><lf:moved>300</lf:moved>"),
            one("<changed>//a/b</changed>"),
            one("<changed>//a[@b]</changed>"),
            one("<changed>//*</changed>"),
            one("<changed>/a</changed>"),
            one("<added>//a</added>"),
            one("<removed>//a</removed>"),
            set("<filter id=\"1\" uri=\"sip:eve@example.net\"/>"),
            set("<filter id=\"1\" domain=\"example.net\"/>"),
            set("<other/>"),
            "<filter-set/>".to_owned(),
        ] {
            assert_eq!(check(text.as_bytes(), VAN, &LIMITS), Err(Refusal::FilterRefused), "{text}");
        }
        let dtd = one("").replace("<filter-set", "<!DOCTYPE x><filter-set");
        assert_eq!(check(dtd.as_bytes(), VAN, &LIMITS), Err(Refusal::XmlRefused));
    }
}
