//! The demonstration, played to its end.

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
    for part in ["rule 4", "IdentityForeign", "NonceStale", "0 with credentials"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
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
    demo.stop();
}
