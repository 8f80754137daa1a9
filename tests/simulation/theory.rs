//! Theory against the whole instrument in a virtual world: closed forms within sampling error, and every single response
//! against the ideal path of its run.

use std::num::NonZeroU32;

use hairspring::analyze::queueing::{Deterministic, Markov, pathwise};
use hairspring::analyze::theory::Levels;
use hairspring::engine::sim::Service;
use hairspring::load::sample::Sample;
use hairspring::load::schedule::{Extent, Load, Rate};
use hairspring::load::time::Nanos;

use super::check::check;
use super::scenario::Scenario;
use super::stage::{self, Account, Sabotage};

const MS: u64 = 1_000_000;
/// One way through the network, as `Scenario::perfect` has it.
const LATENCY: Nanos = Nanos::from_micros(25);

fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn run(scenario: &Scenario) -> Account {
    let account = stage::run(scenario, Sabotage::None);
    check(scenario, &account);
    account
}

/// Measured requests in the order of their arrival.
fn in_order(account: &Account) -> Vec<&Sample> {
    let mut samples: Vec<&Sample> = account.samples().collect();
    samples.sort_by_key(|sample| sample.intended);
    samples
}

/// The response of each request is its ideal, both ways through the network, and what the client declares to cost: each
/// operation, event, poll and look at the clock 20 ns, so less than 2 µs even where several coincide.
fn assert_ideal(account: &Account, servers: u32) {
    let samples = in_order(account);
    let arrivals: Vec<Nanos> = samples.iter().map(|sample| sample.intended).collect();
    let service: Vec<Nanos> = samples.iter().map(|sample| sample.server.service.unwrap()).collect();
    let ideal = pathwise::fifo(&arrivals, &service, count(servers));
    let path = account.round.recorded.path.steps();
    assert_eq!(path.len(), samples.len());
    let there_and_back = LATENCY + LATENCY;
    for ((sample, &ideal), step) in samples.iter().zip(&ideal).zip(path) {
        assert_eq!((step.intended, step.response), (sample.intended, sample.response()));
        let beyond = sample.response().saturating_sub(ideal + there_and_back);
        assert!(
            sample.response() >= ideal + there_and_back && beyond < Nanos::from_micros(2),
            "{beyond} beyond the ideal {ideal}: {sample:?}"
        );
    }
}

fn scenario(load: Load, seconds: u64, servers: u32, service: Service) -> Scenario {
    let mut scenario = Scenario::open(1, Nanos::from_secs(seconds), 300, Nanos::ZERO);
    scenario.plan.load = load;
    scenario.worlds[0].server.servers = Some(servers);
    scenario.worlds[0].server.service = service;
    scenario
}

fn even(per_s: u64) -> Load {
    Load::Constant { rate: Rate { milli_per_s: 1_000 * per_s } }
}

fn poisson(per_s: u64) -> Load {
    Load::Poisson { rate: Rate { milli_per_s: 1_000 * per_s } }
}

const FIXED: Service = Service::Fixed(Nanos(2 * MS));
const EXPONENTIAL: Service = Service::Exponential { mean: Nanos(2 * MS) };

/// Much queueing, and no response but what the path says.
#[test]
fn every_response_is_the_ideal_of_its_path() {
    for (servers, load, service) in [
        (1, even(450), EXPONENTIAL),
        (2, even(850), EXPONENTIAL),
        (1, poisson(350), FIXED),
        (1, poisson(450), FIXED),
        (2, poisson(800), FIXED),
        (4, poisson(1_700), FIXED),
        (4, poisson(1_600), EXPONENTIAL),
    ] {
        let account = run(&scenario(load, 5, servers, service));
        assert_ideal(&account, servers);
        let queued = account.samples().filter(|sample| sample.server.queue > Some(Nanos(MS / 2))).count();
        assert!(queued > 200, "{queued} requests waited: nothing would be shown");
    }
}

#[test]
fn the_warm_up_leaves_its_queue_to_the_first_measured_request() {
    let mut scenario = scenario(even(600), 1, 1, FIXED); // overloaded: the queue of the warm-up does not go away
    scenario.plan.warmup = Extent { count: None, time: Some(Nanos::from_millis(500)) };
    let account = stage::run(&scenario, Sabotage::None);
    let path = account.round.recorded.path.steps();
    let first = account.round.recorded.measured.first_intended.unwrap();
    let warmup = path.partition_point(|step| step.intended < first);
    assert_eq!((warmup, path.len()), (300, 900));
    let arrivals: Vec<Nanos> = path.iter().map(|step| step.intended).collect();
    let ideal = pathwise::fifo(&arrivals, &vec![Nanos(2 * MS); 900], count(1));
    assert!(ideal[warmup] > Nanos(50 * MS), "{}", ideal[warmup]);
    for (step, ideal) in path.iter().zip(&ideal) {
        let beyond = step.response.saturating_sub(*ideal + LATENCY + LATENCY);
        assert!(step.response > *ideal && beyond < Nanos::from_micros(2), "{step:?}, ideal {ideal}");
    }
}

/// Levels of what was measured, less the way there and back.
fn at_the_server(account: &Account) -> [f64; 6] {
    let times = account.samples().map(|sample| sample.response().saturating_sub(LATENCY + LATENCY));
    Levels::of_times(times.collect()).array().map(|level| level.unwrap().0 as f64)
}

/// Closed forms of the long run, against the pooled requests of `runs` runs: within three standard errors of the mean over
/// runs, which the runs themselves tell, and the sampling error of the percentile, which so many runs have not got rid of.
fn assert_closed_form(scenario: &Scenario, runs: u64, mean: f64, exceeded_by: impl Fn(f64) -> f64) {
    let found: Vec<[f64; 6]> = (0..runs)
        .map(|seed| {
            let mut scenario = scenario.clone();
            scenario.plan.seed = 1_000 + seed;
            scenario.worlds[0].server.work_seed = seed;
            let account = stage::run(&scenario, Sabotage::None);
            assert!(account.samples().all(|s| s.conn_wait() == Some(Nanos::ZERO)), "the pool must not bind");
            at_the_server(&account)
        })
        .collect();
    let expected = [mean, exceeded_by(0.5), exceeded_by(0.1), exceeded_by(0.05), exceeded_by(0.01)];
    for (level, expected) in expected.into_iter().enumerate() {
        let values = found.iter().map(|levels| levels[level]);
        let average = values.clone().sum::<f64>() / runs as f64;
        let variance = values.map(|value| (value - average).powi(2)).sum::<f64>() / (runs as f64 - 1.0);
        let error = (variance / runs as f64).sqrt();
        let off = (average - expected).abs();
        // a percentile of a finite run is biased by less than its own standard error
        let allowed = 3.0 * error + 0.005 * expected;
        assert!(off < allowed, "level {level}: {average}, expected {expected}, allowed {allowed}");
        assert!(allowed < 0.15 * expected, "level {level}: so wide that it proves nothing: {allowed}");
    }
}

#[test]
fn poisson_arrivals_at_fixed_service_have_their_exact_distribution() {
    for (servers, rho) in [(1u32, 0.5), (1, 0.8), (2, 0.8), (4, 0.8)] {
        let per_s = (500.0 * f64::from(servers) * rho) as u64;
        let closed = Deterministic::new(servers, rho * f64::from(servers), 2.0 * MS as f64).unwrap();
        let scenario = scenario(poisson(per_s), 1 + 4_000 / per_s, servers, FIXED);
        assert_closed_form(&scenario, 12, closed.response_mean(), |above| closed.response_quantile(above));
    }
}

#[test]
fn poisson_arrivals_at_exponential_service_have_erlangs_distribution() {
    for (servers, rho) in [(1u32, 0.6), (3, 0.7)] {
        let per_s = (500.0 * f64::from(servers) * rho).round() as u64;
        let closed = Markov::new(servers, per_s as f64 / 500.0, 2.0 * MS as f64).unwrap();
        let scenario = scenario(poisson(per_s), 1 + 4_000 / per_s, servers, EXPONENTIAL);
        assert_closed_form(&scenario, 12, closed.response_mean(), |above| closed.response_quantile(above));
    }
}

/// D/M/1: W > 0 with probability σ = e^{−(1−σ)/ρ}, and R is exponential with mean S/(1 − σ).
#[test]
fn even_arrivals_at_exponential_service_have_their_closed_form() {
    let rho: f64 = 0.8;
    let sigma = (0..200).fold(0.5_f64, |sigma, _| (-(1.0 - sigma) / rho).exp());
    let mean = 2.0 * MS as f64 / (1.0 - sigma);
    assert_closed_form(&scenario(even(400), 10, 1, EXPONENTIAL), 12, mean, |above| -mean * above.ln());
}
