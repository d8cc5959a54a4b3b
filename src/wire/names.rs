//! Stage 2, names: methods and header fields that some stage asks for.
//!
//! Takes:   the octets of a method or of a field name.
//! Gives:   [`Method`] and [`Name`], small values to match on.
//! Keeps:   nothing.
//! Refuses: nothing; what is not in the table is `Method::Other` or `Name::Other` and travels unread.
//! Sources: RFC 3261 sections 7.1, 7.3.1, 7.3.3 and 20; the registries behind them.

/// A request method. Compared with case (RFC 3261 section 7.1): `invite` is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the method of that name")]
pub enum Method {
    Ack,
    Bye,
    Cancel,
    Info,
    Invite,
    Message,
    Notify,
    Options,
    Prack,
    Publish,
    Refer,
    Register,
    Subscribe,
    Update,
    /// Any other token.
    Other,
}

impl Method {
    /// The method that these octets name.
    pub fn of(octets: &[u8]) -> Self {
        match octets {
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"INFO" => Self::Info,
            b"INVITE" => Self::Invite,
            b"MESSAGE" => Self::Message,
            b"NOTIFY" => Self::Notify,
            b"OPTIONS" => Self::Options,
            b"PRACK" => Self::Prack,
            b"PUBLISH" => Self::Publish,
            b"REFER" => Self::Refer,
            b"REGISTER" => Self::Register,
            b"SUBSCRIBE" => Self::Subscribe,
            b"UPDATE" => Self::Update,
            _ => Self::Other,
        }
    }

    /// Its spelling; `OTHER` for those not in the table, so that label sets stay closed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Info => "INFO",
            Self::Invite => "INVITE",
            Self::Message => "MESSAGE",
            Self::Notify => "NOTIFY",
            Self::Options => "OPTIONS",
            Self::Prack => "PRACK",
            Self::Publish => "PUBLISH",
            Self::Refer => "REFER",
            Self::Register => "REGISTER",
            Self::Subscribe => "SUBSCRIBE",
            Self::Update => "UPDATE",
            Self::Other => "OTHER",
        }
    }
}

macro_rules! names {
    ($($variant:ident $text:literal $($compact:literal)?;)+) => {
        /// A header field name. Compared without case, compact forms included.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the header field of that name")]
        pub enum Name {
            $($variant,)+
            /// Any other token; its octets are in the message.
            Other,
        }

        impl Name {
            /// Every spelling with its name, long forms and compact forms.
            const SPELLINGS: &'static [(&'static str, Self)] = &[
                $(($text, Self::$variant), $(($compact, Self::$variant),)?)+
            ];

            /// The long form; empty for `Other`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other => "",
                }
            }
        }
    };
}

impl Name {
    /// The name that these octets spell, in long or compact form.
    pub fn of(octets: &[u8]) -> Self {
        let ends = octets.first().zip(octets.last());
        let bucket = ends.map(|(first, last)| bucket(octets.len(), *first, *last));
        let mut at = bucket.and_then(|bucket| FIRST_OF_BUCKET.get(usize::from(bucket))).copied();
        while let Some((spelling, name)) = at.and_then(|at| Self::SPELLINGS.get(usize::from(at))) {
            // Most are spelt as the documents spell them.
            if spelling.as_bytes() == octets || spelling.as_bytes().eq_ignore_ascii_case(octets) {
                return *name;
            }
            at = at.and_then(|at| NEXT_IN_BUCKET.get(usize::from(at))).copied();
        }
        Self::Other
    }

    /// One bit for each name, so that a set of names is a number.
    pub(crate) const fn bit(self) -> u128 {
        1_u128.wrapping_shl(self as u32)
    }
}

/// No spelling: longer than any table of them.
const NONE: u8 = u8::MAX;
/// The first spelling of each bucket.
const FIRST_OF_BUCKET: [u8; 256] = buckets().0;
/// The spelling that shares its bucket with this one and comes after it.
const NEXT_IN_BUCKET: [u8; Name::SPELLINGS.len()] = buckets().1;

/// A number for the length of a name, its first and its last letter, in either case.
#[allow(clippy::cast_possible_truncation, reason = "any number will do, the table is made with it")]
const fn bucket(length: usize, first: u8, last: u8) -> u8 {
    (length as u8).wrapping_mul(143) ^ (first | 0x20) ^ (last | 0x20).wrapping_mul(11)
}

/// The table of [`Name::of`], made when this is compiled.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "runs in the compiler, which checks"
)]
const fn buckets() -> ([u8; 256], [u8; Name::SPELLINGS.len()]) {
    assert!(Name::SPELLINGS.len() < NONE as usize && (Name::Other as u32) < 128);
    let mut first = [NONE; 256];
    let mut next = [NONE; Name::SPELLINGS.len()];
    let mut at = Name::SPELLINGS.len();
    while at > 0 {
        at -= 1;
        let spelling = Name::SPELLINGS[at].0.as_bytes();
        let bucket = bucket(spelling.len(), spelling[0], spelling[spelling.len() - 1]) as usize;
        next[at] = first[bucket];
        first[bucket] = at as u8;
    }
    (first, next)
}

names! {
    Via "Via" "v";
    From "From" "f";
    To "To" "t";
    CallId "Call-ID" "i";
    CSeq "CSeq";
    Contact "Contact" "m";
    MaxForwards "Max-Forwards";
    ContentLength "Content-Length" "l";
    ContentType "Content-Type" "c";
    Route "Route";
    RecordRoute "Record-Route";
    Authorization "Authorization";
    ProxyAuthorization "Proxy-Authorization";
    Expires "Expires";
    UserAgent "User-Agent";
    Allow "Allow";
    Supported "Supported" "k";
    Event "Event" "o";
    Accept "Accept";
    AcceptContact "Accept-Contact" "a";
    AlertInfo "Alert-Info";
    AllowEvents "Allow-Events" "u";
    AnswerMode "Answer-Mode";
    AuthenticationInfo "Authentication-Info";
    CallInfo "Call-Info";
    ContentDisposition "Content-Disposition";
    ContentEncoding "Content-Encoding" "e";
    Date "Date";
    Diversion "Diversion";
    FeatureCaps "Feature-Caps";
    FlowTimer "Flow-Timer";
    HistoryInfo "History-Info";
    Identity "Identity" "y";
    IdentityInfo "Identity-Info" "n";
    Join "Join";
    MaxBreadth "Max-Breadth";
    MinExpires "Min-Expires";
    MimeVersion "MIME-Version";
    MinSe "Min-SE";
    PAccessNetworkInfo "P-Access-Network-Info";
    PAssertedIdentity "P-Asserted-Identity";
    PAssertedService "P-Asserted-Service";
    PAssociatedUri "P-Associated-URI";
    PCalledPartyId "P-Called-Party-ID";
    PChargeInfo "P-Charge-Info";
    PChargingFunctionAddresses "P-Charging-Function-Addresses";
    PChargingVector "P-Charging-Vector";
    PEarlyMedia "P-Early-Media";
    PPreferredIdentity "P-Preferred-Identity";
    PPreferredService "P-Preferred-Service";
    PPrivateNetworkIndication "P-Private-Network-Indication";
    PProfileKey "P-Profile-Key";
    PRefusedUriList "P-Refused-URI-List";
    PServedUser "P-Served-User";
    PUserDatabase "P-User-Database";
    PVisitedNetworkId "P-Visited-Network-ID";
    Path "Path";
    Privacy "Privacy";
    PrivAnswerMode "Priv-Answer-Mode";
    ProxyAuthenticate "Proxy-Authenticate";
    ProxyRequire "Proxy-Require";
    RAck "RAck";
    Reason "Reason";
    ReferTo "Refer-To" "r";
    ReferredBy "Referred-By" "b";
    RejectContact "Reject-Contact" "j";
    Replaces "Replaces";
    Require "Require";
    ResourcePriority "Resource-Priority";
    RetryAfter "Retry-After";
    RequestDisposition "Request-Disposition" "d";
    RSeq "RSeq";
    SecurityClient "Security-Client";
    SecurityServer "Security-Server";
    SecurityVerify "Security-Verify";
    Server "Server";
    SipEtag "SIP-ETag";
    SipIfMatch "SIP-If-Match";
    ServiceRoute "Service-Route";
    SessionExpires "Session-Expires" "x";
    Subject "Subject" "s";
    SubscriptionState "Subscription-State";
    TargetDialog "Target-Dialog";
    Timestamp "Timestamp";
    Unsupported "Unsupported";
    Warning "Warning";
    WwwAuthenticate "WWW-Authenticate";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_in_any_case() {
        for (spelling, name) in Name::SPELLINGS {
            for text in [(*spelling).to_owned(), spelling.to_uppercase(), spelling.to_lowercase()] {
                assert_eq!(Name::of(text.as_bytes()), *name, "{text}");
            }
            for other in [format!("{spelling}x"), format!("-{spelling}"), format!("{spelling} ")] {
                assert_eq!(Name::of(other.as_bytes()), Name::Other, "{other}");
            }
        }
        for other in ["", "q", "Vi", "C%6Fntact", "X-P-Asserted-Identity"] {
            assert_eq!(Name::of(other.as_bytes()), Name::Other, "{other}");
        }
    }

    #[test]
    fn a_name_is_found_within_two_comparisons() {
        for start in FIRST_OF_BUCKET {
            let (mut at, mut length) = (start, 0);
            while at != NONE {
                (at, length) = (NEXT_IN_BUCKET[usize::from(at)], length + 1);
            }
            assert!(length <= 2, "bucket of {start} holds {length}");
        }
    }

    #[test]
    fn methods_are_compared_with_case() {
        for method in [
            "ACK",
            "BYE",
            "CANCEL",
            "INFO",
            "INVITE",
            "MESSAGE",
            "NOTIFY",
            "OPTIONS",
            "PRACK",
            "PUBLISH",
            "REFER",
            "REGISTER",
            "SUBSCRIBE",
            "UPDATE",
        ] {
            assert_eq!(Method::of(method.as_bytes()).as_str(), method);
            assert_eq!(Method::of(method.to_lowercase().as_bytes()), Method::Other);
        }
    }
}
