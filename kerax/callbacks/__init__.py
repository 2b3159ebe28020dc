"""Callbacks: what happens beside training."""

from kerax.callbacks.averaging import SwapEMAWeights
from kerax.callbacks.callback import Callback, When
from kerax.callbacks.callback_list import CallbackList
from kerax.callbacks.checkpoints import BackupAndRestore, ModelCheckpoint, OrbaxCheckpoint
from kerax.callbacks.history import CSVLogger, History, LambdaCallback
from kerax.callbacks.loggers import JSONLogger, LearningRateLogger, RemoteMonitor
from kerax.callbacks.monitors import EarlyStopping, LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN
from kerax.callbacks.progress import ProgbarLogger
from kerax.callbacks.services import Logging, MLflowLogger, WandbLogger
from kerax.callbacks.tensorboard import TensorBoard
from kerax.callbacks.throughput import Throughput

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "LambdaCallback",
    "LearningRateLogger",
    "LearningRateScheduler",
    "Logging",
    "MLflowLogger",
    "ModelCheckpoint",
    "OrbaxCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
    "Throughput",
    "WandbLogger",
    "When",
]
