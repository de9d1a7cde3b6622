"""Writes the event files and the pages in tests/data that the tests read.

    pip install tensorboard==2.21.0 tensorboardX==2.6.5 prometheus_client==0.26.0
    python3 tests/data/events.py tests/data
"""
import os
import pathlib
import shutil
import socket
import sys
import time

import numpy as np
import prometheus_client as prometheus
import tensorboardX
from prometheus_client import openmetrics
from prometheus_client.openmetrics import exposition
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

ROOT = pathlib.Path(sys.argv[1])
# Neither this machine nor this day shall stand in the files.
socket.gethostname = lambda: "host"
time.time = lambda: 1700000000.0
os.getpid = lambda: 17


def fresh(name):
    folder = ROOT / "events" / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def pytorch():
    """As torch.utils.tensorboard.SummaryWriter writes, whose copy tensorboardX is: scalars as floats, among other things."""
    folder = fresh("pytorch")
    writer = tensorboardX.SummaryWriter(str(folder))
    writer.add_text("config", "lr: 0.1")
    for epoch in range(1, 6):
        writer.add_scalar("loss/train", 1 / epoch, epoch)
        writer.add_scalar("val/accuracy", 0.9 - 0.5 / epoch, epoch)
        writer.add_scalars("loss", {"train": 1 / epoch, "val": 1.1 / epoch}, epoch)
    writer.add_histogram("weights", np.arange(8), 5)
    writer.add_image("sample", np.zeros((3, 8, 8), np.uint8), 5)
    writer.close()


def keras():
    """As the callback keras.callbacks.TensorBoard writes: tensors, in a folder for each of training and validation."""
    folder = fresh("keras")
    for index, name in enumerate(["train", "validation"]):
        writer = EventFileWriter(str(folder / name), filename_suffix=".v2")
        for epoch in range(5):
            for tag, value in [("epoch_loss", 1 / (epoch + 1) + index), ("epoch_accuracy", 0.5 + epoch / 10 - index / 10)]:
                writer.add_event(event_pb2.Event(step=epoch, wall_time=time.time(), summary=scalar_pb(tag, value)))
        weights = histogram_pb("dense/kernel", np.arange(4.0))
        writer.add_event(event_pb2.Event(step=0, wall_time=time.time(), summary=weights))
        writer.close()


def types():
    """A tensor of each type of number."""
    writer = EventFileWriter(str(fresh("types")))
    kinds = {
        "float": tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[0.25]),
        "double": tensor_pb2.TensorProto(dtype=types_pb2.DT_DOUBLE, double_val=[0.1]),
        "half": tensor_pb2.TensorProto(dtype=types_pb2.DT_HALF, half_val=[int(np.float16(0.1).view(np.uint16))]),
        "int": tensor_pb2.TensorProto(dtype=types_pb2.DT_INT32, int_val=[-7]),
        "long": tensor_pb2.TensorProto(dtype=types_pb2.DT_INT64, tensor_content=np.int64(2**40).tobytes()),
        "content": tensor_pb2.TensorProto(dtype=types_pb2.DT_DOUBLE, tensor_content=np.float64(0.1).tobytes()),
        "text": tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b"1"]),
        "two": tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1, 2]),
    }
    values = [summary_pb2.Summary.Value(tag=tag, tensor=tensor) for tag, tensor in kinds.items()]
    writer.add_event(event_pb2.Event(step=3, wall_time=time.time(), summary=summary_pb2.Summary(value=values)))
    writer.close()


def pages():
    """A page as prometheus_client serves it, and as OpenMetrics."""
    folder = ROOT / "pages"
    folder.mkdir(exist_ok=True)
    registry = prometheus.CollectorRegistry()
    prometheus.Gauge("val_accuracy", "Of the last epoch.", registry=registry).set(0.91)
    prometheus.Gauge("loss", "Of the last epoch.", ["split"], registry=registry).labels("train").set(0.3)
    prometheus.Counter("epoch", "That are done.", registry=registry).inc(7)
    prometheus.Histogram("batch_seconds", "Of a batch.", registry=registry).observe(0.3)
    prometheus.Info("build", "The trainer's.", registry=registry).info({"version": '1 "final"'})
    prometheus.PlatformCollector(registry=registry)
    (folder / "prometheus.txt").write_bytes(prometheus.generate_latest(registry))
    (folder / "openmetrics.txt").write_bytes(exposition.generate_latest(registry))


pytorch()
keras()
types()
pages()
