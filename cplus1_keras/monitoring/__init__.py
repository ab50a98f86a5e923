"""Watching a training in TensorBoard: one callback for every task, which reads records."""

from cplus1_keras.monitoring.monitor import OpenSetMonitor

__all__ = ["OpenSetMonitor"]
