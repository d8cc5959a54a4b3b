//! V-146: servers that lie to `sipward ue`. No credentials are sent, and whoever runs it reads why, in one line.

use super::*;

/// A server of that answer to everything, and what it heard.
fn liar(start: &'static str, more: String) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, heard) = (socket.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let hears = Arc::clone(&heard);
    // It ends with the process.
    std::thread::spawn(move || {
        let mut octets = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut octets) {
            let request = String::from_utf8(octets[..length].to_vec()).unwrap();
            let copied: String = request
                .split("\r\n")
                .filter(|line| {
                    ["Via:", "From:", "To:", "Call-ID:", "CSeq:"]
                        .iter()
                        .any(|it| line.starts_with(it))
                })
                .map(|line| format!("{line}\r\n"))
                .collect();
            let copied = copied.replace("\r\nCall-ID:", ";tag=liar\r\nCall-ID:");
            hears.lock().unwrap().push(request);
            let answer = format!("SIP/2.0 {start}\r\n{copied}{more}Content-Length: 0\r\n\r\n");
            socket.send_to(answer.as_bytes(), from).unwrap();
        }
    });
    (address, heard)
}

/// What the client says with these words, in one line.
fn says(edge: &Edge, words: &[&str]) -> String {
    let mut command = sipward();
    command.args(["ue", "register", "--identity", "sip:ue1@example.net"]).args(words);
    let done = command.current_dir(&edge.folder).output().unwrap();
    let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    assert_eq!((done.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    said
}

#[test]
fn v_146_a_server_that_lies_is_sent_no_credentials_and_the_user_is_told() {
    let edge = Edge::start("liars");
    fs::write(edge.folder.join("password"), "correct horse").unwrap();
    let ub = edge.ub.expect("a bootstrapping server").to_string();
    let mut bootstrap = sipward();
    bootstrap.args(["ue", "bootstrap", "--bsf", &ub, "--keys", "keys.sealed"]);
    let made = bootstrap.current_dir(&edge.folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (elsewhere, overheard) = liar("200 OK", String::new());

    let asks = |realm: &str, algorithm: &str| {
        format!(
            "Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"n\", algorithm={algorithm}, qop=\"auth\"\r\n"
        )
    };
    let bootstrapped = ["--keys", "keys.sealed"];
    let account = ["--account", "alice", "--password-file", "password"];
    for (start, more, words, told) in [
        (
            "407 Proxy Authentication Required",
            asks("3GPP-bootstrapping@evil.example", "SHA-256"),
            &bootstrapped[..],
            "asked for a key of evil.example, which is not the host that was dialled",
        ),
        (
            "407 Proxy Authentication Required",
            asks("3GPP-bootstrapping-uicc@edge.example.net", "SHA-256"),
            &bootstrapped,
            "no credentials for any realm that was asked for",
        ),
        (
            "407 Proxy Authentication Required",
            asks("example.net", "MD5"),
            &[&account[..], &["--no-md5"]].concat(),
            "only algorithms weaker than accepted were offered",
        ),
        (
            "302 Moved Temporarily",
            format!("Contact: <sip:naf.evil.example@{elsewhere}>\r\n"),
            &bootstrapped,
            "302 Moved Temporarily",
        ),
        ("305 Use Proxy", format!("Contact: <sip:{elsewhere}>\r\n"), &account, "305 Use Proxy"),
    ] {
        let (address, heard) = liar(start, more);
        let said = says(&edge, &[&["--edge", &address.to_string()], words].concat());
        assert!(said.contains(told), "{start}: {said}");
        let heard = heard.lock().unwrap().clone();
        assert!(
            !heard.is_empty() && heard.iter().all(|it| it.starts_with("REGISTER ")),
            "{heard:?}"
        );
        assert!(heard.iter().all(|it| !it.contains("Authorization")), "{start}: {heard:?}");
    }
    assert!(overheard.lock().unwrap().is_empty(), "nobody is followed elsewhere");

    // Its certificate is good, and of another name than was dialled.
    let requests = r#"sipward_requests_total{method="REGISTER",side="ue"}"#;
    let tls = edge.tls.expect("a listener").to_string();
    let ca =
        ["--transport", "tls", "--ca", "lab-ca.pem", "--name", "naf.example.org", "--edge", &tls];
    let said = says(&edge, &[&ca[..], &account].concat());
    assert!(said.contains("edge.example.net"), "{said}");
    assert_eq!(edge.metrics([requests]), [0], "nothing was asked");
}
