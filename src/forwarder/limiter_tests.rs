//! The limiter against models of backends, in simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

/// A backend: how long it works on a call, and on how many at a time.
struct Model {
    slots: usize,
    work: Box<dyn FnMut(f64) -> f64>,
    free_at: Vec<f64>,
}

impl Model {
    fn new(slots: usize, work: impl FnMut(f64) -> f64 + 'static) -> Self {
        Self { slots, work: Box::new(work), free_at: Vec::new() }
    }

    /// When a call that comes at `now` is answered. Calls are worked on in the order in which they come, also those that
    /// nobody waits for any more.
    fn answers(&mut self, now: f64) -> f64 {
        let takes = (self.work)(now);
        self.free_at.retain(|at| *at > now);
        if self.free_at.len() < self.slots {
            self.free_at.push(now + takes);
            return now + takes;
        }
        let first =
            (0..self.free_at.len()).min_by(|a, b| self.free_at[*a].total_cmp(&self.free_at[*b])).unwrap();
        self.free_at[first] += takes;
        self.free_at[first]
    }
}

/// What became of a load.
#[derive(Debug, Default)]
struct Report {
    calls: usize,
    answered: usize,
    /// Time-outs that were not put down to the load.
    blamed: usize,
    took: f64,
    /// The limits of each forwarder at the end, and the highest ever.
    limits: Vec<usize>,
    highest: usize,
}

/// An order of events: at this many microseconds.
type Event = (Reverse<u64>, usize, usize, u64);

/// `chats` messages come at the times of `arrivals`, to several forwarders in turn.
fn run(model: &mut Model, limiters: &mut [Limiter], timeout: f64, arrivals: &[f64]) -> Report {
    let start = Instant::now();
    let at = |time: f64| start + Duration::from_secs_f64(time);
    let micros = |time: f64| u64::try_from(Duration::from_secs_f64(time).as_micros()).unwrap();
    let mut report = Report::default();
    let mut queues = vec![VecDeque::new(); limiters.len()];
    let mut under_way = vec![0_usize; limiters.len()];
    let mut calls: Vec<(Call, bool)> = Vec::new();
    // Call `usize::MAX` is an arrival.
    let mut events: BinaryHeap<Event> = BinaryHeap::new();
    for (number, arrival) in arrivals.iter().enumerate() {
        events.push((Reverse(micros(*arrival)), number % limiters.len(), usize::MAX, 0));
    }
    while let Some((Reverse(time), who, call, _)) = events.pop() {
        #[expect(clippy::cast_precision_loss, reason = "a simulation of hours")]
        let now = time as f64 / 1e6;
        if call == usize::MAX {
            queues[who].push_back(());
        } else {
            let (call, timed_out) = calls[call];
            under_way[who] -= 1;
            let ended = if timed_out { Ended::TimedOut } else { Ended::Answered };
            let overload = limiters[who].ended(&call, ended, under_way[who], at(now));
            report.took = now;
            if timed_out {
                report.blamed += usize::from(!overload);
                events.push((Reverse(time + 500_000), who, usize::MAX, 0));
            } else {
                report.answered += 1;
            }
        }
        while under_way[who] < limiters[who].limit() && queues[who].pop_front().is_some() {
            under_way[who] += 1;
            let full = under_way[who] >= limiters[who].limit();
            let call = limiters[who].begins(under_way[who], full, at(now));
            let answer = model.answers(now);
            let timed_out = answer - now > timeout;
            report.calls += 1;
            let ends = if timed_out { now + timeout } else { answer };
            events.push((Reverse(micros(ends)), who, calls.len(), 0));
            calls.push((call, timed_out));
            report.highest = report.highest.max(limiters[who].limit());
        }
    }
    report.limits = limiters.iter().map(Limiter::limit).collect();
    report
}

fn limiters(count: usize, max: usize, timeout: f64) -> Vec<Limiter> {
    (0..count).map(|_| Limiter::new(max, Duration::from_secs_f64(timeout))).collect()
}

/// Random numbers in 0..1, the same in every run.
fn random(mut seed: u64) -> impl FnMut() -> f64 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(seed >> 33).unwrap()) / f64::from(1_u32 << 31)
    }
}

/// An answer of a language model: most take some seconds, some up to twenty.
fn lognormal(seed: u64) -> impl FnMut(f64) -> f64 {
    let mut random = random(seed);
    move |_| {
        let (a, b) = (random().max(1e-9), random());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        (5.0_f64.ln() + 0.7 * normal).exp().clamp(1.0, 20.0)
    }
}

fn burst(people: usize) -> Vec<f64> {
    vec![0.0; people]
}

#[test]
fn one_slot_is_worked_off_at_its_own_pace_with_hardly_a_second_call() {
    for (work, timeout, people, max, allowed) in [
        (1.0, 120.0, 400, 256, 0),
        (0.15, 4.0, 150, 256, 0),
        (0.1, 4.0, 150, 256, 0),
        (0.02, 4.0, 500, 256, 0),
        (2.0, 120.0, 200, 256, 0),
        (1.0, 120.0, 400, 16, 0),
        // Eight at once are too many for this one, and nobody can know before it was tried.
        (1.0, 4.0, 100, 256, 20),
        (10.0, 120.0, 60, 256, 10),
    ] {
        let mut limiters = limiters(1, max, timeout);
        let report = run(&mut Model::new(1, move |_| work), &mut limiters, timeout, &burst(people));
        let case = format!("{work} s, time-out {timeout} s: {report:?}");
        assert_eq!(report.answered, people, "{case}");
        assert!(report.calls <= people + allowed, "{case}");
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let pace = work * (people + allowed) as f64;
        assert!(report.took <= pace * 1.1 + timeout, "{case}");
    }
}

#[test]
fn several_slots_are_all_used() {
    for slots in [4, 16, 64] {
        let mut random = random(7);
        let mut model = Model::new(slots, move |_| 0.5 + random());
        let people = 40 * slots;
        let report = run(&mut model, &mut limiters(1, 256, 120.0), 120.0, &burst(people));
        assert_eq!((report.answered, report.calls), (people, people), "{slots}: {report:?}");
        // 40 rounds of a second, and some time to find out.
        assert!(report.took < 80.0, "{slots} slots: {report:?}");
    }
}

#[test]
fn natural_variance_throttles_nobody() {
    for seed in 0..20 {
        let mut model = Model::new(usize::MAX, lognormal(seed));
        let report = run(&mut model, &mut limiters(1, 256, 120.0), 120.0, &burst(6_000));
        assert_eq!(report.calls, 6_000, "seed {seed}: {report:?}");
        assert!(report.highest == 256, "seed {seed}: {report:?}");
        // 6,000 calls of 6 s, 256 at a time, are 140 s.
        assert!(report.took < 400.0, "seed {seed}: {report:?}");
    }
}

#[test]
fn a_backend_that_answers_at_once_gets_everything() {
    let mut limiters = limiters(1, 256, 120.0);
    let report = run(&mut Model::new(usize::MAX, |_| 0.002), &mut limiters, 120.0, &burst(2_000));
    assert_eq!((report.calls, report.limits), (2_000, vec![256]));
}

/// After its start a forwarder finds out what a backend takes, and then it knows.
#[test]
fn a_second_burst_is_one_round_of_a_parallel_backend() {
    let arrivals: Vec<f64> = [0.0, 60.0].into_iter().flat_map(|at| vec![at; 5_000]).collect();
    for (work, cold) in [(2.0, 8.1), (5.0, 30.1)] {
        let mut limiters = limiters(1, 5_000, 120.0);
        let mut model = Model::new(usize::MAX, move |_| work);
        let report = run(&mut model, &mut limiters, 120.0, &arrivals[..5_000]);
        assert!(report.took < cold, "{work} s: {report:?}");
        let report = run(&mut model, &mut limiters, 120.0, &arrivals);
        assert!(report.took < 60.0 + work + 0.1, "{work} s: {report:?}");
    }
}

#[test]
fn several_forwarders_share_one_slot() {
    // The last ones have 8 calls each to begin with, and 27 are too many.
    for (count, work, timeout, allowed) in [(4, 1.0, 120.0, 0), (8, 1.0, 120.0, 0), (3, 0.15, 4.0, 60)] {
        let mut limiters = limiters(count, 256, timeout);
        let report = run(&mut Model::new(1, move |_| work), &mut limiters, timeout, &burst(400));
        assert_eq!(report.answered, 400, "{report:?}");
        assert!(report.calls <= 400 + allowed, "{count} forwarders: {report:?}");
    }
}

/// For a minute nobody is answered; a while later a quick backend has all calls again.
#[test]
fn a_backend_that_hangs_for_a_while_and_is_quick_again_gets_everything_again() {
    let timeout = 10.0;
    let mut model = Model::new(usize::MAX, |now| if (20.0..80.0).contains(&now) { 1_000.0 } else { 1.0 });
    let arrivals: Vec<f64> = (0..40_000).map(|number| f64::from(number) / 200.0).collect();
    let mut limiters = limiters(1, 256, timeout);
    let report = run(&mut model, &mut limiters, timeout, &arrivals);
    assert_eq!(report.answered, 40_000);
    assert!(report.limits[0] == 256, "{report:?}");
    // 200 s of messages, a minute of which is made up for at 256 a second.
    assert!(report.took < 420.0, "{report:?}");
}

/// One chat's messages always time out, the others' are answered.
#[test]
fn a_message_that_always_times_out_throttles_nobody() {
    let mut number = 0;
    let mut model = Model::new(usize::MAX, move |_| {
        number += 1;
        if number % 50 == 0 { 1_000.0 } else { 1.0 }
    });
    let report = run(&mut model, &mut limiters(1, 64, 10.0), 10.0, &burst(5_000));
    assert_eq!(report.answered, 5_000);
    assert!(report.blamed * 10 >= (report.calls - 5_000) * 8, "{report:?}");
    assert!(report.took < 160.0, "{report:?}");
}

#[test]
fn alone_it_is_the_calls_own_fault_and_a_low_limit_comes_back_after_a_calm() {
    let mut limiter = Limiter::new(256, Duration::from_secs(10));
    let mut now = Instant::now();
    let calls: Vec<_> = (1..=8).map(|at_once| limiter.begins(at_once, at_once == 8, now)).collect();
    now += Duration::from_secs(10);
    for (call, others) in calls.iter().zip((0..8).rev()) {
        assert!(limiter.ended(call, Ended::TimedOut, others, now));
    }
    assert_eq!(limiter.limit(), 4, "one cut for all of them");
    let call = limiter.begins(1, false, now);
    now += Duration::from_secs(10);
    assert!(!limiter.ended(&call, Ended::TimedOut, 0, now));
    assert_eq!(limiter.limit(), 4);
    now += CALM * 2;
    limiter.begins(1, false, now);
    assert_eq!(limiter.limit(), 8);
}
