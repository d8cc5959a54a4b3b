//! Every reason to say no, and the answer that each one earns.
//!
//! Takes:   nothing.
//! Gives:   [`Refusal`], a closed set for tests and counters; [`Answer`], what the peer sees of it.
//! Keeps:   nothing.
//! Refuses: everything else in this crate refuses through here.
//! Sources: RFC 3261 section 21; RFC 5057 section 5.1 (what a code does to a dialog); each variant its own.

use crate::wire::Fault;

macro_rules! refusals {
    ($($(#[doc = $about:literal])* $variant:ident $(($inner:ty))? = $rule:expr;)+) => {
        /// Why a message goes no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[doc = $about])* $variant $(($inner))?,)+
        }

        impl Refusal {
            /// All names, in order: the closed label set of the counters.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($variant)),+];

            /// The rule of each, in the same order.
            pub const RULES: &'static [Option<u8>] = &[$($rule),+];

            /// Its name: the label of counters and the word in fixtures.
            pub fn name(self) -> &'static str {
                match self {
                    $(refusals!(@pattern $variant $(($inner))?) => stringify!($variant),)+
                }
            }

            /// What it says, in a sentence.
            pub fn about(self) -> &'static str {
                match self {
                    $(refusals!(@pattern $variant $(($inner))?) => {
                        concat!($($about),*).trim_ascii()
                    })+
                }
            }

            /// The rule of stage 5 that it belongs to.
            pub fn rule(self) -> Option<u8> {
                match self {
                    $(refusals!(@pattern $variant $(($inner))?) => $rule,)+
                }
            }
        }
    };
    (@pattern $variant:ident) => { Self::$variant };
    (@pattern $variant:ident ($inner:ty)) => { Self::$variant(_) };
}

refusals! {
    /// The octets are not a SIP message, or contradict themselves.
    Malformed(Fault) = None;
    /// Max-Forwards is spent (RFC 3261 section 16.3).
    HopsSpent = None;
    /// The request has been here before with the same targets (RFC 5393 section 4.2).
    LoopDetected = None;
    /// Proxy-Require names what this proxy does not have (RFC 3261 section 16.3).
    ExtensionUnsupported = None;
    /// The source sends more than its rate, and proves nothing.
    SourceLimited = None;
    /// More work than can be done: it proves nothing, so it goes first.
    Overloaded = None;
    /// Far more work than can be done, or a node that is about to end: it is told to come back later.
    NoTime = None;
    /// The flow failed too often: rule 22.
    TooManyFailures = Some(22);
    /// No evidence of anyone, and the method may be challenged.
    CredentialsMissing = Some(3);
    /// No such account, B-TID or challenge, or a wrong response; the peer cannot tell which.
    BadCredentials = Some(3);
    /// The response is right, but made with a weaker algorithm than the same key has used before; the peer sees a wrong one.
    AlgorithmDowngrade = Some(3);
    /// The response is right, but the nonce is too old, or its count was seen before.
    NonceStale = Some(3);
    /// The response is right, and the nonce was stale for the twenty-first time in a row: a client that loops.
    StaleAgain = Some(3);
    /// The nonce was not made here.
    NonceUnknown = Some(3);
    /// The server of keys says that this service is not for that subscriber (TS 29.109: 5402).
    KeyForbidden = None;
    /// The server of keys does not answer.
    KeySourceUnavailable = Some(20);
    /// The nonce is one that nodes share, and the store that knows its counts does not answer: never let pass.
    StoreUnavailable = Some(21);
    /// A message on the core side from an address or certificate that is in no peer group.
    PeerUnknown = Some(26);
    /// Credentials are right, but the dialog belongs to somebody else.
    AssociationMismatch = Some(4);
    /// The flow belongs to somebody who does not own the dialog.
    FlowMismatch = Some(5);
    /// No such dialog.
    DialogUnknown = Some(6);
    /// The key that the dialog stands on has ended, and its owner has to make another.
    KeyExpired = Some(17);
    /// The key that was shown ends soon, and this is the moment to make another.
    KeyAgeing = None;
    /// What the dialog stood on was taken back.
    Revoked = Some(19);
    /// The request is not for the target of its dialog.
    TargetMismatch = Some(9);
    /// It does not take the route of its dialog.
    RouteMismatch = Some(9);
    /// It names a dialog that its sender has no part in.
    ForeignDialogNamed = Some(29);
    /// A challenge for a realm of ours, from where none of ours is made.
    ChallengeReflected = Some(32);
    /// CSeq is lower than one already accepted.
    SequenceLow = Some(7);
    /// A token that we made was altered, or belongs elsewhere.
    TokenForged = Some(10);
    /// The flow that the token names is gone.
    FlowGone = Some(11);
    /// Security-Verify is not there where it must be, or is not the list that was given: rule 12.
    AgreementMismatch = Some(12);
    /// The listener asks for an agreement, and the request knows of none (RFC 3329 section 2.3.2).
    AgreementRequired = None;
    /// An agreement is between neighbours, and the request came through another hop (RFC 3329 section 2.3.2).
    NotFirstHop = None;
    /// A UE asks for outbound through a hop that has none (RFC 5626 section 11.6): rule 13.
    OutboundLacking = Some(13);
    /// The owner's evidence is right, but less than the dialog or the class asks.
    LevelTooLow = Some(14);
    /// An ACK that fits no dialog and no transaction.
    AckUnmatched = Some(15);
    /// A CANCEL that does not fit a pending INVITE in every part.
    CancelUnmatched = Some(15);
    /// A response from where its request did not go.
    ResponseAstray = Some(16);
    /// Nothing is known of the dialog any more but what our own token says, and the sender has not proved who he is.
    AssociationLost = Some(23);
    /// A request inside a dialog from the wrong side of it.
    WrongSide = Some(26);
    /// More early dialogs of one INVITE than are kept.
    TooManyEarlyDialogs = Some(27);
    /// No room for another dialog, of this caller or at all.
    TableFull = Some(28);
    /// The method does not fit what the dialog is for.
    MethodUnfit = Some(30);
    /// The dialog ended less than 32 seconds ago.
    DialogEnded = Some(31);
    /// The class may not be sent in that direction.
    DirectionForbidden = None;
    /// Claims of two families of classes in one request: two readers would judge it as two things.
    ClassConflict = None;
    /// A class on a method that it has no use for.
    ClassMethodUnfit = None;
    /// The caller has no right to the class.
    ClassNotAllowed = None;
    /// The class asks for a secure flow.
    SecureRequired = None;
    /// The key of a watcher has run out, and no location is told of before there is another.
    KeyAwaited = Some(20);
    /// No secure flow leads to the UE now, and its dialog waits for one.
    AnchorMissing = None;
    /// The response is right but covers no body, and the class asks for that.
    IntegrityRequired = None;
    /// A body whose parts no two readers would cut alike, or one without a type.
    BodyMalformed = None;
    /// A body, or a part that has to be read, whose octets stand for others.
    EncodingForbidden = None;
    /// A body that the class does not have; what it has instead.
    BodyTypeForbidden(&'static str) = None;
    /// Headers that tie messages to a conversation, missing, twice or too long.
    ConversationRefused = None;
    /// A CPIM wrapping that two readers might take for two senders'.
    CpimMalformed = None;
    /// A CPIM wrapping in somebody else's name.
    CpimFromMismatch = None;
    /// XML that is not well-formed, over its bounds, or more than a document.
    XmlRefused = None;
    /// More recipients than the class allows.
    ListTooLong = None;
    /// A list of recipients that nobody is asked to expand, or with entries that are more than recipients.
    ListRefused = None;
    /// A location filter that asks too much, or for somebody else.
    FilterRefused = None;
    /// A caller who may not watch anybody.
    WatcherRefused = None;
    /// A session description without the media that its class needs, or with a path that leads nowhere.
    MsrpRefused = None;
    /// An event package that UEs may not use.
    EventRefused = None;
    /// A server that may not push for that application.
    PushServerUnknown = None;
    /// A push that was here before.
    PushReplayed = None;
    /// No way to the UE that is safe enough.
    Unreachable = None;
    /// A telephone number that is not in its caller's reach, or not that often.
    NumberForbidden = None;
    /// The same, for the first time in a while more often than by mistake: somebody may be selling calls (V-134).
    TollPattern = None;
    /// The caller sends more of this class than it may.
    RateExceeded = None;
    /// The body is longer than its class allows.
    BodyTooLarge = None;
    /// A public identity that is not the caller's, where it has to be.
    IdentityForeign = None;
    /// A preloaded Route, or a maddr, that leads past the core.
    RouteForeign = None;
    /// A domain that no route is configured for.
    DomainForeign = None;
    /// A session interval that nobody could refresh in time (RFC 4028 section 8.1).
    SessionTooShort = None;
    /// No UE and no server to send it to.
    NoRoute = None;
    /// More Contacts than are taken, `*` beside others (RFC 3261 section 10.3), or one flow for two of them (RFC 5626
    /// section 6).
    ContactsRefused = None;
    /// The UE does not support Path, and `path.strict` asks it to (RFC 3327 section 5.2).
    PathUnsupported = None;
    /// A SIPS request that no secure hop can carry (RFC 5630 section 5.3).
    SipsImpossible = None;
    /// No room for another transaction.
    TransactionsFull = None;
    /// A method that is unknown here, so that nobody can say how it crosses from one leg to the other (`B2-01`).
    MethodNotBridged = None;
    /// Require names what cannot cross from one leg to the other (`B2-01`).
    ExtensionNotBridged = None;
    /// The same request came before, by another way (RFC 3261 section 8.2.2.2).
    RequestMerged = None;
    /// An INVITE of the same side is under way in this dialog (RFC 3261 section 14.2).
    InviteUnderWay = None;
    /// An INVITE of the other side is under way in this dialog (RFC 3261 section 14.2).
    InviteGlare = None;
    /// Ids, target and routes of one leg are longer than is kept.
    LegTooLong = None;
}

/// What the peer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response with that code.
    Status(u16),
    /// A response with that code and Retry-After, 5 to 15 seconds.
    Later(u16),
    /// A response with that code and Retry-After, 0 to 10 seconds.
    Soon(u16),
    /// A response with that code, the list of mechanisms, and what begins them.
    Agreement(u16),
    /// 401 or 407 with a challenge.
    Challenge {
        /// Whether the response was right and only the nonce was not.
        stale: bool,
    },
    /// On a connection a response with that code, for it is closed then; else nothing.
    Last(u16),
    /// Nothing.
    Silence,
}

impl Refusal {
    /// The answer a peer sees. A new variant does not compile until its answer is chosen.
    pub fn answer(self) -> Answer {
        match self {
            Self::Malformed(fault) => Answer::Status(fault.status()),
            Self::CredentialsMissing
            | Self::BadCredentials
            | Self::AlgorithmDowngrade
            | Self::NonceUnknown
            | Self::KeyExpired
            | Self::KeyAgeing
            | Self::AssociationLost => Answer::Challenge { stale: false },
            Self::NonceStale | Self::StoreUnavailable | Self::IntegrityRequired => {
                Answer::Challenge { stale: true }
            }
            Self::ContactsRefused
            | Self::BodyMalformed
            | Self::ConversationRefused
            | Self::CpimMalformed
            | Self::XmlRefused => Answer::Status(400),
            Self::AgreementRequired => Answer::Agreement(421),
            Self::AgreementMismatch => Answer::Agreement(494),
            Self::NotFirstHop => Answer::Status(502),
            Self::KeyForbidden
            | Self::StaleAgain
            | Self::PeerUnknown
            | Self::AssociationMismatch
            | Self::FlowMismatch
            | Self::TokenForged
            | Self::LevelTooLow
            | Self::Revoked
            | Self::TargetMismatch
            | Self::RouteMismatch
            | Self::ForeignDialogNamed
            | Self::ChallengeReflected
            | Self::WrongSide
            | Self::ClassConflict
            | Self::ClassMethodUnfit
            | Self::ClassNotAllowed
            | Self::DirectionForbidden
            | Self::SecureRequired
            | Self::CpimFromMismatch
            | Self::ListRefused
            | Self::FilterRefused
            | Self::WatcherRefused
            | Self::PushServerUnknown
            | Self::NumberForbidden
            | Self::TollPattern
            | Self::IdentityForeign
            | Self::RouteForeign
            | Self::DomainForeign => Answer::Status(403),
            Self::NoRoute => Answer::Status(404),
            Self::MethodNotBridged => Answer::Status(405),
            Self::BodyTooLarge | Self::ListTooLong => Answer::Status(413),
            Self::BodyTypeForbidden(_) | Self::EncodingForbidden => Answer::Status(415),
            Self::ExtensionUnsupported | Self::ExtensionNotBridged => Answer::Status(420),
            Self::SessionTooShort => Answer::Status(422),
            Self::PathUnsupported => Answer::Status(421),
            Self::FlowGone => Answer::Status(430),
            Self::OutboundLacking => Answer::Status(439),
            Self::SipsImpossible | Self::Unreachable => Answer::Status(480),
            Self::DialogUnknown | Self::CancelUnmatched | Self::MethodUnfit | Self::DialogEnded => {
                Answer::Status(481)
            }
            Self::LoopDetected | Self::RequestMerged | Self::PushReplayed => Answer::Status(482),
            Self::HopsSpent => Answer::Status(483),
            Self::MsrpRefused => Answer::Status(488),
            Self::EventRefused => Answer::Status(489),
            Self::InviteGlare => Answer::Status(491),
            Self::SequenceLow => Answer::Status(500),
            Self::InviteUnderWay => Answer::Soon(500),
            Self::LegTooLong => Answer::Status(513),
            Self::RateExceeded | Self::AnchorMissing | Self::KeyAwaited => Answer::Later(500),
            Self::NoTime
            | Self::KeySourceUnavailable
            | Self::TableFull
            | Self::TransactionsFull => Answer::Later(503),
            Self::TooManyFailures => Answer::Last(403),
            Self::Overloaded
            | Self::SourceLimited
            | Self::AckUnmatched
            | Self::ResponseAstray
            | Self::TooManyEarlyDialogs => Answer::Silence,
        }
    }

    /// Whether its answer asks for a key that is not there yet.
    pub fn asks_for_another_key(self) -> bool {
        matches!(self, Self::KeyExpired | Self::KeyAgeing)
    }

    /// All alarms: the closed label set of their counters.
    pub const ALARMS: &'static [&'static str] = &[
        "foreign_identity",
        "foreign_flow",
        "wrong_side",
        "foreign_dialog",
        "challenge_reflected",
        "algorithm_downgrade",
        "toll_pattern",
    ];

    /// The alarm that it raises, if it does: somebody reaches for what is another's, or stands between us and a user.
    pub fn alarm(self) -> Option<&'static str> {
        match self {
            Self::AssociationMismatch => Some("foreign_identity"),
            Self::FlowMismatch => Some("foreign_flow"),
            Self::WrongSide => Some("wrong_side"),
            Self::ForeignDialogNamed => Some("foreign_dialog"),
            Self::ChallengeReflected => Some("challenge_reflected"),
            Self::AlgorithmDowngrade => Some("algorithm_downgrade"),
            Self::TollPattern => Some("toll_pattern"),
            _ => None,
        }
    }

    /// Whether it leaves open who asks: no evidence, or a wrong one.
    pub fn shows_nobody(self) -> bool {
        matches!(self, Self::CredentialsMissing | Self::BadCredentials | Self::NonceUnknown)
    }

    /// Whether it counts towards the failure limits of rule 22.
    pub fn counts_as_failure(self) -> bool {
        matches!(
            self,
            Self::BadCredentials
                | Self::AlgorithmDowngrade
                | Self::NonceUnknown
                | Self::TokenForged
        )
    }
}
