//! Certificates of a TCP connection: the server's, and with an authority named the clients' too, as
//! `dockerd --tls` and `dockerd --tlsverify` have them.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_rustls::TlsAcceptor;

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of those who sign clients' certificates; without them everybody gets in.
    pub authority: Option<PathBuf>,
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
    /// What takes connections in. With an authority named, a client without a certificate of it is
    /// refused.
    ///
    /// # Errors
    /// [`TlsError`] naming the file that is not right.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair = |source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = match &self.authority {
            Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::File {
            what: "a private key",
            path: self.key.clone(),
            source,
        })?;
        let mut config =
            builder.with_single_cert(certificates(&self.certificate)?, key).map_err(pair)?;
        // Clients that know HTTP/2 would choose it otherwise, and there is no hijacking in it.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What refuses clients whose certificates are not of this authority.
fn verifier(
    path: &PathBuf,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Authority {
        path: path.clone(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| failed(error.into()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| failed(error.into()))
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
            authority: Some(path.into()),
            certificate: "/dev/null".into(),
            key: "/dev/null".into(),
        };
        let refused = |path| files(path).acceptor().err().unwrap().to_string();
        assert_eq!(refused("/nowhere/ca.pem"), "cannot read certificates from /nowhere/ca.pem");
        assert_eq!(refused("/dev/null"), "there is no certificate in /dev/null");
    }
}
