"""What scored texts show of the greedy answer to their prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def greedy_beginning(
    texts: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], end_ids: Collection[int]
) -> list[int]:
    """The first tokens of the greedy answer, as far as scored texts after the same prompt show them.

    `predicted[i][t]` is the argmax after `texts[i][:t]`. The greedy answer is followed from the prompt for
    as long as it agrees with one of the texts; the token at which it leaves the last of them is still
    known. It ends with an end token if that is reached.
    """
    tokens: list[int] = []
    agreeing = list(range(len(texts)))
    while agreeing:
        tokens.append(predicted[agreeing[0]][len(tokens)])
        if tokens[-1] in end_ids:
            break
        agreeing = [
            i for i in agreeing if len(texts[i]) > len(tokens) and texts[i][len(tokens) - 1] == tokens[-1]
        ]
    return tokens
