// SPDX-License-Identifier: GPL-2.0

//! The decisions of enbd, the same files that are compiled into `enbd.ko`, under a seeded schedule
//! of threads, servers, faults and time.
//!
//! Each seed is a run of its own: [shuttle] chooses at every use of a shared word, a lock or a
//! condition which thread goes on, and gives the random numbers too, so that a seed always does the
//! same. A run that goes wrong tells its seed; `enbd-sim --seed N --verbose` shows it again.
//!
//! [shuttle]: https://docs.rs/shuttle

mod blocks;
mod channel;
mod clock;
mod conn;
mod faults;
mod hosts;
mod ids;
mod keeper;
mod late;
mod life;
mod oracle;
mod pipe;
mod quiet;
mod remember;
mod request;
mod run;
mod scale;
mod server;
mod sick;
mod store;
mod stream;
mod sync;
mod table;
mod user;
mod wiring;
mod world;

#[path = "../../../rust/logic/mod.rs"]
#[allow(dead_code, unused_imports)] // The text of the status, for one, is of no use here.
mod logic;

use clap::Parser;
use run::Tally;
use scale::{Kind, Trouble};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, MaxSteps, Runner};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Runs a mirror under faults, and checks that nothing is lost.
#[derive(Parser)]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many steps of threads to do at least, in as many runs as that takes.
    #[arg(long, default_value_t = 1)]
    steps: u64,
    /// What is left out, for a mirror that is known not to survive it.
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Kind>,
    /// Tells what happens.
    #[arg(long)]
    verbose: bool,
}

static VERBOSE: AtomicBool = AtomicBool::new(false);

pub fn is_verbose() -> bool {
    VERBOSE.load(Relaxed)
}

/// Tells what happens, with the time, if that is wanted.
#[macro_export]
macro_rules! trace {
    ($world:expr, $($what:tt)*) => {
        // What is told is looked at in any case: a look at a shared word is a point where another
        // thread may go on, and a seed has to do the same if somebody watches.
        match format_args!($($what)*) {
            what if $crate::is_verbose() => println!("{:>8} ms  {what}", $world.clock.now_ms()),
            _ => {}
        }
    };
}

/// Steps after which a run counts as hung.
const HUNG: usize = 20_000_000;

fn run_seed(seed: u64, trouble: Trouble) -> Tally {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(HUNG);
    config.failure_persistence = shuttle::FailurePersistence::None;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let result = tally.clone();
    let scheduler = RandomScheduler::new_from_seed(seed, 1);
    Runner::new(scheduler, config).run(move || {
        *result.lock().unwrap() = run::run(trouble);
    });
    let tally = tally.lock().unwrap().clone();
    tally
}

fn main() {
    let options = Options::parse();
    VERBOSE.store(options.verbose, Relaxed);
    let trouble = Trouble::without(&options.without);
    let mut total = Tally::default();
    let mut seed = options.seed;
    while total.steps < options.steps {
        let Ok(tally) = std::panic::catch_unwind(|| run_seed(seed, trouble)) else {
            println!("FAIL seed {seed}; again: enbd-sim --seed {seed} --verbose");
            std::process::exit(1);
        };
        total.steps += tally.steps;
        total.lives += tally.lives;
        total.ms += tally.ms;
        total.resyncs += tally.resyncs;
        total.looked.moments += tally.looked.moments;
        total.looked.compared += tally.looked.compared;
        for (sum, n) in total.faults.iter_mut().zip(tally.faults) {
            *sum += n;
        }
        seed += 1;
    }
    println!(
        "PASS seeds {} to {}: {} steps, {} lives, {} s of the mirror's time, {} resyncs, {} quiet moments, \
         {} of them with several groups in sync",
        options.seed,
        seed - 1,
        total.steps,
        total.lives,
        total.ms / 1000,
        total.resyncs,
        total.looked.moments,
        total.looked.compared
    );
    for (fault, times) in faults::FAULTS.iter().zip(total.faults) {
        println!("    {fault:?}: {times} times");
    }
}
