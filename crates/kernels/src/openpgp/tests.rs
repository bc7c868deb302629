//! Keys, texts and signatures, right and wrong, of our own making and of GnuPG's.

use proptest::prelude::*;

use super::{
    forge::{Key, MADE, SIGNS, Says, cleartext, packet},
    *,
};

const NOW: u64 = MADE as u64 + 1000;
const TEXT: &str = "Origin: Debian\n- dash\nSHA256:\n  a\n";

fn ring(key: &Key, says: Says) -> Keyring {
    Keyring::parse(&key.certificate(says)).unwrap()
}

fn check(signed: &str, ring: &Keyring) -> Result<Signed, PgpError> {
    verify(signed.as_bytes(), ring, NOW)
}

#[test]
fn a_text_signed_by_a_known_key_is_handed_on_as_it_was_signed() {
    for key in [Key::ed25519(1), Key::ed25519_as(1, 27), Key::rsa()] {
        let signed = key.sign_text(TEXT, &[]);
        let ring = ring(&key, SIGNS);
        let found = check(&signed, &ring).unwrap();
        assert_eq!(found.text, TEXT);
        assert_eq!(found.by[0].0.to_vec(), key.fingerprint());
        // Blanks at the ends of lines are not signed; mail adds such.
        check(&signed.replace("Debian\n", "Debian \t\r\n"), &ring).unwrap();
        for (from, to) in [("Debian", "Debiam"), ("  a\n", "  a\n  b\n"), ("SHA256:\n", "")] {
            let changed = signed.replacen(from, to, 1);
            assert!(matches!(check(&changed, &ring), Err(PgpError::Wrong(_))), "{to}");
        }
    }
}

#[test]
fn what_stands_beside_the_signed_text_is_refused() {
    let key = Key::ed25519(1);
    let ring = ring(&key, SIGNS);
    let signed = key.sign_text(TEXT, &[]);
    for changed in [
        format!("Origin: Evil\n{signed}"),
        format!("{signed}Origin: Evil\n"),
        format!("{signed}{signed}"),
        signed.replace("Hash: SHA512\n", "Hash: SHA512\nOrigin: Evil\n"),
        signed.replace("-----END", "-----ENT"),
        signed.replace("-----BEGIN PGP SIGNATURE", "-----BEGIN PGP MESSAGE"),
        signed.replace("- - dash", "- dash\n-dash"),
        signed.replace("Origin: Debian", "Origin: Evil\rOrigin: Debian"),
        String::new(),
        "-----BEGIN PGP SIGNED MESSAGE-----\n\n-----BEGIN PGP SIGNATURE-----\n".to_owned(),
    ] {
        assert!(check(&changed, &ring).is_err(), "{changed}");
    }
}

#[test]
fn keys_that_do_not_count_are_named_with_the_reason() {
    let (known, unknown) = (Key::ed25519(1), Key::ed25519(2));
    let said = |signed: &str, ring: &Keyring| check(signed, ring).unwrap_err().to_string();
    let good = ring(&known, SIGNS);
    assert!(said(&unknown.sign_text(TEXT, &[]), &good).contains("is not in the key ring"));
    let expired = ring(&known, Says { expires_after: 10, ..SIGNS });
    assert!(said(&known.sign_text(TEXT, &[]), &expired).contains("has expired"));
    // The signature's own end, and a condition that must be understood.
    let ended = known.sign_text(TEXT, &[5, 3, 0, 0, 0, 9]);
    assert!(said(&ended, &good).contains("the signature by"));
    let strange = known.sign_text(TEXT, &[2, 0x80 | 99, 1]);
    assert!(said(&strange, &good).contains("a condition that is unknown"));
    let early = verify(known.sign_text(TEXT, &[]).as_bytes(), &good, 1_000_000_000);
    assert!(
        matches!(early, Err(PgpError::NotSigned(doubts)) if matches!(doubts[..], [Doubt::Future(_)]))
    );
    // A signature of a key is none of a text.
    let other = packet(2, &known.sign(0x13, TEXT.trim_end().replace('\n', "\r\n").as_bytes(), &[]));
    assert!(said(&cleartext(TEXT, &other), &good).contains("kind that is not taken"));
}

#[test]
fn one_known_key_is_enough_unless_another_known_one_is_wrong() {
    let (known, unknown, other) = (Key::ed25519(1), Key::ed25519(2), Key::ed25519(3));
    let message = TEXT.trim_end().replace('\n', "\r\n");
    let sign = |key: &Key, text: &str| packet(2, &key.sign(1, text.as_bytes(), &[]));
    let both = [sign(&unknown, &message), sign(&known, &message)].concat();
    assert_eq!(check(&cleartext(TEXT, &both), &ring(&known, SIGNS)).unwrap().by.len(), 1);
    let keys = [known.certificate(SIGNS), other.certificate(SIGNS)].concat();
    let keys = Keyring::parse(&keys).unwrap();
    let wrong = [sign(&known, &message), sign(&other, "another text")].concat();
    assert!(matches!(check(&cleartext(TEXT, &wrong), &keys), Err(PgpError::Wrong(_))));
}

#[test]
fn subkeys_sign_if_their_key_says_so() {
    let (primary, subkey) = (Key::ed25519(1), Key::ed25519(4));
    let certify = Says { flags: 1, ..SIGNS };
    let with = |says: Says| {
        let all = [primary.certificate(certify), primary.subkey(&subkey, says)].concat();
        Keyring::parse(&all)
    };
    let signed = subkey.sign_text(TEXT, &[]);
    check(&signed, &with(SIGNS).unwrap()).unwrap();
    // The primary key said that it does not sign.
    assert!(check(&primary.sign_text(TEXT, &[]), &with(SIGNS).unwrap()).is_err());
    // For encryption, revoked, not bound by this key, of a revoked key.
    assert_eq!(with(Says { flags: 4, ..SIGNS }).unwrap_err(), PgpError::NoKeys);
    assert_eq!(with(Says { revoked: true, ..SIGNS }).unwrap_err(), PgpError::NoKeys);
    let stranger = Key::ed25519(5).subkey(&subkey, SIGNS);
    let stolen = [primary.certificate(certify), stranger].concat();
    assert_eq!(Keyring::parse(&stolen).unwrap_err(), PgpError::NoKeys);
    let revoked = Says { revoked: true, ..certify };
    let dead = [primary.certificate(revoked), primary.subkey(&subkey, SIGNS)].concat();
    assert_eq!(Keyring::parse(&dead).unwrap_err(), PgpError::NoKeys);
    // A subkey does not outlive its key.
    let ends = Says { expires_after: 10, ..certify };
    let short = [primary.certificate(ends), primary.subkey(&subkey, SIGNS)].concat();
    assert!(check(&signed, &Keyring::parse(&short).unwrap()).is_err());
}

#[test]
fn files_that_are_no_key_rings_are_refused() {
    let said = |bytes: &[u8]| Keyring::parse(bytes).unwrap_err().to_string();
    assert!(said(b"").contains("no key"));
    assert!(said(b"hello, world").contains("no packets"));
    assert!(said(&[0, 0, 0, 32, 1, 1, 0, 2, b'K', b'B', b'X', b'f']).contains("gpg --export"));
    let whole = Key::ed25519(1).certificate(SIGNS);
    assert!(said(&whole[..whole.len() - 1]).contains("ends in the middle"));
    assert!(
        said(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!\n-----END PGP PUBLIC KEY BLOCK-----\n")
            .contains("base64")
    );
}

#[test]
fn what_gnupg_makes_is_understood() {
    let keys = Keyring::parse(include_bytes!("../../tests/data/gnupg-keys.asc")).unwrap();
    assert_eq!(keys.fingerprints().count(), 2);
    let signed = include_str!("../../tests/data/gnupg-signed.asc");
    let now = 1_800_000_000;
    let found = verify(signed.as_bytes(), &keys, now).unwrap();
    assert_eq!(found.by.len(), 2);
    assert_eq!(
        found.text,
        "Origin: Wythe\n- a line with a dash\n-----BEGIN nothing-----\n\nlast\n"
    );
    let changed = signed.replace("last", "lust");
    assert!(matches!(verify(changed.as_bytes(), &keys, now), Err(PgpError::Wrong(_))));
}

proptest! {
    #[test]
    fn any_change_of_a_signed_text_is_noticed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let key = Key::ed25519(1);
        let mut signed = key.sign_text(TEXT, &[]).into_bytes();
        let at = at.index(signed.len());
        signed[at] = byte;
        // What is still believed says the same: a checksum, a header or a blank may differ.
        if let Ok(found) = verify(&signed, &ring(&key, SIGNS), NOW) {
            prop_assert_eq!(found.text, TEXT);
        }
    }

    #[test]
    fn any_bytes_are_read_as_keys_or_refused(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), length in 0_usize..300,
    ) {
        let key = Key::ed25519(1);
        let mut bytes = [key.certificate(SIGNS), key.subkey(&Key::ed25519(2), SIGNS)].concat();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(length);
        let _ = Keyring::parse(&bytes);
    }
}
