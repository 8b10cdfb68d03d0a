//! The development certificates of one stack, in folders as Postern and the ingress read them.
//!
//! Two authorities: a public-like one for the names that clients ask for, and the internal one for the
//! mutual TLS between Postern and the ingress. Never for production: keys lie unencrypted in a folder that
//! is thrown away with the stack.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::{StackError, make_folder, write_file};

/// Common name in our client certificate, as the ingress sees it (`CN=…`).
pub const CLIENT_NAME: &str = "postern.internal.example";

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Where the certificates and keys of one stack lie.
///
/// A credential folder has `tls.crt` (leaf first), `tls.key` and, for a trust folder, `ca.crt`.
#[derive(Debug)]
pub struct Credentials {
    /// `tls.crt` and `tls.key` for the names that clients ask for.
    pub private: PathBuf,
    /// `tls.crt` and `tls.key` that Postern shows to the ingress.
    pub client: PathBuf,
    /// `ca.crt`: whom Postern trusts to be the ingress, and the ingress to be Postern.
    pub trust: PathBuf,
    /// `tls.crt`, `tls.key` and `ca.crt` of the ingress.
    pub ingress: PathBuf,
    /// A client certificate and key of an authority that the ingress does not know.
    pub stranger: PathBuf,
    /// PEM file with the authority that a client needs to trust.
    pub public_ca: PathBuf,
}

impl Credentials {
    /// Makes new authorities and all certificates under `folder`.
    ///
    /// `hosts` are the names (wildcards allowed) in the certificate for clients, `ingress_name` the one in
    /// the certificate of the ingress.
    pub fn create(folder: &Path, hosts: &[&str], ingress_name: &str) -> Result<Self, StackError> {
        let public = authority("Postern development public CA")?;
        let internal = authority("Postern development internal CA")?;
        let unknown = authority("Postern development unknown CA")?;
        let names = Self {
            private: folder.join("private"),
            client: folder.join("client"),
            trust: folder.join("trust"),
            ingress: folder.join("ingress"),
            stranger: folder.join("stranger"),
            public_ca: folder.join("public-ca.crt"),
        };
        for path in [
            &names.private,
            &names.client,
            &names.trust,
            &names.ingress,
            &names.stranger,
        ] {
            make_folder(path)?;
        }
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        issue(&public, &names.private, hosts, server.clone())?;
        issue(&internal, &names.ingress, &[ingress_name], server)?;
        issue(&internal, &names.client, &[CLIENT_NAME], client.clone())?;
        issue(&unknown, &names.stranger, &[CLIENT_NAME], client)?;
        write_file(&names.trust.join("ca.crt"), internal.pem())?;
        write_file(&names.ingress.join("ca.crt"), internal.pem())?;
        write_file(&names.public_ca, public.pem())?;
        Ok(names)
    }
}

fn authority(name: &str) -> Result<Authority, StackError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn issue(
    authority: &Authority,
    folder: &Path,
    names: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> Result<(), StackError> {
    let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(owned)?;
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    write_file(&folder.join("tls.crt"), certificate.pem())?;
    let path = folder.join("tls.key");
    write_file(&path, key.serialize_pem())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(|source| {
        StackError::File {
            action: "protect",
            path,
            source,
        }
    })
}
