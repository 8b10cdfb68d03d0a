//! The cases, and the parts of the data plane that they need.

mod cache;
mod request;
mod wire;

/// The allocator of the data plane.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Someone who measures.
pub trait Harness {
    /// Measures `run`. What it works on is made before: the scene once, and only if this case is wanted; an input for
    /// each run.
    fn case<S, I, O>(
        &mut self,
        name: &str,
        scene: impl Fn() -> S,
        prepare: impl Fn(&S) -> I,
        run: impl Fn(&S, &mut I) -> O,
    );
}

/// Every case, with route caches of these sizes.
pub fn all(harness: &mut impl Harness, routes: [usize; 2]) {
    wire::cases(harness);
    request::cases(harness);
    for routes in routes {
        cache::cases(harness, routes);
    }
}

/// How many routes the caches hold: when it is measured, and when it is only tried, by a build without optimisation.
pub fn sizes(measure: bool) -> [usize; 2] {
    if measure {
        [1_000, 1_000_000]
    } else {
        [100, 1_000]
    }
}
