//! The page of several variants: the ranking first, then every pair that it follows from, then what stands behind it.

use std::fmt::Write;

use super::alerts::alerts;
use super::comparison::{Answers, Width, effect_cells};
use super::models::sides;
use super::{anatomy, closed_loop, counts, line, logs, percentile, pooled, shown, sla, target, validity};
use crate::analyze::gate::SlaVerdict;
use crate::analyze::ranking::{Standing, shown as figure_name};
use crate::report::{Ranking, Report};

/// Several variants.
pub fn ranking(ranking: &Ranking) -> String {
    let mut text = String::new();
    heading(&mut text, ranking);
    table(&mut text, ranking);
    pairs(&mut text, ranking);
    let reports: Vec<(&str, &Report)> =
        ranking.variants.iter().map(|variant| (variant.name.as_str(), &variant.report)).collect();
    for (name, report) in &reports {
        if report.totals.successful < report.totals.scheduled {
            let _ = writeln!(text, "{name}: {}", counts(report));
        }
    }
    for variant in ranking.variants.iter().skip(1) {
        let answers = match &variant.outputs {
            Some(outputs) => Answers(outputs, variant.outputs_identical).to_string(),
            None => "answers not compared".to_owned(),
        };
        let _ = writeln!(text, "{} against {}: {answers}", variant.name, ranking.variants[0].name);
    }
    let evidence: Vec<_> = reports.iter().map(|(name, report)| (*name, &report.evidence)).collect();
    anatomy::side_by_side(&mut text, &evidence);
    for (name, report) in &reports {
        closed_loop(&mut text, name, report.evidence.closed_loop.as_ref());
    }
    sides(&mut text, &reports);
    let _ = writeln!(text, "\n{}\n", ranking.conclusion);
    for (name, report) in &reports {
        alerts(&mut text, name, report);
        validity(&mut text, &format!("validity of {name}"), &report.validity);
    }
    if let Some(noise) = &ranking.noise {
        let name = &noise.again.plan.target.name;
        validity(&mut text, &format!("validity of {name}"), &noise.again.validity);
    }
    for variant in &ranking.variants {
        let judged = ranking.judged.contains(&variant.name);
        if judged || variant.sla.verdict != SlaVerdict::NotEvaluated {
            let not = if judged { "" } else { " (not judged)" };
            sla(&mut text, &format!("{}{not}", pooled(&variant.name, &variant.report)), &variant.sla);
        }
    }
    logs(&mut text, &reports.iter().flat_map(|(_, report)| report.logs.clone()).collect::<Vec<_>>());
    text
}

fn heading(text: &mut String, ranking: &Ranking) {
    let rounds = ranking.order.len();
    let words: Vec<String> = ranking.variants.iter().map(|v| v.report.plan.load_in_words()).collect();
    let same = words.iter().all(|load| *load == words[0]);
    let _ = writeln!(
        text,
        "{}{} variants, {rounds} round{} each, seed {}{}",
        if same { format!("{}, ", words[0]) } else { String::new() },
        words.len(),
        if rounds == 1 { "" } else { "s" },
        ranking.seed,
        if ranking.partial { "  ** PARTIAL: interrupted **" } else { "" }
    );
    let width = Width::of(ranking.variants.iter().map(|variant| variant.name.len() + 1));
    for (variant, load) in ranking.variants.iter().zip(words) {
        let name = format!("{}:", variant.name);
        let load = if same { String::new() } else { format!(", {load}") };
        let flags = match variant.flags.as_str() {
            "" => String::new(),
            flags => format!("  ({})", super::clean(flags)),
        };
        let _ =
            writeln!(text, "  {name:<width$} {}{load}{flags}", target(&variant.report.plan), width = width.0);
    }
    text.push('\n');
}

fn table(text: &mut String, ranking: &Ranking) {
    let rounds = ranking.order.len();
    let figure = figure_name(&ranking.figure);
    let by = format!("by {figure}");
    let medians = if rounds > 1 { format!("median of {rounds}") } else { figure.to_owned() };
    line(text, &[&by, "rank", "not apart", &medians, "p50", "p99", "mean", "throughput", "successful"]);
    for Standing { variant, rank, groups, figure_ns, rounds: having } in &ranking.ranking {
        let Some(report) = ranking.variant(variant).map(|variant| &variant.report) else { continue };
        let rank = rank.map_or("-".to_owned(), |rank| rank.to_string());
        let throughput = report.throughput_per_s.map_or("-".to_owned(), |x| format!("{x:.1}/s"));
        let successful = format!("{}/{}", report.totals.successful, report.totals.scheduled);
        let [p50, p99] = ["p50", "p99"].map(|name| percentile(&report.response_ns, name));
        let mean = shown(report.response_ns.mean);
        let figure = shown(*figure_ns);
        line(text, &[variant, &rank, groups, &figure, &p50, &p99, &mean, &throughput, &successful]);
        if (*having as usize) < rounds {
            let _ = writeln!(
                text,
                "  {variant} has this figure in {having} of {rounds} rounds; in the others it falls among the unsuccessful"
            );
        }
    }
    text.push_str("p50, p99 and mean: all rounds together\n");
}

fn pairs(text: &mut String, ranking: &Ranking) {
    let corrected = |pair: &crate::analyze::ranking::Pair| pair.effects.get(&ranking.figure).cloned();
    if !ranking.pairs.iter().filter_map(corrected).any(|pair| pair.effect.interval.is_some()) {
        let reason = ranking.pairs.iter().find_map(corrected).map(|pair| pair.effect.reason);
        let _ = writeln!(text, "faster or slower: {}\n", reason.as_deref().unwrap_or("nothing to compare"));
        return;
    }
    let label = |pair: &crate::analyze::ranking::Pair| format!("{} against {}", pair.b, pair.a);
    let width = Width::of(ranking.pairs.iter().map(|pair| label(pair).len()));
    let _ = writeln!(
        text,
        "\n{:<width$} {:>11} {:>21} {:>8}  (least effect {} %; of {} pairs, by Holm: none falsely apart, {} % sure)",
        figure_name(&ranking.figure),
        "change",
        "interval",
        "p",
        100.0 * ranking.criteria.min_effect,
        ranking.pairs.len(),
        (1e4 * ranking.criteria.confidence).round() / 1e2,
        width = width.0
    );
    for pair in &ranking.pairs {
        if let Some(corrected) = corrected(pair) {
            effect_cells(text, width, &label(pair), &corrected.effect, corrected.p_holm);
        }
    }
    if let Some(effect) = ranking.noise.as_ref().and_then(|noise| noise.effects.get(&ranking.figure)) {
        effect_cells(text, width, "A against A", effect, effect.p_value);
    }
    text.push('\n');
}
