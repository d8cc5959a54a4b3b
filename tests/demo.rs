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
    for part in ["rule 4", "IdentityForeign", "NonceStale", "(PSK-TLS)", "0 with credentials"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    demo.stop();
}
