//! A certificate authority of our own, for servers and clients under test.

use super::options::Tls;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a certificate is signed with; its own files live as long as it does.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
    folder: TempDir,
}

/// A certificate and its key, as PEM files. The key is only for its owner.
#[derive(Clone, Debug)]
pub struct Signed {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = new_key();
        let mut builder = begin(name, &key, 1);
        let ca = BasicConstraints::new().critical().ca().build().expect("an extension");
        builder.append_extension(ca).expect("an extension");
        builder.sign(&key, MessageDigest::sha256()).expect("signed");
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority { certificate: builder.build(), key, folder };
        let pem = authority.certificate.to_pem().expect("PEM");
        std::fs::write(authority.certificate_file(), pem).expect("written");
        authority
    }

    /// What clients take as `sslrootcert`.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.path().join("root.crt")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A certificate for this common name and, for a server, the host names or
    /// addresses that it is good for.
    pub fn sign(&self, common_name: &str, hosts: &[&str]) -> Signed {
        let key = new_key();
        let mut builder = begin(common_name, &key, 2);
        builder.set_issuer_name(self.certificate.subject_name()).expect("an issuer");
        if !hosts.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for host in hosts {
                match host.parse::<std::net::IpAddr>() {
                    Ok(_) => names.ip(host),
                    Err(_) => names.dns(host),
                };
            }
            let issuer = Some(&*self.certificate);
            let names = names.build(&builder.x509v3_context(issuer, None)).expect("host names");
            builder.append_extension(names).expect("an extension");
        }
        builder.sign(&self.key, MessageDigest::sha256()).expect("signed");
        let of = |suffix: &str| self.folder.path().join(format!("{common_name}.{suffix}"));
        let signed = Signed { certificate: of("crt"), key: of("key") };
        std::fs::write(&signed.certificate, builder.build().to_pem().expect("PEM"))
            .expect("written");
        let pem = key.private_key_to_pem_pkcs8().expect("PEM");
        std::fs::write(&signed.key, pem).expect("written");
        let only_owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&signed.key, only_owner).expect("chmod");
        signed
    }

    /// A server's options: good for these hosts, and for clients that this
    /// authority has signed.
    pub fn server(&self, hosts: &[&str]) -> Tls {
        let Signed { certificate, key } = self.sign(hosts[0], hosts);
        Tls { certificate, key, client_authority: Some(self.certificate_file()) }
    }
}

fn new_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key")
}

fn begin(common_name: &str, key: &PKey<Private>, serial: u32) -> X509Builder {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", common_name).expect("a name");
    let name = name.build();
    let mut builder = X509Builder::new().expect("a certificate");
    builder.set_version(2).expect("version 3");
    let serial = BigNum::from_u32(serial).and_then(|number| number.to_asn1_integer());
    builder.set_serial_number(&serial.expect("a number")).expect("a number");
    builder.set_subject_name(&name).expect("a name");
    builder.set_issuer_name(&name).expect("a name");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("a day")).expect("a day");
    builder.set_not_after(&Asn1Time::days_from_now(30).expect("a day")).expect("a day");
    builder.set_pubkey(key).expect("a key");
    builder
}
