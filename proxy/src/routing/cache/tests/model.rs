//! The cache against a model of it that has no table, no flights and no threads: the rules, and a list.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use postern_api::{HostName, LinkId, LinkState};
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::advance;

use super::{SECOND, account, host, link, options, route, settle};
use crate::routing::{Answer, Change, Lookup, LookupError, RouteCache, RouteSource};

#[derive(Debug, Clone)]
enum Step {
    /// The link asks.
    Get(u32),
    /// So many seconds pass.
    Pass(u64),
    /// Account routing changes its mind, and tells nobody.
    Decide(u32, Option<LinkState>, u8),
    /// It changes its mind, and applies that.
    Apply(u32, LinkState, u8),
    /// It fails from now on, or no longer.
    Fail(bool),
    /// It is known to be out of reach, or no longer.
    Down(bool),
    /// Everything may have changed.
    Gap,
    Confirm,
    /// A snapshot of so many seconds ago.
    Fill(u32, u8, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let link = 0..3_u32;
    let state = || {
        prop_oneof![
            3 => Just(LinkState::Approved),
            1 => Just(LinkState::Rejected),
        ]
    };
    let step = prop_oneof![
        8 => link.clone().prop_map(Step::Get),
        5 => prop_oneof![0..4_u64, 8..12_u64, 28..32_u64, 95..105_u64].prop_map(Step::Pass),
        3 => (link.clone(), prop::option::of(state()), any::<u8>())
            .prop_map(|(link, state, name)| Step::Decide(link, state, name)),
        3 => (link.clone(), state(), any::<u8>())
            .prop_map(|(link, state, name)| Step::Apply(link, state, name)),
        2 => any::<bool>().prop_map(Step::Fail),
        1 => any::<bool>().prop_map(Step::Down),
        1 => Just(Step::Gap),
        1 => Just(Step::Confirm),
        1 => (link, any::<u8>(), 0..120_u64)
            .prop_map(|(link, name, age)| Step::Fill(link, name, age)),
    ];
    prop::collection::vec(step, 1..60)
}

/// Account routing as the steps make it.
struct Scripted {
    decided: Mutex<HashMap<u32, Lookup>>,
    fails: Mutex<bool>,
    generation: watch::Sender<u64>,
}

impl Scripted {
    fn says(&self, link: u32) -> Option<Lookup> {
        let decided = self.decided.lock().unwrap();
        let answer = decided.get(&link).cloned().unwrap_or(Lookup::Unknown);
        (!*self.fails.lock().unwrap()).then_some(answer)
    }
}

#[async_trait]
impl RouteSource for Scripted {
    async fn lookup(&self, link: LinkId, _: &HostName) -> Result<Answer, LookupError> {
        let answer = self.says(link.get());
        answer.map(Answer::from).ok_or(LookupError::BrokenOff)
    }

    async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
        Ok(Lookup::Unknown.into())
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

/// What is remembered of one link. Seconds, of which the first thousand are before the beginning.
#[derive(Debug, Clone)]
struct Entry {
    answer: Lookup,
    at: u64,
    generation: u64,
    begun: u64,
    failed: Option<u64>,
}

#[derive(Default)]
struct Model {
    now: u64,
    generation: u64,
    confirmed: u64,
    down: bool,
    entries: HashMap<u32, Entry>,
}

impl Model {
    fn put(&mut self, link: u32, answer: Lookup, at: u64) {
        let entry = Entry {
            answer,
            at,
            generation: self.generation,
            begun: 0,
            failed: None,
        };
        self.entries.insert(link, entry);
    }

    /// The answer, or none for an error.
    fn get(&mut self, link: u32, says: Option<&Lookup>) -> Option<Lookup> {
        let (now, generation) = (self.now, self.generation);
        let Some(entry) = self.entries.get_mut(&link) else {
            return self.ask(link, says);
        };
        let age = now - entry.at;
        let current = entry.generation == generation;
        let known = if current {
            entry.at.max(self.confirmed)
        } else {
            entry.at
        };
        let held = entry.answer.clone();
        if !matches!(held, Lookup::Found(_)) {
            return if current && age < 5 {
                Some(held)
            } else {
                self.ask(link, says)
            };
        }
        if current && age < 10 {
            return Some(held);
        }
        let usable = now - known < 100;
        let hopeless = self.down || entry.failed == Some(generation);
        if (current && age < 30) || (usable && hopeless) {
            if now - entry.begun >= 1 {
                entry.begun = now;
                self.ask(link, says);
            }
            return Some(held);
        }
        self.ask(link, says).or(usable.then_some(held))
    }

    fn ask(&mut self, link: u32, says: Option<&Lookup>) -> Option<Lookup> {
        if let Some(answer) = says {
            self.put(link, answer.clone(), self.now);
        } else if let Some(entry) = self.entries.get_mut(&link) {
            entry.begun = self.now;
            entry.failed = Some(self.generation);
        }
        says.cloned()
    }
}

fn named(name: u8) -> Lookup {
    route(&name.to_string())
}

async fn play(steps: &[Step]) {
    let source = Arc::new(Scripted {
        decided: Mutex::default(),
        fails: Mutex::default(),
        generation: watch::Sender::new(0),
    });
    let asked: Arc<dyn RouteSource> = Arc::<Scripted>::clone(&source);
    let cache = RouteCache::new(asked, options());
    let mut model = Model {
        now: 1_000,
        ..Model::default()
    };
    for (number, step) in steps.iter().enumerate() {
        match step.clone() {
            Step::Get(id) => {
                let answer = cache.get(LinkId::new(id), &host()).await.ok();
                settle().await;
                let expected = model.get(id, source.says(id).as_ref());
                assert_eq!(answer, expected, "step {number}");
            }
            Step::Pass(seconds) => {
                advance(SECOND * u32::try_from(seconds).unwrap()).await;
                model.now += seconds;
            }
            Step::Decide(id, state, name) => {
                let answer = match state {
                    Some(LinkState::Approved) => named(name),
                    Some(state) => Lookup::NotApproved(state),
                    None => Lookup::Unknown,
                };
                source.decided.lock().unwrap().insert(id, answer);
            }
            Step::Apply(id, state, name) => {
                let change = Change {
                    account: Some(account(&name.to_string())),
                    removed_hosts: vec![],
                    links: vec![link(LinkId::new(id), state)],
                };
                cache.apply(&change);
                let answer = match state {
                    LinkState::Approved => named(name),
                    state => Lookup::NotApproved(state),
                };
                source.decided.lock().unwrap().insert(id, answer.clone());
                let held = model.entries.remove(&id);
                let route = matches!(
                    held,
                    Some(Entry {
                        answer: Lookup::Found(_),
                        ..
                    })
                );
                if state != LinkState::Approved || route {
                    model.put(id, answer, model.now);
                }
            }
            Step::Fail(fails) => *source.fails.lock().unwrap() = fails,
            Step::Down(down) => {
                cache.source_down(down);
                model.down = down;
            }
            Step::Gap => {
                source.generation.send_modify(|generation| *generation += 1);
                model.generation += 1;
            }
            Step::Confirm => {
                cache.confirm();
                model.confirmed = model.now;
            }
            Step::Fill(id, name, age) => {
                let links = [link(LinkId::new(id), LinkState::Approved)];
                let filled = account(&name.to_string());
                cache.fill(&filled, &links, SECOND * u32::try_from(age).unwrap());
                let at = model.now - age;
                let newer = model
                    .entries
                    .get(&id)
                    .is_some_and(|held| held.generation == model.generation && held.at >= at);
                if !newer {
                    model.put(id, named(name), at);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_cache_does_what_its_rules_say(steps in steps()) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(&steps));
    }
}
