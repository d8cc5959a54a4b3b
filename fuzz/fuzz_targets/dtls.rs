//! What the DTLS filter keeps are records of the datagram, in their order; a hello is the same offer without its cookie,
//! and its answer is shorter than it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipward::instant::Instant;
use sipward::transport::dtls::cookie::{Cookies, hello_verify_request};
use sipward::transport::dtls::exchange::Exchange;
use sipward::transport::dtls::filter::{self, Filter};
use sipward::transport::dtls::hello::Hello;
use sipward::transport::dtls::record::{fragments, records};

fuzz_target!(|octets: &[u8]| {
    let from = ([192, 0, 2, 1], 4000).into();
    let all: Vec<&[u8]> = records(octets).map(|record| record.octets).collect();
    assert!(octets.starts_with(&all.concat()));
    for record in records(octets) {
        let parts = fragments(record.body).into_iter().flatten();
        assert!(parts.map(|part| part.octets.len()).sum::<usize>() <= record.body.len());
    }
    let kept = [
        Filter::default().shaking_hands(octets),
        filter::established(octets),
        filter::of_handshake(octets),
        filter::at_least(octets, 24),
    ];
    for kept in kept.into_iter().flatten() {
        let mut rest = all.iter();
        for record in records(&kept) {
            assert!(rest.any(|it| *it == record.octets), "a record of the datagram, in its order");
        }
    }
    if let Some(identity) = Exchange::default().take(octets) {
        assert!(identity.len() <= octets.len());
    }
    let Ok(hello) = Hello::read(octets) else { return };
    let bare = hello.without_cookie(hello.record);
    let again = Hello::read(&bare).expect("the same hello, without a cookie");
    assert!(again.cookie.is_empty());
    assert_eq!(again.constant(), hello.constant());
    assert!(again.suites().eq(hello.suites()));
    let cookies = Cookies::new([7; 32]);
    let cookie = cookies.make(from, &hello, Instant::START);
    assert!(hello_verify_request(&hello, &cookie).len() < octets.len());
    assert!(!cookies.verify(from, &again, Instant::START));
});
