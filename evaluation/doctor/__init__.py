"""What is wrong with a run, on what evidence, and what to try."""

from anatomy_r1.evaluation.doctor.checks import CHECKS, Check, checks_table
from anatomy_r1.evaluation.doctor.diagnosis import Diagnosis, Examination, diagnose
from anatomy_r1.evaluation.doctor.patient import standard_error

__all__ = ["CHECKS", "Check", "Diagnosis", "Examination", "checks_table", "diagnose", "standard_error"]
