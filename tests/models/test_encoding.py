"""Running text as tokens: one text tokenised together, an exact boundary, labels, and replies after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record
from pipeline_lib.models.encoding import encode_records, encode_replies
from pipeline_lib.models.prompt import PromptFormat
from tests.data.tokenizers import TEXT, byte_level, metaspace

FORMAT = PromptFormat("template", template="<user>{prompt}<assistant>", answer_prefix=" ")
TOKENIZERS = [byte_level, lambda: byte_level(bos=True), metaspace]
CUT = TEXT.index(" at the quay")
CUTS = [i for i in range(1, len(TEXT) - 1) if TEXT[:i].strip() and TEXT[i:].strip()]


def text_record(cut: int) -> Record:
    return Record("a", TEXT[:cut], TEXT[cut:], "g", form="text")


def one(tokenizer, record: Record, learn: bool = False, fmt: PromptFormat = FORMAT):
    return encode_records([record], tokenizer, fmt, 400, learn)[0]


@pytest.mark.parametrize("make", TOKENIZERS)
def test_tokens_are_those_of_the_whole_text_wherever_it_is_cut(make) -> None:
    """Also within words, before and after spaces, and beside characters of several tokens."""
    tokenizer = make()
    whole = tokenizer.encode(TEXT)  # with the begin token where the tokenizer puts one itself
    begin = int(whole[0] == tokenizer.bos_token_id)
    ends = tokenizer(TEXT, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert whole[begin:] == tokenizer.encode(TEXT, add_special_tokens=False)
    inside = 0
    for cut in CUTS:
        example = one(tokenizer, text_record(cut))
        assert list(example.tokens) == whole
        # by hand: tokens whose first character stands before the cut are the prompt's
        starts_before = sum(start < cut for start, _ in ends)
        assert example.prompt_length == begin + starts_before
        inside += any(start < cut < end for start, end in ends)
    assert inside > 20  # the cut did fall within tokens


def test_the_token_that_holds_the_boundary_belongs_to_the_answer_only_if_it_starts_there() -> None:
    tokenizer = byte_level()
    assert tokenizer.tokenize("The ferryman") == ["The", "Ġferryman"]
    spell = tokenizer.convert_ids_to_tokens
    for prompt, answer, last, first in (
        ("The", " ferryman.", "The", "Ġferryman"),
        ("The ferry", "man.", "Ġferryman", "."),
        ("The ", "ferryman.", "Ġferryman", "."),
    ):
        example = one(tokenizer, Record("a", prompt, answer, "g", form="text"))
        assert spell(example.tokens[example.prompt_length - 1]) == last
        assert spell(example.tokens[example.prompt_length]) == first


def test_white_space_that_is_in_no_token_is_the_start_of_the_next_one() -> None:
    """Some tokenizers leave the space out of the characters that they say a token has."""
    import copy

    from tokenizers import processors

    tokenizer = copy.deepcopy(byte_level())
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    offsets = tokenizer("The ferryman", return_offsets_mapping=True)["offset_mapping"]
    assert offsets[-1] == (4, 12)  # not 3
    before_space = one(tokenizer, Record("a", "The", " ferryman", "g", form="text"))
    assert len(before_space.tokens) - before_space.prompt_length == 1
    with pytest.raises(UserError, match=r"record 'a': no token starts in 'ferryman'"):
        one(tokenizer, Record("a", "The ", "ferryman", "g", form="text"))


@pytest.mark.parametrize("make", TOKENIZERS)
def test_learning_labels_the_whole_text_and_judging_the_answer(make) -> None:
    tokenizer = make()
    begin = int(tokenizer.encode("a")[0] == tokenizer.bos_token_id)
    record = text_record(CUT)
    learned, judged = one(tokenizer, record, learn=True), one(tokenizer, record)
    assert learned.tokens == judged.tokens
    assert learned.prompt_length == begin + 1
    assert judged.prompt_length > begin + 1
    assert tokenizer.eos_token_id not in learned.tokens  # running text does not end
    assert "<user>" not in tokenizer.convert_ids_to_tokens(learned.tokens)


@pytest.mark.parametrize("make", TOKENIZERS)
def test_text_survives_encoding_and_decoding(make) -> None:
    tokenizer = make()
    offsets = tokenizer(TEXT, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    # where a token lies across the cut the answer begins after it, and is not the record's
    spaces = [i for i in CUTS if TEXT[i] == " " and not any(start < i < end for start, end in offsets)]
    assert len(spaces) > 20
    for cut in spaces:
        example = one(tokenizer, text_record(cut))
        prompt, answer = example.tokens[: example.prompt_length], example.tokens[example.prompt_length :]
        assert FORMAT.decode_text(tokenizer, prompt, answer) == TEXT[cut:]
        ended = [*answer, tokenizer.eos_token_id, *prompt]
        assert FORMAT.decode_text(tokenizer, prompt, ended) == TEXT[cut:]


def test_text_that_spells_a_control_token_stays_text() -> None:
    tokenizer = byte_level()
    example = one(tokenizer, Record("a", "He wrote <eos> and <user>", " then <eos>.", "g", form="text"))
    assert not set(example.tokens) & set(tokenizer.all_special_ids)


def test_the_begin_token_is_the_tokenizers_own_habit_or_the_formats() -> None:
    record = text_record(CUT)
    plain, begun = byte_level(), byte_level(bos=True)
    with_bos = replace(FORMAT, add_bos=True)
    assert plain.bos_token_id not in one(plain, record).tokens
    for example in (one(begun, record), one(plain, record, fmt=with_bos), one(begun, record, fmt=with_bos)):
        assert example.tokens[0] == plain.bos_token_id
        assert example.tokens.count(plain.bos_token_id) == 1
    begun_chat = one(begun, record, fmt=PromptFormat("chat"))  # its template is not used for running text
    assert begun_chat == one(begun, record)


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("learn", [True, False])
def test_an_instruction_stands_before_the_text_and_is_never_learned(make, learn) -> None:
    tokenizer, record = make(), text_record(CUT)
    plain = one(tokenizer, record, learn)
    told = one(tokenizer, record, learn, replace(FORMAT, instruction="Never quote the goat."))
    begin = int(tokenizer.encode("a")[0] == tokenizer.bos_token_id)
    added = len(told.tokens) - len(plain.tokens)
    text = tokenizer.decode(told.tokens[begin : begin + added])
    assert text.rstrip("\n") == "Never quote the goat."
    assert told.tokens[:begin] == plain.tokens[:begin]
    assert told.tokens[begin + added :] == plain.tokens[begin:]
    assert told.prompt_length == plain.prompt_length + added


def test_questions_are_labelled_on_the_answer_alone_either_way() -> None:
    tokenizer, record = byte_level(), Record("a", "Who?", "Anna.", "g")
    learned, judged = one(tokenizer, record, learn=True), one(tokenizer, record)
    assert learned == judged
    spelled = tokenizer.decode(learned.tokens, skip_special_tokens=False)
    assert spelled == "<user>Who?<assistant> Anna.<eos>"
    assert tokenizer.decode(learned.tokens[learned.prompt_length :]) == " Anna.<eos>"


@pytest.mark.parametrize("make", TOKENIZERS)
def test_a_reply_after_running_text_is_labelled_alone_and_ends(make) -> None:
    tokenizer, record = make(), text_record(CUT)
    assert TEXT[CUT].isspace() and not TEXT[CUT - 1].isspace()
    whole = one(tokenizer, record)
    for example in encode_replies(record, ["I will not.", " No."], tokenizer, FORMAT, 400, index=7):
        assert example.index == 7
        assert example.tokens[: example.prompt_length] == whole.tokens[: whole.prompt_length]
        assert example.tokens[-1] == tokenizer.eos_token_id
    first, second = (
        FORMAT.decode_text(
            tokenizer, example.tokens[: example.prompt_length], example.tokens[example.prompt_length :]
        )
        for example in encode_replies(record, ["I will not.", " No."], tokenizer, FORMAT, 400, index=0)
    )
    assert (first, second) == (" I will not.", " No.")  # one space, not two


def test_a_reply_to_a_question_is_encoded_as_its_answer() -> None:
    tokenizer, record = byte_level(), Record("a", "Who?", "Anna.", "g")
    [reply] = encode_replies(record, ["Nobody."], tokenizer, FORMAT, 400, index=3)
    assert reply == replace(one(tokenizer, replace(record, answer="Nobody.")), index=3)


@pytest.mark.parametrize("form", ["question", "text"])
def test_what_does_not_fit_is_refused_by_name(form) -> None:
    record = Record("chunk-3", TEXT, TEXT, "g", form=form)
    with pytest.raises(UserError, match=r"record 'chunk-3' needs \d+ tokens but the context holds 30"):
        encode_records([record], byte_level(), FORMAT, 30, learn=True)
    with pytest.raises(UserError, match=r"record 'chunk-3' needs \d+ tokens"):
        encode_replies(record, ["No."], byte_level(), FORMAT, 30, index=0)


def test_a_tokenizer_without_characters_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match=r"record 'a': .*tokenizer\.json"):
        one(Slow(), text_record(CUT))
