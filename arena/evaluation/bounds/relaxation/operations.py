"""Torch's basic operations as the pieces of a graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from arena.evaluation.bounds.relaxation.activations import ELU, LeakyReLU, Logistic, Nonlinear, Tanh
from arena.evaluation.bounds.relaxation.affine import Affine, Arrangement, Convolution, Linear, Scale, Sum
from arena.evaluation.bounds.relaxation.graph import Graph, Node
from arena.evaluation.bounds.relaxation.pooling import MaxPool
from arena.evaluation.bounds.relaxation.rows import Shape

BATCH = 31  # images traced at once: a number that no size of a layer is mistaken for


class Unsupported(Exception):
    """What a graph has no piece for."""


@dataclass(frozen=True)
class _Ref:
    """A value that depends on the image: the number of its node."""

    number: int


class Reader:
    """Turns a traced module into a `graph`; what does not depend on the image becomes a constant in float64.

    ending: what came after the logits. Raises Unsupported.
    """

    def __init__(self, traced: fx.GraphModule, shape: Shape, device: torch.device) -> None:
        self.device = device
        self.ending: Callable[[Tensor], Tensor] = lambda logits: logits
        self._nodes = [Node(None, (), shape)]
        self._traced = traced
        self._known: dict[fx.Node, Any] = {}
        for node in traced.graph.nodes:
            self._known[node] = self._read(node)
        logits = self._known[node]
        if not isinstance(logits, _Ref) or len(self._nodes[logits.number].shape) != 1:
            raise Unsupported("its scores do not depend on the image by operations of torch, or are no [B, classes]")
        self.graph = self._needed(logits.number)

    def add(self, piece: Affine | Nonlinear, inputs: Sequence[_Ref], shape: Shape) -> _Ref:
        """A further node."""
        self._nodes.append(Node(piece, tuple(one.number for one in inputs), tuple(shape)))
        return _Ref(len(self._nodes) - 1)

    def shape_of(self, ref: _Ref) -> Shape:
        return self._nodes[ref.number].shape

    def piece_of(self, ref: _Ref) -> Affine | Nonlinear | None:
        return self._nodes[ref.number].piece

    def inputs_of(self, ref: _Ref) -> list[_Ref]:
        return [_Ref(number) for number in self._nodes[ref.number].inputs]

    def _needed(self, last: int) -> Graph:
        """The nodes that the last one depends on, numbered anew."""
        needed, waiting = {0}, [last]
        while waiting:
            number = waiting.pop()
            if number not in needed:
                needed.add(number)
                waiting += self._nodes[number].inputs
        numbers = {old: new for new, old in enumerate(sorted(needed))}
        kept = (self._nodes[old] for old in numbers)
        return Graph(tuple(replace(node, inputs=tuple(numbers[i] for i in node.inputs)) for node in kept))

    def _read(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return _Ref(0)
        if node.op == "get_attr":
            return _constant(getattr(self._traced, str(node.target)))
        args: Any = fx.map_arg(node.args, lambda one: self._known[one])
        if node.op == "output":
            return args[0]
        kwargs: Any = fx.map_arg(node.kwargs, lambda one: self._known[one])
        if node.target is operator.getitem:
            if isinstance(args[0], _Ref) and args[1] != 0:
                raise Unsupported("it uses where the maximum of a pooling is, or what a batch norm measures")
            return args[0] if isinstance(args[0], _Ref) else args[0][args[1]]
        if not any(isinstance(one, _Ref) for one in _flat([*args, *kwargs.values()])):
            return _constant(node.target(*args, **kwargs))  # type: ignore[operator]
        name = getattr(node.target, "_opname", str(node.target))
        if name in ("_softmax", "_log_softmax"):
            return self._softmax(node, name, args)
        if name not in READERS:
            raise Unsupported(f"it computes {name}, which is not among {', '.join(sorted(READERS))}")
        value = node.meta["val"]
        shape = (value[0] if isinstance(value, tuple) else value).shape
        if not shape or shape[0] != BATCH:
            raise Unsupported(f"{name} mixes images of a batch")
        return READERS[name](self, shape[1:], *args, **kwargs)

    def _softmax(self, node: fx.Node, name: str, args: Sequence[Any]) -> Any:
        if args[1] not in (1, -1) or any(user.op != "output" for user in node.users):
            raise Unsupported("it computes a softmax that is not the last of its layers")
        self.ending = partial(torch.softmax if name == "_softmax" else torch.log_softmax, dim=1)
        return args[0]


def _constant(value: Any) -> Any:
    """Numbers in float64."""
    return value.detach().double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, list | tuple) else (value,)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (values[0], values[-1])


def _convolution(
    reader: Reader,
    shape: Shape,
    x: _Ref,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> _Ref:
    if transposed or weight.ndim != 4:
        raise Unsupported("it has a convolution that is transposed, or not in two dimensions")
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    piece = Convolution(weight, bias, _pair(stride), _pair(padding), _pair(dilation), groups)
    return reader.add(piece, [x], shape)


def _linear(reader: Reader, shape: Shape, x: _Ref, matrix: Tensor, bias: Tensor | None = None) -> _Ref:
    if not isinstance(x, _Ref) or not isinstance(matrix, Tensor) or len(shape) != 1:
        raise Unsupported("it multiplies matrices other than [B, n] by weights")
    return reader.add(Linear(matrix.T, matrix.new_zeros(matrix.shape[1]) if bias is None else bias), [x], shape)


def _addmm(reader: Reader, shape: Shape, bias: Tensor, x: _Ref, matrix: Tensor) -> _Ref:
    if isinstance(bias, _Ref):
        raise Unsupported("it multiplies matrices other than [B, n] by weights")
    return _linear(reader, shape, x, matrix, bias)


def _batch_norm(
    reader: Reader,
    shape: Shape,
    x: _Ref,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    epsilon: float,
) -> _Ref:
    """Into the convolution before it, where there is one."""
    if training or mean is None or variance is None:
        raise Unsupported("it normalises by the statistics of the batch: call eval()")
    factor = (1 if weight is None else weight) / (variance + epsilon).sqrt()
    shift = (0 if bias is None else bias) - mean * factor
    before = reader.piece_of(x)
    if isinstance(before, Convolution):
        weight, bias = before.weight * factor[:, None, None, None], before.bias * factor + shift
        return reader.add(replace(before, weight=weight, bias=bias), reader.inputs_of(x), shape)
    return _scale(reader, shape, x, *(part.view(-1, *[1] * (len(shape) - 1)) for part in (factor, shift)))


def _scale(reader: Reader, shape: Shape, x: _Ref, factor: Any, shift: Any) -> _Ref:
    """x * factor + shift, for numbers and tensors that fit one image."""
    if shape != reader.shape_of(x):
        raise Unsupported("it adds or multiplies by what is larger than one image")
    spread = []
    for value in (factor, shift):
        value = torch.as_tensor(value, dtype=torch.float64, device=reader.device)
        if value.ndim > len(shape):
            if len(value) != 1:
                raise Unsupported("it adds or multiplies by another tensor for each image of a batch")
            value = value[0]
        spread.append(value.expand(shape))
    return reader.add(Scale(*spread), [x], shape)


def _add(reader: Reader, shape: Shape, a: Any, b: Any, alpha: float = 1) -> _Ref:
    if isinstance(a, _Ref) and isinstance(b, _Ref):
        if reader.shape_of(a) != shape or reader.shape_of(b) != shape:
            raise Unsupported("it adds values of different shapes")
        return reader.add(Sum(), [a, b if alpha == 1 else _scale(reader, shape, b, alpha, 0)], shape)
    if isinstance(a, _Ref):
        return _scale(reader, shape, a, 1, b * alpha)
    return _scale(reader, shape, b, alpha, a)


def _sub(reader: Reader, shape: Shape, a: Any, b: Any, alpha: float = 1) -> _Ref:
    return _add(reader, shape, a, b, -alpha)


def _rsub(reader: Reader, shape: Shape, a: Any, b: Any, alpha: float = 1) -> _Ref:
    return _add(reader, shape, b, a, -alpha)


def _mul(reader: Reader, shape: Shape, a: Any, b: Any) -> _Ref:
    if isinstance(a, _Ref) and isinstance(b, _Ref):
        raise Unsupported("it multiplies two values that depend on the image")
    return _scale(reader, shape, a, b, 0) if isinstance(a, _Ref) else _scale(reader, shape, b, a, 0)


def _div(reader: Reader, shape: Shape, a: Any, b: Any, rounding_mode: str | None = None) -> _Ref:
    if isinstance(b, _Ref) or rounding_mode is not None:
        raise Unsupported("it divides by a value that depends on the image, or rounds the quotient")
    return _scale(reader, shape, a, 1 / b, 0)


def _negate(reader: Reader, shape: Shape, x: _Ref) -> _Ref:
    return _scale(reader, shape, x, -1, 0)


def _same(reader: Reader, shape: Shape, x: _Ref, *args: Any, dtype: Any = None, **kwargs: Any) -> _Ref:
    """Copies, dropout in evaluation, and what changes the type or the memory alone."""
    if dtype not in (None, torch.float32, torch.float64):
        raise Unsupported(f"it computes in {dtype}, whose rounding no bound covers")
    return x


def _elu(reader: Reader, shape: Shape, x: _Ref, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> _Ref:
    if not 0 <= alpha <= 1 or (scale, input_scale) != (1, 1):
        raise Unsupported(f"it has an ELU with alpha = {alpha:g}, scale = {scale:g}: it is convex up to alpha = 1 only")
    return reader.add(ELU(alpha), [x], shape)


def _relu(reader: Reader, shape: Shape, x: _Ref, share: float = 0.01) -> _Ref:
    if not 0 <= share <= 1:
        raise Unsupported(f"it has a leaky ReLU with the slope {share:g}: it is convex from 0 to 1 only")
    return reader.add(LeakyReLU(share), [x], shape)


def _max_pool(
    reader: Reader,
    shape: Shape,
    x: _Ref,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil: bool = False,
) -> _Ref:
    if _pair(dilation) != (1, 1) or ceil:
        raise Unsupported("it has a max pooling with dilation or ceil_mode")
    return reader.add(MaxPool(_pair(kernel), _pair(stride or kernel), _pair(padding)), [x], shape)


def _view(reader: Reader, shape: Shape, x: _Ref, size: Any) -> _Ref:
    return _arranged(reader, shape, [x], lambda value: value.reshape(-1, *shape))


def _permute(reader: Reader, shape: Shape, x: _Ref, dims: list[int]) -> _Ref:
    if dims[0] != 0:
        raise Unsupported("permute mixes images of a batch")
    return _arranged(reader, shape, [x], lambda value: value.permute(dims))


def _average(function: Callable[..., Tensor]) -> Callable[..., _Ref]:
    """The reader of an operation on each image by itself whose coefficients are not negative."""

    def read(reader: Reader, shape: Shape, x: _Ref, *args: Any, **kwargs: Any) -> _Ref:
        return _arranged(reader, shape, [x], lambda value: function(value, *args, **kwargs))

    return read


def _pad(reader: Reader, shape: Shape, x: _Ref, pad: list[int], value: float = 0) -> _Ref:
    if value != 0 or len(pad) // 2 > len(shape):
        raise Unsupported(f"it pads images with {value:g}, not with zeros")
    return _arranged(reader, shape, [x], lambda given: torch.nn.functional.pad(given, pad))


def _concatenate(reader: Reader, shape: Shape, parts: Sequence[Any], dim: int = 0) -> _Ref:
    if not all(isinstance(one, _Ref) for one in parts):
        raise Unsupported("it concatenates values with constants")
    return _arranged(reader, shape, parts, lambda *values: torch.cat(values, dim))


def _arranged(reader: Reader, shape: Shape, inputs: Sequence[_Ref], function: Callable[..., Tensor]) -> _Ref:
    return reader.add(Arrangement(function), inputs, shape)


READERS: dict[str, Callable[..., _Ref]] = {
    "convolution": _convolution,
    "addmm": _addmm,
    "mm": _linear,
    "native_batch_norm": _batch_norm,
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _negate,
    **dict.fromkeys(("clone", "detach", "alias", "_to_copy", "lift_fresh_copy"), _same),
    "relu": partial(_relu, share=0.0),
    "leaky_relu": _relu,
    "elu": _elu,
    "sigmoid": lambda reader, shape, x: reader.add(Logistic(), [x], shape),
    "tanh": lambda reader, shape, x: reader.add(Tanh(), [x], shape),
    "max_pool2d_with_indices": _max_pool,
    **dict.fromkeys(("view", "_unsafe_view", "reshape"), _view),
    **dict.fromkeys(("squeeze", "unsqueeze"), _view),
    "permute": _permute,
    "avg_pool2d": _average(torch.ops.aten.avg_pool2d.default),
    "_adaptive_avg_pool2d": _average(torch.ops.aten._adaptive_avg_pool2d.default),
    "mean": _average(torch.ops.aten.mean.dim),
    "sum": _average(torch.ops.aten.sum.dim_IntList),
    "constant_pad_nd": _pad,
    "cat": _concatenate,
}
