"""Equal models that share what one of them has compiled: for tests of the loop, which need many of one kind."""

_programs: dict[str, dict] = {}


def share_programs(model, kind: str):
    """The compiled model, which compiles nothing that one of this kind has compiled in this process."""
    model.compilation.programs = _programs.setdefault(kind, {})
    return model
