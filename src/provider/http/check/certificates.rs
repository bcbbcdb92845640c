//! What a person wants to know of a chain of certificates, and which of them is at fault.

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

use super::connection::Place;
use crate::protocol::Certificate;
use crate::provider::check::Fault;

const CLOCK: &str =
    "whoever runs the server has to renew it; if it is good elsewhere, look at the clock of this machine";

/// A certificate that could be read, with its validity in seconds since 1970.
pub struct Read {
    /// What is shown of it.
    pub shown: Certificate,
    begin: i64,
    end: i64,
}

/// Reads a chain. What is no certificate is left out: the handshake has an opinion of that already.
pub fn read(chain: &[CertificateDer<'_>]) -> Vec<Read> {
    chain.iter().filter_map(|der| read_one(der)).collect()
}

fn read_one(der: &[u8]) -> Option<Read> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(Read {
        shown: Certificate {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names(&certificate),
            not_before: time(&validity.not_before),
            not_after: time(&validity.not_after),
        },
        begin: validity.not_before.timestamp(),
        end: validity.not_after.timestamp(),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    names.collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        _ => None,
    }
}

fn time(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    format!(
        "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z",
        u8::from(month)
    )
}

/// Which certificate was refused, why, and what to do.
pub fn fault(error: &CertificateError, chain: &[Read], now: UnixTime, target: &Place) -> Fault {
    let host = &target.host;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let Some(own) = chain.first() else {
        return Fault::new(
            format!("the server at {target} sent no certificate"),
            "is it a TLS server?",
        );
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let old = chain.iter().find(|certificate| certificate.end < now).unwrap_or(own);
            let Certificate { subject, not_after, .. } = &old.shown;
            Fault::new(format!("the certificate of `{subject}` expired on {not_after}"), CLOCK)
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let new = chain.iter().find(|certificate| certificate.begin > now).unwrap_or(own);
            let Certificate {
                subject, not_before, ..
            } = &new.shown;
            Fault::new(
                format!("the certificate of `{subject}` is not valid before {not_before}"),
                CLOCK,
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = match own.shown.names.as_slice() {
                [] => format!("`{}`", own.shown.subject),
                names => names
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            Fault::new(
                format!("the server's certificate is for {names}, and not for `{host}`"),
                "`base_url` has to name the host as its certificate does; if it does, something else answers in its place",
            )
        }
        CertificateError::UnknownIssuer => unknown(chain, own),
        other => Fault::new(
            format!("the certificate of `{}` is refused: {other}", own.shown.subject),
            "whoever runs the server has to mend it",
        ),
    }
}

fn unknown(chain: &[Read], own: &Read) -> Fault {
    let last = chain.last().unwrap_or(own);
    let Certificate { subject, issuer, .. } = &last.shown;
    if chain.len() == 1 && subject == issuer {
        return Fault::new(
            format!("the server's certificate is signed by itself (`{subject}`), and nobody here knows it"),
            "if it is your own server, put the certificate into a file and name that as `ca_file`",
        );
    }
    Fault::new(
        format!("the chain of certificates ends at `{issuer}`, which is not trusted here"),
        "if that is your company's authority, or a proxy that opens connections, name its certificate's file as \
         `ca_file`; if the server is public, it may have left out a certificate of its chain",
    )
}
