//! The endpoints of a cluster at one moment, and the order in which they are tried.
//!
//! A set never changes but for who is up and who is down; when addresses change, another takes its place.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use postern_api::HostName;

// Limit: endpoints of a cluster; the configuration allows no more, and of more addresses the rest are left out.
// One bit each while one is chosen.
pub const ENDPOINTS_MAX: usize = u64::BITS as usize;

/// What the configuration names: where endpoints are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name to resolve, or an address.
    pub place: Place,
    /// Whether it is in our own zone, or zones are none of our business. Others are tried after those that are near.
    pub near: bool,
}

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// A name whose addresses are looked up, and the port.
    Name(HostName, u16),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self {
            place: Place::Address(address),
            near: true,
        }
    }
}

/// The endpoints of a cluster.
#[derive(Debug)]
pub struct Endpoints {
    /// The addresses of each target; none before its name was asked for.
    answers: Vec<Option<Vec<SocketAddr>>>,
    /// All of them once, the near ones first.
    all: Box<[Endpoint]>,
    /// One bit for each that is near.
    near: u64,
}

#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    down: AtomicBool,
}

impl Endpoints {
    /// Those whose address the configuration has, all presumed up.
    pub fn configured(targets: &[Target]) -> Self {
        let answer = |target: &Target| match target.place {
            Place::Address(address) => Some(vec![address]),
            Place::Name(..) => None,
        };
        Self::new(targets, targets.iter().map(answer).collect(), |_| false)
    }

    /// The same, but with these addresses of one of the targets. What was down stays down.
    pub fn with(&self, targets: &[Target], changed: usize, addresses: &[SocketAddr]) -> Self {
        let mut answers = self.answers.clone();
        if let Some(answer) = answers.get_mut(changed) {
            *answer = Some(addresses.to_vec());
        }
        Self::new(targets, answers, |address| self.is_down(address))
    }

    /// Those of other targets, with what is known already of the names that both have. What was down stays down.
    pub fn moved(&self, from: &[Target], to: &[Target]) -> Self {
        let answer = |target: &Target| match &target.place {
            Place::Address(address) => Some(vec![*address]),
            name @ Place::Name(..) => {
                let known = from.iter().position(|other| other.place == *name);
                self.answer(known?).map(<[_]>::to_vec)
            }
        };
        let answers = to.iter().map(answer).collect();
        Self::new(to, answers, |address| self.is_down(address))
    }

    fn new(
        targets: &[Target],
        answers: Vec<Option<Vec<SocketAddr>>>,
        is_down: impl Fn(SocketAddr) -> bool,
    ) -> Self {
        let of = |wanted: bool| {
            let targets = targets.iter().zip(&answers);
            targets
                .filter(move |(target, _)| target.near == wanted)
                .flat_map(|(_, answer)| answer.iter().flatten().copied())
        };
        let mut all: Vec<Endpoint> = Vec::new();
        let mut near = 0;
        for (address, is_near) in of(true)
            .map(|address| (address, true))
            .chain(of(false).map(|address| (address, false)))
        {
            if all.len() == ENDPOINTS_MAX || all.iter().any(|it| it.address == address) {
                continue;
            }
            near |= u64::from(is_near) << all.len();
            all.push(Endpoint {
                address,
                down: AtomicBool::new(is_down(address)),
            });
        }
        Self {
            answers,
            all: all.into(),
            near,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The addresses in the order in which to try them: near ones that are up, others that are up, near ones that are
    /// down, the rest. Each group begins with another one each `turn`.
    pub fn candidates(&self, turn: usize) -> impl Iterator<Item = SocketAddr> {
        // As they are when the search begins: one that fails meanwhile is not tried a second time.
        let down = self.all.iter().enumerate().fold(0, |bits, (n, endpoint)| {
            bits | (u64::from(endpoint.down.load(Ordering::Relaxed)) << n)
        });
        let all = u64::MAX.checked_shr(u64::BITS - u32::try_from(self.all.len()).unwrap_or(0));
        let (all, near) = (all.unwrap_or(0), self.near);
        let groups = [near & !down, all & !near & !down, near & down, !near & down];
        groups
            .into_iter()
            .flat_map(move |group| in_turn(group, turn))
            .filter_map(|n| self.all.get(n).map(|endpoint| endpoint.address))
    }

    /// Every address, and whether it is not known to be down.
    pub fn states(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let state =
            |endpoint: &Endpoint| (endpoint.address, !endpoint.down.load(Ordering::Relaxed));
        self.all.iter().map(state)
    }

    /// Whether the address is one of them.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.find(address).is_some()
    }

    /// The addresses of one of the targets, once it was asked for.
    pub fn answer(&self, target: usize) -> Option<&[SocketAddr]> {
        self.answers.get(target)?.as_deref()
    }

    /// Whether each name was asked for, with or without success.
    pub fn all_asked(&self) -> bool {
        self.answers.iter().all(Option::is_some)
    }

    /// Notes that the address is down or up. Whether that was news.
    pub fn mark(&self, address: SocketAddr, down: bool) -> bool {
        self.find(address)
            .is_some_and(|endpoint| endpoint.down.swap(down, Ordering::Relaxed) != down)
    }

    fn is_down(&self, address: SocketAddr) -> bool {
        self.find(address)
            .is_some_and(|endpoint| endpoint.down.load(Ordering::Relaxed))
    }

    fn find(&self, address: SocketAddr) -> Option<&Endpoint> {
        self.all.iter().find(|endpoint| endpoint.address == address)
    }
}

/// The numbers of the bits that are set, each once, beginning with another one each turn.
fn in_turn(bits: u64, turn: usize) -> impl Iterator<Item = usize> {
    let count = bits.count_ones() as usize;
    let skipped = turn.checked_rem(count).unwrap_or(0);
    ones(bits).cycle().skip(skipped).take(count)
}

fn ones(mut bits: u64) -> impl Iterator<Item = usize> + Clone {
    std::iter::from_fn(move || {
        let first = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str, near: bool) -> Target {
        let place = match text.parse() {
            Ok(address) => Place::Address(address),
            Err(_) => Place::Name(HostName::parse(text).unwrap(), 443),
        };
        Target { place, near }
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 443))
    }

    fn order(endpoints: &Endpoints, turn: usize) -> Vec<u8> {
        let last = |address: SocketAddr| match address.ip() {
            std::net::IpAddr::V4(four) => four.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        endpoints.candidates(turn).map(last).collect()
    }

    #[test]
    fn near_ones_come_first_and_down_ones_last() {
        let targets = [
            target("10.0.0.3:443", false),
            target("10.0.0.1:443", true),
            target("10.0.0.4:443", false),
            target("10.0.0.2:443", true),
        ];
        let endpoints = Endpoints::configured(&targets);
        assert_eq!(order(&endpoints, 0), [1, 2, 3, 4]);
        assert_eq!(order(&endpoints, 1), [2, 1, 4, 3]);
        assert!(endpoints.mark(address(1), true));
        assert!(!endpoints.mark(address(1), true));
        assert_eq!(order(&endpoints, 0), [2, 3, 4, 1]);
        endpoints.mark(address(2), true);
        assert_eq!(order(&endpoints, 0), [3, 4, 1, 2]);
        endpoints.mark(address(3), true);
        endpoints.mark(address(4), true);
        assert_eq!(order(&endpoints, 3), [2, 1, 4, 3]);
    }

    #[test]
    fn those_that_are_up_share_the_turns_of_one_that_is_down() {
        let targets = [1, 2, 3].map(|last| Target::from(address(last)));
        let endpoints = Endpoints::configured(&targets);
        endpoints.mark(address(2), true);
        let firsts: Vec<u8> = (0..4).map(|turn| order(&endpoints, turn)[0]).collect();
        assert_eq!(firsts, [1, 3, 1, 3]);
    }

    #[test]
    fn an_address_that_stays_keeps_its_state_when_others_change() {
        let targets = [target("10.0.0.9:443", true), target("a.example", true)];
        let endpoints = Endpoints::configured(&targets);
        assert_eq!(order(&endpoints, 0), [9]);
        assert!(!endpoints.all_asked());
        let endpoints = endpoints.with(&targets, 1, &[address(1), address(2)]);
        endpoints.mark(address(2), true);
        endpoints.mark(address(9), true);
        let endpoints = endpoints.with(&targets, 1, &[address(2), address(3)]);
        assert_eq!(order(&endpoints, 0), [3, 9, 2]);
        assert_eq!(endpoints.answer(1), Some(&[address(2), address(3)][..]));
        let to = [target("a.example", false), target("10.0.0.4:443", true)];
        let endpoints = endpoints.moved(&targets, &to);
        assert_eq!(order(&endpoints, 0), [4, 3, 2]);
        assert!(!endpoints.has(address(9)) && endpoints.all_asked());
    }

    #[test]
    fn there_are_never_more_than_the_limit_and_none_twice() {
        let targets = [target("a.example", false), target("10.0.0.200:443", true)];
        let endpoints = Endpoints::configured(&targets);
        let many: Vec<_> = (0..100).map(|n| address(n % 70)).collect();
        let endpoints = endpoints.with(&targets, 0, &many);
        assert_eq!(endpoints.len(), ENDPOINTS_MAX);
        let mut tried = order(&endpoints, 5);
        assert_eq!(tried[0], 200);
        tried.sort_unstable();
        tried.dedup();
        assert_eq!(tried.len(), ENDPOINTS_MAX);
        assert_eq!(order(&Endpoints::configured(&[]), 1), [0; 0]);
    }
}
