"""What several commands make of their options."""


def names(given: list[str]) -> tuple[str, ...]:
    """``--precision int8 INT4,nf4`` → ``int8 int4 nf4``."""
    return tuple(name.lower() for part in given for name in part.split(",") if name)
