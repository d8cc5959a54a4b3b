//! A token opens as what was sealed in it, for the call and the ends that it was made for, and no octets but those of our
//! own tokens open at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipward::association::token::{Ends, Former, NONCE_OCTETS, Opened};
use sipward::association::{RouteToken, RouteTokens};
use sipward::enabler::Class;
use sipward::forward::Tokens;
use sipward::instant::WallTime;
use sipward::transport::Side;

const NOW: WallTime = WallTime::from_unix(1_790_000_000);

fuzz_target!(|octets: &[u8]| {
    let (routes, flows) = (RouteTokens::new([1; 32]), Tokens::new([2; 32]));
    let tags: [&[u8]; 2] = [b"alice", b"bob"];
    // Which end is tried first makes no difference.
    let open = |user: &[u8], call: &[u8], tags| {
        let [one, other] =
            [Former::From, Former::To].map(|likely| routes.open(user, call, tags, likely, NOW));
        assert_eq!(one, other);
        one
    };
    assert!(!matches!(open(octets, b"call", tags), Opened::Token(_)));
    assert!(!matches!(flows.open(octets, NOW), Ok(Some(_))));

    let Some((head, rest)) = octets.split_first_chunk::<NONCE_OCTETS>() else { return };
    let number = |at: usize| rest.get(at).map_or(0, |octet| u64::from(*octet)) << 20;
    let token = RouteToken {
        facing: if number(0) == 0 { Side::Ue } else { Side::Core },
        id: number(1),
        ue: number(2),
        core: number(3),
        class: Class::Sip,
        level: 2,
        secure: number(4) % 3 == 0,
        invite: number(5) % 3 == 0,
        caller: Side::Ue,
        issued: NOW,
        whole: number(6) % 3 == 0,
    };
    let call = rest.get(7..).unwrap_or_default();
    let ends = if token.whole { Ends::Both(b"alice", b"bob") } else { Ends::Caller(b"alice") };
    let text = routes.seal(&token, call, ends, head).expect("it is sealed");
    // From and To of a request that comes from the side which the token faces.
    let of = |alice: &'static [u8], bob: &'static [u8]| match token.facing {
        Side::Ue => [alice, bob],
        Side::Core => [bob, alice],
    };
    let tags = of(b"alice", b"bob");
    assert_eq!(open(text.as_bytes(), call, tags), Opened::Token(token));
    let longer = [call, b"x"].concat();
    assert_eq!(open(text.as_bytes(), &longer, tags), Opened::Forged, "another call");
    let other = of(b"rogue", b"bob");
    assert_eq!(open(text.as_bytes(), call, other), Opened::Forged, "another's");
    let other = open(text.as_bytes(), call, of(b"alice", b"carol"));
    let expected = if token.whole { Opened::Forged } else { Opened::Token(token) };
    assert_eq!(other, expected, "of another dialog of that call");
    let mut altered = text.into_bytes();
    let at = usize::from(head[0]) % altered.len();
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    assert!(!matches!(open(&altered, call, tags), Opened::Token(_)), "altered at {at}");
});
