"""The conformance test of environments."""

from rllib_hetero.checking.check import check_env
from rllib_hetero.checking.findings import Finding, Report

__all__ = ["Finding", "Report", "check_env"]
