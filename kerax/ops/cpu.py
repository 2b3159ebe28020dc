"""XLA's CPU backend: what its programs need."""

from kerax.core.jaxprs import equations


def compiler_options(jaxpr) -> dict[str, str]:
    """Options with which a program is compiled."""
    return {}


def is_slow_in_loops(jaxpr) -> bool:
    """Whether a jaxpr or one inside it has a convolution with groups, or with axes in another order than XLA's own."""
    convolutions = (found for found in equations(jaxpr) if found.primitive.name == "conv_general_dilated")
    return not all(_is_in_order(convolution.params) for convolution in convolutions)


def _is_in_order(params: dict) -> bool:
    numbers = params["dimension_numbers"]
    rank = len(numbers.lhs_spec) - 2
    data, kernel = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
    in_order = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (data, kernel, data)
    return in_order and params["feature_group_count"] == params["batch_group_count"] == 1
