//! The folders of `sip-fixtures/torture`: each message as it came, and beside it what must come of it.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use sipward::wire::{Edits, Fault, Framed, Framer, Malformed, Message, Reply, check};
use toml::{Table, Value};

/// One pair of files.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) octets: Vec<u8>,
    expect: Table,
}

/// All pairs of one folder, in the order of their names.
pub(crate) fn cases(folder: &str) -> Vec<Case> {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/torture").join(folder);
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    names.sort();
    let with = |extension: &str| -> Vec<PathBuf> {
        let found = names.iter().filter(|path| path.extension().is_some_and(|e| e == extension));
        found.map(|path| path.with_extension("")).collect()
    };
    assert_eq!(
        with("sip"),
        with("toml"),
        "each message has its expectation, and the other way round"
    );
    with("sip")
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(path.with_extension("toml")).expect("a text");
            let table: Table =
                text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for key in ["about", "source"] {
                let told = table.get(key).and_then(Value::as_str);
                assert!(told.is_some_and(|text| !text.is_empty()), "{}: {key}", path.display());
            }
            Case {
                name: path.file_name().expect("a name").to_string_lossy().into_owned(),
                octets: std::fs::read(path.with_extension("sip")).expect("octets"),
                expect: table["expect"].as_table().expect("a table").clone(),
            }
        })
        .collect()
}

/// What the wire makes of a datagram: a message to judge, or what is wrong with it.
pub(crate) fn read(octets: &[u8]) -> Result<Message, Malformed> {
    let message = Message::from_datagram(Bytes::copy_from_slice(octets))?;
    match check::check(&message) {
        Ok(()) => Ok(message),
        Err(fault) => Err(Malformed { fault, rest: Some(Box::new(message)) }),
    }
}

impl Case {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.expect
            .get(key)
            .map(|value| value.as_str().unwrap_or_else(|| panic!("{}: {key}", self.name)))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.expect.contains_key(key)
    }

    /// A word, or a status as one; what the wire says where the edge is not asked.
    pub(crate) fn verdict(&self, key: &str) -> String {
        match self.expect.get(key).unwrap_or(&self.expect["wire"]) {
            Value::String(word) => word.clone(),
            Value::Integer(status) => status.to_string(),
            other => panic!("{}: {key} = {other}", self.name),
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> bool {
        self.expect.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// All that stands in `expect` for the wire.
    pub(crate) fn run(&self) {
        let name = &self.name;
        let known = [
            "at", "wire", "fault", "branch", "cut", "stream", "answered", "edge", "by", "rfc2543",
            "answer",
        ];
        assert!(self.expect.keys().all(|key| known.contains(&key.as_str())), "{name}: unknown key");
        let edge = self.has("edge");
        assert_eq!(edge, self.has("by"), "{name}: who sends what the edge decides");
        assert_eq!(
            edge,
            self.verdict("wire") == "forward",
            "{name}: what goes on is decided later"
        );
        assert_eq!(self.text("at"), Some(if edge { "edge" } else { "wire" }), "{name}: at");
        match (read(&self.octets), &self.expect["wire"]) {
            (Ok(message), Value::String(verdict)) if verdict == "forward" => {
                self.accepted(&message)
            }
            (Err(why), Value::String(verdict)) if verdict == "drop" => {
                let request = why.rest.as_ref().is_some_and(|rest| rest.is_request());
                assert!(!request, "{name}: only what is no request is dropped");
                self.refused(&why);
            }
            (Err(why), Value::Integer(status)) => {
                assert_eq!(i64::from(why.fault.status()), *status, "{name}: {:?}", why.fault);
                self.refused(&why);
                self.answered(&why);
            }
            (found, verdict) => panic!("{name}: {verdict} was expected, not {found:?}"),
        }
        for step in [1, 2, 7, 64, self.octets.len()] {
            self.stream(step);
        }
    }

    fn refused(&self, why: &Malformed) {
        assert_eq!(self.text("fault"), Some(format!("{:?}", why.fault).as_str()), "{}", self.name);
    }

    fn accepted(&self, message: &Message) {
        let name = &self.name;
        assert!(self.octets.starts_with(message.octets()), "{name}");
        let cut = message.octets().len() < self.octets.len();
        assert_eq!(cut, self.flag("cut", false), "{name}: octets behind the body");
        let printed = Edits::new().apply(message).expect("no new text");
        assert_eq!(&printed, message.octets(), "{name}: printed as it came");
        let old = message.is_request() && check::branch(message) == Err(Fault::BranchOld);
        assert_eq!(old, self.text("branch") == Some("old"), "{name}: branch");
        if message.is_request() {
            let reply = Reply::to(message, 486).to_tag(b"ours").octets();
            let reply = read(&reply.unwrap_or_else(|| panic!("{name}: no answer")));
            let reply = reply.unwrap_or_else(|why| panic!("{name}: {:?}", why.fault));
            assert_eq!(reply.call_id(), message.call_id(), "{name}");
            assert_eq!(reply.cseq(), message.cseq(), "{name}");
            assert!(!reply.to_tag().is_empty(), "{name}: To tag");
        }
    }

    fn answered(&self, why: &Malformed) {
        let name = &self.name;
        let request = why.rest.as_ref().unwrap_or_else(|| panic!("{name}: nothing to answer"));
        assert!(request.is_request(), "{name}");
        let reply = Reply::to(request, why.fault.status()).to_tag(b"ours").octets();
        assert_eq!(reply.is_some(), self.flag("answered", true), "{name}: answered");
        if let Some(reply) = reply {
            let reply = Message::from_datagram(Bytes::from(reply));
            let reply = reply.unwrap_or_else(|why| panic!("{name}: {:?}", why.fault));
            assert_eq!(reply.status(), Some(why.fault.status()), "{name}");
            assert_eq!(reply.call_id(), request.call_id(), "{name}");
        }
    }

    /// The same octets on a stream, `step` at a time.
    fn stream(&self, step: usize) {
        let name = &self.name;
        let (mut framer, mut held, mut found) = (Framer::new(), BytesMut::new(), Vec::new());
        let mut broken = None;
        'all: for chunk in self.octets.chunks(step) {
            held.extend_from_slice(chunk);
            loop {
                match framer.next(&mut held, sipward::wire::message::MESSAGE_MAX) {
                    Framed::More => break,
                    Framed::Ping => {}
                    Framed::Message(message) => found.push(message),
                    Framed::Broken(why) => {
                        broken = Some(why.fault);
                        break 'all;
                    }
                }
            }
        }
        let outcome = match (found.len(), broken) {
            (0, None) => "waits",
            (0, Some(_)) => "closed",
            (1, None) => "same",
            (2, Some(_)) => "two, then closed",
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(outcome, self.text("stream").unwrap_or("same"), "{name} in steps of {step}");
        if let Some(message) = found.first() {
            let datagram = match read(&self.octets) {
                Ok(message) => message,
                Err(why) => *why.rest.expect("a start line"),
            };
            assert_eq!(message.octets(), datagram.octets(), "{name} in steps of {step}");
        }
    }
}
