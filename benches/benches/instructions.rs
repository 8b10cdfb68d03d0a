//! How many instructions each case takes, by valgrind's callgrind.
//!
//! ```text
//! instructions [--bench] [FILTER]       every case whose name contains FILTER, each in a valgrind of its own
//! instructions --count RUNS [NAME]      one case or all of them, to be run by valgrind
//! ```
//!
//! Only what happens below [`counted_by_callgrind`] counts. Without `--bench`, as `cargo test` runs it, all cases
//! are tried once, in one valgrind, with fewer routes, and those that must not allocate are seen not to.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are its output")]

mod scene;

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use scene::Harness;

// Instructions of a run differ a little, as hash tables have secret seeds; this many average it out.
const RUNS: u32 = 200;
const TRY: &str = "--try";

// An answer from the route cache allocates nothing; the last shows that it would be seen.
const ALLOCATES: [(&str, bool); 4] = [
    ("cache/hit/100", false),
    ("cache/hit_busy/100", false),
    ("cache/negative/100", false),
    ("cache/stampede/100", true),
];
// What the allocator's own function is called by.
const ALLOCATION: &str = "GlobalAlloc>::alloc";

/// Collects the names of all cases.
#[derive(Default)]
struct Names(Vec<String>);

impl Harness for Names {
    fn case<S, I, O>(
        &mut self,
        name: &str,
        _: impl Fn() -> S,
        _: impl Fn(&S) -> I,
        _: impl Fn(&S, &mut I) -> O,
    ) {
        self.0.push(name.to_owned());
    }
}

/// Runs one case, or all of them.
struct Count<'a> {
    name: Option<&'a str>,
    runs: u32,
}

impl Harness for Count<'_> {
    fn case<S, I, O>(
        &mut self,
        name: &str,
        scene: impl Fn() -> S,
        prepare: impl Fn(&S) -> I,
        run: impl Fn(&S, &mut I) -> O,
    ) {
        if self.name.is_some_and(|only| only != name) {
            return;
        }
        let scene = scene();
        // What is done once in a thread's life is done here, uncounted.
        drop(black_box(run(&scene, &mut prepare(&scene))));
        for _ in 0..self.runs {
            let mut input = prepare(&scene);
            drop(counted_by_callgrind(&run, &scene, &mut input));
        }
    }
}

/// The function that callgrind knows by its name. It has no closure, whose name would contain this one.
#[inline(never)]
fn counted_by_callgrind<S, I, O>(run: &impl Fn(&S, &mut I) -> O, scene: &S, input: &mut I) -> O {
    black_box(run(black_box(scene), black_box(input)))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut texts = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with("--"));
    if has("--count") {
        let runs = texts.next().unwrap().parse().unwrap();
        let name = texts.next();
        scene::all(&mut Count { name, runs }, scene::sizes(!has(TRY)));
        return ExitCode::SUCCESS;
    }
    let outcome = if has("--bench") {
        measure(texts.next().unwrap_or_default())
    } else {
        valgrind(&["1", TRY])
            .map(|total| println!("every case once: {total} instructions"))
            .and_then(|()| see_allocations())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the instructions of each case whose name contains `filter`, each counted in a process of its own.
fn measure(filter: &str) -> Result<(), String> {
    let mut names = Names::default();
    scene::all(&mut names, scene::sizes(true));
    for name in names.0.iter().filter(|name| name.contains(filter)) {
        let total = valgrind(&[&RUNS.to_string(), name])?;
        println!("{name:<40} {:>12} instructions", total / u64::from(RUNS));
    }
    Ok(())
}

/// Compares which cases allocate with which may.
fn see_allocations() -> Result<(), String> {
    let profile = std::env::temp_dir().join(format!("callgrind.{}", std::process::id()));
    for (name, expected) in ALLOCATES {
        valgrind_into(&profile, &["1", TRY, name])?;
        let calls = std::fs::read_to_string(&profile).map_err(|error| error.to_string())?;
        if calls.contains(ALLOCATION) != expected {
            return Err(format!(
                "{name}: allocates: {}, expected: {expected}",
                !expected
            ));
        }
    }
    std::fs::remove_file(&profile).map_err(|error| error.to_string())
}

/// Counts what this program does when it is called with `--count` and these arguments.
fn valgrind(arguments: &[&str]) -> Result<u64, String> {
    valgrind_into(Path::new("/dev/null"), arguments)
}

/// The same, with every function that was called in `profile`.
fn valgrind_into(profile: &Path, arguments: &[&str]) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg("--toggle-collect=*counted_by_callgrind*")
        .arg(std::env::current_exe().map_err(|error| error.to_string())?)
        .arg("--count")
        .args(arguments)
        .output()
        .map_err(|error| format!("valgrind cannot be run (deploy/local/install): {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // `==4711== Collected : 123456`
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    match collected.and_then(|(_, number)| number.trim().parse().ok()) {
        Some(total) if total > 0 && output.status.success() => Ok(total),
        _ => Err(format!("{}, nothing counted\n{said}", output.status)),
    }
}
