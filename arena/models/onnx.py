"""ONNX files through onnxruntime: scores, no gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from arena.errors import UserError
from arena.interface.dataset import Layout


class OnnxModel:
    """A classifier in an ONNX file, asked about numpy arrays; `layout` and `flat` are as its input says.

    Where its batch size is fixed, batches are cut and the last one is filled up. Raises UserError if onnxruntime is not
    installed, or the file is none of a classifier of images.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path}: needs onnxruntime: pip install 'arena-robustness[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # equal sums, hence equal rows
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as failure:  # onnxruntime's own, one for each of a dozen codes
            raise UserError(f"{path}: onnxruntime cannot load it: {' '.join(str(failure).split())[:300]}") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) not in (2, 3, 4):
            shapes = ", ".join(f"{one.name} {one.shape}" for one in inputs)
            raise UserError(f"{path}: takes {shapes}: a classifier of images has one input")
        self._input, shape = inputs[0].name, inputs[0].shape
        self._type = np.float64 if inputs[0].type == "tensor(double)" else np.float32
        self._output = _output(self._session.get_outputs())
        self._batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        self.flat = len(shape) == 2
        self.layout: Layout = "NHW" if len(shape) == 3 else "NHWC" if _channels_last(shape) else "NCHW"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self._batch is None:
            return self._run(x)
        filled = np.concatenate([x, np.repeat(x[-1:], -len(x) % self._batch, axis=0)])
        parts = np.split(filled, len(filled) // self._batch)
        return np.concatenate([self._run(part) for part in parts])[: len(x)]

    def _run(self, x: np.ndarray) -> np.ndarray:
        (answer,) = self._session.run([self._output], {self._input: x.astype(self._type)})
        if isinstance(answer, list):  # of skl2onnx: one {class: probability} an image
            answer = np.array([[row[key] for key in sorted(row)] for row in answer], dtype=np.float32)
        return answer


def _output(outputs: list[Any]) -> str:
    """The output that has scores: named logits, else the first that is not whole numbers; else the first, labels."""
    scores = [one.name for one in outputs if "int" not in one.type.partition("tensor(")[2] or "map(" in one.type]
    return "logits" if "logits" in scores else (scores or [outputs[0].name])[0]


def _channels_last(shape: list[Any]) -> bool:
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)
