//! Keys, Diameter, dictionary: exactly the commands, AVPs and results that Zn, Zpn, Zh and the base protocol need.
//!
//! Takes:   a code and its vendor.
//! Gives:   the [`Definition`]: name, form, and whether the M bit is set when we send it.
//! Keeps:   one table.
//! Refuses: nothing; what is not in the table is unknown, and the M bit of it decides.
//! Sources: RFC 6733 sections 3.1, 4.5 and 7.1; TS 29.109 clause 6 (Zn, Zpn, Zh); TS 29.229 clauses 6.3 and 6.2 (Cx);
//!          TS 29.230 tables 4.1 and 7.1.

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OctetString, and Address.
    Octets,
    /// UTF8String and DiameterIdentity.
    Text,
    /// Unsigned32, Enumerated and Time.
    Number,
    /// Grouped.
    Group,
}

/// One AVP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its code.
    pub code: u32,
    /// Whose code that is; zero for the protocol's own.
    pub vendor: u32,
    /// Its name.
    pub name: &'static str,
    /// Its form.
    pub kind: Kind,
    /// Whether the M bit is set when it is sent.
    pub mandatory: bool,
}

/// 3GPP, as a vendor.
pub const VENDOR_3GPP: u32 = 10_415;
/// The application of Zn.
pub const ZN: u32 = 16_777_220;
/// The application of Zpn.
pub const ZPN: u32 = 16_777_268;
/// The application of Zh.
pub const ZH: u32 = 16_777_221;
/// The application of relays: all of them.
pub const RELAY: u32 = 0xffff_ffff;

/// Capabilities-Exchange.
pub const CAPABILITIES: u32 = 257;
/// Device-Watchdog.
pub const WATCHDOG: u32 = 280;
/// Disconnect-Peer.
pub const DISCONNECT: u32 = 282;
/// Multimedia-Auth, on Zh.
pub const MULTIMEDIA_AUTH: u32 = 303;
/// Bootstrapping-Info, on Zn.
pub const BOOTSTRAPPING_INFO: u32 = 310;
/// GBAPush-Info, on Zpn.
pub const GBAPUSH_INFO: u32 = 312;

/// DIAMETER_SUCCESS.
pub const SUCCESS: u32 = 2001;
/// DIAMETER_COMMAND_UNSUPPORTED.
pub const COMMAND_UNSUPPORTED: u32 = 3001;
/// DIAMETER_UNABLE_TO_DELIVER.
pub const UNABLE_TO_DELIVER: u32 = 3002;
/// DIAMETER_TOO_BUSY.
pub const TOO_BUSY: u32 = 3004;
/// DIAMETER_APPLICATION_UNSUPPORTED.
pub const APPLICATION_UNSUPPORTED: u32 = 3007;
/// DIAMETER_INVALID_HDR_BITS.
pub const INVALID_HDR_BITS: u32 = 3008;
/// DIAMETER_INVALID_AVP_BITS.
pub const INVALID_AVP_BITS: u32 = 3009;
/// DIAMETER_UNKNOWN_PEER.
pub const UNKNOWN_PEER: u32 = 3010;
/// DIAMETER_AUTHENTICATION_REJECTED: on Zh and Zpn, an AUTS that is not the card's.
pub const AUTHENTICATION_REJECTED: u32 = 4001;
/// DIAMETER_AVP_UNSUPPORTED.
pub const AVP_UNSUPPORTED: u32 = 5001;
/// DIAMETER_AUTHORIZATION_REJECTED.
pub const AUTHORIZATION_REJECTED: u32 = 5003;
/// DIAMETER_INVALID_AVP_VALUE.
pub const INVALID_AVP_VALUE: u32 = 5004;
/// DIAMETER_MISSING_AVP.
pub const MISSING_AVP: u32 = 5005;
/// DIAMETER_AVP_OCCURS_TOO_MANY_TIMES.
pub const AVP_OCCURS_TOO_OFTEN: u32 = 5009;
/// DIAMETER_NO_COMMON_APPLICATION.
pub const NO_COMMON_APPLICATION: u32 = 5010;
/// DIAMETER_UNSUPPORTED_VERSION.
pub const UNSUPPORTED_VERSION: u32 = 5011;
/// DIAMETER_UNABLE_TO_COMPLY.
pub const UNABLE_TO_COMPLY: u32 = 5012;
/// DIAMETER_INVALID_AVP_LENGTH.
pub const INVALID_AVP_LENGTH: u32 = 5014;
/// DIAMETER_INVALID_MESSAGE_LENGTH.
pub const INVALID_MESSAGE_LENGTH: u32 = 5015;
/// 3GPP: DIAMETER_ERROR_USER_UNKNOWN, as Cx has it.
pub const USER_UNKNOWN: u32 = 5001;
/// 3GPP: DIAMETER_ERROR_IDENTITY_UNKNOWN.
pub const IDENTITY_UNKNOWN: u32 = 5401;
/// 3GPP: DIAMETER_ERROR_NOT_AUTHORIZED.
pub const NOT_AUTHORIZED: u32 = 5402;
/// 3GPP: DIAMETER_ERROR_TRANSACTION_IDENTIFIER_INVALID.
pub const BTID_INVALID: u32 = 5403;

macro_rules! avps {
    ($($name:ident $code:literal $vendor:expr, $kind:ident, $mandatory:literal, $text:literal;)*) => {
        $(#[doc = $text]
        pub const $name: Definition = Definition {
            code: $code, vendor: $vendor, name: $text, kind: Kind::$kind, mandatory: $mandatory,
        };)*
        /// Every AVP that is known.
        pub const ALL: &[Definition] = &[$($name),*];
    };
}

avps! {
    USER_NAME 1 0, Text, true, "User-Name";
    HOST_IP_ADDRESS 257 0, Octets, true, "Host-IP-Address";
    AUTH_APPLICATION_ID 258 0, Number, true, "Auth-Application-Id";
    ACCT_APPLICATION_ID 259 0, Number, true, "Acct-Application-Id";
    VENDOR_SPECIFIC_APPLICATION_ID 260 0, Group, true, "Vendor-Specific-Application-Id";
    SESSION_ID 263 0, Text, true, "Session-Id";
    ORIGIN_HOST 264 0, Text, true, "Origin-Host";
    SUPPORTED_VENDOR_ID 265 0, Number, true, "Supported-Vendor-Id";
    VENDOR_ID 266 0, Number, true, "Vendor-Id";
    FIRMWARE_REVISION 267 0, Number, false, "Firmware-Revision";
    RESULT_CODE 268 0, Number, true, "Result-Code";
    PRODUCT_NAME 269 0, Text, false, "Product-Name";
    DISCONNECT_CAUSE 273 0, Number, true, "Disconnect-Cause";
    AUTH_SESSION_STATE 277 0, Number, true, "Auth-Session-State";
    ORIGIN_STATE_ID 278 0, Number, true, "Origin-State-Id";
    FAILED_AVP 279 0, Group, true, "Failed-AVP";
    ERROR_MESSAGE 281 0, Text, false, "Error-Message";
    ROUTE_RECORD 282 0, Text, true, "Route-Record";
    DESTINATION_REALM 283 0, Text, true, "Destination-Realm";
    PROXY_INFO 284 0, Group, true, "Proxy-Info";
    DESTINATION_HOST 293 0, Text, true, "Destination-Host";
    ERROR_REPORTING_HOST 294 0, Text, false, "Error-Reporting-Host";
    ORIGIN_REALM 296 0, Text, true, "Origin-Realm";
    EXPERIMENTAL_RESULT 297 0, Group, true, "Experimental-Result";
    EXPERIMENTAL_RESULT_CODE 298 0, Number, true, "Experimental-Result-Code";
    INBAND_SECURITY_ID 299 0, Number, true, "Inband-Security-Id";
    GBA_USER_SEC_SETTINGS 400 VENDOR_3GPP, Octets, true, "GBA-UserSecSettings";
    TRANSACTION_IDENTIFIER 401 VENDOR_3GPP, Octets, true, "Transaction-Identifier";
    NAF_ID 402 VENDOR_3GPP, Octets, true, "NAF-Id";
    GAA_SERVICE_IDENTIFIER 403 VENDOR_3GPP, Octets, true, "GAA-Service-Identifier";
    KEY_EXPIRY_TIME 404 VENDOR_3GPP, Number, true, "Key-ExpiryTime";
    ME_KEY_MATERIAL 405 VENDOR_3GPP, Octets, true, "ME-Key-Material";
    UICC_KEY_MATERIAL 406 VENDOR_3GPP, Octets, true, "UICC-Key-Material";
    GBA_U_AWARENESS_INDICATOR 407 VENDOR_3GPP, Number, true, "GBA_U-Awareness-Indicator";
    BOOTSTRAP_INFO_CREATION_TIME 408 VENDOR_3GPP, Number, true, "BootstrapInfoCreationTime";
    GUSS_TIMESTAMP 409 VENDOR_3GPP, Number, false, "GUSS-Timestamp";
    GBA_TYPE 410 VENDOR_3GPP, Number, true, "GBA-Type";
    UE_ID 411 VENDOR_3GPP, Octets, true, "UE-Id";
    UE_ID_TYPE 412 VENDOR_3GPP, Number, true, "UE-Id-Type";
    UICC_APP_LABEL 413 VENDOR_3GPP, Octets, true, "UICC-App-Label";
    UICC_ME 414 VENDOR_3GPP, Number, true, "UICC-ME";
    REQUESTED_KEY_LIFETIME 415 VENDOR_3GPP, Number, true, "Requested-Key-Lifetime";
    PRIVATE_IDENTITY_REQUEST 416 VENDOR_3GPP, Number, true, "Private-Identity-Request";
    GBA_PUSH_INFO 417 VENDOR_3GPP, Octets, true, "GBA-Push-Info";
    NAF_SA_IDENTIFIER 418 VENDOR_3GPP, Octets, true, "NAF-SA-Identifier";
    SECURITY_FEATURE_REQUEST 419 VENDOR_3GPP, Octets, true, "Security-Feature-Request";
    SECURITY_FEATURE_RESPONSE 420 VENDOR_3GPP, Octets, true, "Security-Feature-Response";
    PUBLIC_IDENTITY 601 VENDOR_3GPP, Text, true, "Public-Identity";
    SIP_NUMBER_AUTH_ITEMS 607 VENDOR_3GPP, Number, true, "SIP-Number-Auth-Items";
    SIP_AUTHENTICATION_SCHEME 608 VENDOR_3GPP, Text, true, "SIP-Authentication-Scheme";
    SIP_AUTHENTICATE 609 VENDOR_3GPP, Octets, true, "SIP-Authenticate";
    SIP_AUTHORIZATION 610 VENDOR_3GPP, Octets, true, "SIP-Authorization";
    SIP_AUTH_DATA_ITEM 612 VENDOR_3GPP, Group, true, "SIP-Auth-Data-Item";
    SIP_ITEM_NUMBER 613 VENDOR_3GPP, Number, true, "SIP-Item-Number";
    CONFIDENTIALITY_KEY 625 VENDOR_3GPP, Octets, true, "Confidentiality-Key";
    INTEGRITY_KEY 626 VENDOR_3GPP, Octets, true, "Integrity-Key";
}

/// The definition of a code, if it is known.
pub fn find(code: u32, vendor: u32) -> Option<&'static Definition> {
    ALL.iter().find(|known| known.code == code && known.vendor == vendor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_stands_once_and_in_order() {
        let places: Vec<_> = ALL.iter().map(|one| (one.vendor, one.code)).collect();
        assert!(places.is_sorted_by(|before, after| before < after), "{places:?}");
        assert_eq!(find(402, VENDOR_3GPP), Some(&NAF_ID));
        assert_eq!(find(402, 0), None, "the same code of another vendor");
    }
}
