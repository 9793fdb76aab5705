//! TLS for the web listener: the operator's certificate, or one of our own that looks like
//! a host's that nobody gave one. Ours follows from the installation's secret, so that it is
//! the same after every start.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::config::CanaryConfig;
use crate::db::Db;
use crate::model::Stamp;
use crate::persona::{Asked, Persona};

/// Draws for a host that signed its certificate itself, as most do.
const TRIES: u32 = 64;

/// Makes what accepts TLS connections.
///
/// # Errors
/// When the files cannot be read or do not fit each other.
pub(super) async fn acceptor(config: &CanaryConfig, db: &Db) -> anyhow::Result<TlsAcceptor> {
    let (chain, key) = match &config.tls_files {
        Some((cert, key)) => read(cert, key)?,
        None => own(db).await?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context(
            "the TLS certificate does not fit its key; check DECNET_CANARY_TLS_CERT and DECNET_CANARY_TLS_KEY",
        )?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(cert: &Path, key: &Path) -> anyhow::Result<Pair> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| {
            let path = cert.display();
            format!("reading the certificate {path}; DECNET_CANARY_TLS_CERT names a PEM file that this user may read")
        })?;
    anyhow::ensure!(
        !chain.is_empty(),
        "{} holds no certificate; DECNET_CANARY_TLS_CERT takes a PEM file",
        cert.display()
    );
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| {
        let path = key.display();
        format!("reading the private key {path}; DECNET_CANARY_TLS_KEY names a PEM file that this user may read")
    })?;
    Ok((chain, key))
}

async fn own(db: &Db) -> anyhow::Result<Pair> {
    let now = Stamp::now();
    let secret = db.installation_secret(rand::random(), now).await?;
    let asked = Asked {
        distro: Some("debian"),
        ..Asked::default()
    };
    // Days are drawn from this moment, not from today's: the certificate stays the same.
    let made = Stamp(1_775_000_000_000_000);
    // Not of the deckies' company: nothing links the listener to them.
    let mut hash = Sha256::new();
    hash.update(b"canary listener v1\0");
    hash.update(&secret);
    let secret: [u8; 32] = hash.finalize().into();
    let draw = |n: u32| Persona::derive(&secret, &format!("listener {n}"), &asked, made);
    let signs_itself = |persona: &Persona| !persona.certificate_is_of_the_company();
    let persona = (0..TRIES).map(draw).find(signs_itself);
    let persona = persona.unwrap_or_else(|| draw(TRIES));
    // An RSA key takes a moment.
    let certificate = tokio::task::spawn_blocking(move || persona.certificate())
        .await
        .context("making a certificate")?;
    let key = PrivateKeyDer::try_from(certificate.key)
        .map_err(|error| anyhow::anyhow!("making a certificate's key: {error}"))?;
    Ok((vec![CertificateDer::from(certificate.der)], key))
}
