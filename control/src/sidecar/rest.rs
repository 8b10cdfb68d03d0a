//! When to look next: a pure function of now, what is published, how the last round ended, and chance.
//!
//! Promises: never earlier than the vault asks, and else never later than the interval; the more failures the later,
//! up to a bound; the nearer the end of what is published the earlier. The same moment for no two of a fleet: chance
//! spreads every rest over a part of it.

use std::time::Duration;

use super::options::RestOptions;

/// How the last round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It found what is published, or published what it found.
    Good,
    /// It did not.
    Failed {
        /// How many rounds in a row, this one included.
        rounds: u32,
        /// How long the vault wants to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
}

/// How long to rest at `now`, when what is published ends at `until` (Unix seconds). `chance` is from 0 to 1.
pub fn rest(
    options: &RestOptions,
    now: i64,
    until: Option<i64>,
    last: Last,
    chance: f64,
) -> Duration {
    let interval = interval(options, now, until);
    match last {
        Last::Good => between(interval.mul_f64(SHORTENED), interval, chance),
        Last::Failed {
            rounds,
            retry_after,
        } => {
            let backoff = backoff(options, rounds).min(interval);
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            if asked > backoff {
                // All who were asked to wait were asked at once.
                between(asked, asked.mul_f64(1.0 + ASKED_SPREAD), chance)
            } else {
                between(asked.max(backoff / 2), backoff, chance)
            }
        }
    }
}

/// When a first look of `own` requests is, from the start of the process, if looks of `earlier` requests come before
/// it: each has a stretch of its own, as long as its requests need.
pub fn start(options: &RestOptions, earlier: u32, own: u32, chance: f64) -> Duration {
    let one = options.start_spread / SPREAD_REQUESTS;
    let stretch = one.saturating_mul(own);
    one.saturating_mul(earlier)
        .saturating_add(stretch.mul_f64(part(chance)))
}

/// From the whole interval down to the shortest one, in proportion to what is left near the end.
fn interval(options: &RestOptions, now: i64, until: Option<i64>) -> Duration {
    let left = until.map_or(options.near_expiry, |until| {
        Duration::from_secs(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
    });
    if left >= options.near_expiry || options.near_expiry.is_zero() {
        return options.interval;
    }
    let share = left.as_secs_f64() / options.near_expiry.as_secs_f64();
    let shortened = options.interval.mul_f64(part(share));
    shortened.clamp(options.interval_min.min(options.interval), options.interval)
}

fn backoff(options: &RestOptions, rounds: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(rounds.saturating_sub(1));
    options
        .backoff_min
        .saturating_mul(doubled)
        .min(options.backoff_max)
}

fn between(shortest: Duration, longest: Duration, chance: f64) -> Duration {
    shortest + longest.saturating_sub(shortest).mul_f64(part(chance))
}

/// Whatever is no number from 0 to 1 becomes one.
const fn part(chance: f64) -> f64 {
    if chance > 0.0 { chance.min(1.0) } else { 0.0 }
}

/// So many requests a process are spread over `start_spread`.
const SPREAD_REQUESTS: u32 = 3;
/// A rest is at least this part of the interval.
const SHORTENED: f64 = 0.75;
/// What a vault asks for is exceeded by up to this part.
const ASKED_SPREAD: f64 = 0.5;
// Limit: Key Vault asks for seconds. An hour is longer than its longest outage that would still be "later".
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn good(left: Option<i64>, chance: f64) -> Duration {
        let until = left.map(|left| NOW + left);
        rest(&RestOptions::default(), NOW, until, Last::Good, chance)
    }

    fn failed(rounds: u32, retry_after: Option<u64>, chance: f64) -> Duration {
        let last = Last::Failed {
            rounds,
            retry_after: retry_after.map(Duration::from_secs),
        };
        rest(
            &RestOptions::default(),
            NOW,
            Some(NOW + 10_000_000),
            last,
            chance,
        )
    }

    #[test]
    fn a_good_round_rests_for_the_interval_or_up_to_a_quarter_less() {
        assert_eq!(good(None, 1.0), Duration::from_mins(10));
        assert_eq!(good(Some(10_000_000), 0.0), Duration::from_secs(450));
    }

    #[test]
    fn near_the_end_looks_become_more_frequent() {
        assert_eq!(good(Some(36 * 3600), 1.0), Duration::from_mins(5));
        assert_eq!(good(Some(60), 1.0), Duration::from_mins(1));
        assert_eq!(good(Some(-60), 1.0), Duration::from_mins(1));
    }

    #[test]
    fn failures_double_the_rest_up_to_a_bound() {
        let seconds: Vec<_> = (1..=11).map(|n| failed(n, None, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(failed(u32::MAX, None, 0.0), Duration::from_secs(150));
    }

    #[test]
    fn what_the_vault_asks_for_is_kept_and_exceeded_by_chance() {
        assert_eq!(failed(1, Some(20), 0.0), Duration::from_secs(20));
        assert_eq!(failed(1, Some(20), 1.0), Duration::from_secs(30));
        assert_eq!(failed(1, Some(1 << 40), 0.0), RETRY_AFTER_MAX);
    }

    #[test]
    fn first_looks_are_spread_one_certificate_after_the_other() {
        let options = RestOptions::default();
        assert_eq!(start(&options, 0, 2, 0.5), Duration::from_secs(15));
        assert_eq!(start(&options, 2, 3, 0.0), Duration::from_secs(30));
        assert_eq!(start(&options, 2, 3, 1.0), Duration::from_secs(75));
    }

    /// Trust, a client, a server, and ticket keys; of each, the requests of its first look are a second apart.
    #[test]
    fn a_hundred_sidecars_that_start_at_once_stay_under_20_requests_a_second() {
        let options = RestOptions::default();
        let mut random: u64 = 7;
        let mut chance = || {
            // The constants of Knuth's MMIX.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(random >> 32).unwrap()) / f64::from(u32::MAX)
        };
        let mut times = Vec::new();
        for _ in 0..100 {
            let mut earlier = 0;
            for own in [3, 2, 2, 5] {
                let at = start(&options, earlier, own, chance());
                times.extend((0..own).map(|n| at + Duration::from_secs(n.into())));
                earlier += own;
            }
        }
        times.sort_unstable();
        let within = |first: &Duration| {
            let second = *first..*first + Duration::from_secs(1);
            times.iter().filter(|at| second.contains(*at)).count()
        };
        let most = times.iter().map(within).max().unwrap();
        assert!(most < 20, "{most} requests in one second");
    }

    fn options() -> impl Strategy<Value = RestOptions> {
        let second = Duration::from_secs(1);
        (
            1..=86_400_u32,
            0..=2_592_000_u32,
            1..=86_400_u32,
            1..=600_u32,
            1..=86_400_u32,
        )
            .prop_map(move |(interval, near, least, backoff, most)| RestOptions {
                interval: second * interval,
                near_expiry: second * near,
                interval_min: second * least.min(interval),
                backoff_min: second * backoff.min(most),
                backoff_max: second * most,
                ..RestOptions::default()
            })
    }

    fn last() -> impl Strategy<Value = Last> {
        let asked = proptest::option::of((0..=7200_u64).prop_map(Duration::from_secs));
        prop_oneof![
            Just(Last::Good),
            (1..=u32::MAX, asked).prop_map(|(rounds, retry_after)| Last::Failed {
                rounds,
                retry_after
            }),
        ]
    }

    proptest! {
        #[test]
        fn never_earlier_than_asked_and_else_never_later_than_the_interval(
            options in options(), last in last(), left in proptest::option::of(-1_000_000_i64..10_000_000), chance in 0.0..=1.0,
        ) {
            let found = rest(&options, NOW, left.map(|left| NOW + left), last, chance);
            let asked = match last {
                Last::Failed { retry_after: Some(asked), .. } => asked.min(RETRY_AFTER_MAX),
                _ => Duration::ZERO,
            };
            prop_assert!(found >= asked);
            prop_assert!(found <= options.interval.max(asked.mul_f64(1.0 + ASKED_SPREAD)));
            prop_assert!(!found.is_zero());
        }

        #[test]
        fn the_nearer_the_end_the_earlier(
            options in options(), left in 0_i64..5_000_000, less in 0_i64..5_000_000, chance in 0.0..=1.0,
        ) {
            let at = |left| rest(&options, NOW, Some(NOW + left), Last::Good, chance);
            prop_assert!(at(left.min(less)) <= at(left.max(less)));
        }

        #[test]
        fn chance_spreads_every_rest(options in options(), last in last(), rounds in 0_i64..1) {
            let at = |chance| rest(&options, NOW + rounds, None, last, chance);
            prop_assert!(at(0.0) < at(0.5) && at(0.5) < at(1.0));
        }
    }
}
