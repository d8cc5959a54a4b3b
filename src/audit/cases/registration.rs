//! The audit, registrations: who may say where somebody is to be found, and who may ask.
//!
//! Takes:   a door, accounts.
//! Gives:   whether strangers, and users in others' names, were let.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 10.2, 10.3, 22 and 26.1.1; V-20, V-28, V-131.

use super::super::case::{Case, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::plan::Account;
use super::super::probe::Probe;
use super::super::user::User;
use crate::client::draft::Draft;

/// What the rows share.
const SHARED: Case = Case {
    name: "",
    group: Group::Registration,
    title: "",
    threats: &["V-28"],
    clause: "RFC 3261 10.3, 26.1.1",
    why: "",
    remedy: "Challenge every REGISTER, and compare the user of the credentials with the address in To before a binding is touched.",
    over: Over::First,
    accounts: 1,
    disruptive: false,
    run: Run::Script(|probe| Box::pin(stranger_registers(probe))),
};

/// The table.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "register-without-credentials",
        title: "A registration without credentials is refused",
        threats: &["V-20"],
        clause: "RFC 3261 10.3, 22",
        why: "Whoever registers in somebody's name gets his calls.",
        accounts: 0,
        ..SHARED
    },
    Case {
        name: "bindings-fetched",
        title: "A stranger does not learn where somebody is",
        clause: "RFC 3261 10.2.3, 10.3",
        why: "The Contact of a user is his address, his network and often his device: where to attack him.",
        run: Run::Script(|probe| Box::pin(stranger_fetches(probe))),
        ..SHARED
    },
    Case {
        name: "bindings-removed",
        title: "A stranger cannot remove somebody's registrations",
        clause: "RFC 3261 10.2.2, 26.1.1",
        why: "One datagram, and a user cannot be called any more.",
        run: Run::Script(|probe| Box::pin(stranger_removes(probe))),
        ..SHARED
    },
    Case {
        name: "register-another",
        title: "A user cannot register in the name of another",
        why: "Every customer could take every other customer's calls.",
        run: Run::Script(|probe| Box::pin(user_registers_another(probe))),
        ..SHARED
    },
    Case {
        name: "remove-another",
        title: "A user cannot remove the registrations of another",
        clause: "RFC 3261 10.2.2, 26.1.1",
        why: "Every customer could make every other one unreachable.",
        run: Run::Script(|probe| Box::pin(user_removes_another(probe))),
        ..SHARED
    },
    Case {
        name: "star-with-expiry",
        title: "Contact: * with a lifetime is refused",
        threats: &["V-131"],
        clause: "RFC 3261 10.2.2, 10.3 step 6",
        why: "The star means all bindings, and only removal: a server that keeps it as an address sends calls to nowhere.",
        remedy: "Answer 400 to a star that stands with another Contact or with Expires other than 0.",
        run: Run::Script(|probe| Box::pin(star_with_expiry(probe))),
        ..SHARED
    },
    Case {
        name: "contacts-many",
        title: "Fifty Contacts in one registration are refused",
        threats: &["V-131"],
        clause: "RFC 3261 10.3, 16.6",
        why: "Each call to that user becomes fifty requests, to addresses that he chose.",
        remedy: "Bound the number of contacts of a user: max_contacts of Kamailio's registrar, max_contacts of an AOR in Asterisk.",
        run: Run::Script(|probe| Box::pin(many_contacts(probe))),
        ..SHARED
    },
];

/// Whom strangers try it with: an account's owner if there is one, else somebody made up.
fn whom(probe: &Probe) -> String {
    match probe.account(0) {
        Ok(account) => account.identity.clone(),
        Err(_) => format!("sip:somebody@{}", probe.plan().domain),
    }
}

/// The verdict on a request that should not have been granted.
async fn judged(user: &mut User, draft: Draft) -> Judged {
    Ok(match user.ask_patiently(draft).await.and_then(|answer| answer.status()) {
        Some(status @ 200..=299) => failed(format!("granted: {status}")),
        Some(status @ (401 | 407)) => passed(format!("asked for credentials: {status}")),
        Some(status @ (429 | 500 | 503)) => {
            not_applicable(format!("answered {status}: that says nothing of the request"))
        }
        Some(status) => passed(format!("refused: {status}")),
        None => passed("not answered"),
    })
}

async fn stranger_registers(probe: &Probe) -> Judged {
    let mut stranger = probe.stranger().await?;
    let draft = stranger.registration(&whom(probe), 60);
    judged(&mut stranger, draft).await
}

async fn stranger_fetches(probe: &Probe) -> Judged {
    let owner = probe.user(0).await?;
    let mut stranger = probe.stranger().await?;
    let draft = stranger.registration(&whom(probe), 60);
    let (octets, branch) = stranger.print(&draft);
    // The same without Contact: it asks, and changes nothing.
    let text = String::from_utf8_lossy(&octets).into_owned();
    let asks: String = text
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Contact:") && !line.starts_with("Expires:"))
        .collect();
    let answer = stranger.exchange(asks.as_bytes(), &branch).await;
    let told = answer.as_ref().is_some_and(|answer| {
        memchr::memmem::find(answer.octets(), owner.line.local().to_string().as_bytes()).is_some()
    });
    probe.keep(0, owner).await;
    Ok(match answer.and_then(|answer| answer.status()) {
        Some(status) if told => failed(format!("{status}, with the user's address")),
        Some(status @ 200..=299) => failed(format!("granted: {status}")),
        Some(status) => passed(format!("refused: {status}")),
        None => passed("not answered"),
    })
}

/// Sends a REGISTER whose Contact is the star, for that long.
async fn star(user: &mut User, identity: &str, expires: u32) -> Judged {
    let draft = user.registration(identity, expires);
    let own = std::mem::replace(&mut user.voice.contact, "*".into());
    let judged = judged(user, draft).await;
    user.voice.contact = own;
    judged
}

async fn stranger_removes(probe: &Probe) -> Judged {
    let mut stranger = probe.stranger().await?;
    probe.unsettle().await;
    star(&mut stranger, &whom(probe), 0).await
}

/// The second account, else somebody of the same domain.
fn another(probe: &Probe) -> String {
    let second: Result<&Account, _> = probe.account(1);
    second.map_or_else(
        |_| format!("sip:somebody-else@{}", probe.plan().domain),
        |account| account.identity.clone(),
    )
}

async fn user_registers_another(probe: &Probe) -> Judged {
    let mut user = probe.user(0).await?;
    let draft = user.registration(&another(probe), 60);
    let judged = judged(&mut user, draft).await;
    probe.unsettle().await;
    judged
}

async fn user_removes_another(probe: &Probe) -> Judged {
    let mut user = probe.user(0).await?;
    let judged = star(&mut user, &another(probe), 0).await;
    probe.unsettle().await;
    judged
}

async fn star_with_expiry(probe: &Probe) -> Judged {
    let mut user = probe.user(0).await?;
    let judged = star(&mut user, &whom(probe), 3600).await;
    probe.unsettle().await;
    judged
}

async fn many_contacts(probe: &Probe) -> Judged {
    let mut user = probe.user(0).await?;
    let mut draft = user.registration(&whom(probe), 60);
    let host = user.line.local();
    draft.contact_params = (1..50).map(|n| format!(", <sip:c{n}@{host}>")).collect();
    let answer = user.ask_patiently(draft).await;
    probe.unsettle().await;
    let Some(answer) = answer else { return Ok(passed("not answered")) };
    Ok(match answer.status() {
        Some(status @ 200..=299) => failed(format!("granted: {status}")),
        Some(status) => passed(format!("refused: {status}")),
        None => not_applicable("no answer that is one"),
    })
}
