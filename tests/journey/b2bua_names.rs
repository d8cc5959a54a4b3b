//! Names of dialogs that travel in bodies across an edge back to back; and what a response says of keep-alives.

use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{LabSettings, Peer, Sent};

use crate::apart::{Apart, End, at_core};
use crate::b2bua::{
    ALICE, ALICE_VIA, BOB, CORE_VIA, established, from_alice, line, status_at_core, world, world_of,
};

const DIALOGS: &str = "application/dialog-info+xml";

/// Alice watches bob's dialogs: both ends of that.
fn watched(world: &mut Apart) -> (End, End) {
    let sent = world.by_ue(&from_alice("SUBSCRIBE", 9, "Event: dialog\nExpires: 600\n", ""));
    let subscribe = at_core(&sent).clone();
    let bob = End::called(&subscribe, "notifier-tag", BOB, CORE_VIA);
    let sent = world.by_core(&bob.answer(&subscribe, 200, "Expires: 600\n", ""));
    (End::caller(world.at_ue(&sent), ALICE, ALICE_VIA), bob)
}

fn notify(bob: &mut End, kind: &str, body: &str) -> String {
    let head =
        format!("Event: dialog\nSubscription-State: active;expires=600\nContent-Type: {kind}\n");
    bob.request("NOTIFY", &head, body)
}

/// A document about these dialogs: what stands inside of the tag of each.
fn document(dialogs: &[String]) -> String {
    let dialogs: String = dialogs
        .iter()
        .map(|inside| format!("<d:dialog {inside}><d:state>confirmed</d:state></d:dialog>\r\n"))
        .collect();
    format!(
        "<?xml version=\"1.0\"?>\r\n<d:dialog-info xmlns:d=\"urn:ietf:params:xml:ns:dialog-info\" version=\"1\" state=\"full\" entity=\"sip:bob@example.net\">\r\n{dialogs}</d:dialog-info>\r\n"
    )
}

fn body(sent: &Sent) -> String {
    String::from_utf8_lossy(sent.message.body()).into_owned()
}

/// RFC 4235, V-136: what the core tells of a call that crosses here is told in the ids of the other leg, and of others
/// nothing but that they are.
#[test]
fn a_document_about_dialogs_names_them_as_its_reader_knows_them() {
    let mut world = world();
    let (alice, bob) = established(&mut world, 1, "bob-tag");
    let (watcher, mut notifier) = watched(&mut world);
    let (call, own, far) = (&bob.call_id, &bob.tags[0], &bob.tags[1]);
    let inside = [
        format!(
            "id=\"7\" call-id=\"{call}\" local-tag='{own}' remote-tag=\"{far}\" direction=\"initiator\""
        ),
        format!("id=\"{call}\" call-id = \"{call}\" local-tag=\"{far}\"  remote-tag=\"{own}\""),
        "id=\"x9\" call-id=\"secret-call\" local-tag=\"secret-1\" remote-tag=\"secret-2\"".into(),
        "call-id='early&amp;call' local-tag='one' id='early&amp;call;one'".into(),
        "id=\"bare\"".into(),
    ];
    let text = document(&inside);
    let sent = world.by_core(&notify(&mut notifier, DIALOGS, &text));
    let told = world.at_ue(&sent).clone();
    let [mine, ours] = &alice.tags;
    let xml = body(&told);
    assert!(xml.contains(&format!(
        "<d:dialog id=\"7\" call-id=\"{}\" local-tag='{ours}' remote-tag=\"{mine}\" direction=\"initiator\">",
        alice.call_id
    )), "{xml}");
    assert!(
        xml.contains(&format!(
            " call-id = \"{}\" local-tag=\"{mine}\"  remote-tag=\"{ours}\">",
            alice.call_id
        )),
        "{xml}"
    );
    for hidden in [call.as_str(), "secret", "early", "one"] {
        assert!(!xml.contains(hidden), "{hidden} in {xml}");
    }
    assert_eq!(xml.matches("<d:dialog ").count(), 5, "none is left out: {xml}");
    assert!(
        xml.contains("<d:dialog id=\"bare\">") && xml.contains("<d:dialog id=\"x9\" "),
        "{xml}"
    );
    assert_eq!(line(&told.text(), "Content-Length: "), xml.len().to_string());
    world.by_ue(&watcher.answer(&told, 200, "", ""));

    let again = world.by_core(&notify(&mut notifier, DIALOGS, &text));
    assert_eq!(body(world.at_ue(&again)), xml, "the same names each time");
    let told = world.at_ue(&again).clone();
    world.by_ue(&watcher.answer(&told, 200, "", ""));
    // What the reader makes of it leads back: she takes over her own call.
    let replaces = format!("Replaces: {};to-tag={ours};from-tag={mine}\n", alice.call_id);
    let sent = world.by_ue(&from_alice("INVITE", 10, &replaces, ""));
    assert_eq!(
        line(&at_core(&sent).text(), "Replaces: "),
        format!("{call};to-tag={own};from-tag={far}")
    );
}

#[test]
fn one_part_of_many_and_what_a_dialog_replaces_are_read_too() {
    let mut world = world();
    let (alice, bob) = established(&mut world, 1, "bob-tag");
    let (watcher, mut notifier) = watched(&mut world);
    let xml = document(&["id=\"1\"".into()]).replace(
        "<d:state>",
        &format!(
            "<d:replaces call-id=\"{}\" local-tag=\"{}\" remote-tag=\"{}\"/><d:state>",
            bob.call_id, bob.tags[0], bob.tags[1]
        ),
    );
    let parts = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\nnot about dialog-info\r\n--b\r\nContent-Type: Application/Dialog-Info+XML\r\n\r\n{xml}\r\n--b--\r\n"
    );
    let sent = world.by_core(&notify(&mut notifier, "multipart/related;boundary=b", &parts));
    let told = world.at_ue(&sent).clone();
    let [mine, ours] = &alice.tags;
    let there = format!(
        "<d:replaces call-id=\"{}\" local-tag=\"{ours}\" remote-tag=\"{mine}\"/>",
        alice.call_id
    );
    assert!(body(&told).contains(&there), "{}", body(&told));
    assert_eq!(line(&told.text(), "Content-Length: "), body(&told).len().to_string());
    world.by_ue(&watcher.answer(&told, 200, "", ""));
    let plain = "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n";
    let sent = world.by_core(&notify(&mut notifier, "multipart/related;boundary=b", plain));
    assert_eq!(body(world.at_ue(&sent)), plain, "octet for octet");
}

/// What cannot be read cannot be translated, and so does not cross.
#[test]
fn a_document_that_readers_differ_in_does_not_cross() {
    for (kind, head, text, refusal) in [
        (DIALOGS, "", "<!DOCTYPE x><x/>".to_owned(), Refusal::XmlRefused),
        (DIALOGS, "", document(&["id=\"1\" id=\"2\"".into()]), Refusal::XmlRefused),
        (DIALOGS, "Content-Encoding: gzip\n", document(&[]), Refusal::EncodingForbidden),
        ("multipart/mixed", "", format!("{DIALOGS} without a boundary"), Refusal::BodyMalformed),
    ] {
        let mut world = world();
        let (_, mut notifier) = watched(&mut world);
        let text = notify(&mut notifier, &format!("{kind}\n{head}X-Y: z"), &text);
        let sent = world.by_core(&text);
        assert!(status_at_core(&sent).is_some_and(|status| status >= 400), "{kind}");
        assert_eq!(world.lab.last(), Outcome::Refused(refusal));
    }
}

#[test]
fn where_ids_are_kept_so_are_those_in_documents() {
    let mut settings = LabSettings::default();
    settings.forward.keep_call_id = true;
    let mut world = world_of(settings);
    let peer = world.ue.clone();
    let sent = world.lab.receive(&peer, &from_alice("SUBSCRIBE", 9, "Event: dialog\n", ""));
    let mut bob = End::called(at_core(&sent), "notifier-tag", BOB, CORE_VIA);
    let text = document(&["id=\"1\" call-id=\"c\" local-tag=\"a\" remote-tag=\"b\"".into()]);
    let sent = world.lab.receive(&Peer::core(), &notify(&mut bob, DIALOGS, &text));
    assert_eq!(body(world.at_ue(&sent)), text);
}

/// `KA-04`; RFC 6223 section 4.2.
#[test]
fn whoever_asks_is_told_how_often_to_send_keep_alives() {
    let mut world = world();
    let text =
        from_alice("INVITE", 1, "", "").replace("z9hG4bKaliceINVITE1", "z9hG4bKaliceINVITE1;keep");
    let invite = at_core(&world.by_ue(&text)).clone();
    assert!(!invite.text().contains("keep"), "that is between her and us: {}", invite.text());
    let bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    for status in [180, 200] {
        let sent = world.by_core(&bob.answer(&invite, status, "", ""));
        let via = line(&world.at_ue(&sent).text(), "Via: ").to_owned();
        assert!(via.contains(";keep=120"), "{status}: {via}");
    }
    let mut world = self::world();
    let invite = at_core(&world.by_ue(&text)).clone();
    let sent = world.by_core(&bob.answer(&invite, 486, "", ""));
    let via = line(&world.at_ue(&sent).text(), "Via: ").to_owned();
    assert!(via.ends_with(";keep;received=192.0.2.10"), "no dialog, no keep-alives: {via}");
}
