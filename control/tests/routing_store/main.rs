//! A store whose processes are killed, find no space, or race: whatever was acknowledged is there, nothing is there by
//! half, and of two who have seen the same version one wins.
//!
//! This program is the other processes, too: called with a word and a path, it is a user of the store at the path.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what fails here fails the test; another process says what it has done"
)]

mod faults;
mod kills;
mod other;
mod races;
mod state;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [word, path, argument] if other::is_word(word) => other::run(word, path, argument),
        _ => {
            kills::whatever_was_acknowledged_outlasts_a_kill();
            faults::each_call_is_disturbed();
            races::one_of_two_processes_wins();
        }
    }
}
