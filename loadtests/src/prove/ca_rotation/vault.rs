//! Postern's side of a CA rotation, as the operator of the vault does it: versions that are added and disabled. All
//! else the sidecar does, or refuses.

use std::path::Path;

use postern_certs::Store;
use postern_certs::dev_ca::{DevCa, DevCaError, Issued};
use postern_control::testing::key_vault::{Contents, KeyVault};
use serde_json::Value;

use crate::check::{Broken, expect};
use crate::prove::fleet::Fleet;
use crate::prove::sign::Sign;
use crate::stack::StackError;
use crate::stack::credentials::CLIENT_NAME;
use crate::stack::vault::{AUTHORITY, CLIENT, copy};

/// The vault of a fleet.
pub(super) struct VaultSide<'a> {
    fleet: &'a Fleet,
    vault: &'a KeyVault,
}

impl<'a> VaultSide<'a> {
    pub(super) fn new(fleet: &'a Fleet) -> Self {
        Self {
            fleet,
            vault: fleet.vault.stand_in(),
        }
    }

    /// A next version of the authority is trusted beside the first.
    pub(super) async fn trusts(&self, new: &DevCa) -> Result<String, Broken> {
        let added = self.vault.add_ca(AUTHORITY, copy(new)?);
        added.map_err(StackError::from)?;
        Sign::trust(new)?.shown_by_all(self.fleet).await?;
        Ok("in use".to_owned())
    }

    /// The next version of our identity is of this authority.
    pub(super) async fn shows(&self, ca: &DevCa) -> Result<String, Broken> {
        let (issued, _) = self.add_identity(ca)?;
        Sign::client(&issued)?.shown_by_all(self.fleet).await?;
        Ok("seen by the ingress".to_owned())
    }

    /// The first version of the authority is trusted no longer.
    pub(super) async fn drops(&self, old: &DevCa) -> Result<String, Broken> {
        self.enable_first(false)?;
        Sign::no_trust(old)?.shown_by_all(self.fleet).await?;
        Ok("in use".to_owned())
    }

    /// An identity of an authority that is not trusted yet is put into the vault, and taken back.
    pub(super) async fn untrusted_is_refused(&self, new: &DevCa) -> Result<String, Broken> {
        let store = &self.fleet.credentials.client;
        let before = published(store)?;
        let (_, version) = self.add_identity(new)?;
        let sentence = self
            .refusal("client", "which is not in the published trust")
            .await?;
        is_unchanged(store, before)?;
        let taken_back = self.vault.set_enabled(CLIENT, Some(&version), false);
        taken_back.map_err(StackError::from)?;
        Ok(sentence)
    }

    /// The first version of the authority is disabled while our identity is of it, and enabled again.
    pub(super) async fn needed_is_kept(&self) -> Result<String, Broken> {
        let store = &self.fleet.credentials.trust;
        let before = published(store)?;
        self.enable_first(false)?;
        let sentence = self
            .refusal("trust", "which this trust no longer has")
            .await?;
        is_unchanged(store, before)?;
        self.enable_first(true)?;
        Ok(sentence)
    }

    fn enable_first(&self, enabled: bool) -> Result<(), Broken> {
        let first = Some(self.fleet.vault.authority());
        let done = self.vault.set_enabled(AUTHORITY, first, enabled);
        Ok(done.map_err(StackError::from)?)
    }

    fn add_identity(&self, ca: &DevCa) -> Result<(Issued, String), Broken> {
        let issued = ca.client(CLIENT_NAME).map_err(StackError::from)?;
        let added = self.vault.add_issued(CLIENT, &issued, Contents::default());
        Ok((issued, added.map_err(StackError::from)?))
    }
    /// Waits until the sidecar has logged a sentence with these words, and gives it back. The metric has to say so, too.
    async fn refusal(&self, certificate: &str, words: &str) -> Result<String, Broken> {
        let sentence = |line: &Value| {
            let texts = line.as_object()?.values().filter_map(Value::as_str);
            let mut found = texts.filter(|text| text.contains(words)).map(str::to_owned);
            found.next_back()
        };
        let log = self.fleet.sidecar.log();
        let line = log.wait_for(words, |line| sentence(line).is_some()).await?;
        let labels = [("certificate", certificate), ("reason", "wrong_order")];
        let metrics = self.fleet.sidecar.metrics().await?;
        let counted = metrics.sum("postern_control_refusals_total", &labels);
        expect(counted > 0.0, || {
            format!("no refusal {labels:?} was counted")
        })?;
        Ok(sentence(&line).unwrap_or_default())
    }
}

/// The generation that is published.
fn published(store: &Path) -> Result<u64, Broken> {
    let store = Store::open(store)
        .map_err(DevCaError::from)
        .map_err(StackError::from)?;
    Ok(store.current().map_or(0, |manifest| manifest.generation))
}

fn is_unchanged(store: &Path, before: u64) -> Result<(), Broken> {
    let now = published(store)?;
    expect(now == before, || {
        format!("generation {now} is published all the same")
    })
}
