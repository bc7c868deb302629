//! Certificates on both sides of a TCP connection, as `dockerd --tlsverify` has them.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of those who sign clients' certificates.
    pub authority: PathBuf,
    /// The server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
}

/// Why TLS is not served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it is named for.
    #[error("cannot read {what} from {}", path.display())]
    File {
        /// What it should have been.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file without a certificate in it.
    #[error("there is no certificate in {}", .0.display())]
    Empty(PathBuf),
    /// The authority's certificates cannot be used.
    #[error("cannot use the certificates of {} to verify clients", path.display())]
    Authority {
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not belong together, or one is of no use.
    #[error("cannot serve with certificate {} and key {}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The socket cannot be used.
    #[error("cannot use the socket")]
    Socket(#[source] io::Error),
}

impl TlsFiles {
    /// What takes connections in. A client without a certificate of the authority is refused.
    ///
    /// # Errors
    /// [`TlsError`] naming the file that is not right.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let authority = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Authority {
            path: self.authority.clone(),
            source,
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority)? {
            roots.add(certificate).map_err(|error| authority(error.into()))?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| authority(error.into()))?;
        let pair = |source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::File {
            what: "a private key",
            path: self.key.clone(),
            source,
        })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.certificate)?, key)
            .map_err(pair)?;
        // Clients that know HTTP/2 would choose it otherwise, and there is no hijacking in it.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { what: "certificates", path: path.clone(), source };
    let all = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    match all.is_empty() {
        true => Err(TlsError::Empty(path.clone())),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_right_is_named() {
        let files = |path: &str| TlsFiles {
            authority: path.into(),
            certificate: "/dev/null".into(),
            key: "/dev/null".into(),
        };
        let refused = |path| files(path).acceptor().err().unwrap().to_string();
        assert_eq!(refused("/nowhere/ca.pem"), "cannot read certificates from /nowhere/ca.pem");
        assert_eq!(refused("/dev/null"), "there is no certificate in /dev/null");
    }
}
