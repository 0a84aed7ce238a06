//! The subject of a certificate as one line of printable ASCII (RFC 4514), in which nothing that stands
//! in a value can pass for more than a value.

use std::fmt::Write;

use x509_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::x509::X509Name;

/// Object identifiers that have a short name: those of RFC 4514 §3 and those that openssl writes besides.
const SHORT: [(&str, &str); 15] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// Writes a name, the most specific part first.
pub(super) fn line(name: &X509Name<'_>) -> String {
    let mut line = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        if !line.is_empty() {
            line.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                line.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            let value = attribute.attr_value();
            let text = text(value);
            match (SHORT.iter().find(|(known, _)| *known == oid), text) {
                (Some((_, short)), Some(text)) => {
                    line.push_str(short);
                    line.push('=');
                    push_escaped(&mut line, &text);
                }
                (short, _) => {
                    line.push_str(short.map_or(&oid, |(_, short)| short));
                    line.push_str("=#");
                    push_hex(&mut line, &value.to_der_vec().unwrap_or_default());
                }
            }
        }
    }
    line
}

/// The text of a value, if it is one.
fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::BmpString => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            let whole = bytes.len().is_multiple_of(2);
            whole.then(|| char::decode_utf16(units).collect::<Result<String, _>>().ok()).flatten()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4. What is not printable ASCII is written byte by byte; so are spaces at the ends, which
/// would not last in a header field.
fn push_escaped(line: &mut String, text: &str) {
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b' ' if index == 0 || index == last => line.push_str("\\20"),
            b'#' if index == 0 => line.push_str("\\#"),
            b'"' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\' => {
                line.push('\\');
                line.push(char::from(byte));
            }
            b' '..=b'~' => line.push(char::from(byte)),
            _ => {
                line.push('\\');
                push_hex(line, &[byte]);
            }
        }
    }
}

fn push_hex(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(line, "{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn subject(parts: &[(DnType, DnValue)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let (_, read) = X509Certificate::from_der(made.der()).expect("readable");
        line(read.subject())
    }

    #[test]
    fn the_most_specific_part_comes_first_and_nothing_passes_for_more() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        let one = |text: &str| subject(&[(DnType::CommonName, utf8(text))]);
        assert_eq!(
            subject(&[
                (DnType::CountryName, DnValue::PrintableString("DE".try_into().expect("ASCII"))),
                (DnType::OrganizationName, utf8("Tide, Inc.")),
                (DnType::CommonName, utf8("client 1")),
            ]),
            "CN=client 1,O=Tide\\, Inc.,C=DE"
        );
        for (value, expected) in [
            ("plain", "CN=plain"),
            ("a,O=admin", "CN=a\\,O\\=admin"),
            ("a+b;c<d>e\"f\\g", "CN=a\\+b\\;c\\<d\\>e\\\"f\\\\g"),
            ("#1", "CN=\\#1"),
            ("1#", "CN=1#"),
            (" a b ", "CN=\\20a b\\20"),
            (" ", "CN=\\20"),
            ("", "CN="),
            ("a\r\nx: y", "CN=a\\0D\\0Ax: y"),
            ("zürich", "CN=z\\C3\\BCrich"),
            ("a\0b", "CN=a\\00b"),
        ] {
            assert_eq!(one(value), expected, "{value:?}");
        }
        assert_eq!(subject(&[]), "");
        let bmp = DnValue::BmpString("ü".try_into().expect("within the plane"));
        assert_eq!(subject(&[(DnType::CommonName, bmp)]), "CN=\\C3\\BC");
        let teletex = DnValue::TeletexString("ab".try_into().expect("ASCII"));
        assert_eq!(subject(&[(DnType::CommonName, teletex)]), "CN=#14026162");
        let custom = DnType::CustomDnType(vec![1, 2, 3, 4]);
        assert_eq!(subject(&[(custom, utf8("x"))]), "1.2.3.4=#0C0178");
    }

    proptest::proptest! {
        #[test]
        fn it_is_one_value_of_a_field(text in "\\PC*|[\\x00-\\x7f]{0,20}") {
            let mut line = String::new();
            push_escaped(&mut line, &text);
            proptest::prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            proptest::prop_assert_eq!(line.trim(), &line);
            // Undone, it is the text.
            let (mut bytes, mut rest) = (Vec::new(), line.as_bytes());
            while let [first, after @ ..] = rest {
                rest = after;
                if *first != b'\\' {
                    proptest::prop_assert!(!b",+;<>\"=".contains(first));
                    bytes.push(*first);
                } else if after[0].is_ascii_hexdigit() {
                    let digits = std::str::from_utf8(&after[..2]).expect("ASCII");
                    bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
                    rest = &after[2..];
                } else {
                    bytes.push(after[0]);
                    rest = &after[1..];
                }
            }
            proptest::prop_assert_eq!(bytes, text.as_bytes());
        }
    }
}
