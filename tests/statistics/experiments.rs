//! Whole experiments of two sides whose rounds vary by 5 % (a server that started well or badly): how often A against A is
//! called different, and how often a true shift is found.

use std::collections::BTreeMap;

use hairspring::analyze::paired::{Criteria, Difference, Effect, Sequential, effect, noise_floor};
use hairspring::analyze::ranking::{Corrected, family};
use hairspring::load::rng::{Rng, mix};

use super::{long, normal};

/// Standard deviation of a round, on the logarithm.
const ROUND_SPREAD: f64 = 0.05;
/// Requests of a round, with exponential response times.
const REQUESTS: f64 = 20_000.0;

/// ln of the p99 of one round: the round's own luck, and that of its requests. The 200 slowest of many independent requests
/// leave a share above the p99 that is a gamma variable (by Wilson and Hilferty's cube of a normal one).
fn ln_p99(rng: &mut Rng) -> f64 {
    const SLOWEST: f64 = 200.0;
    let gamma = SLOWEST * (1.0 - 1.0 / (9.0 * SLOWEST) + normal(rng) / (3.0 * SLOWEST.sqrt())).powi(3);
    ROUND_SPREAD * normal(rng) + (-(gamma / REQUESTS).ln()).ln()
}

/// The log ratios of `rounds` rounds in which the second side is slower by `shift`.
fn rounds(rng: &mut Rng, rounds: usize, shift: f64) -> Vec<f64> {
    (0..rounds).map(|_| ln_p99(rng) + shift.ln_1p() - ln_p99(rng)).collect()
}

/// The share of experiments with this verdict.
fn share(experiments: u64, verdict: impl Fn(&Effect) -> bool, run: impl Fn(&mut Rng) -> Effect) -> f64 {
    let hit = |i: &u64| verdict(&run(&mut Rng::new(mix(0xab, *i))));
    (0..experiments).filter(hit).count() as f64 / experiments as f64
}

fn different(effect: &Effect) -> bool {
    matches!(effect.verdict, Difference::Faster | Difference::Slower)
}

fn fixed(rng: &mut Rng, n: usize, shift: f64, criteria: Criteria) -> Effect {
    effect(&rounds(rng, n, shift), criteria, None).unwrap()
}

#[test]
fn a_against_a_is_seldom_called_different() {
    println!("| rounds | A against A called different | of them without a least effect |\n|---|---|---|");
    for n in [6, 8, 12, 24] {
        let any = Criteria { min_effect: 1e-9, ..Criteria::default() };
        let shares = [Criteria::default(), any].map(|c| share(2_000, different, |rng| fixed(rng, n, 0.0, c)));
        println!("| {n} | {:.4} | {:.4} |", shares[0], shares[1]);
        assert!(shares[0] <= 0.06 && shares[0] <= shares[1], "{n} rounds: {shares:?}");
    }
}

#[test]
fn a_shift_of_five_percent_is_found_in_twenty_four_rounds() {
    let experiments = if long() { 2_000 } else { 500 };
    println!("| rounds | 5 % slower found | called faster |\n|---|---|---|");
    let power = |n: usize, verdict: Difference| {
        let run = |rng: &mut Rng| fixed(rng, n, 0.05, Criteria::default());
        share(experiments, |effect| effect.verdict == verdict, run)
    };
    for n in [8, 12, 16, 20, 24] {
        println!("| {n} | {:.3} | {:.4} |", power(n, Difference::Slower), power(n, Difference::Faster));
    }
    assert!(power(24, Difference::Slower) >= 0.80);
    assert!(power(24, Difference::Faster) <= 0.001);
}

/// `--until`: rounds are added until the interval is narrow, or the cap is reached.
fn sequential(rng: &mut Rng, shift: f64, cap: u32) -> (u32, Effect) {
    let rule = Sequential::new(0.03, vec!["p99".to_owned()], cap);
    let criteria = Criteria { confidence: rule.confidence(), ..Criteria::default() };
    let all = rounds(rng, cap as usize, shift);
    for n in rule.looks.clone() {
        let now = effect(&all[..n as usize], criteria, None).unwrap();
        if rule.stop(n, &BTreeMap::from([("p99".to_owned(), now.clone())])) {
            return (n, now);
        }
    }
    unreachable!("the last look is the cap")
}

#[test]
fn adding_rounds_until_it_is_narrow_keeps_the_error_rate() {
    let experiments = if long() { 2_000 } else { 400 };
    let any_error = share(experiments, different, |rng| sequential(rng, 0.0, 40).1);
    // What peeking at 95 % intervals after every round from the sixth on, until one excludes 0, would do instead.
    let criteria = Criteria { min_effect: 1e-9, ..Criteria::default() };
    let peeking = share(experiments, different, |rng| {
        let all = rounds(rng, 24, 0.0);
        let looks = (6..=24).map(|n| effect(&all[..n], criteria, None).unwrap());
        looks.into_iter().find(different).unwrap_or_else(|| effect(&all, criteria, None).unwrap())
    });
    println!(
        "| --until 3%, at most 40 rounds: A against A called different | peeking each round |\n|---|---|"
    );
    println!("| {any_error:.4} | {peeking:.4} |");
    assert!(any_error <= 0.06, "{any_error}");
    assert!(peeking > 0.10, "{peeking}");
}

#[test]
fn the_noise_floor_refuses_what_a_against_a_could_have_done() {
    let experiments = if long() { 2_000 } else { 400 };
    let with_floor = |shift: f64| {
        share(experiments, different, |rng| {
            let again = effect(&rounds(rng, 12, 0.0), Criteria::default(), None).unwrap();
            effect(&rounds(rng, 12, shift), Criteria::default(), noise_floor(&again)).unwrap()
        })
    };
    let (none, large) = (with_floor(0.0), with_floor(0.30));
    println!("with --aa, 12 rounds: A against A called different {none:.4}, 30 % slower found {large:.3}");
    assert!(none <= 0.03 && large >= 0.95, "{none} {large}");
}

/// All pairs of variants over the same rounds; variant i is slower than the first by the shift i.
fn all_pairs(rng: &mut Rng, rounds: usize, shifts: &[f64]) -> Vec<Vec<f64>> {
    let figures: Vec<Vec<f64>> =
        shifts.iter().map(|shift| (0..rounds).map(|_| ln_p99(rng) + shift.ln_1p()).collect()).collect();
    let pairs = (0..shifts.len()).flat_map(|a| (a + 1..shifts.len()).map(move |b| (a, b)));
    pairs.map(|(a, b)| figures[b].iter().zip(&figures[a]).map(|(b, a)| b - a).collect()).collect()
}

fn corrected(pairs: &[Vec<f64>]) -> Vec<Corrected> {
    family(pairs, Criteria::default(), None).into_iter().flatten().collect()
}

#[test]
fn equal_variants_are_seldom_told_apart() {
    let experiments = if long() { 2_000 } else { 500 };
    println!(
        "| variants | rounds | any pair called different, by Holm | without a correction |\n|---|---|---|---|"
    );
    for (variants, rounds) in [(4, 8), (4, 12), (4, 24), (8, 12)] {
        let mut any = [0, 0];
        for i in 0..experiments {
            let pairs = all_pairs(&mut Rng::new(mix(0xfa, i)), rounds, &vec![0.0; variants]);
            let naive = |pair: &Vec<f64>| different(&effect(pair, Criteria::default(), None).unwrap());
            any[0] += u32::from(corrected(&pairs).iter().any(|pair| different(&pair.effect)));
            any[1] += u32::from(pairs.iter().any(naive));
        }
        let [holm, naive] = any.map(|n| f64::from(n) / experiments as f64);
        println!("| {variants} | {rounds} | {holm:.4} | {naive:.3} |");
        assert!(holm <= 0.06, "{variants} variants, {rounds} rounds: {holm}");
        assert!(naive > 0.10, "the correction would not be needed: {naive}");
    }
}

/// Three are equal and the fourth is slower: no difference among the three may be found, all three to the fourth should.
#[test]
fn one_slow_variant_is_found_and_hides_no_false_difference() {
    let experiments = if long() { 2_000 } else { 300 };
    println!("| rounds | slower by | all three pairs found | a false difference |\n|---|---|---|---|");
    for (rounds, shift) in [(8, 0.30), (12, 0.10), (24, 0.10)] {
        let (mut found, mut wrong) = (0, 0);
        for i in 0..experiments {
            let pairs = all_pairs(&mut Rng::new(mix(0xfb, i)), rounds, &[0.0, 0.0, 0.0, shift]);
            let corrected = corrected(&pairs);
            // pairs 2, 4 and 5 are those with the fourth
            let slower = |at: usize| corrected[at].effect.verdict == Difference::Slower;
            let false_one = |at: &usize| different(&corrected[*at].effect);
            found += u32::from([2, 4, 5].into_iter().all(slower));
            wrong += u32::from([0, 1, 3].iter().any(false_one));
        }
        let [found, wrong] = [found, wrong].map(|n| f64::from(n) / experiments as f64);
        println!("| {rounds} | {:.0} % | {found:.3} | {wrong:.4} |", 100.0 * shift);
        assert!(wrong <= 0.06, "{rounds} rounds: {wrong}");
        if rounds == 24 {
            assert!(found >= 0.80, "{rounds} rounds: {found}");
        }
    }
}
