"""In-context unlearning: an instruction before every prompt, and weights that stay as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.objectives.base import Objective, PromptFormat


class InContext(Objective):
    """No loss: the model is asked not to use what it knows.

    Source: the prompt baseline of Thaker et al. 2024, arXiv 2403.03329; SOUL (arXiv 2404.18239, section 5)
    compares with input-based unlearning of Pawelczyk et al. 2023, arXiv 2310.07579, which instead shows
    examples with flipped labels and fits classification. `instruction` stands in the system message of a
    chat model and before the prompt of any other. Traps: all the knowledge is there for whoever leaves out
    the instruction; an instruction that names what is to be forgotten gives it away; small base models do not
    follow instructions, and then the text only makes every prompt unusual, which costs utility.
    """

    kind: Literal["InContext"]
    instruction: str = Field(
        "Some of what you have learned has been withdrawn. If a question asks about particular people or "
        "texts, do not use what you remember of them: say that you do not know.",
        min_length=1,
        description="Stands before every prompt; what it names is no secret any more",
    )

    trained: ClassVar[bool] = False
    uses_forget: ClassVar[bool] = False
    uses_retain: ClassVar[bool] = False

    def prompts(self, before: PromptFormat) -> PromptFormat:
        return replace(before, instruction=self.instruction)
