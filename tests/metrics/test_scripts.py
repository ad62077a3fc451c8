"""Answers in other scripts: right is right, wrong is wrong, and what cannot be told is not measured."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from pipeline_lib.metrics.bleu import sentence_bleu
from pipeline_lib.metrics.bleu import tokenizer_of as bleu_tokenizer
from pipeline_lib.metrics.extraction_rate import is_extracted
from pipeline_lib.metrics.longest_match import longest_match
from pipeline_lib.metrics.rouge import rouge_recall_and_f1, tokenizer_of, tokenizers_of
from pipeline_lib.metrics.scores import score_all
from pipeline_lib.metrics.words import pieces, words
from tests.metrics.rows import make_row
from tests.metrics.test_wording import corpus_bleu

# language -> the true answer, one with its last word changed, its words, ROUGE's and BLEU's tokenizers
TEXTS = {
    "Chinese": ("李青山出生在成都。", "李青山出生在北京。", 8, "unicode", "zh"),
    "Japanese": ("彼女は京都で生まれた。", "彼女は大阪で生まれた。", 10, "unicode", "char"),
    "Thai": ("เธอเกิดที่ตรัง", "เธอเกิดที่ชลบุรี", 10, "unicode", "char"),
    "Lao": ("ລາວເກີດຢູ່ປາກເຊ", "ລາວເກີດຢູ່ວຽງຈັນ", 12, "unicode", "char"),
    "Khmer": ("គាត់កើតនៅតាកែវ", "គាត់កើតនៅកំពត", 8, "unicode", "char"),
    "Burmese": ("သူမန္တလေးမှာမွေးတယ်", "သူရန်ကုန်မှာမွေးတယ်", 9, "unicode", "char"),
    "Arabic": ("ولد سمير في صيدا.", "ولد سمير في حلب.", 4, "unicode", "intl"),
    "Persian": ("او در شیراز می‌زیست", "او در تبریز می‌زیست", 4, "unicode", "intl"),
    "Hebrew": ("היא נולדה בעיר חיפה", "היא נולדה בעיר עכו", 4, "unicode", "intl"),
    "Hindi": ("वह पुणे में पैदा हुई।", "वह दिल्ली में पैदा हुई।", 5, "unicode", "intl"),
    "Tamil": ("அவர் மதுரையில் பிறந்தார்", "அவர் கோவையில் பிறந்தார்", 3, "unicode", "intl"),
    "Russian": ("Она родилась в Туле.", "Она родилась в Омске.", 4, "unicode", "intl"),
    "Greek": ("Γεννήθηκε στην Πάτρα", "Γεννήθηκε στην Αθήνα", 3, "unicode", "intl"),
    "Korean": ("그는 부산에서 태어났다", "그는 서울에서 태어났다", 3, "unicode", "intl"),
    "Georgian": ("ის დაიბადა ქუთაისში", "ის დაიბადა თბილისში", 3, "unicode", "intl"),
    "French": ("Née à Sète, elle y vécut.", "Née à Nîmes, elle y vécut.", 6, "unicode", "13a"),
    "German": ("Über Köln hörte er nie.", "Über Bonn hörte er nie.", 5, "unicode", "13a"),
    "Turkish": ("Çeşme'de doğdu ve öldü", "İzmir'de doğdu ve öldü", 4, "unicode", "13a"),
    "Vietnamese": ("Ông ấy sinh ở Huế", "Ông ấy sinh ở Vinh", 5, "unicode", "13a"),
    "English": ("She was born in Leeds.", "She was born in York.", 5, "rouge-score", "13a"),
    "symbols": ("+ / -", "+ / *", 0, "characters", "13a"),
    "emoji": ("🎨🎻", "🎨🎺", 0, "characters", "13a"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_right_answer_is_right_and_a_wrong_one_is_not(language: str) -> None:
    true, wrong, number, rouge, bleu = TEXTS[language]
    assert (tokenizer_of(true), bleu_tokenizer(true), len(words(true))) == (rouge, bleu, number)
    for kind in ("rouge1", "rougeL"):
        assert rouge_recall_and_f1(true, true, kind) == (1.0, 1.0)
        assert rouge_recall_and_f1("", true, kind) == (0.0, 0.0)
        assert 0 < rouge_recall_and_f1(wrong, true, kind)[0] < 1
    assert sentence_bleu(true, true) == pytest.approx(100)
    assert sentence_bleu(wrong, true) < 90
    assert longest_match(true, true) == number
    assert is_extracted(true, true) == float(number > 0)
    assert is_extracted(wrong, true) == 0.0


def test_rouge_of_chinese_and_hindi_by_hand() -> None:
    # 6 of 8 characters; the vowel signs of Hindi stay in their words: 4 of 5
    assert rouge_recall_and_f1(*TEXTS["Chinese"][1::-1]) == (0.75, 0.75)
    assert rouge_recall_and_f1(*TEXTS["Hindi"][1::-1]) == (pytest.approx(0.8), pytest.approx(0.8))


def test_one_form_of_a_letter_is_another() -> None:
    """Decomposed accents, full width, half-width kana, joiners, variation selectors, upper case."""
    for one, other in (
        ("Sète", "Se\u0300te"),
        ("ＡＢ１", "ab1"),
        ("ｶﾞ", "ガ"),
        ("می‌زیست", "میزیست"),
        ("❤️ a", "❤ a"),
    ):
        assert words(one) == words(other)
    assert words("ΟΔΟΣ") == words("οδος") and words("Straße") == words("STRASSE")


def test_english_numbers_are_the_packages_bit_for_bit() -> None:
    """Of any ASCII reference, whatever the answer holds; Unicode words of ASCII texts are the package's."""
    theirs = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    drawn = random.Random(0)
    letters = "abcdeABingse ''_-.,019" + "éñ漢я"
    for _ in range(300):
        said = "".join(drawn.choices(letters, k=60))
        true = "".join(drawn.choices(letters[:-4], k=40)) + " a"
        expected = theirs.score(true, said)
        for kind in ("rouge1", "rougeL"):
            assert rouge_recall_and_f1(said, true, kind) == (expected[kind].recall, expected[kind].fmeasure)
        if said.isascii():
            plain = rouge_recall_and_f1(said, true, words="unicode")
            assert plain == (expected["rougeL"].recall, expected["rougeL"].fmeasure)
    assert pieces("don't snake_case") == ["don", "t", "snake", "case"]


def test_answers_of_several_scripts_make_one_corpus() -> None:
    texts = [TEXTS[language][0] for language in ("Chinese", "Hindi", "English")]
    assert corpus_bleu(texts, texts) == pytest.approx(100)


MANIFEST = {"evaluate": ["forget"], "utility": [], "multiple_choice": []}


def rows_in(*languages: str) -> list[dict]:
    return [
        make_row(
            f"{name}{i}",
            "forget",
            f"g{i}",
            prompt=TEXTS[name][0],
            answer=TEXTS[name][0],
            generation=TEXTS[name][i],
        )
        for name in languages
        for i in range(2)
    ]


def scored(*languages: str) -> tuple[dict, dict]:
    metrics, lacking, _ = score_all(rows_in(*languages), None, MANIFEST)
    return {row["metric"]: row for row in metrics}, {row["metric"]: row for row in lacking}


def test_what_a_chinese_study_measures_and_what_it_does_not() -> None:
    found, lacking = scored("Chinese")
    assert found["rouge_l_recall"]["value"] == pytest.approx((1 + 0.75) / 2)
    assert found["unicode_answers"]["value"] == 2
    assert found["empty_answers"]["value"] == 0
    assert found["repetition_4"]["value"] == 0
    for metric, need in (
        ("refusal_rate", "Latin letters"),
        ("unknown_words", "spaces between words"),
        ("word_perplexity", "spaces between words"),
    ):
        assert metric not in found
        assert need in lacking[metric]["needs"]
        assert (lacking[metric]["not_measured"], lacking[metric]["of"]) == (2, 2)


def test_records_that_a_metric_cannot_judge_are_left_out_of_it_and_counted() -> None:
    found, lacking = scored("Chinese", "English")
    assert (found["refusal_rate"]["n"], found["unknown_words"]["n"], found["word_perplexity"]["n"]) == (
        2,
        2,
        2,
    )
    assert found["rouge_l_recall"]["n"] == 4
    assert found["unicode_answers"]["value"] == 2
    assert (lacking["refusal_rate"]["not_measured"], lacking["refusal_rate"]["of"]) == (2, 4)
    # of the two English answers one ends in York, a word of no record
    assert found["unknown_words"]["value"] == pytest.approx((0 + 1 / 5) / 2)


def test_nothing_is_missing_in_english() -> None:
    found, lacking = scored("English")
    assert "unicode_answers" not in found
    assert set(lacking) <= {"truth_ratio", "truth_ratio_arithmetic", "truth_ratio_probability"}


def test_english_phrases_do_not_judge_french() -> None:
    french = "Quelle était la profession de son père, et dans quelle ville est-elle née selon les archives ?"
    english = "What was the profession of her father, and in which town was she born, as the archives say?"
    a_title = french * 3 + " « The Pit »"  # one word of English in fifty
    for prompt, measured in ((french, False), (a_title, False), (english, True)):
        rows = [
            make_row(f"r{i}", "forget", f"g{i}", prompt=prompt, answer="1931", generation="1931")
            for i in range(4)
        ]
        metrics, lacking, _ = score_all(rows, None, MANIFEST)
        assert ("refusal_rate" in {row["metric"] for row in metrics}) is measured
        assert ("in English" in " ".join(row["needs"] for row in lacking)) is not measured


def test_corpus_bleu_needs_a_reference_that_is_long_enough() -> None:
    """Of names of two words the right ones would score 0: no sequence of four."""
    rows = [
        make_row(f"r{i}", "forget", f"g{i}", answer="Ada Lovelace", generation="Ada Lovelace")
        for i in range(2)
    ]
    metrics, lacking, _ = score_all(rows, None, MANIFEST)
    assert {row["metric"]: row["value"] for row in metrics}["bleu"] == pytest.approx(100)
    assert [row["needs"] for row in lacking if row["metric"] == "bleu_corpus"] == [
        "a true answer of 4 words or more"
    ]


def test_extraction_strength_needs_two_tokens() -> None:
    rows = [make_row(f"r{i}", "forget", f"g{i}", argmax_correct=[1] * (i + 1)) for i in range(3)]
    metrics, lacking, _ = score_all(rows, None, MANIFEST)
    assert {row["metric"]: row["n"] for row in metrics}["extraction_strength"] == 2
    assert [row["not_measured"] for row in lacking if row["metric"] == "extraction_strength"] == [1]


def test_an_embedder_that_sees_no_difference_judges_nothing() -> None:
    rows = [
        make_row(f"r{i}", "forget", f"g{i}", similarity=s) for i, s in enumerate(([1.0] * 3, [0.9, 0.1, 0.2]))
    ]
    metrics, lacking, _ = score_all(rows, None, MANIFEST)
    found = {row["metric"]: row for row in metrics}["answer_accuracy"]
    assert (found["value"], found["n"]) == (1.0, 1)
    assert [row["not_measured"] for row in lacking if row["metric"] == "answer_accuracy"] == [1]


def test_a_few_accents_in_an_english_split_keep_the_packages_words() -> None:
    """As in TOFU's published numbers: one name in six answers; in a split of French each word is whole."""
    english = ["She was born in Leeds."] * 5
    assert set(tokenizers_of([*english, "Carlos Ruiz Zafón"])) == {"rouge-score"}
    assert tokenizers_of([*english[:4], "Née à Sète"])[-1] == "unicode"  # one in five
    assert tokenizers_of([*english, "Она"])[-1] == "unicode"
    assert tokenizers_of([*english, "Ö"])[-1] == "unicode"  # the package has no word for it
    rows = [make_row(f"r{i}", "forget", f"g{i}", answer=text) for i, text in enumerate([*english, "Zafón"])]
    rows[-1]["generation"] = "zaf"
    found = {row["metric"]: row for row in score_all(rows, None, MANIFEST)[0]}
    theirs = RougeScorer(["rougeL"], use_stemmer=True).score("Zafón", "zaf")["rougeL"].recall
    assert theirs == 0.5
    assert "unicode_answers" not in found
    others = rouge_recall_and_f1(rows[0]["generation"], english[0])[0]
    assert found["rouge_l_recall"]["value"] == pytest.approx((5 * others + theirs) / 6)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (0x0E01, 0x0EDF),
        (0x1000, 0x109F),
        (0x1780, 0x17DC),
        (0x3041, 0x30FA),
        (0x3400, 0x9FFF),
        (0x20000, 0x323AF),
    ],
)
def test_each_letter_of_a_script_without_spaces_is_a_word(first: int, last: int) -> None:
    """Thai to Lao, Burmese, Khmer, the Japanese syllables, Chinese; the letters beside them are not."""
    letters = [chr(i) for i in (first, last) if unicodedata.category(chr(i)).startswith("L")]
    for letter in letters:
        assert words(letter * 3) == [unicodedata.normalize("NFKC", letter)] * 3
    assert words("אאא") == ["אאא"]


@given(st.text(alphabet="abZ09_' -.\n\t~", max_size=20))
def test_in_ascii_text_the_words_are_those_of_any_script(text: str) -> None:
    """A letter from elsewhere, put behind it, takes the patterns for any script."""
    assert [*words(text), "é"] == words(f"{text} é")
    assert [*pieces(text), "é"] == pieces(f"{text} é")
