"""Small faults put into the library one by one, to see whether its tests notice: python -m tests.mutation.

A room is a folder of `pipeline_lib`. `sites.py` finds every place of a room where a fault can be put,
`changes.py` says which, and a recorded seed chooses among the places with equal chance. `reach.py` runs the
tests once and records the lines that each of them executes; a mutant then meets the tests that reach its
line, the quickest first, up to the first that fails. Where the line runs at import, tests that name what it
declares come first. `server.py` forks a process with everything heavy imported for each mutant, in a copy
of the repository.

Faults: another comparison, arithmetic operator, number, truth value or index; `and` for `or`; a condition
negated; a call or an augmented assignment left out; `return None`; a named argument left out; `min` for
`max`, `sum` for `mean`, `any` for `all`.

Left out, because a fault there is no fault of a result, or cannot show here:

- docstrings, annotations, `__all__`, blocks under TYPE_CHECKING and `__name__ == "__main__"`: nothing runs.
- `raise` with all in it, literal parts of strings, named arguments that hold a text for people (a label, a
  description), `__repr__`, `print`, logging and warnings: wording.
- `assert`: in this library it narrows types; a changed one fails at once and would flatter the tests.
- the arguments of `@dataclass`: they forbid what no test tries, such as a change of a frozen object.
- `X | Y` between types and the values of a `Literal`: annotations by another name.
- what runs on a GPU alone: optimizers/triton_updates.py, optimizers/multi_tensor.py, and the body of an
  `if` whose condition names cuda.
- the arguments `strict` of `zip`, which is such an `assert`, and `device`: tests/device runs where there is
  a GPU.
- reporting/claims.py and reporting/finding.py: they are about to be rewritten.

Three limits. Lines that run in a process started by a test are not seen: a mutant that no test reaches, or
whose line runs at import, meets the tests that reach its file and those of its room. What a test leaves in
a cache is executed in the first test alone, so where few tests reach a line the others of their files
follow. And some survivors cannot be killed, because the changed program is the same one (`x[0:]` for
`x[:]`): read the list before the share.
"""
