//! TS 33.220 annex B: the key derivation function and what GBA derives with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sipward::authentication::digest::{Ha1, Hash};
use sipward::identity::{Btid, Impi};
use sipward::keys::derivation::{
    FC_GBA, btid, btid_rand, derive_digest_ks, derive_digest_password, derive_ks_int_naf,
    derive_ks_naf, derive_tmpi, is_tmpi, kdf, kdf_input,
};
use sipward::keys::psk::{PskName, PskUse, Scheme};
use sipward::keys::{Ks, NafId, Rand, TlsExport, UaId};

use crate::vectors::{count, file, fixed, octets, rows, text};

/// Annex B.2 and B.3: for each protocol, the octets hashed and the key.
#[test]
fn annex_b_3_naf_keys() {
    let facts = file("gba_kdf");
    let (ks, rand) = (Ks::new(fixed(&facts, "ks")), Rand(fixed(&facts, "rand")));
    for row in rows(&facts, "naf") {
        let name = format!("{} {}", text(&row, "fqdn"), text(&row, "protocol"));
        let impi = Impi::new(text(&row, "impi")).expect("a name");
        let naf = NafId::new(text(&row, "fqdn"), UaId(fixed(&row, "ua")));
        assert_eq!(naf.octets(), octets(&row, "naf_id"), "{name}");
        let input = |label: &[u8]| {
            kdf_input(FC_GBA, &[label, &rand.0, impi.as_str().as_bytes(), &naf.octets()])
        };
        assert_eq!(input(b"gba-me"), Ok(octets(&row, "input")), "{name}");
        let key = derive_ks_naf(&ks, &rand, &impi, &naf).expect("short");
        assert_eq!(key.expose()[..], octets(&row, "ks_naf"), "{name}");
        assert_eq!(BASE64.encode(key.expose()), text(&row, "password"), "{name}");
        if row.contains_key("ks_int_naf") {
            assert_eq!(input(b"gba-u"), Ok(octets(&row, "input_int")), "{name}");
            let key = derive_ks_int_naf(&ks, &rand, &impi, &naf).expect("short");
            assert_eq!(key.expose()[..], octets(&row, "ks_int_naf"), "{name}");
        }
    }
}

/// Annex B.3: the name is folded before it is hashed, so that both ends hash the same octets.
#[test]
fn annex_b_3_name_is_folded() {
    for spelling in ["NAF1.Home1.NET", "naf1.home1.net.", "naf1.home1.net"] {
        let naf = NafId::new(spelling, UaId::SIP_DIGEST);
        assert_eq!(naf.octets(), b"naf1.home1.net\x03\0\0\0\x03", "{spelling}");
    }
}

/// Annex B.4: TMPI.
#[test]
fn annex_b_4_tmpi() {
    let facts = file("gba_kdf");
    let (ks, rand) = (Ks::new(fixed(&facts, "ks")), Rand(fixed(&facts, "rand")));
    for row in rows(&facts, "tmpi") {
        let (impi, bsf) = (text(&row, "impi"), text(&row, "bsf"));
        let id = [bsf.as_bytes(), &UaId::TMPI.0].concat();
        let output = kdf(ks.expose(), FC_GBA, &[b"gba-me", &rand.0, impi.as_bytes(), &id]);
        assert_eq!(output.expect("short")[..], octets(&row, "output"));
        let tmpi = derive_tmpi(&ks, &rand, &Impi::new(impi).expect("a name"), bsf).expect("short");
        assert_eq!(tmpi.as_str(), text(&row, "tmpi"));
        assert!(is_tmpi(tmpi.as_str()) && !is_tmpi(impi));
    }
}

/// Annex B.5: the function under H(A1), for GBA_Digest.
#[test]
fn annex_b_5_gba_digest() {
    for row in rows(&file("gba_kdf"), "gba_digest") {
        let (hash, _) = Hash::of(text(&row, "algorithm").as_bytes()).expect("known");
        let parts = ["username", "realm", "password"].map(|name| text(&row, name));
        let digest = hash.hex(&[parts.join(":").as_bytes()]);
        assert_eq!(&digest[..], text(&row, "ha1").as_bytes());
        let (ha1, tls_key, resp) =
            (octets(&row, "ha1"), octets(&row, "tls_key"), octets(&row, "resp"));
        let password: [&[u8]; 2] = [b"GBA_Digest_RESP", &tls_key];
        let ks: [&[u8]; 3] = [b"GBA_Digest_Ks", &tls_key, &resp];
        assert_eq!(kdf_input(FC_GBA, &password), Ok(octets(&row, "input_response")));
        assert_eq!(kdf_input(FC_GBA, &ks), Ok(octets(&row, "input_ks")));
        assert_eq!(kdf(&ha1, FC_GBA, &password).expect("short")[..], octets(&row, "response_key"));
        assert_eq!(kdf(&ha1, FC_GBA, &ks).expect("short")[..], octets(&row, "ks"));

        let exported = TlsExport::new(tls_key.clone().try_into().expect("48 octets"));
        let own = Ha1::from_hex(hash, text(&row, "ha1").as_bytes()).expect("digits");
        assert_eq!(*own.octets(), ha1);
        let [username, realm, secret] = parts.map(str::as_bytes);
        assert_eq!(*Ha1::new(hash, username, realm, secret).octets(), ha1);
        let made = derive_digest_password(&ha1, &exported).expect("short");
        assert_eq!(made[..], octets(&row, "response_key"));
        let made = derive_digest_ks(&ha1, &exported, &resp).expect("short");
        assert_eq!(made.expose()[..], octets(&row, "ks"));
    }
}

/// TS 33.535 annex A.4 uses the same function with another code.
#[test]
fn annex_b_2_other_codes() {
    for row in rows(&file("gba_kdf"), "akma") {
        let key = kdf(&octets(&row, "k_akma"), 0x82, &[&octets(&row, "af_id")]);
        assert_eq!(key.expect("short")[..], octets(&row, "k_af"));
    }
}

/// Clause 4.5.2: B-TID and Ks.
#[test]
fn clause_4_5_2_btid() {
    let facts = file("gba_kdf");
    let rand = Rand(fixed(&facts, "rand"));
    let name = btid(&rand, "bsf.home1.net").expect("a name");
    assert_eq!(name.as_str(), text(&facts, "btid"));
    assert_eq!(btid_rand(&name), Some(rand));
    assert_eq!([octets(&facts, "ck"), octets(&facts, "ik")].concat(), octets(&facts, "ks"));
}

/// Annex H.3 and TS 33.222 clause 5.4: PSK identities, and the keys of TLS 1.2 and 1.3.
#[test]
fn annex_h_3_shared_keys_of_tls() {
    let (facts, of_keys) = (file("gba_kdf"), file("psk"));
    let (ks, rand) = (Ks::new(fixed(&facts, "ks")), Rand(fixed(&facts, "rand")));
    let impi = Impi::new(text(&of_keys, "impi")).expect("a name");
    for row in rows(&of_keys, "identity") {
        let identity = text(&row, "text");
        assert_eq!(identity.len(), count(&row, "octets"), "{identity}");
        let external = row.get("external").and_then(toml::Value::as_bool).expect("said");
        let name = PskName::read(identity.as_bytes());
        let btid = Btid::new(text(&of_keys, "btid")).expect("a name");
        assert_eq!(name, external.then_some(PskName::Bootstrapped(btid)), "{identity}");
    }
    for row in rows(&of_keys, "key") {
        let of = match octets(&row, "suite").first_chunk::<2>() {
            Some(suite) => PskUse::Suite(u16::from_be_bytes(*suite)),
            None => PskUse::Tls13,
        };
        assert_eq!(of.ua(Scheme::ThreeGpp), UaId(fixed(&row, "ua")));
        let naf = NafId::new(text(&of_keys, "fqdn"), of.ua(Scheme::ThreeGpp));
        let key = derive_ks_naf(&ks, &rand, &impi, &naf).expect("short");
        assert_eq!(key.expose()[..], octets(&row, "psk"), "{of:?}");
    }
}
