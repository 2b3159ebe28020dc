import re
from pathlib import Path

import jax
import jax.numpy as jnp

from kerax.core.jaxprs import equations, interpret

PACKAGE = Path(__file__).parents[2] / "kerax"


def test_equations_at_any_depth_are_found():
    def function(x):
        body = lambda carry, row: (jnp.sin(carry) + row, None)
        return jax.lax.cond(x.sum() > 0, lambda x: jax.lax.scan(body, x[0], x)[0], lambda x: jnp.cos(x[0]), x)

    names = [equation.primitive.name for equation in equations(jax.make_jaxpr(function)(jnp.ones((2, 3))).jaxpr)]
    assert {"cond", "scan", "sin", "cos"} <= set(names)


def test_what_a_rule_knows_is_interpreted_through_calls():
    def function(x, y):
        return jax.jit(lambda x: x + 1)(x), y * 2, 3.0

    def rule(equation, inputs):
        is_known = equation.primitive.name in ("add", "mul") and None not in inputs
        return [equation.primitive.bind(*inputs, **equation.params)] if is_known else None

    program = jax.make_jaxpr(function)(1.0, 1.0)
    first, second, third = interpret(program.jaxpr, program.consts, [jnp.float32(4), None], rule)
    assert (first, second, third) == (5, None, 3)


READERS = ("plan", "export")


def test_nobody_else_takes_programs_apart():
    # The second in `only_adds`; the third tells programs apart by their text, and reads nothing in it.
    allowed = {"core/jaxprs.py", "train/programs.py", "core/executable.py"}
    apart = re.compile(r"\.eqns\b|\.as_text\(|\.cost_analysis\(|\.as_hlo|compiler_ir")
    files = [path for path in PACKAGE.rglob("*.py") if apart.search(path.read_text())]
    # Plans read programs, exports write them for others: it is what they are there for.
    names = {str(path.relative_to(PACKAGE)) for path in files if path.relative_to(PACKAGE).parts[0] not in READERS}
    assert names <= allowed
