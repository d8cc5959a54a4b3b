//! Identity and privilege headers, names: which are looked at, and which are no UE's to write.
//!
//! Takes:   the name of a header, or its row.
//! Gives:   what kind of header it is.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3325; RFC 7315; TS 24.229 clause 4.4.

use crate::wire::scan::Field;
use crate::wire::{Message, Name};

/// Headers by which the nodes of a network speak to each other.
pub(super) fn is_network_header(name: Name) -> bool {
    matches!(
        name,
        Name::PVisitedNetworkId
            | Name::PChargingVector
            | Name::PChargingFunctionAddresses
            | Name::PChargeInfo
            | Name::PServedUser
            | Name::PUserDatabase
            | Name::PProfileKey
            | Name::PPrivateNetworkIndication
            | Name::PEarlyMedia
            | Name::PRefusedUriList
    )
}

/// The elder form of P-Asserted-Identity, which many cores still believe.
pub(super) fn is_remote_party_id(message: &Message, field: &Field) -> bool {
    field.name_span().of(message.octets()).eq_ignore_ascii_case(b"Remote-Party-ID")
}

/// Whether a header of no known name is one that is looked at.
pub(super) fn is_strange(message: &Message, field: &Field) -> bool {
    let name = field.name_span().of(message.octets());
    field.name == Name::Other
        && (is_remote_party_id(message, field)
            || begins_with(name, b"X-3GPP-")
            || of_the_network(name))
}

/// Headers without a name of ours that nodes of a network write for each other: no UE's, whatever it is believed.
///
/// Source: TS 24.229 clause 4.4.
pub(super) fn of_the_network(name: &[u8]) -> bool {
    let names = [
        "Attestation-Info",
        "Origination-Id",
        "Priority-Verstat",
        "Relayed-Charge",
        "Restoration-Info",
        "Service-Interact-Info",
    ];
    names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// The headers that something may become of, as a set; `is_network_header` and the fates name them one by one.
pub(super) const TOUCHED: u128 = Name::PAssertedIdentity.bit()
    | Name::PPreferredIdentity.bit()
    | Name::PAssertedService.bit()
    | Name::PPreferredService.bit()
    | Name::PAssociatedUri.bit()
    | Name::PCalledPartyId.bit()
    | Name::FeatureCaps.bit()
    | Name::PAccessNetworkInfo.bit()
    | Name::HistoryInfo.bit()
    | Name::Diversion.bit()
    | Name::Path.bit()
    | Name::ServiceRoute.bit()
    | Name::AlertInfo.bit()
    | Name::CallInfo.bit()
    | Name::AnswerMode.bit()
    | Name::PrivAnswerMode.bit()
    | Name::ResourcePriority.bit()
    | Name::Authorization.bit()
    | Name::ProxyAuthorization.bit()
    | Name::SecurityClient.bit()
    | Name::SecurityVerify.bit()
    | Name::SecurityServer.bit()
    | Name::Require.bit()
    | Name::ProxyRequire.bit()
    | Name::PVisitedNetworkId.bit()
    | Name::PChargingVector.bit()
    | Name::PChargingFunctionAddresses.bit()
    | Name::PChargeInfo.bit()
    | Name::PServedUser.bit()
    | Name::PUserDatabase.bit()
    | Name::PProfileKey.bit()
    | Name::PPrivateNetworkIndication.bit()
    | Name::PEarlyMedia.bit()
    | Name::PRefusedUriList.bit();

/// What no message can do without, whatever is configured, and the counts that the edge writes itself.
pub(super) const ESSENTIAL: [Name; 11] = [
    Name::Via,
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::Contact,
    Name::MaxForwards,
    Name::MaxBreadth,
    Name::ContentLength,
    Name::Route,
    Name::RecordRoute,
];

/// Whether `text` begins with `part`, compared without case.
pub(super) fn begins_with(text: &[u8], part: &[u8]) -> bool {
    text.get(..part.len()).is_some_and(|head| head.eq_ignore_ascii_case(part))
}
