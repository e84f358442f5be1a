//! Certificates of servers, and the authorities that vouch for them.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Writes a certificate and its key of an authority that has this name.
pub(crate) fn issue(folder: &Path, name: &str) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join(format!("{name}.pem")), issuer.pem()).unwrap();
    fs::write(folder.join("certificate.new"), certificate.pem()).unwrap();
    fs::write(folder.join("key.new"), key.serialize_pem()).unwrap();
    issuer.pem()
}

/// Puts the new files in the place of those that the server has.
pub(crate) fn swap(folder: &Path) {
    for name in ["certificate", "key"] {
        fs::rename(folder.join(format!("{name}.new")), folder.join(format!("{name}.pem"))).unwrap();
    }
}
