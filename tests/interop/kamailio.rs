//! Kamailio with `examples/kamailio/kamailio.cfg`: the core behind the edge.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::loopback;
use crate::peer::{Folder, Peer, find};

/// A core that runs until it is dropped.
pub(crate) struct Kamailio {
    /// Where it listens, over UDP and TCP.
    pub(crate) address: SocketAddr,
    /// The one address it hears.
    pub(crate) edge: IpAddr,
    // Ended before its folder is removed.
    peer: Peer,
    _folder: Folder,
}

/// One request as it arrived at the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) request_uri: String,
    /// The first P-Asserted-Identity.
    pub(crate) asserted: Option<String>,
    /// How many rows of it.
    pub(crate) asserted_count: u32,
    /// Whether Authorization or Proxy-Authorization was there.
    pub(crate) credentials: bool,
    pub(crate) call_id: String,
}

impl Kamailio {
    /// Starts one that hears the edge at `edge`, and waits until it listens.
    pub(crate) fn start(edge: IpAddr) -> Self {
        let address = SocketAddr::new(loopback::address(), 5060);
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kamailio/kamailio.cfg");
        let folder = Folder::new("kamailio");
        let mut command = Command::new(find("kamailio", "kamailio"));
        command.arg("-f").arg(config).args(["-DD", "-E", "-m", "64", "-M", "8", "-S"]);
        command.arg("-A").arg(format!("EDGE=\"{edge}\""));
        command.arg("-l").arg(format!("udp:{address}")).arg("-l").arg(format!("tcp:{address}"));
        command.arg("-Y").arg(folder.path()).arg("-w").arg(folder.path());
        command.arg("-P").arg(folder.path().join("kamailio.pid"));
        let peer = Peer::start("kamailio", &mut command);
        let ready = peer.await_that(Duration::from_secs(30), |_| {
            let bound = ["udp", "tcp"].iter().all(|table| loopback::is_bound(table, address));
            bound.then_some(())
        });
        assert!(ready.is_some(), "kamailio does not listen on {address}:\n{}", peer.said());
        Self { address, edge, peer, _folder: folder }
    }

    /// Every request so far, in order.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.peer.said().lines().filter_map(Seen::read).collect()
    }

    /// The first request, past or to come, of which `is_it` holds; fails after ten seconds.
    #[track_caller]
    pub(crate) fn await_request(&self, is_it: impl Fn(&Seen) -> bool) -> Seen {
        let found = self.peer.await_that(Duration::from_secs(10), |lines| {
            lines.iter().filter_map(|line| Seen::read(line)).find(&is_it)
        });
        found.unwrap_or_else(|| panic!("the core saw no such request:\n{}", self.peer.said()))
    }
}

impl Seen {
    /// The `core-saw` line of the configuration.
    fn read(line: &str) -> Option<Self> {
        let (_, facts) = line.split_once("core-saw ")?;
        let fact = |name: &str| {
            let value =
                facts.split(' ').find_map(|fact| fact.strip_prefix(name)?.strip_prefix('='));
            value.map(str::to_owned)
        };
        Some(Self {
            method: fact("method")?,
            request_uri: fact("ruri")?,
            asserted: fact("pai").filter(|value| value != "<null>"),
            asserted_count: fact("pai_count")?.parse().ok()?,
            credentials: fact("credentials")? == "yes",
            call_id: fact("call_id")?,
        })
    }
}

#[test]
fn what_the_core_saw_is_read_from_its_line() {
    let line = " 1(743) NOTICE: <script>: core-saw method=INVITE ruri=sip:bob@ims.example \
                from=127.0.0.2:5099 proto=udp pai=<null> pai_count=2 credentials=no call_id=c5";
    let seen = Seen::read(line).expect("it is such a line");
    assert_eq!((seen.method.as_str(), seen.asserted_count), ("INVITE", 2));
    assert_eq!((seen.asserted, seen.credentials, seen.call_id), (None, false, "c5".into()));
    assert_eq!(seen.request_uri, "sip:bob@ims.example");
    assert_eq!(Seen::read("0(1) NOTICE: started"), None);
}
