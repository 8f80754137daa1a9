//! Do requests depend on each other, and do the parts of the instrument agree with each other?

use crate::record::Moments;

/// Spearman's rank correlation of pairs, ties by mean ranks. `None` where one side does not vary.
pub(in crate::analyze) fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let first = ranks(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let second = ranks(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = (product(&first, &first) * product(&second, &second)).sqrt();
    (spread > 0.0).then(|| product(&first, &second) / spread)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&at| ranks[at] = rank);
        before += tied.len();
    }
    ranks
}

/// How groups differ in their means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Homogeneity {
    /// z of the variance between groups over that within (chi-square over its degrees of freedom, by Wilson & Hilferty):
    /// above 2.33 in 1 % of runs in which the groups are alike and requests independent.
    pub(super) z: f64,
    /// The greatest |mean of a group/mean of all − 1|.
    pub(super) spread: f64,
    /// Groups compared.
    pub(super) groups: usize,
}

/// Groups with fewer requests than this are left out.
const REQUESTS_MIN: u64 = 30;

/// Over all groups that have enough requests; `None` for fewer than two such, or without any variance.
pub(super) fn homogeneity(groups: &[Moments]) -> Option<Homogeneity> {
    let groups: Vec<&Moments> = groups.iter().filter(|group| group.count >= REQUESTS_MIN).collect();
    if groups.len() < 2 {
        return None;
    }
    let all = Moments::total(groups.iter().copied());
    let mean = all.mean();
    let within: f64 = groups.iter().map(|group| group.squares - group.sum * group.mean()).sum();
    let variance = within / (all.count as f64 - groups.len() as f64);
    // less than rounding leaves of the squares is no variance
    if mean <= 0.0 || variance <= 1e-12 * mean * mean {
        return None;
    }
    let between: f64 = groups.iter().map(|group| group.count as f64 * (group.mean() - mean).powi(2)).sum();
    let freedom = groups.len() as f64 - 1.0;
    let spread = groups.iter().map(|group| (group.mean() / mean - 1.0).abs()).fold(0.0, f64::max);
    let z = normal_of_ratio(between / variance / freedom, freedom);
    Some(Homogeneity { z, spread, groups: groups.len() })
}

/// A chi-square variable over its degrees of freedom, as a normal z (Wilson & Hilferty 1931).
pub(super) fn normal_of_ratio(ratio: f64, degrees: f64) -> f64 {
    let ninth = 2.0 / (9.0 * degrees);
    (ratio.cbrt() - (1.0 - ninth)) / ninth.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    #[test]
    fn ranks_that_rise_together_and_ranks_with_ties() {
        let pairs = |b: [i32; 5]| -> Vec<(f64, f64)> {
            [1, 2, 3, 4, 5].into_iter().zip(b).map(|(a, b)| (f64::from(a), f64::from(b))).collect()
        };
        assert_eq!(spearman(&pairs([2, 4, 8, 16, 32])), Some(1.0));
        assert_eq!(spearman(&pairs([5, 4, 3, 2, 1])), Some(-1.0));
        // 1 − 6·Σd²/(n(n² − 1)) with d = 1, 1, 1, 1, 0
        assert!((spearman(&pairs([2, 1, 4, 3, 5])).unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(spearman(&pairs([7; 5])), None);
        // the tied have rank 1.5 each: by hand 9.5/√(10·9.5)
        assert!((spearman(&pairs([1, 1, 3, 4, 5])).unwrap() - 9.5 / 95.0_f64.sqrt()).abs() < 1e-12);
    }

    fn groups(seed: u64, shift: f64) -> Vec<Moments> {
        let mut rng = Rng::new(seed);
        let mut value = || (rng.next_u64() % 1_000) as f64;
        let group = |thread: usize| {
            let mut moments = Moments { thread, ..Moments::default() };
            (0..100).for_each(|_| moments.add(1_000.0 + value() + if thread == 3 { shift } else { 0.0 }));
            moments
        };
        (0..8).map(group).collect()
    }

    #[test]
    fn groups_that_are_alike_seldom_look_different() {
        let beyond = (0..1_000).filter(|&seed| homogeneity(&groups(seed, 0.0)).unwrap().z > 2.326).count();
        assert!(beyond < 25, "{beyond} of 1000, of 10 expected");
        let found = homogeneity(&groups(1, 300.0)).unwrap();
        assert!(found.z > 5.0 && found.spread > 0.1 && found.groups == 8, "{found:?}");
    }

    /// χ² quantiles at 99 %: 36.191 with 19 degrees of freedom, 23.209 with 10.
    #[test]
    fn a_chi_square_variable_as_a_normal_one() {
        for (quantile, degrees) in [(36.191, 19.0), (23.209, 10.0)] {
            let z = normal_of_ratio(quantile / degrees, degrees);
            assert!((z - 2.326).abs() < 0.01, "{z}");
        }
    }

    #[test]
    fn too_few_are_not_compared() {
        let few = Moments { count: 29, sum: 29.0, squares: 40.0, ..Moments::default() };
        assert_eq!(homogeneity(&[few; 5]), None);
        let alone = Moments { count: 100, sum: 100.0, squares: 140.0, ..Moments::default() };
        assert_eq!(homogeneity(&[alone]), None);
    }
}
