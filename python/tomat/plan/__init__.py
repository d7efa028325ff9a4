"""Plans of tokenization runs: rows, coverage, bytes, hours; docs/catalogue.md has the formulas."""

from tomat.plan.budgets import budget_effect
from tomat.plan.expectation import expected_coverage, expected_histogram
from tomat.plan.planner import Plan, plan
from tomat.plan.rate import Rate, measure

__all__ = ["Plan", "Rate", "budget_effect", "expected_coverage", "expected_histogram", "measure", "plan"]
