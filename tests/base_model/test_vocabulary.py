"""Text is text: what a cell holds never becomes a control token, and all else is read as the tokenizer reads it."""

from __future__ import annotations

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.base_model.identity import BUNDLED
from softprompt_core.base_model.tokens import answer_ids, encode_inputs
from softprompt_core.base_model.vocabulary import Vocabulary
from softprompt_core.errors import InvalidInput
from tests.base_model.tokenizers import CONTROL, Fast, any_text, any_tokenizer, byte_pairs, pieces, with_tokenizer, word_list
from tests.tiny_models import WORDS

PLAIN = ["a good film", "  two  blanks ", "not sure.", "日本語", "line\nbreak", "ünïcode", "x" * 50]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(any_tokenizer, st.lists(any_text, min_size=1, max_size=4))
def test_no_text_gives_a_control_token(tokenizer: Fast, texts: list[str]) -> None:
    words = Vocabulary.of(tokenizer, 400)
    assert words.control >= {tokenizer.convert_tokens_to_ids(name) for name in ("<pad>", "<s>")} - {None}
    try:
        rows = words.encode(texts)
    except InvalidInput as refused:
        assert "control token" in str(refused) or "cannot read the text" in str(refused)
        return
    assert len(rows) == len(texts)
    assert all(words.control.isdisjoint(ids) for ids in rows)


@pytest.mark.parametrize("tokenizer", [word_list(WORDS), pieces(WORDS), byte_pairs(), byte_pairs(closing=True)])
def test_ordinary_texts_are_read_as_the_tokenizer_reads_them(tokenizer: Fast) -> None:
    words = Vocabulary.of(tokenizer, 400)
    framed = [[*words.before, *ids, *words.after] for ids in words.encode(PLAIN)]
    assert framed == tokenizer(PLAIN)["input_ids"]


def test_the_bundled_base_reads_ordinary_texts_as_ever() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED)
    words = Vocabulary.of(tokenizer, len(tokenizer))
    assert [[*words.before, *ids, *words.after] for ids in words.encode(PLAIN)] == tokenizer(PLAIN)["input_ids"]
    assert words.control.isdisjoint(words.encode(["stop<|endoftext|>here"])[0])


@pytest.mark.parametrize("text", ["good film</s>", "</s>", "<pad><pad>", "<|im_start|>good", "＜/s＞ good"])
@pytest.mark.parametrize("tokenizer", [pieces(WORDS), byte_pairs()], ids=["pieces", "byte pairs"])
def test_a_name_of_a_control_token_stays_readable_text(tokenizer: Fast, text: str) -> None:
    (ids,) = Vocabulary.of(tokenizer, 400).encode([text])
    written = tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
    assert written in (text.replace(" ", ""), "</s>good"), "full-width letters come back as others where NFKC is applied"


def test_answers_end_where_they_end_and_nowhere_else(tiny) -> None:
    for text in ("good", "good</s>", "</s>"):
        ids = answer_ids(tiny, text, close=True)
        assert ids[-1] == tiny.vocabulary.end and ids.count(tiny.vocabulary.end) == 1 and len(ids) > 1


def test_an_input_is_framed_once_whatever_is_written_in_it(tiny) -> None:
    rows, lengths = encode_inputs(tiny, ["good", "<s>good</s>"], 100)
    assert [row.count(tiny.tokenizer.bos_token_id) for row in rows] == [1, 1]
    assert lengths == [len(row) for row in rows]


def test_control_names_in_a_text_are_told() -> None:
    assert Vocabulary.of(pieces(WORDS), 400).control_names("<|im_start|>user\n{text}</s>") == ["</s>", "<|im_start|>"]


def test_a_token_that_the_model_has_no_embedding_for_is_refused(tiny) -> None:
    larger = word_list([*(f"word{n}" for n in range(400)), "good"])
    base = with_tokenizer(tiny, larger)
    assert encode_inputs(base, ["word3"], 9)[0]
    with pytest.raises(InvalidInput, match=r"needs token 405 .'good'.*320 tokens only"):
        encode_inputs(base, ["word3 good"], 9)
    larger.add_special_tokens({"eos_token": "<stop>"})
    with pytest.raises(InvalidInput, match="the end of an answer needs token"):
        answer_ids(with_tokenizer(tiny, larger), "word3", close=True)


def test_control_tokens_are_all_that_the_tokenizer_calls_special() -> None:
    tokenizer = byte_pairs()
    tokenizer.add_special_tokens({"extra_special_tokens": list(CONTROL)})
    assert {tokenizer.convert_tokens_to_ids(name) for name in CONTROL} <= Vocabulary.of(tokenizer, 400).control
