//! Stage 6, demands: what a class asks of every request, whatever is in it.
//!
//! Takes:   what is configured.
//! Gives:   [`Demands`] and their parts.
//! Keeps:   nothing.
//! Refuses: nothing by itself.
//! Sources: SEC_CF 1.1 (OMA-RD-SEC_CF) section 5; RFC 3261 section 22; RFC 3428 sections 8 and 11.

use crate::admission::Rate;
use crate::transport::Transport;

/// What a class demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demands {
    /// Least level of evidence on the UE side.
    pub level: u8,
    /// Whether the UE's flow must be secure.
    pub secure: bool,
    /// Whether a response must cover the body.
    pub integrity: Integrity,
    /// Least level of evidence on the core side: 1 by address, 3 by certificate.
    pub core_level: u8,
    /// Who may use it.
    pub entitlement: Entitlement,
    /// Requests of one caller.
    pub rate: Rate,
    /// Requests of one caller that may form dialogs, of all classes of the family.
    pub dialogs: Option<Rate>,
    /// Dialogs of one caller that are open at once, of all classes of the family.
    pub open_max: Option<u32>,
    /// Longest body from the UE side, in octets.
    pub body_max: usize,
    /// Longest body towards a UE, in octets.
    pub body_max_to_ue: usize,
}

impl Demands {
    /// Level 2, so many requests and octets, and nothing else.
    pub const fn new(rate: Rate, body_max: usize) -> Self {
        Self {
            level: 2,
            secure: false,
            integrity: Integrity::Never,
            core_level: 1,
            entitlement: Entitlement::None,
            rate,
            dialogs: None,
            open_max: None,
            body_max,
            body_max_to_ue: body_max,
        }
    }
}

/// Where a response must cover the body: `qop=auth-int`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Integrity {
    /// Nowhere.
    #[default]
    Never,
    /// Where the flow does not protect it.
    Cleartext,
    /// Everywhere.
    Always,
}

impl Integrity {
    /// Whether it is asked for on a flow of that kind.
    pub fn is_due(self, transport: Transport) -> bool {
        match self {
            Self::Never => false,
            Self::Cleartext => !transport.is_secure(),
            Self::Always => true,
        }
    }
}

/// What gives a caller the right to a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entitlement {
    /// Nothing is needed.
    #[default]
    None,
    /// His user security settings: this service, and this flag if one is named. For accounts: the class in their list.
    Uss {
        /// The service, by its identifier.
        gsid: u32,
        /// The flag.
        flag: Option<u32>,
    },
}
