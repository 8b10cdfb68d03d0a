//! Upgrades that must be refused, and leave everything as it was.

use super::process::{Process, Program};
use crate::check::{Broken, expect};
use crate::stack::child::READY_TIMEOUT;
use crate::stack::postern::Postern;
use crate::stack::{Deadline, free_address, write_file};

/// What is wrong with what lies there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refused {
    /// The program ends at once.
    Fails,
    /// It runs and does nothing.
    Hangs,
    /// It is the right one, and no ingress answers where its configuration says.
    NeverReady,
    /// It is the right one, and the configuration has a key that there is not.
    BadConfiguration,
}

impl Refused {
    pub(super) const ALL: &[Self] = &[
        Self::Fails,
        Self::Hangs,
        Self::NeverReady,
        Self::BadConfiguration,
    ];
    /// Those that one has to wait for but once.
    pub(super) const QUICK: &[Self] = &[Self::Fails, Self::NeverReady, Self::BadConfiguration];

    pub(super) const fn claim(self) -> &'static str {
        match self {
            Self::Fails => "a program that fails is refused",
            Self::Hangs => "a program that does nothing is refused",
            Self::NeverReady => "a process that does not become ready is refused",
            Self::BadConfiguration => "a configuration that is no good is refused",
        }
    }

    /// Tries it, and puts everything in order again. Tells the reason that Postern gives.
    pub(super) async fn prove(
        self,
        postern: &mut Postern,
        program: &Program,
    ) -> Result<String, Broken> {
        let before = Process::of(postern);
        let refusals = [("outcome", "refused")];
        let count = async |postern: &Postern| {
            let metrics = postern.metrics().await?;
            Ok::<_, Broken>(metrics.sum("postern_process_upgrades_total", &refusals))
        };
        let counted = count(postern).await?;
        let good = std::fs::read_to_string(postern.config())?;
        let pid = program.path().with_extension("pid");
        match self {
            Self::Fails => drop(program.replace_by("exit 1")?),
            Self::Hangs => {
                let script = format!("echo $$ > {}; exec sleep 600", pid.display());
                program.replace_by(&script)?;
            }
            Self::NeverReady => {
                program.replace()?;
                let nobody = format!("endpoints = [\"{}\"]", free_address()?);
                let bad = good.lines().map(|line| match line {
                    line if line.starts_with("endpoints = ") => &nobody,
                    line => line,
                });
                put(postern, &bad.collect::<Vec<_>>().join("\n"))?;
            }
            Self::BadConfiguration => {
                program.replace()?;
                put(postern, &format!("nonsense = true\n{good}"))?;
            }
        }
        let reason = postern.upgrade_refused().await;
        put(postern, &good)?;
        let reason = reason?;
        expect(
            Process::of(postern) == before && before.is_running(),
            || "another process serves".into(),
        )?;
        expect(postern.is_ready().await, || {
            "it is not ready any more".into()
        })?;
        let more = count(postern).await? - counted;
        expect((more - 1.0).abs() < 0.5, || format!("counted {more} times"))?;
        if let Self::Hangs = self {
            let started = std::fs::read_to_string(&pid)?;
            let started = started.trim().parse().map(Process::new);
            let gone = async || match &started {
                Ok(process) if process.is_running() => None,
                _ => Some(()),
            };
            let gone = Deadline::after(READY_TIMEOUT).poll(gone).await;
            expect(gone.is_some(), || "what was started still runs".into())?;
        }
        Ok(reason)
    }
}

/// Writes the configuration anew, by one rename.
fn put(postern: &Postern, text: &str) -> Result<(), Broken> {
    let new = postern.config().with_extension("new");
    write_file(&new, text)?;
    Ok(std::fs::rename(&new, postern.config())?)
}
