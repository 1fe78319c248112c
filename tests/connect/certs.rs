//! A certificate authority of our own: server, client and revocation list, made anew for each test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::base64::encode_block;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

/// Signs others, or is signed.
pub(crate) struct Identity {
    pub(crate) cert: X509,
    pub(crate) key: PKey<Private>,
}

impl Identity {
    pub(crate) fn authority(name: &str) -> Identity {
        Identity::make(name, 1, None, None)
    }

    /// A certificate for that common name and, if given, for these DNS names.
    pub(crate) fn issue(&self, common_name: &str, serial: u32, dns: &[&str]) -> Identity {
        Identity::make(common_name, serial, Some(self), Some(dns))
    }

    fn make(
        common_name: &str,
        serial: u32,
        issuer: Option<&Identity>,
        dns: Option<&[&str]>,
    ) -> Identity {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", common_name).unwrap();
        let name = name.build();
        let mut cert = X509::builder().unwrap();
        cert.set_version(2).unwrap();
        cert.set_serial_number(&BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap())
            .unwrap();
        cert.set_subject_name(&name).unwrap();
        cert.set_issuer_name(issuer.map_or(&name, |issuer| issuer.cert.subject_name())).unwrap();
        cert.set_not_before(&Asn1Time::from_unix(1_500_000_000).unwrap()).unwrap();
        cert.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
        cert.set_pubkey(&key).unwrap();
        if issuer.is_none() {
            cert.append_extension(BasicConstraints::new().critical().ca().build().unwrap())
                .unwrap();
        }
        if let Some(dns) = dns.filter(|dns| !dns.is_empty()) {
            let mut names = SubjectAlternativeName::new();
            for name in dns {
                names.dns(name);
            }
            let names = names.build(&cert.x509v3_context(None, None)).unwrap();
            cert.append_extension(names).unwrap();
        }
        cert.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Identity { cert: cert.build(), key }
    }

    pub(crate) fn write_cert(&self, path: &Path) {
        fs::write(path, self.cert.to_pem().unwrap()).unwrap();
    }

    pub(crate) fn write_key(&self, path: &Path, password: Option<&str>) {
        let pem = match password {
            None => self.key.private_key_to_pem_pkcs8().unwrap(),
            Some(password) => self
                .key
                .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), password.as_bytes())
                .unwrap(),
        };
        fs::write(path, pem).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A revocation list with these serial numbers. Put together from its ASN.1 (RFC 5280, 5.1): the
    /// openssl crate's builder insists on extensions that a small one does not need.
    pub(crate) fn write_crl(&self, path: &Path, serials: &[u8]) {
        let ecdsa_with_sha256 =
            der(0x30, &der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
        let (long_ago, far_ahead) = (der(0x17, b"170714000000Z"), der(0x17, b"491231000000Z"));
        let entries: Vec<u8> = serials
            .iter()
            .flat_map(|&serial| der(0x30, &[der(0x02, &[serial]), long_ago.clone()].concat()))
            .collect();
        let mut parts = vec![
            der(0x02, &[1]),
            ecdsa_with_sha256.clone(),
            self.cert.subject_name().to_der().unwrap(),
            long_ago,
            far_ahead,
        ];
        if !entries.is_empty() {
            parts.push(der(0x30, &entries));
        }
        let body = der(0x30, &parts.concat());
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(&body).unwrap();
        let signature = der(0x03, &[&[0], signature.as_slice()].concat());
        let crl = der(0x30, &[body, ecdsa_with_sha256, signature].concat());
        let base64 = encode_block(&crl);
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
        let pem =
            format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n"));
        fs::write(path, pem).unwrap();
    }
}

/// Tag, length, value.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    let mut out = match value.len() {
        0..128 => vec![tag, length[1]],
        128..256 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    out.extend_from_slice(value);
    out
}
