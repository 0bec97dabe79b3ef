"""What a run logs of seeing and of thoughts has a chart; what it didn't log has none."""

from anatomy_r1.evaluation.records import Metrics
from anatomy_r1.evaluation.reports.training_charts import main_charts


def charts(*rows):
    return {
        chart.title: chart for chart in main_charts(Metrics([{"step": step, **row} for step, row in enumerate(rows)]))
    }


def test_reliance_on_the_image_and_true_thoughts_are_drawn_where_they_were_logged():
    logged = {"thoughts/true": 0.8, "thoughts/false": 0.1, "thoughts/unknown": 0.1, "eval/visual_reliance": 0.4}
    found = charts({"reward": 1.0}, {"reward": 1.1, **logged}, {"reward": 1.2, **logged, "eval/visual_reliance": 0.2})
    assert [legend.label for legend in found["Thoughts"].legend] == ["true", "false", "can't be told"]
    (reliance,) = found["Visual reliance"].legend
    assert (reliance.label, reliance.first, reliance.last) == ("over a blank image", "40\u202f%", "20\u202f%")
    assert charts({"reward": 1.0}, {"reward": 1.1}).keys() == {"Reward"}
