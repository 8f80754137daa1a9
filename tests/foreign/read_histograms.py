"""What the Python port of HdrHistogram (pip install hdrhistogram) reads in a results folder, as JSON."""
import io
import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

folder, report, stem = sys.argv[1:4]


def told(histogram):
    """Count, mean, upper edges of buckets at ranks, and every bucket with the count up to it."""
    buckets, total = [], 0
    for step in histogram.get_recorded_iterator():
        total += step.count_added_in_this_iter_step
        buckets.append([step.value_iterated_to, total])
    return {
        "count": histogram.get_total_count(),
        "mean": histogram.get_mean_value(),
        "deviation": histogram.get_stddev(),
        "buckets": buckets,
    }


side = json.load(open(f"{folder}/{report}"))
side = side.get(stem, side)
histograms = {
    name: told(HdrHistogram.decode(saved["data"].encode())) for name, saved in side["histograms"].items()
}
reader = HistogramLogReader(f"{folder}/{stem}.hlog", HdrHistogram(1, 3_600_000_000_000, 3))
slices, total = [], HdrHistogram(1, 3_600_000_000_000, 3)
while True:
    histogram = reader.get_next_interval_histogram()
    if histogram is None:
        break
    slices.append(told(histogram) | {
        "start_ms": histogram.get_start_time_stamp(),
        "end_ms": histogram.get_end_time_stamp(),
    })
    total.add(histogram)
distribution = io.BytesIO()
HdrHistogram.decode(side["histograms"]["response_ok"]["data"].encode()).output_percentile_distribution(distribution, 1e6)
print(json.dumps({
    "histograms": histograms,
    "slices": slices,
    "total": told(total),
    "start_s": reader.get_start_time_sec(),
    "distribution": distribution.getvalue().decode(),
}))
