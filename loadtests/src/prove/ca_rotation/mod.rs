//! The internal authority is replaced end to end while customers work: Postern's side and the ingress's.
//!
//! In this order, as nobody may be shown what it does not trust yet, nor lose whom it still needs: both sides trust
//! the new authority beside the old one; the ingress's certificate, then Postern's identity are of the new one; both
//! sides drop the old one.

mod ingress;
mod vault;

use std::time::Duration;

use postern_certs::dev_ca::DevCa;

use super::fleet::Fleet;
use super::{Proof, Run, Running, Scenario};
use crate::check::Broken;
use crate::stack::StackError;
use crate::stack::credentials::Credentials;
use crate::stack::vault::Vault;
use ingress::IngressSide;
use vault::VaultSide;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ca-rotation",
    promise: "The internal authority is replaced on both sides without one failed request, and in no other order than a safe one.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

// Limit: between two steps, several uploads long; or so that an upload spans several steps.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_QUICK: Duration = Duration::from_secs(1);

const POSTERNS: usize = 2;

async fn prove(run: Run) -> Result<Proof, Broken> {
    let new = &DevCa::new("Postern development next internal CA").map_err(StackError::from)?;
    let none = |_: &Vault, _: &Credentials| Ok(());
    let (fleet, ()) = Fleet::start(&run.folder, POSTERNS, none).await?;
    let old = &fleet.credentials.internal;
    let ingress = IngressSide::new(&fleet, &run.folder.join("probes"), [old, new])?;
    let vault = VaultSide::new(&fleet);

    let mut proof = Proof::default();
    let traffic = fleet.traffic();
    let pause = if run.quick { PAUSE_QUICK } else { PAUSE };
    let mut step = async |claim: &str, done: Result<String, Broken>| {
        proof.row(claim, done);
        // Customers work on under what is now.
        tokio::time::sleep(pause).await;
    };
    let done = vault.untrusted_is_refused(new).await;
    step(
        "an identity of the new authority is refused while nobody trusts it",
        done,
    )
    .await;

    let done = vault.trusts(new).await;
    step("Postern trusts both authorities", done).await;
    let done = ingress.trusts(&[old, new], [true, true]).await;
    step("the ingress trusts both", done).await;
    let done = ingress.shows(new).await;
    step("the ingress's certificate is of the new one", done).await;

    let done = vault.needed_is_kept().await;
    step(
        "the old authority is not dropped while Postern's identity is of it",
        done,
    )
    .await;
    let done = vault.shows(new).await;
    step("Postern's identity is of the new one", done).await;
    let done = ingress.trusts(&[new], [false, true]).await;
    step("the ingress drops the old one", done).await;
    let done = vault.drops(old).await;
    step("Postern drops the old one", done).await;

    traffic.stop().await.tell(&mut proof);
    Ok(proof)
}
