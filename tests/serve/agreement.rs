//! Security agreements (RFC 3329) over real sockets: the program's own phone, and one that does not know them.

use super::*;

/// What `init` wrote, with that word at both listeners for UEs.
fn agreeing(text: String, mode: &str) -> String {
    let identity = "\nidentity = \"edge.example.net\"\n";
    assert_eq!(text.matches(identity).count(), 2, "{text}");
    text.replace(identity, &format!("{identity}sec_agree = \"{mode}\"\n"))
}

/// What `sipward ue` said, and whether it was content.
fn phone(edge: &Edge, transport: &str, more: &[&str]) -> (bool, String) {
    let accounts = fs::read_to_string(edge.folder.join("accounts.toml")).unwrap();
    let password = accounts.lines().find_map(|line| line.strip_prefix("password = ")).unwrap();
    let file = edge.folder.join("password");
    fs::write(&file, password.trim_matches('"')).unwrap();
    let address = if transport == "tls" { edge.tls.unwrap() } else { edge.ue };
    let run = sipward()
        .args(["ue", "register", "--identity", "sip:alice@example.net", "--account", "alice"])
        .args(["--transport", transport, "--edge", &address.to_string()])
        .arg("--password-file")
        .arg(&file)
        .arg("--ca")
        .arg(edge.folder.join("lab-ca.pem"))
        .args(more)
        .output()
        .unwrap();
    let text = [run.stdout, run.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
    (run.status.success(), text)
}

/// SA-01 to SA-05: the better mechanism of what the listener has, agreed on and checked; the core hears nothing of it.
#[test]
fn a_phone_and_the_edge_agree_on_what_protects_them() {
    for mode in ["accept", "require"] {
        let core = Core::start();
        let edge = Edge::start_with(&format!("agreement-{mode}"), |text| {
            let peer = format!("sip:{};transport=udp", core.address);
            // The same account comes with the phone that knows of no agreement, and of SHA-256.
            agreeing(text, mode)
                .replace("# lock = true", "lock = false")
                .replace("rate = \"6/min\"", "rate = \"600/min\"")
                .replace("sip:127.0.0.1:5070;transport=tcp", &peer)
        });
        for (transport, agreed) in [("udp", "digest"), ("tcp", "digest"), ("tls", "tls")] {
            let (good, said) = phone(&edge, transport, &["--sec-agree"]);
            assert!(good, "{mode}, {transport}: {said}");
            assert_eq!(said, format!("200 OK\nagreed on {agreed}\n"), "{mode}, {transport}");
            // Over TLS its requests are protected already.
            let taken = mode == "accept" || transport == "tls";
            let (good, said) = phone(&edge, transport, &[]);
            let expected = if taken { "200 OK\n" } else { "421 Extension Required\n" };
            assert_eq!((good, &*said), (taken, expected), "{mode}, {transport}");
        }
        let heard = core.heard.lock().unwrap().clone();
        assert_eq!(heard.len(), if mode == "accept" { 6 } else { 4 }, "{heard:?}");
        for register in heard {
            assert!(
                register.contains("P-Asserted-Identity: <sip:alice@example.net>"),
                "{register}"
            );
            for left in ["Security-", "sec-agree", "Proxy-Require"] {
                assert!(!register.contains(left), "{left}: {register}");
            }
        }
    }
}

fn over_tcp(edge: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(edge).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.replace("SIP/2.0/UDP", "SIP/2.0/TCP").as_bytes()).unwrap();
    let (mut answer, mut room) = (String::new(), [0; 4096]);
    while !answer.ends_with("\r\n\r\n") {
        let count = stream.read(&mut room).unwrap();
        assert_ne!(count, 0, "{answer}");
        answer.push_str(std::str::from_utf8(&room[..count]).unwrap());
    }
    answer
}

/// SA-03, SA-04, over a socket: no agreement, only the wish for one, and a list that is not the edge's.
#[test]
fn who_does_not_agree_is_told_the_list_and_goes_no_further() {
    let core = Core::start();
    let edge = Edge::start_with("agreement-refused", |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        agreeing(text, "require").replace("sip:127.0.0.1:5070;transport=tcp", &peer)
    });
    let with = |fields: &str| MESSAGE.replace("Max-Forwards", &format!("{fields}Max-Forwards"));
    let asks = "Require: sec-agree\r\nProxy-Require: sec-agree\r\n";
    for (number, (about, request, status)) in [
        ("nothing", with(""), "421 "),
        ("the wish alone", with("Supported: sec-agree\r\n"), "494 "),
        ("its own list", with(&format!("{asks}Security-Client: digest;q=0.1\r\n")), "494 "),
        ("another list", with(&format!("{asks}Security-Verify: tls;q=0.9\r\n")), "494 "),
        ("an earlier hop", with("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK0\r\n"), "502 "),
    ]
    .into_iter()
    .enumerate()
    {
        // Over TCP: to a stranger's datagram no answer is longer than twice of it.
        let answer =
            over_tcp(edge.ue, &request.replacen("z9hG4bK1", &format!("z9hG4bK{}", number + 1), 1));
        assert!(answer.starts_with(&format!("SIP/2.0 {status}")), "{about}: {answer}");
        let told = answer.contains("Security-Server: ") && answer.contains("Require: sec-agree");
        assert_eq!(told, status != "502 ", "{about}: {answer}");
    }
    assert!(core.heard.lock().unwrap().is_empty());
}
