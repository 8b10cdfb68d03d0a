//! How long each case takes, by Criterion.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod scene;

use std::time::Duration;

use criterion::{BatchSize, Criterion};
use scene::Harness;

// Inputs and outputs that are alive at a time: few enough for the first cache, many enough that reading the clock
// twice for all of them does not count.
const BATCH: u64 = 128;

impl Harness for Criterion {
    fn case<S, I, O>(
        &mut self,
        name: &str,
        scene: impl Fn() -> S,
        prepare: impl Fn(&S) -> I,
        run: impl Fn(&S, &mut I) -> O,
    ) {
        let mut made = None;
        self.bench_function(name, |bencher| {
            let scene = made.get_or_insert_with(&scene);
            bencher.iter_batched_ref(
                || prepare(scene),
                |input| run(scene, input),
                BatchSize::NumIterations(BATCH),
            );
        });
    }
}

fn main() {
    // As Criterion itself tells a measurement from a try.
    let measure = std::env::args().any(|argument| argument == "--bench");
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    scene::all(&mut criterion, scene::sizes(measure));
    criterion.final_summary();
}
