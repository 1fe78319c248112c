//! TLS with libpq's semantics: what is verified, with which files, and what is said when it fails.
//!
//! A root certificate file that exists is used in every mode, so that `require` with one is as good as `verify-ca`.
//! Without one, only the `verify` modes insist. The name is verified by `verify-full` alone.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Ref};
use postgres_openssl::{TlsConnector, TlsStream};
use tokio::net::TcpStream;
use tokio_postgres::tls::TlsConnect;

use super::settings::{RootCert, SslMode, TlsSettings};

use super::{ConnectError, Password};
use crate::server::words::{io_words, one_line, ssl_words, stack_words};

/// OpenSSL's codes for a certificate that is good, but for somebody else: host name, e-mail, IP address.
const WRONG_NAME: [i32; 3] = [62, 63, 64];

/// Makes the TLS connection on a socket on which the server is ready for it.
pub(super) async fn handshake(
    settings: &TlsSettings,
    host: &str,
    socket: TcpStream,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    if settings.mode == SslMode::VerifyFull && host.is_empty() {
        return Err(ConnectError::tls("host name must be specified for a verified SSL connection"));
    }
    let (connector, verify) = connector(settings)?;
    let mut session = connector.configure().map_err(|e| initialising(&e))?;
    session.set_use_server_name_indication(settings.sni && !host.is_empty());
    session.set_verify_hostname(verify && settings.mode == SslMode::VerifyFull);
    let verdict = Arc::new(Mutex::new(None));
    if verify {
        let (verdict, host) = (Arc::clone(&verdict), host.to_string());
        session.set_verify_callback(SslVerifyMode::PEER, move |good, context| {
            if !good {
                let error = context.error();
                let words = match context.current_cert() {
                    Some(cert) if WRONG_NAME.contains(&error.as_raw()) => wrong_name(cert, &host),
                    _ => format!("certificate verify failed: {}", error.error_string()),
                };
                verdict.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(words);
            }
            good
        });
    }
    TlsConnector::new(session, host).connect(socket).await.map_err(|error| {
        let verdict = verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
        ConnectError::tls(verdict.unwrap_or_else(|| handshake_words(error.as_ref())))
    })
}

/// The connector, and whether it verifies the server's certificate.
fn connector(settings: &TlsSettings) -> Result<(SslConnector, bool), ConnectError> {
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(|e| initialising(&e))?;
    builder.set_min_proto_version(Some(settings.min_version)).map_err(|e| initialising(&e))?;
    builder.set_max_proto_version(settings.max_version).map_err(|e| initialising(&e))?;
    postgres_openssl::set_postgresql_alpn(&mut builder).map_err(|e| initialising(&e))?;
    let verify = set_roots(&mut builder, settings)?;
    builder.set_verify(if verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    set_client_certificate(&mut builder, settings)?;
    Ok((builder.build(), verify))
}

/// Sets which certificates vouch for the server's; false if there are none and none are needed. The builder comes with
/// the system's, which libpq trusts only when told so.
fn set_roots(
    builder: &mut SslConnectorBuilder,
    settings: &TlsSettings,
) -> Result<bool, ConnectError> {
    let path = match &settings.root {
        RootCert::System => return Ok(true),
        RootCert::File(path) => path.as_deref(),
    };
    let Some(path) = path.filter(|path| path.exists()) else {
        if settings.mode < SslMode::VerifyCa {
            return Ok(false);
        }
        let words = match path {
            Some(path) => format!("root certificate file \"{}\" does not exist", path.display()),
            None => "could not get home directory to locate root certificate file".into(),
        };
        let hint = "Either provide the file, use the system's trusted roots with sslrootcert=system, \
                    or change sslmode to disable server certificate verification.";
        return Err(ConnectError { hint: Some(hint.into()), ..ConnectError::tls(words) });
    };
    let unreadable = |words: String| {
        ConnectError::tls(format!(
            "could not read root certificate file \"{}\": {words}",
            path.display()
        ))
    };
    let pem = fs::read(path).map_err(|e| unreadable(io_words(&e)))?;
    let certificates = X509::stack_from_pem(&pem).map_err(|e| unreadable(stack_words(&e)))?;
    if certificates.is_empty() {
        return Err(unreadable("no certificate found".into()));
    }
    let mut store = X509StoreBuilder::new().map_err(|e| initialising(&e))?;
    for certificate in certificates {
        store.add_cert(certificate).map_err(|e| unreadable(stack_words(&e)))?;
    }
    set_crl(&mut store, settings)?;
    builder.set_cert_store(store.build());
    Ok(true)
}

/// Revocation lists; as in libpq one that is not there is not needed.
fn set_crl(store: &mut X509StoreBuilder, settings: &TlsSettings) -> Result<(), ConnectError> {
    let mut found = false;
    if let Some(file) = settings.crl.as_deref().filter(|file| file.exists()) {
        let lookup = store.add_lookup(X509Lookup::file()).map_err(|e| initialising(&e))?;
        lookup.load_crl_file(file, SslFiletype::PEM).map_err(|e| {
            let words = stack_words(&e);
            ConnectError::tls(format!(
                "could not read certificate revocation list \"{}\": {words}",
                file.display()
            ))
        })?;
        found = true;
    }
    if let Some(directory) =
        settings.crl_directory.as_deref().filter(|directory| directory.is_dir())
    {
        let lookup = store.add_lookup(X509Lookup::hash_dir()).map_err(|e| initialising(&e))?;
        let name = directory.to_string_lossy();
        lookup.add_dir(&name, SslFiletype::PEM).map_err(|e| initialising(&e))?;
        found = true;
    }
    if found {
        let flags = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
        store.set_flags(flags).map_err(|e| initialising(&e))?;
    }
    Ok(())
}

/// Our own certificate, if there is a file with one.
fn set_client_certificate(
    builder: &mut SslConnectorBuilder,
    settings: &TlsSettings,
) -> Result<(), ConnectError> {
    let Some(cert) = settings.cert.as_deref() else { return Ok(()) };
    match fs::metadata(cert) {
        Ok(_) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => {
            let words = io_words(&e);
            return Err(ConnectError::tls(format!(
                "could not open certificate file \"{}\": {words}",
                cert.display()
            )));
        }
    }
    builder.set_certificate_chain_file(cert).map_err(|e| {
        ConnectError::tls(format!(
            "could not read certificate file \"{}\": {}",
            cert.display(),
            stack_words(&e)
        ))
    })?;
    let Some(key) = settings.key.as_deref() else {
        return Err(ConnectError::tls("certificate present, but not private key file"));
    };
    check_key_file(key)?;
    let unusable = |words: String| {
        ConnectError::tls(format!("could not load private key file \"{}\": {words}", key.display()))
    };
    let bytes = fs::read(key).map_err(|e| unusable(io_words(&e)))?;
    let private = read_key(&bytes, settings.key_password.as_ref()).map_err(unusable)?;
    let mismatch = |e: ErrorStack| {
        let words = stack_words(&e);
        ConnectError::tls(format!(
            "certificate does not match private key file \"{}\": {words}",
            key.display()
        ))
    };
    builder.set_private_key(&private).map_err(mismatch)?;
    builder.check_private_key().map_err(mismatch)
}

/// A key that others may read is refused, as libpq and ssh do. Root may own one that a group may read.
fn check_key_file(key: &Path) -> Result<(), ConnectError> {
    let name = key.display();
    let metadata = fs::metadata(key).map_err(|e| {
        ConnectError::tls(match e.kind() {
            io::ErrorKind::NotFound => {
                format!("certificate present, but not private key file \"{name}\"")
            }
            _ => format!("could not stat private key file \"{name}\": {}", io_words(&e)),
        })
    })?;
    if !metadata.is_file() {
        return Err(ConnectError::tls(format!(
            "private key file \"{name}\" is not a regular file"
        )));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        let hint = "File must have permissions u=rw (0600) or less if owned by the current user, \
                    or permissions u=rw,g=r (0640) or less if owned by root.";
        let words = format!("private key file \"{name}\" has group or world access");
        return Err(ConnectError { hint: Some(hint.into()), ..ConnectError::tls(words) });
    }
    Ok(())
}

/// PEM, or else DER; or why not. Without a password of ours OpenSSL would ask for one at the terminal, hence the
/// callback. What OpenSSL says of a wrong password depends on the garbage that comes out, hence our own words.
fn read_key(bytes: &[u8], password: Option<&Password>) -> Result<PKey<Private>, String> {
    let mut encrypted = false;
    let pem = PKey::private_key_from_pem_callback(bytes, |buffer| {
        encrypted = true;
        let password = password.map(|password| password.0.as_bytes()).unwrap_or_default();
        let length = password.len().min(buffer.len());
        buffer[..length].copy_from_slice(&password[..length]);
        Ok(length)
    });
    let error = match pem {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    match (encrypted, password) {
        (true, None) => Err("it is encrypted, and no sslpassword was given".into()),
        (true, Some(_)) => Err("sslpassword does not decrypt it".into()),
        (false, _) => PKey::private_key_from_der(bytes).map_err(|_| stack_words(&error)),
    }
}

fn wrong_name(cert: &X509Ref, host: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in cert.subject_alt_names().iter().flatten() {
        names.extend(name.dnsname().map(String::from));
        names.extend(name.ipaddress().and_then(address));
    }
    if names.is_empty() {
        let common = cert.subject_name().entries_by_nid(Nid::COMMONNAME).next();
        names.extend(
            common.map(|entry| String::from_utf8_lossy(entry.data().as_slice()).into_owned()),
        );
    }
    let for_host = format!("does not match host name \"{host}\"");
    match names.as_slice() {
        [] => "could not get server's host name from server certificate".into(),
        [name] => one_line(&format!("server certificate for \"{name}\" {for_host}")),
        [name, others @ ..] => {
            let names = if others.len() == 1 { "name" } else { "names" };
            one_line(&format!(
                "server certificate for \"{name}\" (and {} other {names}) {for_host}",
                others.len()
            ))
        }
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        _ => None,
    }
}

fn handshake_words(error: &(dyn std::error::Error + Send + Sync)) -> String {
    match error.source().and_then(|source| source.downcast_ref::<openssl::ssl::Error>()) {
        Some(error) => ssl_words(error),
        None => one_line(&error.to_string()),
    }
}

fn initialising(error: &ErrorStack) -> ConnectError {
    ConnectError::tls(format!("could not initialize SSL: {}", stack_words(error)))
}
