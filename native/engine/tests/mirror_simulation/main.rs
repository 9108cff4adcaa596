//! A move in a simulated world: thousands of seeds, each a guest, a load, faults and crashes of its own.
//!
//! `VMSTORAGE_MIRROR_SEEDS=100000` runs more seeds, `VMSTORAGE_MIRROR_SEED=4711` exactly one (and prints its plan).

mod disks;
mod oracle;
mod plan;
mod random;
mod work;
mod world;

use std::collections::BTreeMap;

use plan::Plan;
use world::{End, World};

const SEEDS: u64 = 3000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn run(plan: Plan) -> (World, Result<End, String>) {
    match World::new(plan) {
        Ok(mut world) => {
            let end = world.run();
            (world, end)
        }
        Err(error) => panic!("the world could not be made: {error}"),
    }
}

#[test]
fn a_mirror_under_random_faults_and_crashes_never_loses_a_byte() {
    let seeds = match number("VMSTORAGE_MIRROR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VMSTORAGE_MIRROR_SEEDS").unwrap_or(SEEDS),
    };
    let single = seeds.end - seeds.start == 1;
    let mut ends = BTreeMap::<String, u64>::new();
    let mut kills = 0;
    for seed in seeds {
        let plan = Plan::from_seed(seed);
        if single {
            println!("{plan:#?}");
        }
        let calm = plan.is_calm();
        let guest_may_wait_us = 8 * plan.limits().target_patience_us;
        let patient = plan.record_trouble_permille > 0;
        let result = std::panic::catch_unwind(|| run(plan));
        let (world, end) = match result {
            Ok(done) => done,
            Err(_) => panic!("seed {seed}: the machine panicked"),
        };
        let end = match end {
            Ok(end) => end,
            Err(error) => panic!("seed {seed}: {error}\nrun it alone: VMSTORAGE_MIRROR_SEED={seed}"),
        };
        assert!(
            !calm || matches!(end, End::Committed | End::KilledAfterCommit),
            "seed {seed}: a calm move ended {end:?}"
        );
        assert!(
            patient || world.longest_wait_us < guest_may_wait_us,
            "seed {seed}: the guest waited {} us for one request",
            world.longest_wait_us
        );
        kills += world.kills;
        let text = format!("{end:?}");
        *ends.entry(text.split(['(', '{']).take(2).collect::<Vec<_>>().join("(")).or_default() += 1;
        if single {
            println!("{end:?} {:#?}", world.progress);
        }
    }
    println!("{kills} kills, ends: {ends:#?}");
}
