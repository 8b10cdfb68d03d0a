//! A real DICOM server behind the ingress: Orthanc with its `DICOMweb` plug-in.
//!
//! It speaks plain HTTP on the loopback interface, asks for no credentials and keeps everything under its
//! folder. Its DICOM (DIMSE) listener is off.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Child, StackError, free_address, make_folder, write_file};

/// Path under which QIDO-RS, WADO-RS and STOW-RS are found.
pub const DICOM_WEB_ROOT: &str = "/dicom-web";

/// Where Debian and Ubuntu install the plug-in, by release.
const PLUGINS: [&str; 3] = [
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
    "/usr/lib/orthanc/plugins/libOrthancDicomWeb.so",
    "/usr/lib/orthanc/libOrthancDicomWeb.so",
];

/// A running Orthanc.
#[derive(Debug)]
pub struct Orthanc {
    child: Child,
    address: SocketAddr,
}

impl Orthanc {
    /// Starts Orthanc with an empty store under `folder`, on `listen` or else a free port of the loopback
    /// interface, and waits until it listens; it does so only after the plug-in is ready.
    pub async fn start(folder: &Path, listen: Option<SocketAddr>) -> Result<Self, StackError> {
        let address = match listen {
            Some(address) => address,
            None => free_address()?,
        };
        make_folder(&folder.join("store"))?;
        let path = folder.join("orthanc.json");
        write_file(&path, configuration(address, folder, &plugin()).to_string())?;
        let mut command = Command::new(program());
        command.arg(&path).current_dir(folder);
        let mut child = Child::spawn("orthanc", command, folder)?;
        child.wait_for_port(address).await?;
        Ok(Self { child, address })
    }

    /// Where it speaks HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of `DICOMweb` for a client that goes there directly.
    pub fn url(&self) -> String {
        format!("http://{}{DICOM_WEB_ROOT}", self.address)
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

fn configuration(address: SocketAddr, folder: &Path, plugin: &Path) -> serde_json::Value {
    let store = folder.join("store");
    json!({
        "Name": "postern-stack",
        "HttpPort": address.port(),
        "DicomServerEnabled": false,
        "RemoteAccessAllowed": true,
        "AuthenticationEnabled": false,
        "StorageDirectory": store,
        "IndexDirectory": store,
        "Plugins": [plugin],
        // The same study may be stored over and over.
        "OverwriteInstances": true,
        // It ends idle connections after one second without a word, which an ingress that pools them would
        // now and then notice too late.
        "KeepAlive": false,
        // The bytes on the wire are the bytes that were stored, and Content-Length is their number.
        "HttpCompressionEnabled": false,
        "DicomWeb": {
            "Enable": true,
            "Root": format!("{DICOM_WEB_ROOT}/"),
            "EnableWado": false,
            // The scheme of the URLs that it puts into its answers.
            "Ssl": true,
        },
    })
}

fn plugin() -> PathBuf {
    let found = PLUGINS.into_iter().find(|path| Path::new(path).exists());
    // With none there, Orthanc says in its log which file it misses.
    PathBuf::from(found.unwrap_or(PLUGINS[0]))
}

fn program() -> &'static str {
    // Debian installs it where only root's PATH looks.
    let usual = "/usr/sbin/Orthanc";
    if Path::new(usual).exists() {
        usual
    } else {
        "Orthanc"
    }
}
