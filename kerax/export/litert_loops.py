"""Loops as LiteRT's files have them: their conditions and bodies are functions of their own.

litert-converter 0.5 leaves them inside `tfl.while` and then refuses to write them.
"""

from collections.abc import Iterator
from typing import Any

from kerax.export.errors import package

_CONSTANTS = ("arith.constant", "tfl.pseudo_const", "tfl.no_value")


def _mlir() -> tuple[Any, Any]:
    return package("litert_converter.mlir.ir"), package("litert_converter.mlir.dialects.func")


def outline(module) -> None:
    """Moves the regions of all loops of a module into functions, the innermost loops first."""
    number = 0
    while (loop := next(_loops(module.body), None)) is not None:
        _outline_one(module, loop, number)
        number += 1


def _blocks(op) -> Iterator[Any]:
    for region in op.regions:
        yield from region.blocks


def _loops(block) -> Iterator[Any]:
    """The loops in a block that are still to be moved."""
    for op in block.operations:
        for inner in _blocks(op):
            yield from _loops(inner)
        if op.operation.name == "tfl.while":
            names = [inner.operation.name for inner in op.regions[1].blocks[0].operations]
            if names != ["func.call", "tfl.yield"]:
                yield op.operation


def _values(block) -> Iterator[tuple[str, Any]]:
    """The values that a block makes and those that it uses."""
    yield from (("made", argument) for argument in block.arguments)
    for op in block.operations:
        yield from (("made", result) for result in op.results)
        yield from (("used", operand) for operand in op.operands)
        for inner in _blocks(op):
            yield from _values(inner)


def _replace(block, by: dict[int, Any]) -> None:
    for op in block.operations:
        _replace_operands(op.operation, by)
        for inner in _blocks(op):
            _replace(inner, by)


def _replace_operands(op, by: dict[int, Any]) -> None:
    for index, operand in enumerate(op.operands):
        if hash(operand) in by:
            op.operands[index] = by[hash(operand)]


def _maker(value) -> Any:
    """The operation that makes a value; a block for an argument."""
    return getattr(value.owner, "operation", value.owner)


def _outline_one(module, loop, number: int) -> None:
    ir, func = _mlir()
    found = [pair for region in loop.regions for pair in _values(region.blocks[0])]
    made = {hash(value) for kind, value in found if kind == "made"}
    outside = {hash(value): value for kind, value in found if kind == "used" and hash(value) not in made}
    constants = {key: v for key, v in outside.items() if getattr(_maker(v), "name", None) in _CONSTANTS}
    # A function sees nothing around it: what the loop takes from there, other than constants, is carried along.
    taken = {key: value for key, value in outside.items() if key not in constants}
    types = [value.type for value in [*loop.operands, *taken.values()]]
    functions = [
        _function(module, f"while_{number}_{kind}", region.blocks[0], types, len(loop.operands), constants, list(taken))
        for kind, region in zip(("cond", "body"), loop.regions, strict=True)
    ]
    with ir.InsertionPoint(loop):
        new: Any = ir.Operation.create(
            "tfl.while",
            results=types,
            operands=[*loop.operands, *taken.values()],
            attributes={name: loop.attributes[name] for name in loop.attributes},
            regions=2,
        )
        for region, (name, results) in zip(new.regions, functions, strict=True):
            block = ir.Block.create_at_start(region, types, [ir.Location.unknown()] * len(types))
            with ir.InsertionPoint(block):
                call: Any = func.CallOp(results, ir.FlatSymbolRefAttr.get(name), list(block.arguments))
                ir.Operation.create("tfl.yield", operands=list(call.operation.results))
    for old, result in zip(loop.results, new.results, strict=False):  # the carried ones, at the end, nobody uses
        old.replace_all_uses_with(result)
    loop.erase()


def _function(module, name: str, old, types: list, num_own: int, constants: dict, taken: list[int]) -> tuple[str, list]:
    """A function of a loop's values, and of those it takes from around, with the operations of the block `old`."""
    ir, func = _mlir()
    is_test = name.endswith("cond")
    results = [ir.RankedTensorType.get([], ir.IntegerType.get_signless(1))] if is_test else types
    with ir.InsertionPoint.at_block_begin(module.body):
        function = func.FuncOp(name, ir.FunctionType.get(types, results), visibility="private")
    block = function.add_entry_block()
    carried = list(block.arguments)[num_own:]
    by = {hash(argument): block.arguments[index] for index, argument in enumerate(old.arguments)}
    by |= dict(zip(taken, carried, strict=True))
    with ir.InsertionPoint(block):
        by |= {key: _maker(value).clone().results[0] for key, value in constants.items()}
        for op in [op.operation for op in old.operations]:
            if op.name == "tfl.yield":
                outputs = [by.get(hash(operand), operand) for operand in op.operands]
                func.ReturnOp(outputs + ([] if is_test else carried))
                continue
            new = op.clone()
            _replace_operands(new, by)
            for inner in _blocks(new):
                _replace(inner, by)
            by |= {hash(before): after for before, after in zip(op.results, new.results, strict=True)}
    return name, results
