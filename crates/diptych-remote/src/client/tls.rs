//! Encryption of the connection, and the reasons why a server is not trusted.

use std::{error::Error, fs, io, path::Path};

use diptych_store::Unavailable;
use rustls::{
    CertificateError,
    pki_types::{CertificateDer, pem::PemObject},
};
use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

use crate::client::RemoteOptions;

/// The endpoint with encryption. The certificate of its server has to be for its host, and issued
/// by an authority of the options, or of the system.
pub(crate) fn encrypted(
    endpoint: Endpoint,
    options: &RemoteOptions,
) -> Result<Endpoint, Unavailable> {
    let server = |what: String| Unavailable::Server { what: what.into() };
    let host = endpoint.uri().host().unwrap_or_default();
    // An address of IPv6 has brackets in a URI, and none in a certificate.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let config = ClientTlsConfig::new().domain_name(host).timeout(options.connect_time);
    let config = match &options.authorities {
        Some(path) => {
            let unreadable = |reason: String| {
                server(format!(
                    "the certificates of authorities in {path:?} are unusable: {reason}"
                ))
            };
            config.ca_certificate(authorities(path).map_err(unreadable)?)
        }
        None => config.with_native_roots(),
    };
    endpoint.tls_config(config).map_err(|error| {
        server(format!("the encryption of the connection cannot be set up: {}", last(&error)))
    })
}

/// The certificates in a file.
fn authorities(path: &Path) -> Result<Certificate, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("the file has none in PEM form".to_owned()),
        Ok(_) => Ok(Certificate::from_pem(pem)),
        Err(error) => Err(error.to_string()),
    }
}

/// Why the server is not trusted, if that is the reason of the status. Another try does not help.
pub(crate) fn distrust(status: &Status) -> Option<String> {
    let error = tls_error(status.source()?)?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::InvalidMessage(_) => {
            "it does not encrypt its connections: write diptych:// if that is right".to_owned()
        }
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            format!("it encrypts in a way that this version does not know ({error})")
        }
        _ => return None,
    })
}

fn of_certificate(error: &CertificateError) -> String {
    let what = match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: connect by a name of the certificate"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it, or set the clock of this machine"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: set the clock of this machine"
        }
        // An authority of the same name, with another key, may be trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the issuer of its certificate is not trusted: give the certificate of that authority \
             as `RemoteOptions::authorities`"
        }
        CertificateError::Revoked => "its certificate was revoked: give it a new one",
        _ => "its certificate cannot be used",
    };
    format!("{what} ({error})")
}

/// The error of the library for encryption among the causes of this one. An error of input and
/// output keeps its cause inside.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(inner) = inner
            && let Some(found) = tls_error(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The last cause of an error, which says most.
fn last(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
