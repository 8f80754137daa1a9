//! Which knob, which prediction, which verdict: on constructed runs and trials.

use super::*;
use crate::analyze::paired::{self, Criteria};
use crate::load::time::Nanos;

fn halved() -> Intervention {
    Intervention {
        rule: "single-thread".to_owned(),
        change: Change::Workers { from: 1, to: 2, cpus: vec![0] },
        figure: "mean".to_owned(),
        expected: -0.5,
        expected_interval: [-0.55, -0.45],
        otherwise: 0.0,
        by: "model".to_owned(),
    }
}

/// Pairs whose second is so many times the first.
fn trial(ratios: &[f64]) -> Trial {
    let ratios: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    Trial {
        from_ns: Some(Nanos::from_millis(40)),
        to_ns: Some(Nanos::from_millis(20)),
        effect: paired::effect(&ratios, Criteria::default(), None),
        order: Vec::new(),
        validity: Validity::Valid,
        partial: false,
        file: String::new(),
    }
}

fn judged(trial: &Trial) -> Confirmation {
    Confirmation::of(Ok(halved()), Some(trial))
}

const AS_PREDICTED: [f64; 6] = [0.49, 0.51, 0.5, 0.48, 0.52, 0.5];
const NOTHING: [f64; 6] = [0.99, 1.01, 1.0, 0.98, 1.02, 1.0];

#[test]
fn the_verdict_is_about_intervals() {
    for (ratios, verdict) in [
        (AS_PREDICTED, Verdict::Confirmed),
        (NOTHING, Verdict::Refuted),
        ([0.75, 0.76, 0.74, 0.75, 0.77, 0.75], Verdict::Refuted),
        ([1.4, 1.5, 1.6, 1.5, 1.5, 1.4], Verdict::Refuted),
        // it may be as predicted, and it may be nothing
        ([0.4, 1.1, 0.5, 0.9, 0.6, 1.2], Verdict::NotDecided),
        // more than the cause explains
        ([0.2, 0.21, 0.19, 0.2, 0.2, 0.21], Verdict::NotDecided),
    ] {
        let judged = judged(&trial(&ratios));
        assert_eq!(judged.verdict, verdict, "{ratios:?}: {}", judged.says);
        assert!(judged.says.contains("predicted -50.0 % (-55.0 % to -45.0 %)"), "{}", judged.says);
    }
}

#[test]
fn what_cannot_be_relied_on_decides_nothing() {
    let good = trial(&AS_PREDICTED);
    for bad in [
        Trial { partial: true, ..good.clone() },
        Trial { validity: Validity::Invalid, ..good.clone() },
        Trial { effect: None, ..good.clone() },
        trial(&AS_PREDICTED[..5]),
    ] {
        assert_eq!(judged(&bad).verdict, Verdict::NotDecided, "{bad:?}");
    }
    assert_eq!(judged(&Trial { validity: Validity::Suspect, ..good }).verdict, Verdict::Confirmed);
    let untested = Confirmation::of(Err("no knob".to_owned()), None);
    assert_eq!((untested.verdict, untested.says.as_str()), (Verdict::NotTested, "no knob"));
    assert_eq!(Confirmation::of(Ok(halved()), None).verdict, Verdict::NotTested);
}

fn finding(rule: &str, word: Word) -> Finding {
    Finding {
        rule: rule.to_owned(),
        word,
        says: format!("it is {rule}"),
        explained: Some(0.9),
        explained_interval: None,
        of: super::super::findings::Of::Excess,
        tests: Vec::new(),
        disproof: String::new(),
        note: None,
    }
}

fn found() -> Findings {
    Findings {
        findings: vec![finding("single-thread", Word::Shown)],
        cleared: vec![finding("lock", Word::NotShown)],
        ..Findings::default()
    }
}

#[test]
fn a_confirmed_cause_has_the_highest_word() {
    let mut findings = found();
    settle(&mut findings, &Symptoms::default(), &judged(&trial(&AS_PREDICTED)));
    assert_eq!(findings.findings[0].word, Word::Confirmed);
    assert_eq!(findings.findings[0].word.name(), "shown, confirmed by intervention");
    assert_eq!(findings.summary, "it is single-thread");
}

#[test]
fn a_refuted_cause_is_not_shown_and_a_lock_is_suspected() {
    let mut findings = found();
    settle(&mut findings, &Symptoms::default(), &judged(&trial(&NOTHING)));
    let [lock] = &findings.findings[..] else { panic!("{findings:#?}") };
    assert_eq!((lock.rule.as_str(), lock.word), ("lock", Word::ConsistentWith));
    let [refuted] = &findings.cleared[..] else { panic!("{findings:#?}") };
    assert_eq!((refuted.rule.as_str(), refuted.word), ("single-thread", Word::NotShown));
    let note = refuted.note.as_deref().unwrap_or_default();
    assert!(note.starts_with("refuted by intervention: with 2 workers instead of 1 the mean"), "{note}");
    assert!(findings.summary.contains("nothing is shown"), "{}", findings.summary);

    // a little faster is not nothing, so no lock is suspected
    let mut findings = found();
    settle(&mut findings, &Symptoms::default(), &judged(&trial(&[0.75, 0.76, 0.74, 0.75, 0.77, 0.75])));
    assert_eq!((findings.findings.len(), findings.cleared.len()), (0, 2), "{findings:#?}");
}

#[test]
fn what_is_not_decided_leaves_the_word() {
    for confirmation in [Confirmation::of(Ok(halved()), None), judged(&trial(&AS_PREDICTED[..5]))] {
        let mut findings = found();
        settle(&mut findings, &Symptoms::default(), &confirmation);
        assert_eq!(findings, found());
    }
}

/// Only an intervention, or the scalability law, may show a lock.
#[test]
fn a_lock_is_shown_by_an_intervention_alone() {
    let halved =
        Intervention { rule: "lock".to_owned(), change: Change::Connections { from: 8, to: 4 }, ..halved() };
    let word = |ratios: &[f64]| {
        let mut findings =
            Findings { findings: vec![finding("lock", Word::ConsistentWith)], ..Findings::default() };
        let confirmation = Confirmation::of(Ok(halved.clone()), Some(&trial(ratios)));
        settle(&mut findings, &Symptoms::default(), &confirmation);
        findings.findings.first().map(|finding| finding.word)
    };
    assert_eq!(word(&AS_PREDICTED), Some(Word::Confirmed));
    assert_eq!(word(&NOTHING), None);
}

#[test]
fn a_prediction_that_is_no_change_tests_nothing() {
    let change = Change::Connections { from: 8, to: 4 };
    let lock = finding("lock", Word::ConsistentWith);
    let intervention = by_accounting(&lock, change.clone(), "mean", -0.5).unwrap();
    assert_eq!(intervention.expected_interval, [-0.625, -0.375]);
    assert_eq!(by_accounting(&lock, change.clone(), "mean", -0.9).unwrap().expected_interval, [-1.0, -0.675]);
    assert_eq!(by_accounting(&lock, change.clone(), "mean", 0.5).unwrap().expected_interval, [0.375, 0.625]);
    let why = by_accounting(&lock, change, "mean", -0.05).unwrap_err();
    assert!(why.starts_with("with 4 connections instead of 8 the mean would change by -5 %"), "{why}");
}
