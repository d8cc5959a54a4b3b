//! Stage 1, tally: what happened below the messages, counted by name.
//!
//! Takes:   one call for each event, from any thread.
//! Gives:   [`Tally::each`], name and number, for whoever publishes them.
//! Keeps:   one number for each name.
//! Refuses: nothing; a number that is full stays full no longer than 2^64 events.
//! Sources: none.

use std::sync::atomic::{AtomicU64, Ordering};

use super::tls::TlsRefusal;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it stands at.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    /// Counts a handshake that ended by the peer's certificate, by what is wrong with it.
    pub(super) fn refused(&self, why: &TlsRefusal) {
        use rustls::CertificateError as Why;
        let count = match why {
            TlsRefusal::WrongName(_) => &self.wrong_names,
            TlsRefusal::Status(_) => &self.certificates_in_doubt,
            TlsRefusal::Certificate(why) => match why {
                Why::Expired => &self.certificates_expired,
                Why::NotValidYet => &self.certificates_early,
                Why::Revoked => &self.certificates_revoked,
                Why::UnknownIssuer => &self.certificates_of_strangers,
                Why::InvalidPurpose => &self.certificates_misused,
                Why::UnknownRevocationStatus
                | Why::ExpiredRevocationList
                | Why::InvalidOcspResponse => &self.certificates_in_doubt,
                _ => &self.certificates_unfit,
            },
            TlsRefusal::OtherUser
            | TlsRefusal::Alert(_)
            | TlsRefusal::Protocol(_)
            | TlsRefusal::NoName
            | TlsRefusal::Lost(_) => return,
        };
        count.add(1);
    }
}

macro_rules! tally {
    ($($(#[$about:meta])* $name:ident)*) => {
        /// The numbers.
        #[derive(Debug, Default)]
        pub struct Tally {
            $($(#[$about])* pub $name: Count,)*
        }

        impl Tally {
            /// Each name with its number.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), &self.$name),)*].into_iter().map(|(name, it)| (name, it.get()))
            }
        }
    };
}

tally! {
    /// Connections accepted.
    accepted
    /// Connections refused because their address has too many without authentication.
    refused_by_address
    /// Times that a connection of a user with too many was taken for one of nobody.
    crowded_by_user
    /// Connections refused because the edge has too many.
    refused_in_all
    /// Failures of accept: descriptors or memory ran out.
    accept_failed
    /// Connections dialled.
    dialled
    /// Connections dialled in vain.
    dial_failed
    /// Handshakes refused because too many were under way; hellos of DTLS among them that may come again.
    handshakes_crowded
    /// Handshakes that a client did not bring to an end in time.
    handshakes_slow
    /// Handshakes with clients that failed.
    handshakes_failed
    /// Hellos of DTLS answered without keeping anything.
    hellos_answered
    /// Peers we dialled whose certificate is for another domain.
    wrong_names
    /// Peers, clients or servers, whose certificate had ended.
    certificates_expired
    /// Peers whose certificate is not valid yet.
    certificates_early
    /// Peers whose certificate was taken back.
    certificates_revoked
    /// Peers whose certificate nobody issued who is trusted here.
    certificates_of_strangers
    /// Peers whose certificate is for other uses.
    certificates_misused
    /// Peers of whose certificate it could not be learnt whether it was taken back.
    certificates_in_doubt
    /// Peers whose certificate is not good for another reason.
    certificates_unfit
    /// Connections closed because the peer's certificate was taken back.
    certificates_over
    /// Connections closed because the peer showed too little in time.
    slow
    /// Connections closed because the peer took no octets.
    stalled
    /// Connections closed because their queue overflowed.
    overflowed
    /// Streams that broke their framing.
    broken
    /// Streams that were not SIP.
    strangers
    /// Tasks of connections, or calls for a datagram, that panicked.
    panicked
    /// Messages received on streams.
    messages
    /// Pings answered.
    pings
    /// Datagrams received.
    datagrams
    /// Datagrams dropped by their first octets.
    noise
    /// Binding requests answered.
    stun_answered
    /// STUN messages dropped.
    stun_dropped
    /// Datagrams not sent: the queue was full, or the system refused.
    unsent
    /// Datagrams over 1300 octets that had no other transport to go by.
    oversize
}
