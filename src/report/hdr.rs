//! Response times in the two text formats of HdrHistogram, as its tools read them.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::facts::Round;
use crate::load::time::Nanos;
use crate::record::Distribution;

/// `Interval_Max` of the log and the values of the percentile distribution are milliseconds.
const NS_PER_MS: f64 = 1e6;
/// Steps of the percentile distribution on the way to each next half of what is left; HdrHistogram's own choice.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Of a histogram with 3 significant digits.
const SUB_BUCKETS: u32 = 2_048;

/// The interval log (`.hlog`): response times of the successful in ns, by the slice in which they ended. `wall_offset`
/// turns stamps into time since the epoch.
pub fn interval_log(rounds: &[Round], wall_offset: Nanos) -> Vec<u8> {
    let start = rounds.first().map_or(Nanos::ZERO, |round| round.recorded.slices.t0());
    let seconds = (start + wall_offset).as_secs();
    let head = format!(
        "#[Logged with hairspring {}]\n\
         #[Histogram log format version 1.3]\n\
         #[StartTime: {seconds:.3} (seconds since epoch)]\n\
         #[BaseTime: {seconds:.3} (seconds since epoch)]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut log = head.into_bytes();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_max_value_divisor(NS_PER_MS);
    let mut lines = builder.begin_log_with(&mut log, &mut serializer).expect("memory can be written");
    for slices in rounds.iter().map(|round| &round.recorded.slices) {
        let length = Duration::from_nanos(slices.interval().0);
        for slice in slices.iter().filter(|slice| slice.responses.count() > 0) {
            let at = Duration::from_nanos((slices.t0() + slice.start).saturating_sub(start).0);
            lines
                .write_histogram(slice.responses.histogram(), at, length, None)
                .expect("a histogram of known bounds can be written into memory");
        }
    }
    log
}

/// The percentile distribution (`.hgrm`), in ms. As HdrHistogram writes it: values are the upper edges of buckets, mean
/// and deviation come from the buckets.
pub fn percentiles(distribution: &Distribution) -> Vec<u8> {
    let histogram = distribution.histogram();
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / NS_PER_MS, step.quantile_iterated_to());
        let _ = write!(text, "{value:12.3} {quantile:.12} {total:10}");
        let _ =
            if quantile < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_MS, histogram.stdev() / NS_PER_MS);
    let max = if histogram.is_empty() { 0.0 } else { histogram.max() as f64 / NS_PER_MS };
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {max:12.3}, TotalCount     = {:12}]", histogram.len());
    let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {SUB_BUCKETS:12}]", histogram.buckets());
    if distribution.out_of_range() > 0 {
        let _ = writeln!(
            text,
            "#[{} values are beyond the range and not in this table]",
            distribution.out_of_range()
        );
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand: four values, five steps to each half of the rest. 2.5 ms lies in a bucket that ends at 2.500607.
    #[test]
    fn a_percentile_distribution_looks_like_this() {
        let mut distribution = Distribution::default();
        for ns in [1_000, 1_500, 2_000, 2_500_000, 4_000_000_000_000] {
            distribution.record(Nanos(ns));
        }
        let text = String::from_utf8(percentiles(&distribution)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[2], "       0.001 0.000000000000          1           1.00");
        assert_eq!(lines[3], "       0.001 0.100000000000          1           1.11");
        assert_eq!(lines[5], "       0.002 0.300000000000          2           1.43");
        let last = lines.iter().rposition(|line| !line.starts_with('#')).unwrap();
        assert_eq!(lines[last], "       2.501 1.000000000000          4");
        assert_eq!(lines[last + 2], "#[Max     =        2.501, TotalCount     =            4]");
        assert_eq!(lines[last + 3], "#[Buckets =           32, SubBuckets     =         2048]");
        assert_eq!(lines[last + 4], "#[1 values are beyond the range and not in this table]");
    }

    #[test]
    fn nothing_recorded_is_no_row() {
        let text = String::from_utf8(percentiles(&Distribution::default())).unwrap();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2, "{text}");
    }
}
