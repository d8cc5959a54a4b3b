//! Keys, subscribers, file, passwords: what a row has for who bootstraps by password.
//!
//! Takes:   one `[[subscriber]]`.
//! Gives:   [`DigestSecret`].
//! Keeps:   nothing. A password has [`PASSWORD_MAX`] octets at most.
//! Refuses: a password beside its hash; hashes that no home keeps, or of another length.
//! Sources: TS 29.562 (what a home has of a subscriber with SIP Digest); RFC 7616 section 3.4.2.

use toml::Spanned;
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::{Reader, Row};
use crate::authentication::digest::{Ha1, Hash};
use crate::keys::subscribers::DigestSecret;

/// Longest password, in octets.
const PASSWORD_MAX: usize = 256;

/// Names that a row has for its card: without any, a row with a password is of somebody without a card.
const OF_CARDS: [&str; 11] = [
    "algorithm",
    "k",
    "op",
    "opc",
    "top",
    "topc",
    "iterations",
    "res_octets",
    "amf",
    "sqn",
    "card",
];

impl Row<'_, '_> {
    /// Whether it has anything of a card.
    pub(super) fn names_a_card(&self) -> bool {
        OF_CARDS.iter().any(|name| self.get(name).is_some())
    }
}

impl Reader<'_> {
    /// The password of who bootstraps by one, or what is kept of it.
    pub(super) fn digest(&mut self, row: &Row<'_, '_>) -> Option<DigestSecret> {
        let (password, hashes) = (row.get("digest_password"), row.get("digest_ha1"));
        let fix = "digest_password = \"...\"";
        if let (Some(_), Some(value)) = (password, hashes) {
            let what = "subscriber with digest_password and digest_ha1".to_owned();
            let why = "one comes of the other, and which counts could not be told";
            self.problem(value.span().start, what, why, "remove one of the two".to_owned());
        }
        if password.is_some() {
            let (at, text) = self.text_of(row, "digest_password", fix)?;
            let fits = (1..=PASSWORD_MAX).contains(&text.len()) && !text.contains(char::is_control);
            if !fits {
                let what = "subscriber.digest_password is no password".to_owned();
                let why = format!("it has 1 to {PASSWORD_MAX} octets, and no control characters");
                self.problem(at, what, &why, fix.to_owned());
            }
            return fits.then(|| DigestSecret::Password(Zeroizing::new(text.to_owned())));
        }
        let value = hashes?;
        let read = value.get_ref().as_table().map(|table| {
            let one = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = key.get_ref();
                let (hash, _) =
                    Hash::of(name.as_bytes()).filter(|(hash, _)| *name == hash.as_str())?;
                let fits = matches!(hash, Hash::Md5 | Hash::Sha256);
                let digits = value.get_ref().as_str().filter(|_| fits)?;
                Some((hash, Ha1::from_hex(hash, digits.as_bytes())?))
            };
            table.iter().map(one).collect::<Option<Vec<_>>>()
        });
        let read = read.flatten().filter(|read| !read.is_empty());
        if read.is_none() {
            let what = "subscriber.digest_ha1 is no table of hashes".to_owned();
            let why = "it has H(A1) for the realm of [bsf.gba_digest], in hex digits of lower case, under \
                       SHA-256, MD5 or both";
            let fix = format!("digest_ha1 = {{ SHA-256 = \"{}\" }}", "0123456789abcdef".repeat(4));
            self.problem(value.span().start, what, why, fix);
        }
        read.map(DigestSecret::Ha1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Problem, parse, parse_hex};
    use super::*;

    #[test]
    fn reads_passwords_beside_cards_and_without() {
        let ha1 = "7f812a59d9e5b57f119b6fee2bb998c42fb3acddc703dd934bd28d1e9e305d79";
        let text = format!(
            "[[subscriber]]\nimpi = \"user1_private@home1.net\"\ndigest_password = \"sip-digest-secret\"\n\
             {card}\n[[subscriber]]\nimpi = \"b@home1.net\"\ndigest_ha1 = {{ SHA-256 = \"{ha1}\" }}\n",
            card = "k = \"465B5CE8b199b49faa5f0a2ee238a6bc\"\nopc = \"cd63cb71954a9f4e48a5994e37a02baf\""
        );
        let list = parse("s.toml", &text).expect("no problem");
        let [one, two] = &list[..] else { panic!("two") };
        assert!(one.algorithms.is_some() && two.algorithms.is_none());
        let realm = crate::identity::Realm::new("home1.net").expect("a realm");
        for (of, hash, there) in [
            (one, Hash::Sha256, true),
            (one, Hash::Md5, true),
            (two, Hash::Sha256, true),
            (two, Hash::Md5, false),
        ] {
            let made = of.digest.as_ref().expect("a password").ha1(hash, &of.impi, &realm);
            assert_eq!(made.is_some(), there, "{} {hash:?}", of.impi);
            if hash == Hash::Sha256 {
                assert_eq!(*made.expect("there").octets(), *parse_hex(ha1).expect("hex"));
            }
        }
        let debug = format!("{list:?}");
        assert!(!debug.contains("sip-digest-secret") && !debug.contains("7f81"), "{debug}");

        for (row, line, what) in [
            ("digest_password = 5", 3, "subscriber.digest_password is not a text"),
            ("digest_password = \"\"", 3, "subscriber.digest_password is no password"),
            ("digest_password = \"a\\tb\"", 3, "subscriber.digest_password is no password"),
            ("digest_ha1 = \"7f81\"", 3, "subscriber.digest_ha1 is no table of hashes"),
            ("digest_ha1 = {}", 3, "subscriber.digest_ha1 is no table of hashes"),
            ("digest_ha1 = { MD5 = \"7f81\" }", 3, "subscriber.digest_ha1 is no table of hashes"),
            ("digest_ha1 = { MD6 = \"7f81\" }", 3, "subscriber.digest_ha1 is no table of hashes"),
            ("digest_password = \"x\"\nk = \"00\"", 4, "subscriber.k is not 32 hex digits"),
            ("digest_password = \"x\"\namf = \"8000\"", 1, "subscriber without k"),
            (
                "digest_password = \"x\"\ndigest_ha1 = { MD5 = \"7f81\" }",
                4,
                "subscriber with digest_password and digest_ha1",
            ),
        ] {
            let text = format!("[[subscriber]]\nimpi = \"a@b\"\n{row}\n");
            let problems = parse("s.toml", &text).expect_err(row);
            let told = problems.iter().any(|one| (one.line, &*one.what) == (line, what));
            assert!(told, "{row}: {problems:?}");
            let all: String = problems.iter().map(Problem::to_string).collect();
            assert!(!all.contains("7f81"), "no secret is repeated: {all}");
        }
    }
}
