//! A whole phone in virtual time: the agent of `sipward ue`, the edge of the laboratory, and who sits on the line.

use bytes::Bytes;
use sipward::authentication::accounts::{Account, Secret};
use sipward::authentication::digest::Hash;
use sipward::client::agent::{Agent, Event, Failure};
use sipward::client::answer::{Answerer, Credential};
use sipward::client::draft::{Draft, Voice};
use sipward::identity::Impu;
use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::wire::Message;
use zeroize::Zeroizing;

use crate::scene::respond;

const PASSWORD: &str = "wonderland";

/// What became of a request.
pub(crate) type Answer = Result<Message, Failure>;

pub(crate) struct Phone {
    pub(crate) agent: Agent,
    pub(crate) peer: Peer,
    /// What it sent, in order.
    pub(crate) sent: Vec<String>,
}

/// Settings with an account for alice.
pub(crate) fn with_account(mut settings: LabSettings) -> LabSettings {
    let account = Account {
        secret: Secret::Password(Zeroizing::new(PASSWORD.into())),
        identities: [Impu::new("sip:alice@example.net").expect("a URI")].into(),
        disabled: false,
        classes: None,
    };
    settings.accounts.add("example.net", "alice", account).expect("room");
    settings.authentication.offer.realms = vec!["example.net".into()];
    settings
}

impl Phone {
    /// Alice, with the password of her account; `seed` tells her phones apart.
    pub(crate) fn new(peer: Peer, agrees: bool, seed: &str) -> Self {
        let account = Credential::Account {
            username: "alice".into(),
            password: Zeroizing::new(PASSWORD.into()),
            realm: None,
        };
        let flow = peer.flow();
        let mut answerer =
            Answerer::new(vec![account], "edge.example.net", Hash::Md5, "cnonce".into());
        if agrees {
            answerer = answerer.agreeing(flow.transport.is_secure());
        }
        let voice = Voice {
            identity: "sip:alice@example.net".into(),
            via: format!("SIP/2.0/{} {}", flow.transport.via_token(), flow.remote),
            contact: format!("sip:alice@{}", flow.remote),
            agent: "phone".into(),
        };
        let agent = Agent::new(voice, answerer, flow.transport, seed.into(), [9; 16]);
        Self { agent, peer, sent: Vec::new() }
    }

    pub(crate) fn draft(&mut self, method: &'static str) -> Draft {
        match method {
            "REGISTER" => {
                let mut draft = self.agent.draft("REGISTER", "sip:example.net");
                draft.to = "sip:alice@example.net".into();
                draft.with("Supported", "path")
            }
            _ => self.agent.draft(method, "sip:bob@example.net"),
        }
    }

    /// Sends a request and waits for what becomes of it. The core answers with 200; `line` may alter what the edge
    /// sends to the phone.
    pub(crate) fn ask(
        &mut self,
        lab: &mut Lab,
        draft: Draft,
        more: &str,
        line: impl Fn(String) -> String,
    ) -> Answer {
        let id = self.agent.send(draft, lab.now);
        loop {
            while let Some(event) = self.agent.poll_event() {
                match event {
                    Event::Final { id: of, response } if of == id => return Ok(*response),
                    Event::Failed { id: of, why } if of == id => return Err(why),
                    _ => {}
                }
            }
            let octets = self.agent.poll_output().expect("it waits for something");
            self.sent.push(String::from_utf8_lossy(&octets).into_owned());
            for sent in lab.receive_octets(&self.peer, octets) {
                self.carry(lab, &sent, more, &line);
            }
        }
    }

    fn carry(&mut self, lab: &mut Lab, sent: &Sent, more: &str, line: &impl Fn(String) -> String) {
        if sent.to == self.peer.flow().remote {
            let altered = Bytes::from(line(sent.text()));
            let message = Message::from_datagram(altered).expect("still a message");
            return self.agent.receive(message, &self.peer.flow(), lab.now);
        }
        for back in lab.receive(&Peer::core(), &respond(sent, 200, "core", more)) {
            self.carry(lab, &back, more, line);
        }
    }
}
