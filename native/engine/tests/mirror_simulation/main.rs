//! A move in a simulated world: thousands of seeds, each a guest, a load, faults and crashes of its own.
//!
//! `VMSTORAGE_MIRROR_SEEDS=100000` runs more seeds, `VMSTORAGE_MIRROR_SEED=4711` exactly one (and prints its plan).

mod crashes;
mod disks;
mod guest;
mod oracle;
mod plan;
mod random;
mod work;
mod world;

use std::collections::BTreeMap;

use plan::Plan;
use vmstorage_engine::mirror::{EndReason, Phase};
use world::{End, World};

const SEEDS: u64 = 2500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn run(plan: Plan) -> Result<(World, End), String> {
    let mut world = World::new(plan)?;
    let end = world.run()?;
    Ok((world, end))
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
        let hung_records = plan.committed_hangs_us > 0;
        let result = std::panic::catch_unwind(|| run(plan));
        let (world, end) = match result {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => panic!("seed {seed}: {error}\nrun it alone: VMSTORAGE_MIRROR_SEED={seed}"),
            Err(_) => panic!("seed {seed}: the machine panicked"),
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
        assert!(
            patient || hung_records || world.longest_flush_us < guest_may_wait_us,
            "seed {seed}: the guest waited {} us for one flush",
            world.longest_flush_us
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

#[test]
fn a_mirror_converges_under_a_hot_spot_of_overlapping_writes_within_its_bound() {
    for seed in 0..20 {
        let hot = Plan { hot_permille: 1000, hot_grains: 40, write_grains_max: 12, ..Plan::calm(seed, vec![700, 300]) };
        // The bound is checked with every copy.
        let (world, end) = run(hot).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(end, End::Committed, "seed {seed}");
        let progress = world.progress.expect("a report");
        assert!(progress.bound_bytes.is_some() && progress.fallbacks == 0, "seed {seed}: {progress:?}");
    }
}

#[test]
fn a_mirror_to_a_target_ten_times_slower_than_the_source_converges_too() {
    for seed in 0..10 {
        let plan = Plan { target_delay_us: 2_000, write_grains_max: 4, ..Plan::calm(seed, vec![300, 300]) };
        let (world, end) = run(plan).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(end, End::Committed, "seed {seed}: {:?}", world.progress);
    }
}

#[test]
fn a_mirror_whose_target_hangs_for_10_s_keeps_no_guest_request_for_one() {
    let mut fallbacks = 0;
    for seed in 0..10 {
        let plan = Plan {
            production_limits: true,
            queue_depth: 4,
            step_us: 200,
            hangs: vec![(20_000 + seed * 8_000, 10_020_000 + seed * 8_000)],
            ..Plan::calm(seed, vec![160, 90])
        };
        let (world, end) = run(plan).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(end, End::Committed, "seed {seed}: {:?}", world.progress);
        let longest_us = world.longest_wait_us.max(world.longest_flush_us);
        assert!(longest_us < 1_000_000, "seed {seed}: {longest_us} us");
        let came_back = world.phases.windows(2).any(|pair| pair == [Phase::Copy, Phase::Mirror]);
        assert!(came_back, "seed {seed}: {:?}", world.phases);
        fallbacks += world.progress.map_or(0, |progress| progress.fallbacks);
    }
    assert!(fallbacks >= 5, "the hang has to hit mirroring in most runs: {fallbacks}");
}

#[test]
fn a_target_and_a_journal_that_hang_together_in_the_switch_hold_no_write_beyond_the_patience() {
    for seed in 0..20 {
        // The target hangs from the moment COMMITTED is asked for, the journal's disk far longer.
        let plan = Plan {
            window_hang_us: 120_000,
            committed_hangs_us: 500_000,
            step_us: 20,
            queue_depth: 4,
            ..Plan::calm(seed, vec![160, 90])
        };
        let patience_us = plan.limits().target_patience_us;
        let (world, end) = run(plan).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(matches!(end, End::Committed | End::Ended(_)), "seed {seed}: {end:?}");
        assert!(world.longest_wait_us < 3 * patience_us, "seed {seed}: a write waited {} us", world.longest_wait_us);
        assert!(world.longest_flush_us >= 400_000, "seed {seed}: a flush was answered before the journal was");
    }
}

#[test]
fn a_mirror_whose_target_never_answers_again_ends_and_leaves_the_guest_on_its_source() {
    for seed in 0..10 {
        let plan = Plan { hangs: vec![(5_000 + seed * 2_000, u64::MAX / 2)], ..Plan::calm(seed, vec![300]) };
        let (world, end) = run(plan).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let is_silent = matches!(end, End::Ended(EndReason::TargetSilent { .. }));
        assert!(is_silent || end == End::Committed, "seed {seed}: {end:?}");
        let longest_us = world.longest_wait_us.max(world.longest_flush_us);
        assert!(longest_us < 200_000, "seed {seed}: {longest_us} us");
    }
}
