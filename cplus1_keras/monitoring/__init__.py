"""Watching a training in TensorBoard: one callback for every task, which reads records."""

from cplus1_keras.monitoring.monitor import OpenSetMonitor
from cplus1_keras.monitoring.runs import make_monitor

__all__ = ["OpenSetMonitor", "make_monitor"]
