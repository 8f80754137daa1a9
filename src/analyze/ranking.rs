//! More than two variants: every pair with a correction over all of them, and a ranking that claims no more than the
//! pairs show.
//!
//! A pair is tested over its rounds as in `paired`. The tests of one figure over all pairs are one family: Holm's procedure
//! keeps the chance of any false difference among them at the error of one test, however they depend on each other. A
//! pair's interval has the confidence of the step at which Holm decided it, so interval, verdict and corrected p-value
//! agree. Not here: a correction over figures; the ranking looks at one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compare::{log_ratios, names, positive};
use super::paired::{self, Criteria, Difference, Effect};
use super::stats::{CONFIDENCE, median};
use super::summary::Figures;
use crate::load::time::Nanos;

/// One variant and its response figures of each round, in the order of rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// By round.
    pub rounds: Vec<Figures>,
}

/// Two variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The one that was named first, which is what `b` is compared with.
    pub a: String,
    /// The other.
    pub b: String,
    /// By figure: what `b` is beside `a`.
    pub effects: BTreeMap<String, Corrected>,
}

/// An effect that is one of a family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Corrected {
    /// Its interval has the confidence of its step in Holm's procedure.
    #[serde(flatten)]
    pub effect: Effect,
    /// Two-sided, of the signed-rank test, for this pair alone.
    pub p_signed_rank: f64,
    /// The same, corrected by Holm over all pairs.
    pub p_holm: f64,
}

/// The place of one variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub variant: String,
    /// One more than the number of variants that are shown to be faster; null where it has no figure.
    pub rank: Option<u32>,
    /// Variants that share a letter are not told apart.
    pub groups: String,
    /// Median over rounds of the figure that ranks.
    pub figure_ns: Option<Nanos>,
    /// Rounds that have it.
    pub rounds: u32,
}

/// The fewest rounds that can tell two of so many variants apart.
pub fn rounds_needed(variants: usize) -> usize {
    let pairs = (variants * variants.saturating_sub(1) / 2).max(1);
    paired::rounds_needed(1.0 - (1.0 - CONFIDENCE) / pairs as f64)
}

/// Every pair, in the order of `variants`; `criteria.confidence` is that of a family. `noise` has the effects of one variant
/// against itself, by figure.
pub fn pairs(
    variants: &[Variant],
    criteria: Criteria,
    noise: Option<&BTreeMap<String, Effect>>,
) -> Vec<Pair> {
    let indices: Vec<(usize, usize)> =
        (0..variants.len()).flat_map(|a| (a + 1..variants.len()).map(move |b| (a, b))).collect();
    let name = |at: usize| variants[at].name.clone();
    let mut pairs: Vec<Pair> =
        indices.iter().map(|&(a, b)| Pair { a: name(a), b: name(b), effects: BTreeMap::new() }).collect();
    for figure in names() {
        let floor = noise.and_then(|effects| paired::noise_floor(effects.get(figure)?));
        let ratios: Vec<Vec<f64>> = indices
            .iter()
            .map(|&(a, b)| log_ratios(figure, variants[a].rounds.iter().zip(&variants[b].rounds)))
            .collect();
        for (pair, corrected) in pairs.iter_mut().zip(family(&ratios, criteria, floor)) {
            pair.effects.extend(corrected.map(|corrected| (figure.to_owned(), corrected)));
        }
    }
    pairs
}

/// The effects of a family of comparisons, each by its log ratios over rounds; none of none. `criteria.confidence` is the
/// family's: that no difference among them is false.
pub fn family(log_ratios: &[Vec<f64>], criteria: Criteria, noise: Option<f64>) -> Vec<Option<Corrected>> {
    let p_values: Vec<f64> = log_ratios.iter().map(|ratios| paired::signed_rank(ratios)).collect();
    let steps = holm(&p_values, 1.0 - criteria.confidence);
    let corrected = |((ratios, step), p): ((&Vec<f64>, Step), f64)| {
        let criteria = Criteria { confidence: 1.0 - step.error, ..criteria };
        let effect = paired::effect(ratios, criteria, noise)?;
        Some(Corrected { effect, p_signed_rank: p, p_holm: step.p_value })
    };
    log_ratios.iter().zip(steps).zip(p_values).map(corrected).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    /// What the test is held against.
    error: f64,
    /// Corrected: at most the error of the family exactly where the test rejects.
    p_value: f64,
}

/// Holm's step-down procedure (Holm, *A simple sequentially rejective multiple test procedure*, Scand. J. Statist. 6, 1979): the
/// i-th least of m p-values is held against α/(m−i+1), until one is not below it; that one and the rest are all held
/// against the same.
fn holm(p_values: &[f64], family_error: f64) -> Vec<Step> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut steps = vec![Step { error: 1.0, p_value: 1.0 }; p_values.len()];
    let (mut error, mut corrected, mut rejecting) = (family_error, 0.0_f64, true);
    for (done, &at) in order.iter().enumerate() {
        let left = (order.len() - done) as f64;
        if rejecting {
            error = family_error / left;
            rejecting = p_values[at] <= error * (1.0 + 1e-12);
        }
        corrected = corrected.max((p_values[at] * left).min(1.0));
        steps[at] = Step { error, p_value: corrected };
    }
    steps
}

/// The variants by `figure`, the fastest first, with what `pairs` allow to say of their order.
pub fn standings(variants: &[Variant], pairs: &[Pair], figure: &str) -> Vec<Standing> {
    let mut standings: Vec<Standing> = variants
        .iter()
        .map(|variant| {
            let values: Vec<f64> =
                variant.rounds.iter().filter_map(|round| positive(figure, round)).collect();
            let figure_ns = median(&values).map(|value| Nanos(value.round() as u64));
            let (variant, rounds) = (variant.name.clone(), values.len() as u32);
            Standing { variant, rank: None, groups: String::new(), figure_ns, rounds }
        })
        .collect();
    standings.sort_by_key(|standing| (standing.figure_ns.is_none(), standing.figure_ns));
    let names: Vec<String> = standings
        .iter()
        .filter(|standing| standing.figure_ns.is_some())
        .map(|standing| standing.variant.clone())
        .collect();
    let faster = |one: &str, other: &str| {
        pairs.iter().any(|pair| match pair.effects.get(figure).map(|corrected| corrected.effect.verdict) {
            Some(Difference::Faster) => (pair.b.as_str(), pair.a.as_str()) == (one, other),
            Some(Difference::Slower) => (pair.a.as_str(), pair.b.as_str()) == (one, other),
            _ => false,
        })
    };
    let told_apart = |i: usize, j: usize| faster(&names[i], &names[j]) || faster(&names[j], &names[i]);
    let groups = letters(names.len(), told_apart);
    for ((standing, name), groups) in standings.iter_mut().zip(&names).zip(groups) {
        let ahead = names.iter().filter(|other| faster(other, name)).count();
        (standing.rank, standing.groups) = (Some(1 + ahead as u32), groups);
    }
    standings
}

/// Letters for 0, 1, … `n`: two of them share one exactly where they are not told apart. By inserting and absorbing (Piepho, *An
/// algorithm for a letter-based representation of all-pairwise comparisons*, J. Comput. Graph. Statist. 13, 2004).
fn letters(n: usize, told_apart: impl Fn(usize, usize) -> bool) -> Vec<String> {
    let mut groups = vec![vec![true; n]];
    for (i, j) in (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).filter(|&(i, j)| told_apart(i, j)) {
        let (torn, mut whole): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group[i] && group[j]);
        let halves = torn.into_iter().flat_map(|group| {
            [i, j].map(|without| {
                let mut half = group.clone();
                half[without] = false;
                half
            })
        });
        for half in halves {
            let within = |group: &Vec<bool>| half.iter().zip(group).all(|(a, b)| !a || *b);
            if !whole.iter().any(within) {
                whole.push(half);
            }
        }
        groups = whole;
    }
    groups.sort_by(|a, b| b.cmp(a));
    (0..n)
        .map(|member| {
            let of = groups.iter().enumerate().filter(|(_, group)| group[member]);
            of.map(|(at, _)| letter(at)).collect()
        })
        .collect()
}

/// a … z, then a2 … z2, a3 …
fn letter(at: usize) -> String {
    let letter = char::from(b'a' + (at % 26) as u8);
    if at < 26 { letter.to_string() } else { format!("{letter}{}", at / 26 + 1) }
}

/// The ranking in a sentence.
pub fn conclusion(standings: &[Standing], pairs: &[Pair], figure: &str, confidence: f64) -> String {
    let effects = || pairs.iter().filter_map(|pair| pair.effects.get(figure));
    if effects().all(|corrected| corrected.effect.interval.is_none()) {
        let why = effects().next().map_or("nothing to compare", |corrected| &corrected.effect.reason);
        return format!("Nothing is ranked by {}: {why}.", shown(figure));
    }
    let differ = |verdict| matches!(verdict, Difference::Faster | Difference::Slower);
    let apart = effects().filter(|corrected| differ(corrected.effect.verdict)).count();
    let mut ranks: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for standing in standings {
        if let Some(rank) = standing.rank {
            ranks.entry(rank).or_default().push(&standing.variant);
        }
    }
    let ranks: Vec<String> =
        ranks.iter().map(|(rank, names)| format!("rank {rank}: {}", names.join(", "))).collect();
    format!(
        "By {}, {}. {apart} of {} pairs are told apart; that none of them falsely, {} % sure (Holm).",
        shown(figure),
        ranks.join("; "),
        pairs.len(),
        (1e4 * confidence).round() / 1e2
    )
}

/// The name of a figure as people write it.
pub fn shown(figure: &str) -> &str {
    if figure == "p999" { "p99.9" } else { figure }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(name: &str, p95: &[u64]) -> Variant {
        let figures = |p95: &u64| Figures { p95: Some(Nanos(*p95)), ..Figures::default() };
        Variant { name: name.to_owned(), rounds: p95.iter().map(figures).collect() }
    }

    /// R: p.adjust(c(.01, .04, .03, .005), "holm") is .03, .06, .06, .02.
    #[test]
    fn holm_as_in_r() {
        let steps = holm(&[0.01, 0.04, 0.03, 0.005], 0.05);
        for (step, expected) in steps.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((step.p_value - expected).abs() < 1e-12, "{steps:?}");
        }
        // the third is not below .05/2: it and the last are held against that
        let errors: Vec<f64> = steps.iter().map(|step| step.error * 600.0).collect();
        for (error, expected) in errors.iter().zip([10.0, 15.0, 15.0, 7.5]) {
            assert!((error - expected).abs() < 1e-9, "{errors:?}");
        }
        assert!(holm(&[], 0.05).is_empty());
        assert_eq!(holm(&[0.7], 0.05), [Step { error: 0.05, p_value: 0.7 }]);
    }

    #[test]
    fn an_interval_excludes_no_change_exactly_where_holm_rejects() {
        let mut rng = crate::load::rng::Rng::new(4);
        let mut seen = [0, 0];
        for _ in 0..300 {
            let ratios: Vec<Vec<f64>> = (0..6)
                .map(|pair| {
                    let shift = if pair < 3 { 0.0 } else { 0.04 * f64::from(pair) };
                    (0..10).map(|_| shift + (rng.next_u64() % 1_000) as f64 / 1_000.0 - 0.5).collect()
                })
                .collect();
            for corrected in family(&ratios, Criteria::default(), None).into_iter().flatten() {
                let rejected = corrected.p_holm <= 0.05;
                let [low, high] = corrected.effect.interval.unwrap();
                assert_eq!(rejected, low > 0.0 || high < 0.0, "{corrected:?}");
                assert!(corrected.p_holm >= corrected.p_signed_rank);
                seen[usize::from(rejected)] += 1;
            }
        }
        assert!(seen[0] > 100 && seen[1] > 50, "{seen:?}");
    }

    #[test]
    fn two_variants_are_a_pair_without_correction() {
        let [a, b] = [("a", [100, 110, 105, 108, 101, 99]), ("b", [50, 57, 51, 52, 49, 50])]
            .map(|(name, p95)| variant(name, &p95));
        let pairs = pairs(&[a.clone(), b.clone()], Criteria::default(), None);
        let ratios = log_ratios("p95", a.rounds.iter().zip(&b.rounds));
        let alone = paired::effect(&ratios, Criteria::default(), None).unwrap();
        let corrected = &pairs[0].effects["p95"];
        assert_eq!((corrected.effect.verdict, corrected.p_holm), (Difference::Faster, 2.0 / 64.0));
        assert_eq!((corrected.effect.change, corrected.effect.interval), (alone.change, alone.interval));
        assert!(!pairs[0].effects.contains_key("p50"), "no figure, no effect");
    }

    #[test]
    fn more_pairs_need_more_rounds() {
        assert_eq!([2, 3, 4, 6, 16].map(rounds_needed), [6, 7, 8, 10, 13]);
    }

    #[test]
    fn what_is_not_told_apart_shares_a_rank_and_a_letter() {
        let around = |center: f64, by: f64| -> Vec<u64> {
            (0..10).map(|round| (center * (1.0 + by * f64::from(round % 5 - 2))) as u64).collect()
        };
        let mut variants = [("slow", 300e6, 0.01), ("one", 100e6, 0.01), ("two", 101e6, 0.03)]
            .map(|(name, center, by)| variant(name, &around(center, by)))
            .to_vec();
        variants.push(variant("none", &[]));
        let pairs = pairs(&variants, Criteria::default(), None);
        let standings = standings(&variants, &pairs, "p95");
        let shown: Vec<_> =
            standings.iter().map(|s| (s.variant.as_str(), s.rank, s.groups.as_str())).collect();
        let expected =
            [("one", Some(1), "a"), ("two", Some(1), "a"), ("slow", Some(3), "b"), ("none", None, "")];
        assert_eq!(shown, expected);
        assert_eq!(standings[2].figure_ns, Some(Nanos(300_000_000)));
        let said = conclusion(&standings, &pairs, "p95", 0.95);
        assert!(said.starts_with("By p95, rank 1: one, two; rank 3: slow. 2 of 6 pairs"), "{said}");
    }

    #[test]
    fn letters_say_which_are_not_told_apart() {
        // 0 and 2 are, but neither from 1, which stands between them
        assert_eq!(letters(3, |i, j| (i, j) == (0, 2)), ["a", "ab", "b"]);
        assert_eq!(letters(3, |_, _| true), ["a", "b", "c"]);
        assert_eq!(letters(3, |_, _| false), ["a", "a", "a"]);
        assert_eq!(letters(0, |_, _| true), [""; 0]);
        // whatever is told apart: a letter is shared exactly where it is not
        for matrix in 0_u32..1 << 10 {
            let bit = |i: usize, j: usize| {
                let (i, j) = (i.min(j), i.max(j));
                matrix >> (i * (9 - i) / 2 + j - i - 1) & 1 == 1
            };
            let groups = letters(5, bit);
            for (i, j) in (0..5).flat_map(|i| (i + 1..5).map(move |j| (i, j))) {
                let shared = groups[i].chars().any(|letter| groups[j].contains(letter));
                assert_eq!(shared, !bit(i, j), "{matrix:b} {groups:?}");
            }
        }
        assert_eq!([0, 25, 26, 52].map(letter), ["a", "z", "a2", "a3"]);
    }
}
