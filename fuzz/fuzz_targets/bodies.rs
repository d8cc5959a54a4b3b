//! A body that is taken says one thing: it has one sender, its parts lie in it and hold no boundary, nobody counts more
//! recipients than may be, and media that are checked are media that a session is known by.
//!
//! Inputs are bodies, or whole requests: `cargo fuzz run bodies fuzz/corpus/bodies sip-fixtures/enabler` begins with the
//! fixtures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipward::enabler::body::filter::Limits;
use sipward::enabler::body::{cpim, filter, media, multipart, resource_lists, xml};
use sipward::wire::MediaType;

fuzz_target!(|octets: &[u8]| {
    judge(octets);
    if let Some(at) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
        judge(&octets[at + 4..]);
    }
});

fn judge(body: &[u8]) {
    if let Ok(found) = cpim::read(body) {
        let head = body.windows(4).position(|four| four == b"\r\n\r\n").expect("two blocks");
        let named =
            |line: &&[u8]| line.get(..5).is_some_and(|it| it.eq_ignore_ascii_case(b"from:"));
        let lines = body[..head].split(|octet| *octet == b'\n');
        assert_eq!(lines.filter(named).count(), 1, "one sender");
        assert!(found.recipients <= cpim::HEADERS_MAX);
    }
    let mixed = MediaType::parse(b"multipart/mixed;boundary=b1").expect("a type");
    let mut leaves = 0;
    let within = body.as_ptr_range();
    let walked = multipart::walk(mixed, body, &mut |leaf| {
        leaves += 1;
        let part = leaf.content.as_ptr_range();
        assert!(within.start <= part.start && part.end <= within.end, "a part lies in its body");
        let cut = leaf.content.windows(6).any(|six| six == b"\r\n--b1");
        assert!(!cut, "a part holds no boundary");
        Ok(())
    });
    assert!(walked.is_err() || leaves <= multipart::PARTS_MAX);
    if let Ok(root) = xml::read(body) {
        assert!(depth(&root) <= xml::DEPTH_MAX);
    }
    if let Ok(count) = resource_lists::count(body, 20) {
        assert!(count <= 20 && xml::read(body).is_ok());
    }
    let limits = Limits { filters: 8, min_moved: 10 };
    if filter::check(body, b"van7@example.net", &limits).is_ok() {
        let root = xml::read(body).expect("a filter is a document");
        assert!(root.children.len() <= xml::ELEMENTS_MAX);
        assert!(
            filter::check(body, b"other@example.net", &Limits { filters: 8, ..limits }).is_ok()
                || root.children.iter().any(|one| one.attribute("uri").is_some())
        );
    }
    if let Ok(lines) = media::msrp(body) {
        assert!(lines.is_empty() || media::has_msrp(body), "what is checked was seen");
        assert!(lines.len() <= media::LINES_MAX);
    }
}

fn depth(element: &xml::Element<'_>) -> usize {
    1 + element.children.iter().map(depth).max().unwrap_or(0)
}
