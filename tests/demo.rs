//! The demonstration, played to its end: each scene shows what it says, by name and rule.

use sipward::demo::Demo;

#[tokio::test]
async fn every_scene_ends_as_it_must() {
    let demo = Demo::start().await.expect("the stage");
    let mut out = Vec::new();
    let played = demo.play(&mut out).await;
    let text = String::from_utf8(out).expect("text");
    assert!(
        played.is_ok(),
        "{}\n{text}",
        played.err().map(|why| why.to_string()).unwrap_or_default()
    );
    demo.stop();
    for (title, steps) in SCENES {
        assert_steps(title, &scene(&text, title), steps);
    }
    assert!(text.contains("0 with credentials"), "{text}");
    assert_bridged(&scene(&text, "Alice calls bob through"));
    assert_transports(&text);
}

/// Scenes by the beginning of their titles, with words of lines that stand in them in that order.
const SCENES: &[(&str, &[&[&str]])] = &[
    (
        "A rogue listens",
        &[
            &["MESSAGE", "refused: NonceStale, rule 3"],
            &["407 stale"],
            &["MESSAGE", "refused: IdentityForeign"],
            &["403"],
            &["Proved:"],
        ],
    ),
    (
        "The rogue tries to end a call",
        &[
            &["BYE", "refused: AssociationMismatch, rule 4"],
            &["403"],
            &["BYE", "passes, proved by Digest, rule 1"],
            &["200 OK"],
        ],
    ),
    (
        "Alice makes a new key while",
        &[
            &["alice@ims.example.net bootstraps again"],
            &["INFO", "refused: AssociationMismatch, rule 4"],
            &["INFO", "refused: CredentialsMissing, rule 3"],
            &["INFO", "waits for its key, passes, proved by Digest, rule 18"],
            &["BYE", "passes, proved by Digest, rule 1"],
            &["from key 0 to key 1"],
        ],
    ),
    (
        "Alice calls bob, then carol",
        &[
            &["rogue", "edge"],
            &["INVITE", "refused: ForeignDialogNamed, rule 29"],
            &["alice", "bob", "carol", "edge", "core"],
            &["REFER", "passes, proved by Digest, rule 1"],
            &["202"],
            &["INVITE", "TLS", "passes, proved by Digest"],
            &["NOTIFY", "TLS", "rule 1"],
            &["Proved:", "rule 29"],
        ],
    ),
    (
        "Bob asks where the van is",
        &[
            &["SUBSCRIBE", "refused: BadCredentials, rule 3"],
            &["SUBSCRIBE", "refused: CredentialsMissing, rule 3"],
            &["SUBSCRIBE", "TLS", "passes, proved by Digest, as locsip"],
            &["NOTIFY", "passes, proved by its certificate, as locsip, rule 1"],
            &["SUBSCRIBE", "UDP", "refused: SecureRequired"],
            &["03 00 00 00 03", "03 00 00 00 02"],
        ],
    ),
    (
        "Alice sends bob a message as CPM",
        &[
            &["MESSAGE", "refused: IntegrityRequired"],
            &["407 stale"],
            &["MESSAGE", "passes, proved by Digest, as cpm.pager"],
            &["MESSAGE", "refused: CpimFromMismatch"],
            &["403"],
        ],
    ),
    (
        "Bob invites carol to a chat",
        &[
            &["INVITE", "TLS", "passes, proved by Digest, as cpm.session"],
            &["BYE", "as cpm.session, rule 1"],
            &["INVITE", "UDP", "refused: SecureRequired"],
            &["403"],
        ],
    ),
    (
        "A server that is listed for it pushes",
        &[
            &["bob", "rogue", "edge", "push", "ads"],
            &["MESSAGE", "passes, proved by its certificate, as push"],
            &["200 OK"],
            &["MESSAGE", "refused: PushServerUnknown"],
            &["403"],
            &["MESSAGE", "refused: DirectionForbidden"],
            &["MESSAGE", "refused: Unreachable"],
            &["480"],
        ],
    ),
    (
        "Alice calls bob through a listener in B2BUA mode",
        &[
            &["INVITE", "passes, proved by Digest"],
            &["BYE", "refused: AssociationMismatch, rule 4"],
            &["403"],
            &["BYE", "passes, proved by Digest, rule 1"],
            &["none is seen on both"],
        ],
    ),
];

/// The lines of the scene whose title begins so.
fn scene<'t>(text: &'t str, title: &str) -> Vec<&'t str> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(title));
    assert!(lines.next().is_some(), "{title} in\n{text}");
    lines.take_while(|line| line.is_empty() || line.starts_with(' ')).collect()
}

fn assert_steps(title: &str, lines: &[&str], steps: &[&[&str]]) {
    let mut rest = lines.iter();
    for words in steps {
        let found = rest.any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{title}: {words:?}, in its place, in\n{}", lines.join("\n"));
    }
}

/// One Call-ID on alice's side, in the first column, and another one on the core's, in the last.
fn assert_bridged(lines: &[&str]) {
    let head = lines.iter().find(|line| line.contains("edge")).expect("a head");
    let last = 7 + 15 * (head.split_whitespace().count() - 1);
    let calls_where = |at: usize| {
        let arrows = lines.iter().filter(|line| line.as_bytes().get(at) == Some(&b'-'));
        let call = |line: &&str| {
            let mut words = line.split_whitespace().skip_while(|it| !["UDP", "TLS"].contains(it));
            words.nth(1).map(str::to_owned)
        };
        arrows.filter_map(call).collect::<Vec<_>>()
    };
    let (near, far) = (calls_where(8), calls_where(last - 1));
    let same = |calls: &[String]| calls.iter().all(|call| Some(call) == calls.first());
    assert!(near.len() > 5 && far.len() > 5, "{near:?} {far:?}");
    assert!(same(&near) && same(&far) && near.first() != far.first(), "{near:?} {far:?}");
}

/// A registration over each transport, and one transport beside each arrow.
fn assert_transports(text: &str) {
    let digest = "proved by Digest";
    let every = [
        ("UDP", digest),
        ("TCP", digest),
        ("TLS", digest),
        ("PSK-TLS", "proved by its connection's key"),
        ("DTLS", digest),
        ("DTLS-PSK", "proved by its connection's key"),
        ("WS", digest),
        ("WSS", digest),
    ];
    let goes_by = |line: &str, name: &str| line.split_whitespace().any(|word| word == name);
    let arrows = text.lines().filter(|line| line.starts_with("       ") && line.contains('-'));
    for line in arrows.clone() {
        let named = every.iter().filter(|(name, _)| goes_by(line, name)).count();
        assert_eq!(named, 1, "one transport in {line}");
    }
    for (name, proof) in every {
        let mut arrows = arrows.clone().filter(|line| goes_by(line, name));
        let registers = arrows.any(|line| line.contains("REGISTER") && line.contains(proof));
        assert!(registers, "REGISTER over {name}, {proof} in\n{text}");
    }
}
