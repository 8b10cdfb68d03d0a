//! What the scenarios about the life of a Postern run on: an ingress, a back end, and the certificates of both sides.

use std::path::{Path, PathBuf};

use crate::check::Broken;
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::client::Tls;
use crate::stack::credentials::Credentials;
use crate::stack::echo::Echo;
use crate::stack::ingress::{Ingress, IngressKind};
use crate::stack::make_folder;
use crate::stack::postern::{Postern, PosternOptions};

/// Where Posterns can be started.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) ingress: Ingress,
    /// The back end, in this process.
    echo: Echo,
    pub(super) credentials: Credentials,
    /// Trusts the certificate for clients.
    pub(super) tls: Tls,
    folder: PathBuf,
}

impl Site {
    /// Starts ingress and back end under `folder`.
    pub(super) async fn start(folder: &Path) -> Result<Self, Broken> {
        let place = folder.join("certs");
        let credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
        let echo = Echo::start(None).await?;
        let kind = IngressKind::Nginx;
        let ingress = Ingress::start(kind, folder, &credentials, true, echo.address()).await?;
        Ok(Self {
            ingress,
            echo,
            tls: Tls::trusting(&credentials.public_ca)?,
            credentials,
            folder: folder.to_owned(),
        })
    }

    /// Starts another ingress in front of the same back end.
    pub(super) async fn another_ingress(&self, name: &str) -> Result<Ingress, Broken> {
        let (kind, backend) = (IngressKind::Nginx, self.echo.address());
        let folder = self.place(name);
        make_folder(&folder)?;
        Ok(Ingress::start(kind, &folder, &self.credentials, true, backend).await?)
    }

    /// A Postern in front of the ingress, with these variables.
    pub(super) fn options(&self, variables: &[(&str, &str)]) -> PosternOptions {
        let options = PosternOptions::new(self.ingress.address());
        variables
            .iter()
            .fold(options, |options, (name, value)| options.with(name, value))
    }

    /// The folder of a part.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a Postern and waits until it is ready.
    pub(super) async fn postern(
        &self,
        name: &str,
        options: &PosternOptions,
    ) -> Result<Postern, Broken> {
        Ok(Postern::start(&self.place(name), &self.credentials, options).await?)
    }
}
