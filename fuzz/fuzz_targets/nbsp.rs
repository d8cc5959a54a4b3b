//! What is read of a body of Nbsp_GBA prints to what reads the same, and no list in it is longer than its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipward::keys::nbsp::BODY_MAX;
use sipward::keys::nbsp::message::{LIST_MAX, Problem, Question, parse_key, print_key};

/// Bodies that inputs begin from: a question, a key, and a no.
const SEEDS: [&str; 3] = [
    r#"{"btId":"cmFuZA==@bsf.example.net","nafId":{"nafFqdn":"naf.example.net","uaSecProtId":"0300000003"},"gbaUAware":true,"gsIds":[0,7]}"#,
    r#"{"meKeyMaterial":"abababababababababababababababababababababababababababababababab","keyExpiryTime":"2027-01-15T08:00:00Z","bootstrappingInfoCreationTime":"2026-01-15T08:00:00Z","gbaType":"GBA_DIGEST","impi":"alice@example.net","ussList":[{"uss":{"gsId":7,"gsType":0,"ueIds":[{"ueId":"sip:alice@example.net"}],"flags":[{"flag":1}]}}]}"#,
    r#"{"status":404,"cause":"CONTEXT_NOT_FOUND","detail":"no such B-TID","invalidParams":[{"param":"btId"}]}"#,
];

/// The seed of that number with octets of the input in the place of some of its own; or the input as it is.
fn body(octets: &[u8]) -> Vec<u8> {
    let [number, at, cut, rest @ ..] = octets else { return octets.to_vec() };
    let Some(seed) = SEEDS.get(usize::from(*number)) else { return octets.to_vec() };
    let from = seed.len() * usize::from(*at) / 256;
    let to = (from + usize::from(*cut)).min(seed.len());
    [&seed.as_bytes()[..from], rest, &seed.as_bytes()[to..]].concat()
}

fuzz_target!(|octets: &[u8]| {
    let body = body(octets);
    let body = body.get(..BODY_MAX).unwrap_or(&body);
    if let Ok(question) = Question::parse(body) {
        assert!(question.gsids.len() <= LIST_MAX);
        assert_eq!(Question::parse(&question.print()), Ok(question));
    }
    if let Ok(key) = parse_key(body) {
        assert!(key.uss.len() <= LIST_MAX && key.identities.len() <= LIST_MAX);
        let gsids: Vec<u32> = key.uss.iter().map(|one| one.gsid).collect();
        let printed = print_key(&key, &gsids);
        let again = parse_key(&printed).expect("what was printed reads");
        assert_eq!(again.key.expose(), key.key.expose());
        assert_eq!((&again.impi, again.expires), (&key.impi, key.expires));
        assert_eq!(*print_key(&again, &gsids), *printed);
    }
    let problem = Problem::parse(404, body);
    assert_eq!(Problem::parse(404, &problem.print()), problem);
});
