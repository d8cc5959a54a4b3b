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
    const TABLE: [(&'static str, Self); 14] = [
        ("ACK", Self::Ack),
        ("BYE", Self::Bye),
        ("CANCEL", Self::Cancel),
        ("INFO", Self::Info),
        ("INVITE", Self::Invite),
        ("MESSAGE", Self::Message),
        ("NOTIFY", Self::Notify),
        ("OPTIONS", Self::Options),
        ("PRACK", Self::Prack),
        ("PUBLISH", Self::Publish),
        ("REFER", Self::Refer),
        ("REGISTER", Self::Register),
        ("SUBSCRIBE", Self::Subscribe),
        ("UPDATE", Self::Update),
    ];

    /// The method that these octets name.
    pub fn of(octets: &[u8]) -> Self {
        Self::TABLE
            .iter()
            .find(|(name, _)| name.as_bytes() == octets)
            .map_or(Self::Other, |(_, method)| *method)
    }

    /// Its spelling; `OTHER` for those not in the table, so that label sets stay closed.
    pub fn as_str(self) -> &'static str {
        Self::TABLE.iter().find(|(_, method)| *method == self).map_or("OTHER", |(name, _)| name)
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
            /// The name that these octets spell, in long or compact form.
            pub fn of(octets: &[u8]) -> Self {
                $(
                    if octets.eq_ignore_ascii_case($text.as_bytes())
                        $(|| octets.eq_ignore_ascii_case($compact.as_bytes()))?
                    {
                        return Self::$variant;
                    }
                )+
                Self::Other
            }

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
    Join "Join";
    MaxBreadth "Max-Breadth";
    MinExpires "Min-Expires";
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
    RSeq "RSeq";
    SecurityClient "Security-Client";
    SecurityServer "Security-Server";
    SecurityVerify "Security-Verify";
    Server "Server";
    ServiceRoute "Service-Route";
    SessionExpires "Session-Expires" "x";
    Subject "Subject" "s";
    SubscriptionState "Subscription-State";
    TargetDialog "Target-Dialog";
    Unsupported "Unsupported";
    Warning "Warning";
    WwwAuthenticate "WWW-Authenticate";
}
