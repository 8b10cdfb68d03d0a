//! The calls, through the Azure SDK.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::Response;
use azure_core::http::pager::{Page, Pager};
use azure_security_keyvault_certificates::models as certificates;
use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions};
use azure_security_keyvault_keys::models as keys;
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use azure_security_keyvault_secrets::models as secrets;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use futures_util::StreamExt as _;
use postern_certs::Parts;
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::contents::{self, ContentsError};
use super::convert::{Described, checked, lacking, policy, secret_version, time, version};
use super::error::{SetupError, VaultError};
use super::identity::Identity;
use super::{
    NewCertificate, NewSecret, Pending, Secret, SecretVersion, SigningAlgorithm, VaultOptions,
    Version, wire,
};

/// One vault through one identity. Clones share its connections and its token.
///
/// A name that is no Key Vault object name (1 to 127 letters, digits and hyphens) is [`VaultError::NotFound`].
#[derive(Clone)]
pub struct Vault(Arc<Clients>);

struct Clients {
    host: String,
    certificates: CertificateClient,
    secrets: SecretClient,
    keys: KeyClient,
}

impl Vault {
    /// Sets the vault's clients up. Sends nothing.
    pub fn new(options: &VaultOptions, identity: &Identity) -> Result<Self, SetupError> {
        let url = options.checked()?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let client_options = wire::vault_options(options, identity)?;
        let credential = || -> Arc<dyn TokenCredential> { Arc::new(identity.clone()) };
        let verify = Some(options.verify_challenge);
        let refused = |_| SetupError::Url(options.url.clone());
        Ok(Self(Arc::new(Clients {
            certificates: CertificateClient::new(
                url.as_str(),
                credential(),
                Some(CertificateClientOptions {
                    client_options: client_options.clone(),
                    verify_challenge_resource: verify,
                    ..CertificateClientOptions::default()
                }),
            )
            .map_err(refused)?,
            secrets: SecretClient::new(
                url.as_str(),
                credential(),
                Some(SecretClientOptions {
                    client_options: client_options.clone(),
                    verify_challenge_resource: verify,
                    ..SecretClientOptions::default()
                }),
            )
            .map_err(refused)?,
            keys: KeyClient::new(
                url.as_str(),
                credential(),
                Some(KeyClientOptions {
                    client_options,
                    verify_challenge_resource: verify,
                    ..KeyClientOptions::default()
                }),
            )
            .map_err(refused)?,
            host,
        })))
    }

    /// The vault's host name.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The newest enabled version of a certificate. One request; only if the newest version of all is disabled, the
    /// versions are listed. [`VaultError::Disabled`]: there are versions, and none is enabled.
    pub async fn newest(&self, certificate: &str) -> Result<Version, VaultError> {
        let newest = self.get(certificate, None).await?;
        if newest.enabled {
            return Ok(newest.version);
        }
        self.newest_listed(certificate).await
    }

    /// The same with its public part. One request more only if the newest version of all is disabled.
    pub async fn newest_certificate(
        &self,
        certificate: &str,
    ) -> Result<(Version, CertificateDer<'static>), VaultError> {
        let newest = self.get(certificate, None).await?;
        if newest.enabled {
            return newest.with_certificate();
        }
        let newest = self.newest_listed(certificate).await?;
        self.certificate(certificate, &newest.id).await
    }

    /// One version of a certificate with its public part.
    pub async fn certificate(
        &self,
        certificate: &str,
        version: &str,
    ) -> Result<(Version, CertificateDer<'static>), VaultError> {
        let found = self.get(certificate, Some(version)).await?;
        if !found.enabled {
            return Err(VaultError::Disabled);
        }
        found.with_certificate()
    }

    /// The public certificates of all versions that are enabled and not expired at `now` (Unix seconds), newest
    /// first, at most [`ENABLED_VERSIONS_MAX`](Self::ENABLED_VERSIONS_MAX): the trust set of a CA certificate.
    pub async fn enabled(
        &self,
        certificate: &str,
        now: i64,
    ) -> Result<Vec<(Version, CertificateDer<'static>)>, VaultError> {
        let mut enabled = Vec::new();
        for version in self.enabled_versions(certificate, now).await? {
            match self.certificate(certificate, &version.id).await {
                Ok(found) => enabled.push(found),
                // Disabled or deleted since it was listed.
                Err(VaultError::Disabled | VaultError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(enabled)
    }

    /// The same versions without their certificates, in one request a page.
    pub async fn enabled_versions(
        &self,
        certificate: &str,
        now: i64,
    ) -> Result<Vec<Version>, VaultError> {
        let versions = self.versions(certificate).await?.into_iter();
        let open = versions.filter(|version| version.not_after.is_none_or(|end| now <= end));
        Ok(open.take(Self::ENABLED_VERSIONS_MAX).collect())
    }

    /// Key and chain of one version of a certificate, from the secret of its name.
    pub async fn identity(&self, certificate: &str, version: &str) -> Result<Parts, VaultError> {
        let (value, content_type) = self.secret_value(certificate, version, None).await?;
        let unpacked = contents::parts(content_type.as_deref(), &value);
        // Key Vault exports some PKCS#12 with no password instead of an empty one, which is not the same (RFC 7292
        // appendix B.2) and which our parser does not do. It can be asked to convert.
        if unpacked.as_ref().err() == Some(&ContentsError::NotPkcs12) {
            let pem = Some(secrets::ContentType::Pem);
            match self.secret_value(certificate, version, pem).await {
                Ok((value, content_type)) if content_type.as_deref() == Some(contents::PEM) => {
                    let unpacked = contents::parts(content_type.as_deref(), &value);
                    return unpacked.map_err(VaultError::Contents);
                }
                // It cannot be asked, or not for this.
                Ok(_) | Err(VaultError::Rejected { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        unpacked.map_err(VaultError::Contents)
    }

    /// Key and chain of the newest version of a certificate, and its name in the vault. One request: for who has
    /// none yet. [`VaultError::Disabled`]: it is disabled, and an older one may not be.
    pub async fn newest_identity(&self, certificate: &str) -> Result<(String, Parts), VaultError> {
        let secret = self.newest_secret(certificate).await?;
        let parts = match contents::parts(secret.content_type.as_deref(), &secret.value) {
            Err(ContentsError::NotPkcs12) => self.identity(certificate, &secret.id).await?,
            parts => parts.map_err(VaultError::Contents)?,
        };
        Ok((secret.id, parts))
    }

    /// The enabled versions of a secret, newest first, without their values.
    pub async fn secret_versions(&self, name: &str) -> Result<Vec<SecretVersion>, VaultError> {
        let name = checked(name)?;
        let options = secrets::SecretClientListSecretPropertiesVersionsOptions::default();
        let pager = self
            .0
            .secrets
            .list_secret_properties_versions(name, Some(options))?;
        let all = listed(pager, |page| page.value).await?;
        let enabled = all.into_iter().filter_map(|properties| {
            let attributes = properties.attributes?;
            (attributes.enabled != Some(false)).then_some((properties.id?, attributes))
        });
        let mut versions = enabled
            .map(|(id, attributes)| secret_version(&id, &attributes))
            .collect::<Result<Vec<_>, _>>()?;
        if versions.is_empty() {
            return Err(VaultError::NotFound);
        }
        versions.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        Ok(versions)
    }

    /// The newest version of a secret. One request. [`VaultError::Disabled`]: it is disabled.
    pub async fn newest_secret(&self, name: &str) -> Result<Secret, VaultError> {
        let call = self.0.secrets.get_secret(checked(name)?, None);
        let model = in_time(call).await?.into_model()?;
        let (id, attributes) = model
            .id
            .zip(model.attributes)
            .ok_or_else(|| lacking("id"))?;
        let value = model.value.ok_or_else(|| lacking("value"))?;
        let SecretVersion {
            id,
            created,
            not_before,
            expires,
        } = secret_version(&id, &attributes)?;
        Ok(Secret {
            id,
            value: Zeroizing::new(value),
            content_type: model.content_type,
            created,
            not_before,
            expires,
        })
    }

    /// One version of a secret.
    pub async fn secret(&self, name: &str, version: &SecretVersion) -> Result<Secret, VaultError> {
        let (value, content_type) = self.secret_value(name, &version.id, None).await?;
        Ok(Secret {
            id: version.id.clone(),
            value,
            content_type,
            created: version.created,
            not_before: version.not_before,
            expires: version.expires,
        })
    }

    /// The versions of a secret that are enabled and not expired at `now` (Unix seconds), newest first, at most
    /// [`ENABLED_VERSIONS_MAX`](Self::ENABLED_VERSIONS_MAX). As many requests as versions, and one.
    pub async fn secrets(&self, name: &str, now: i64) -> Result<Vec<Secret>, VaultError> {
        let versions = self.secret_versions(name).await?.into_iter();
        let open = versions.filter(|version| version.expires.is_none_or(|end| now < end));
        let mut found = Vec::new();
        for version in open.take(Self::ENABLED_VERSIONS_MAX) {
            match self.secret(name, &version).await {
                Ok(secret) => found.push(secret),
                // Disabled or deleted since it was listed.
                Err(VaultError::Disabled | VaultError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Adds a version to a secret, or makes the secret.
    pub async fn set_secret(&self, name: &str, new: &NewSecret<'_>) -> Result<(), VaultError> {
        let name = checked(name)?;
        let parameters = secrets::SetSecretParameters {
            value: Some(new.value.to_owned()),
            content_type: Some(new.content_type.to_owned()),
            secret_attributes: Some(secrets::SecretAttributes {
                enabled: Some(true),
                not_before: Some(time(new.not_before)?),
                expires: Some(time(new.expires)?),
                ..secrets::SecretAttributes::default()
            }),
            ..secrets::SetSecretParameters::default()
        };
        let call = self
            .0
            .secrets
            .set_secret(name, parameters.try_into()?, None);
        in_time(call).await.map(drop)
    }

    /// Starts the creation of a version that an issuer outside the vault will sign.
    /// [`VaultError::Conflict`]: one is under way already.
    pub async fn create(
        &self,
        certificate: &str,
        new: &NewCertificate,
    ) -> Result<Pending, VaultError> {
        let name = checked(certificate)?;
        let parameters = certificates::CreateCertificateParameters {
            certificate_policy: Some(policy(new)),
            ..certificates::CreateCertificateParameters::default()
        };
        let body = parameters.try_into()?;
        let mut poller = self
            .0
            .certificates
            .begin_create_certificate(name, body, None)?;
        // The first step starts it and says how far it is. It waits for us: polling on would not end.
        let started = in_time(async {
            let step = poller.next().await;
            step.unwrap_or_else(|| Err(azure_core::error::ErrorKind::DataConversion.into_error()))
        });
        started.await?.into_model()?.try_into()
    }

    /// The creation that is under way, or the last one. [`VaultError::NotFound`]: none.
    pub async fn pending(&self, certificate: &str) -> Result<Pending, VaultError> {
        let name = checked(certificate)?;
        let call = self.0.certificates.get_certificate_operation(name, None);
        in_time(call).await?.into_model()?.try_into()
    }

    /// Takes back the creation that is under way.
    pub async fn cancel(&self, certificate: &str) -> Result<(), VaultError> {
        let name = checked(certificate)?;
        let call = self.0.certificates.delete_certificate_operation(name, None);
        in_time(call).await.map(drop)
    }

    /// Ends the creation that is under way with the signed certificate and what is above it, leaf first.
    pub async fn merge(
        &self,
        certificate: &str,
        chain: &[CertificateDer<'_>],
    ) -> Result<Version, VaultError> {
        let name = checked(certificate)?;
        let parameters = certificates::MergeCertificateParameters {
            x509_certificates: Some(chain.iter().map(|der| der.to_vec()).collect()),
            ..certificates::MergeCertificateParameters::default()
        };
        let call = self
            .0
            .certificates
            .merge_certificate(name, parameters.try_into()?, None);
        Ok(Described::try_from(in_time(call).await?.into_model()?)?.version)
    }

    /// Signs a digest with one version of a key. ECDSA signatures are r and s, each as long as the curve's order.
    pub async fn sign(
        &self,
        key: &str,
        version: &str,
        algorithm: SigningAlgorithm,
        digest: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let name = checked(key)?;
        let parameters = keys::SignParameters {
            algorithm: Some(match algorithm {
                SigningAlgorithm::Es256 => keys::SignatureAlgorithm::Es256,
                SigningAlgorithm::Es384 => keys::SignatureAlgorithm::Es384,
                SigningAlgorithm::Rs256 => keys::SignatureAlgorithm::Rs256,
            }),
            value: Some(digest.to_vec()),
        };
        let options = keys::KeyClientSignOptions {
            key_version: Some(checked(version)?.to_owned()),
            ..keys::KeyClientSignOptions::default()
        };
        let call = self
            .0
            .keys
            .sign(name, parameters.try_into()?, Some(options));
        let signed = in_time(call).await?.into_model()?;
        signed.result.ok_or_else(|| lacking("signature"))
    }

    async fn get(&self, certificate: &str, version: Option<&str>) -> Result<Described, VaultError> {
        let name = checked(certificate)?;
        let options = certificates::CertificateClientGetCertificateOptions {
            certificate_version: version.map(checked).transpose()?.map(str::to_owned),
            ..certificates::CertificateClientGetCertificateOptions::default()
        };
        let call = self.0.certificates.get_certificate(name, Some(options));
        in_time(call).await?.into_model()?.try_into()
    }

    async fn newest_listed(&self, certificate: &str) -> Result<Version, VaultError> {
        let newest = self.versions(certificate).await?.into_iter().next();
        newest.ok_or(VaultError::Disabled)
    }

    /// The enabled versions of a certificate, newest first.
    async fn versions(&self, certificate: &str) -> Result<Vec<Version>, VaultError> {
        let name = checked(certificate)?;
        let pager = self
            .0
            .certificates
            .list_certificate_properties_versions(name, None)?;
        let all = listed(pager, |page| page.value).await?;
        let enabled = all.into_iter().filter_map(|properties| {
            let attributes = properties.attributes?;
            let id = properties.id?;
            (attributes.enabled != Some(false)).then_some((
                id,
                attributes,
                properties.x509_thumbprint,
            ))
        });
        let mut versions = enabled
            .map(|(id, attributes, thumbprint)| version(&id, &attributes, thumbprint.as_deref()))
            .collect::<Result<Vec<_>, _>>()?;
        versions.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        Ok(versions)
    }

    async fn secret_value(
        &self,
        name: &str,
        version: &str,
        out_content_type: Option<secrets::ContentType>,
    ) -> Result<(Zeroizing<String>, Option<String>), VaultError> {
        let name = checked(name)?;
        let options = secrets::SecretClientGetSecretOptions {
            secret_version: Some(checked(version)?.to_owned()),
            out_content_type,
            ..secrets::SecretClientGetSecretOptions::default()
        };
        let call = self.0.secrets.get_secret(name, Some(options));
        let secret = in_time(call).await?.into_model()?;
        let value = secret.value.ok_or_else(|| lacking("value"))?;
        Ok((Zeroizing::new(value), secret.content_type))
    }
}

impl Vault {
    /// How many versions [`enabled`](Self::enabled) and [`secrets`](Self::secrets) fetch. The newest count.
    // Limit: a CA has two during its rotation; ticket keys overlap three times or four.
    pub const ENABLED_VERSIONS_MAX: usize = 16;
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vault").field(&self.0.host).finish()
    }
}

/// All items of a listing, which the service gives in no order that means anything. `items`: those of a page.
async fn listed<P, T>(pager: Pager<P>, items: fn(P) -> Vec<T>) -> Result<Vec<T>, VaultError>
where
    P: DeserializeOwned + Send,
    Response<P>: Page,
{
    let all = in_time(async {
        let mut all = Vec::new();
        let mut pages = std::pin::pin!(pager.into_pages().take(PAGES_MAX + 1));
        let mut count = 0;
        while let Some(page) = pages.next().await {
            all.extend(items(page?.into_model()?));
            count += 1;
        }
        Ok((count <= PAGES_MAX).then_some(all))
    });
    all.await?.ok_or_else(|| {
        VaultError::Malformed(format!(
            "the versions fill more than {PAGES_MAX} pages; go on under another name"
        ))
    })
}

/// Bounds a call as a whole: its requests, and those of the identity.
async fn in_time<T>(call: impl Future<Output = azure_core::Result<T>>) -> Result<T, VaultError> {
    let done = tokio::time::timeout(CALL_TIMEOUT, call).await;
    Ok(done.map_err(|_| VaultError::TimedOut)??)
}

// Limit: 72 s that the SDK gives a busy instance metadata service, and a request of 20 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(100);
// Limit: 25 versions a page, thirteen years of a version every twelve hours.
const PAGES_MAX: usize = 400;
