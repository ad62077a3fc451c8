# What lies on this machine and was not made by the study: an edit in place reruns what depends on it.
from pipeline_lib.data.contents import Contents
from pipeline_lib.planning.identity import identities

CONTENTS = Contents()


def own_model(wildcards):
    """The base model, where it is a folder or file of this machine."""
    return identities(SUITE.models[wildcards.model], CONTENTS)


def own_data(wildcards):
    """The files that a task is made of."""
    return identities(SUITE.tasks[wildcards.task], CONTENTS)


def own_evaluation(*path):
    """What the block of the task's evaluation at this path reads."""

    def inputs(wildcards):
        block = EVALUATIONS[wildcards.task]
        for name in path:
            block = None if block is None else getattr(block, name)
        return identities(block, CONTENTS)

    return inputs
