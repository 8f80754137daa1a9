"""What prometheus_client's strict parser of OpenMetrics reads in a file, as JSON."""
import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

text = open(sys.argv[1], encoding="utf-8").read()
print(json.dumps({
    family.name: {
        "type": family.type,
        "unit": family.unit,
        "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
    }
    for family in text_string_to_metric_families(text)
}))
