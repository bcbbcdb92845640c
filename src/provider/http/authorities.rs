//! Certificates of authorities that are trusted besides the platform's.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Certificates from PEM files, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Authorities(Arc<[CertificateDer<'static>]>);

impl Authorities {
    /// Reads these files, each with one certificate or more. The error is a sentence that names the file.
    pub fn read<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Authorities, String> {
        let mut all = Vec::new();
        for file in files {
            let wrong = |problem: String| {
                let file = file.display();
                format!("expected `ca_file` to be a PEM file of certificates, found `{file}`, {problem}")
            };
            let bytes = std::fs::read(file).map_err(|error| wrong(format!("which cannot be read: {error}")))?;
            let found = certificates(&bytes).map_err(wrong)?;
            all.extend(found);
        }
        Ok(Authorities(all.into()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The certificates.
    pub fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }
}

/// Every certificate of a PEM text, each of which can be an authority's.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    // The parser's words may quote a file that is something else.
    let read = read.map_err(|_| "which is broken".to_owned())?;
    if read.is_empty() {
        return Err("which has no `BEGIN CERTIFICATE`".into());
    }
    for (index, certificate) in read.iter().enumerate() {
        let usable = RootCertStore::empty().add(certificate.clone());
        usable.map_err(|error| format!("whose certificate {} cannot be used: {error}", index + 1))?;
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        rcgen::generate_simple_self_signed(["x.test".to_owned()])
            .unwrap()
            .cert
            .pem()
    }

    #[test]
    fn every_certificate_of_every_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.pem"), dir.path().join("two.pem"));
        std::fs::write(&one, format!("a bundle of two\n{}\n{}", pem(), pem())).unwrap();
        std::fs::write(&two, pem()).unwrap();
        let authorities = Authorities::read([one.as_path(), two.as_path()]).unwrap();
        assert_eq!(authorities.iter().count(), 3);
        assert!(Authorities::read([]).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_file_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let broken = pem().replace("-----END CERTIFICATE-----", "");
        let other = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
        let rows = [
            ("secret", "which has no `BEGIN CERTIFICATE`"),
            (broken.as_str(), "which is broken"),
            (other, "whose certificate 1 cannot be used"),
        ];
        for (text, expected) in rows {
            let path = dir.path().join("ca.pem");
            std::fs::write(&path, text).unwrap();
            let problem = Authorities::read([path.as_path()]).unwrap_err();
            assert!(problem.contains(expected) && problem.contains("ca.pem"), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        let problem = Authorities::read([dir.path().join("none.pem").as_path()]).unwrap_err();
        assert!(problem.contains("cannot be read"), "{problem}");
    }
}
