//! The rig: certificates, ingress, and every contender, running; and the rounds over them.

use std::path::{Path, PathBuf};

use super::CompareError;
use super::case::{ADDED_CPU, ADDED_P50, ADDED_P99, CPU, Case, P50, P99, RATE};
use super::cores::Cores;
use super::generator::{Figures, Generator};
use super::ingress::Ingress;
use super::page_cache;
use super::peer::{Contender, Installed, Job, Proxy, address};
use super::results::Results;
use crate::check::with_causes;
use crate::say;
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::credentials::Credentials;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    /// Connections to hold idle.
    pub(super) idle: u64,
    /// Connections that a proxy must be able to hold.
    pub(super) connections: u64,
}

/// Everything that runs. Proxies end before the ingress.
pub(super) struct Rig {
    plain: Vec<Proxy>,
    logging: Vec<Proxy>,
    programs: Vec<Installed>,
    ingress: Ingress,
    credentials: Credentials,
    cores: Cores,
    effort: Effort,
    folder: PathBuf,
    started: usize,
}

impl Rig {
    /// Starts the ingress, and each program once, or twice if `logging` is to be measured. One that cannot do
    /// the job is named in `results`.
    pub(super) async fn start(
        folder: &Path,
        programs: Vec<Installed>,
        cores: Cores,
        effort: Effort,
        logging: bool,
        results: &mut Results,
    ) -> Result<Self, CompareError> {
        let credentials =
            Credentials::create(&folder.join("certs"), &[CERTIFICATE_NAME], INGRESS_NAME)?;
        let ingress = Ingress::start(&folder.join("ingress"), &credentials, cores).await?;
        results.configured("ingress", &ingress.configuration);
        let mut rig = Self {
            plain: Vec::new(),
            logging: Vec::new(),
            programs: Vec::new(),
            ingress,
            credentials,
            cores,
            effort,
            folder: folder.to_owned(),
            started: 0,
        };
        for program in programs {
            let name = program.contender.name();
            let plain = match rig.proxy(&program, false).await {
                Ok(proxy) => proxy,
                Err(error) => {
                    let reason = with_causes(&error);
                    say(&format!("{name:<11} MISSING: {reason}"));
                    results.missing(name, &reason);
                    continue;
                }
            };
            results.configured(name, &plain.configuration);
            rig.plain.push(plain);
            if logging {
                let proxy = rig.proxy(&program, true).await?;
                rig.logging.push(proxy);
            }
            rig.programs.push(program);
        }
        Ok(rig)
    }

    /// Measures every case with every proxy, as often as there are rounds, a second each in turn. Each time, another
    /// one comes first.
    pub(super) async fn measure(
        &mut self,
        cases: &[Case],
        results: &mut Results,
    ) -> Result<(), CompareError> {
        let rate = if cases.contains(&Case::LatencyHalfLoad) {
            let rate = self.half_load().await?;
            results.half_load = Some(rate);
            rate
        } else {
            0.0
        };
        for round in 0..self.effort.rounds {
            for case in cases.iter().copied() {
                let direct = if case == Case::LatencyHalfLoad {
                    let load = self.load(case, rate);
                    let direct = self
                        .generator()
                        .directly(self.ingress.address, &load)
                        .await?;
                    results.direct.push(direct.clone());
                    Some(direct)
                } else {
                    None
                };
                let all = self.plain.len();
                for turn in 0..self.slices(case) * all {
                    let index = (turn + turn / all + round) % all;
                    let contender = self.plain[index].contender;
                    let outcome = self.one(case, index, rate, direct.as_ref()).await;
                    say(&line(round, case, contender, &outcome));
                    results.add(
                        case,
                        contender,
                        outcome.map_err(|error| with_causes(&error)),
                    );
                }
            }
        }
        Ok(())
    }

    async fn one(
        &mut self,
        case: Case,
        index: usize,
        rate: f64,
        direct: Option<&Figures>,
    ) -> Result<Figures, CompareError> {
        let load = self.load(case, rate);
        if case == Case::IdleMemory {
            // A fresh one: memory that an earlier case gave back to the allocator would hide the growth.
            let program = self.programs[index].clone();
            let fresh = self.proxy(&program, false).await?;
            let connections = self.effort.idle;
            return self.generator().idle(&fresh, connections, &load).await;
        }
        let mut figures = self.generator().through(&self.plain[index], &load).await?;
        if case == Case::AccessLog {
            let without = figures;
            page_cache::warm(&self.folder).map_err(CompareError::Proc)?;
            figures = self
                .generator()
                .through(&self.logging[index], &load)
                .await?;
            difference(&mut figures, &without, CPU.key, ADDED_CPU.key);
        }
        if let Some(direct) = direct {
            difference(&mut figures, direct, P50.key, ADDED_P50.key);
            difference(&mut figures, direct, P99.key, ADDED_P99.key);
        }
        Ok(figures)
    }

    /// Half of what the slowest proxy can bear.
    async fn half_load(&self) -> Result<f64, CompareError> {
        let mut slowest = f64::INFINITY;
        let load = self.load(Case::H1Small, 0.0);
        for proxy in &self.plain {
            let figures = self.generator().through(proxy, &load).await?;
            slowest = slowest.min(figures.get(RATE.key).copied().unwrap_or(0.0));
        }
        Ok((slowest / 2.0).max(1.0).floor())
    }

    /// In how many slices a round's seconds are measured.
    fn slices(&self, case: Case) -> usize {
        let whole = std::time::Duration::from_secs_f64(self.effort.seconds).as_secs();
        if case.sliced() {
            usize::try_from(whole).unwrap_or(usize::MAX).max(1)
        } else {
            1
        }
    }

    fn load(&self, case: Case, rate: f64) -> Vec<String> {
        let mut load = case.load();
        if case != Case::IdleMemory {
            let slices = u32::try_from(self.slices(case)).unwrap_or(u32::MAX);
            let seconds = self.effort.seconds / f64::from(slices);
            load.extend(["--seconds".to_owned(), seconds.to_string()]);
        }
        if case == Case::LatencyHalfLoad {
            load.extend(["--rate".to_owned(), rate.to_string()]);
        }
        load
    }

    fn generator(&self) -> Generator<'_> {
        Generator {
            folder: &self.folder,
            credentials: &self.credentials,
            cores: self.cores,
        }
    }

    async fn proxy(
        &mut self,
        program: &Installed,
        access_log: bool,
    ) -> Result<Proxy, CompareError> {
        self.started += 1;
        let folder = format!("{}-{}", program.contender.name(), self.started);
        let job = Job {
            folder: &self.folder.join(folder),
            listen: address()?,
            ingress: self.ingress.address,
            credentials: &self.credentials,
            access_log,
            connections: self.effort.connections,
        };
        Proxy::start(program, job, self.cores).await
    }
}

/// What `figures` have more of than `without`.
fn difference(figures: &mut Figures, without: &Figures, key: &str, name: &'static str) {
    if let (Some(with), Some(without)) = (figures.get(key), without.get(key)) {
        let added = with - without;
        figures.insert(name, added);
    }
}

fn line(
    round: usize,
    case: Case,
    contender: Contender,
    outcome: &Result<Figures, CompareError>,
) -> String {
    let (case_name, name) = (case.name(), contender.name());
    let start = format!("round {}  {case_name:<18} {name:<11}", round + 1);
    match outcome {
        Ok(figures) => {
            let shown = case.judged_by().iter().map(|metric| {
                let value = figures.get(metric.key).copied().unwrap_or(f64::NAN);
                format!("{value:>10.2} {}", metric.title)
            });
            let failed = figures.get("failed").copied().unwrap_or(0.0);
            let failed = if failed > 0.0 {
                format!("  ({failed} FAILED)")
            } else {
                String::new()
            };
            format!("{start}{}{failed}", shown.collect::<String>())
        }
        Err(error) => format!("{start} {}", with_causes(error)),
    }
}
