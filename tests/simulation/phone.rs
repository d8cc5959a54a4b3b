//! A subscriber's phone, and the key that it shares with the edge.

use std::sync::Arc;

use sipward::authentication::digest::Hash;
use sipward::client::agent::Agent;
use sipward::client::answer::{Answerer, Credential};
use sipward::client::bootstrap::{Bootstrapped, Origin};
use sipward::client::draft::{Draft, Voice};
use sipward::identity::{Impi, Impu};
use sipward::instant::{Now, WallTime};
use sipward::keys::derivation::btid;
use sipward::keys::{Ks, NafId, NafKey, Rand, UaId};
use sipward::testing::Peer;
use sipward::testing::lab::EDGE;
use sipward::transport::Transport;

use crate::chance::Chance;

/// How long keys live: longer than any story.
const LIFE: u64 = 86_400;

pub(crate) struct Phone {
    pub(crate) agent: Agent,
    pub(crate) peer: Peer,
}

/// What a bootstrapping run would have left on both sides.
pub(crate) fn bootstrap(name: &str, chance: &mut Chance, now: Now) -> (Arc<Bootstrapped>, NafKey) {
    let (rand, impi) = (Rand(chance.octets()), format!("{name}@ims.example.net"));
    let impi = Impi::new(&impi).expect("an identity");
    let expires = WallTime::from_unix(now.wall.as_unix() + LIFE);
    let keys = Bootstrapped {
        impi: impi.clone(),
        btid: btid(&rand, "bsf.example.net").expect("a name"),
        ks: Ks::new(chance.octets()),
        origin: Origin::Card(rand),
        created: now.wall,
        expires,
        tmpi: None,
    };
    let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
    let key = NafKey {
        key: keys.naf_key(&naf).expect("a key"),
        impi: Some(impi),
        identities: Impu::new(&format!("sip:{name}@example.net")).into_iter().collect(),
        uss: Arc::from([]),
        expires,
        created: now.wall,
        kind: Default::default(),
        ready: Default::default(),
    };
    (Arc::new(keys), key)
}

impl Phone {
    pub(crate) fn new(
        name: &str,
        peer: Peer,
        keys: Arc<Bootstrapped>,
        chance: &mut Chance,
    ) -> Self {
        let flow = peer.flow();
        let credential = Credential::Gba { keys, ua: UaId::SIP_DIGEST };
        let answerer = Answerer::new(vec![credential], EDGE, Hash::Sha256, "cnonce".into());
        let transport = match flow.transport {
            Transport::Udp => String::new(),
            other => format!(";transport={}", other.uri_token()),
        };
        let voice = Voice {
            identity: format!("sip:{name}@example.net"),
            via: format!("SIP/2.0/{} {}", flow.transport.via_token(), flow.remote),
            contact: format!("sip:{name}@{}{transport}", flow.remote),
            agent: "phone 3gpp-gba".into(),
        };
        let seed = format!("{:08x}", chance.next());
        let agent = Agent::new(voice, answerer, flow.transport, seed, chance.octets());
        Self { agent, peer }
    }

    /// A REGISTER for an hour.
    pub(crate) fn registration(&mut self) -> Draft {
        let identity = self.agent.voice().identity.clone();
        let mut draft = self.agent.draft("REGISTER", "sip:example.net");
        draft.to = identity;
        draft.with("Supported", "path").with("Expires", "3600")
    }
}
