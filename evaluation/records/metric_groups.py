"""The parts that data sets' own metrics tell apart: SSG-VQA's hops and kinds of query, OmniMedVQA's data sets."""

from anatomy_r1.core import Question

_HOPS = {"zero_hop": "zero-hop", "one_hop": "one-hop", "single_and": "single-and"}
_ASKS = {
    "query_component": "object",
    "query_color": "attribute",
    "query_type": "attribute",
    "query_location": "attribute",
    "exist": "exist",
    "count": "count",
}


def metric_groups_of(question: Question) -> dict[str, str]:
    """By the metric's name for the grouping, the question's group; empty where its data set has no such metric."""
    details = question.details
    found = {}
    if hops := _HOPS.get(str(details.get("template")).removesuffix(".json")):
        found["hops"] = hops
    if asks := _ASKS.get(question.question_type):
        found["asks"] = asks
    if "dataset" in details:
        found["dataset"] = str(details["dataset"])
    return found
