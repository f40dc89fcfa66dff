"""Which tokenizers are proven and which are asked for everything, and what both refuse."""

from __future__ import annotations

import pytest
from bert_tokenizers import (
    as_lists,
    bert_tokenizer,
    ids_of,
)
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from rerank_plugins.cross_encoder.tokens.encoders import (
    TokenizerEncoder,
    text_encoder,
)
from rerank_plugins.cross_encoder.tokens.texts import LONG_TEXT_CHARS
from rerank_plugins.cross_encoder.tokens.wordpiece import (
    WordPieceEncoder,
)
from rerank_plugins.errors import InvalidArgumentError, UnsupportedModelError


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cafe": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def byte_pairs() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: index for index, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    return tokenizer


def other_prefix() -> Tokenizer:
    tokenizer = bert_tokenizer()
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "the", "@@s", *"abcde", "##s"])}
    tokenizer.model = models.WordPiece(
        vocabulary, unk_token="[UNK]", continuing_subword_prefix="@@"
    )
    return tokenizer


def with_added(token: AddedToken) -> Tokenizer:
    tokenizer = bert_tokenizer()
    tokenizer.add_tokens([token])
    return tokenizer


def other_pre_tokenizer() -> Tokenizer:
    tokenizer = bert_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def other_normalizer() -> Tokenizer:
    tokenizer = bert_tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.BertNormalizer()])
    return tokenizer


UNPROVEN = {
    "word level": word_level(),
    "byte pairs": byte_pairs(),
    "another prefix": other_prefix(),
    "another pre-tokenizer": other_pre_tokenizer(),
    "another normalizer": other_normalizer(),
    "added word": with_added(AddedToken("passage", normalized=False)),
    "added across a space": with_added(AddedToken("[of the]", normalized=False)),
    "added that takes spaces": with_added(AddedToken("[X]", lstrip=True, normalized=False)),
    "added as a single word": with_added(AddedToken("[X]", single_word=True, normalized=False)),
    "added to normalized text": with_added(AddedToken("[É]", normalized=True)),
}


@pytest.mark.parametrize("name", UNPROVEN)
def test_a_tokenizer_that_was_not_proven_is_asked_for_everything(name: str) -> None:
    tokenizer = UNPROVEN[name]
    encoder = text_encoder(tokenizer, seen_passages_bytes=0)
    assert isinstance(encoder, TokenizerEncoder)
    batch = [
        "the cafes [of the]  [X]x passage",
        "É [É] [é]",
        "",
        "thepassages the @@s",
        "中文 " * 50,
    ]
    assert as_lists(encoder.encode(batch)) == ids_of(tokenizer, batch)


def test_a_special_token_that_was_added_stays_proven() -> None:
    tokenizer = bert_tokenizer()
    tokenizer.add_special_tokens(["[Query 1]".replace(" ", "-"), "<|doc|>"])
    encoder = text_encoder(tokenizer, seen_passages_bytes=0)
    assert isinstance(encoder, WordPieceEncoder)
    batch = ["the [Query-1]cafe[query-1] <|doc|", "<|doc|><|DOC|>", "the <|doc |>"]
    assert as_lists(encoder.encode(batch)) == ids_of(tokenizer, batch)


def test_a_tokenizer_that_cannot_be_saved_is_refused_by_name() -> None:
    class Custom:
        def pre_tokenize(self, pretok: object) -> None: ...

    tokenizer = bert_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Custom())
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.json"):
        text_encoder(tokenizer)


@pytest.mark.parametrize("tokenizer", [bert_tokenizer(), byte_pairs()], ids=["proven", "unproven"])
@pytest.mark.parametrize("padding", ["", " the" * LONG_TEXT_CHARS], ids=["short", "long"])
def test_half_a_character_is_refused_with_its_place(tokenizer: Tokenizer, padding: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'\\udcff' at character 4"):
        text_encoder(tokenizer).encode(["fine", "cafe\udcff" + padding])


def test_ids_are_read_only_since_callers_share_them() -> None:
    encoder = text_encoder(bert_tokenizer())
    [first] = encoder.encode(["the passage"])
    [again] = encoder.encode(["the passage"])
    assert first is again
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 7
