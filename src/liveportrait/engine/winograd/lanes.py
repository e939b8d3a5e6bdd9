"""A numba type for vectors of eight float32 numbers, for hand-written kernels with few channels.

The compiler vectorises loops over many channels by itself (`tile_kernels`), but with few channels the checks before
every such loop cost as much as the loop. For processors with narrower or wider registers the compiler splits or joins
the vectors. Sums and products may be fused; nothing else is reordered.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WHOLE = ir.VectorType(ir.IntType(32), LANES)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _VECTOR)


def _arithmetic(function: Callable[..., Any], instruction: str) -> None:
    @infer_global(function)
    class _Typed(AbstractTemplate):
        def generic(self, arguments, keywords):  # type: ignore[no-untyped-def]
            return signature(lanes, lanes, lanes) if arguments == (lanes, lanes) else None

    def lower(context, builder, kind, arguments):  # type: ignore[no-untyped-def]
        return getattr(builder, instruction)(*arguments, flags=("contract",))

    lower_builtin(function, lanes, lanes)(lower)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


def _place(context, builder, array, kind, index):  # type: ignore[no-untyped-def]
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


def _spread(builder, number):  # type: ignore[no-untyped-def]
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_WHOLE, [0] * LANES))


@intrinsic
def load(typing, array, index):  # type: ignore[no-untyped-def]
    """Eight numbers of a flat array (n,), starting at an index."""

    def lower(context, builder, kind, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, arguments[0], kind.args[0], arguments[1])
        loaded = builder.load(builder.bitcast(place, _VECTOR.as_pointer()))
        loaded.align = 4
        return loaded

    return lanes(array, types.intp), lower


@intrinsic
def store(typing, array, index, value):  # type: ignore[no-untyped-def]
    """Write eight numbers into a flat array (n,), starting at an index."""

    def lower(context, builder, kind, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, arguments[0], kind.args[0], arguments[1])
        builder.store(arguments[2], builder.bitcast(place, _VECTOR.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), lower


@intrinsic
def spread(typing, array, index):  # type: ignore[no-untyped-def]
    """The number at an index of a flat array (n,), repeated eight times."""

    def lower(context, builder, kind, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, arguments[0], kind.args[0], arguments[1])
        return _spread(builder, builder.load(place))

    return lanes(array, types.intp), lower


@intrinsic
def splat(typing, number):  # type: ignore[no-untyped-def]
    """A number, repeated eight times."""

    def lower(context, builder, kind, arguments):  # type: ignore[no-untyped-def]
        return _spread(builder, arguments[0])

    return lanes(types.float32), lower


@intrinsic
def exponential(typing, value):  # type: ignore[no-untyped-def]
    """exp of eight numbers, clipped to ±80, with a relative error of about 1e-7.

    It is 2 to an integer power, which is written into the exponent bits, times a polynomial of the remainder.
    """

    def lower(context, builder, kind, arguments):  # type: ignore[no-untyped-def]
        def constant(number: float) -> ir.Constant:
            return ir.Constant(_VECTOR, [number] * LANES)

        def named(name: str, *given: Any) -> Any:
            shape = ir.FunctionType(_VECTOR, [_VECTOR] * len(given))
            return builder.call(
                cgutils.get_or_insert_function(builder.module, shape, f"llvm.{name}.v{LANES}f32"), given
            )

        def plus_product(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(a, builder.fmul(b, c, flags=("contract",)), flags=("contract",))

        given = named("maxnum", named("minnum", arguments[0], constant(80.0)), constant(-80.0))
        whole = named("rint", builder.fmul(given, constant(1.4426950408889634)))
        # ln 2 in two parts: the first has so few digits that its product with an integer is exact.
        rest = plus_product(given, whole, constant(-0.693359375))
        rest = plus_product(rest, whole, constant(2.12194440e-4))
        made = constant(1 / 720)
        for factorial in (120, 24, 6, 2, 1, 1):
            made = plus_product(constant(1 / factorial), made, rest)
        power = builder.add(builder.fptosi(whole, _WHOLE), ir.Constant(_WHOLE, [127] * LANES))
        power = builder.shl(power, ir.Constant(_WHOLE, [23] * LANES))
        return builder.fmul(made, builder.bitcast(power, _VECTOR))

    return lanes(lanes), lower
