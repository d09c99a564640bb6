#!/usr/bin/env python3
"""Makes Tests/PromptTests/Fixtures/hf-tokenizer: small tokenizer.json and tokenizer.model files, and the references' ids and texts for the corpus.

Requirements: pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2
Usage:        ops/golden/make-hf-tokenizer.py [OUTPUT_FOLDER]

The corpus is that of make-tokenizer.py (Fixtures/tokenizer/corpus.jsonl), which also is what the vocabularies are trained on. Damaged bytes are
left out, since neither reference takes them, and of the rest every second string.

NAME.json    a tokenizer.json; the reference is the `tokenizers` library
NAME.model   SentencePiece's own file; the reference is the `sentencepiece` library on text between control tokens, the space in front given to the
             text's start and after BOS
NAME.ids     for each string: ids with special tokens parsed and those around the text added; for kind "special" also ids without either.
             Each list is its length and its ids as LEB128
NAME.texts   a JSON list: for each string what the reference decodes of its first ids, special tokens left out; null where it is the string itself
"""

import collections
import json
import pathlib
import re
import sys
import tempfile
import unicodedata

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as spm_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2] / "Tests/PromptTests/Fixtures"
VOCABULARY = 600
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"


def special(texts, **options):
    return [AddedToken(t, normalized=False, special=True, **options) for t in texts]


def template(tokenizer, before, after=()):
    names = list(before) + list(after)
    single = " ".join([*before, "$A", *after])
    return processors.TemplateProcessing(single=single, pair=single + " $B", special_tokens=[(n, tokenizer.token_to_id(n)) for n in set(names)])


def alphabet(texts, count):
    """The commonest characters; the trainer's own choice among equals is another one each time."""
    counts = collections.Counter(unicodedata.normalize("NFC", "".join(texts)).replace(" ", "▁"))
    characters = sorted(counts, key=lambda c: (-counts[c], c))[:count]
    return dict(initial_alphabet=characters, limit_alphabet=len(characters))


# tokenizer.json

def byte_level(texts, split, normalizer=None, bos=False, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=bytes_, show_progress=False))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special(CONTROL))
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ["<think>", "</think>", "<think>>"]])
    level = processors.ByteLevel(trim_offsets=False)
    tokenizer.post_processor = processors.Sequence([level, template(tokenizer, ["<|im_start|>"])]) if bos else level
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def character_bpe(texts, normalizer, pre_tokenizer, decoder, fallback=True):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    tokenizer.normalizer = normalizer
    # Words keep to themselves while training, or whole sentences would be tokens.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if fallback else []
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY + len(bytes_), special_tokens=["<unk>", "<s>", "</s>", *bytes_], **alphabet(texts, 120), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in bytes_]
    state["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(special(CONTROL, rstrip=True))
    tokenizer.post_processor = template(tokenizer, ["<s>"])
    return tokenizer


def llama_decoder():
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def unigram(texts, normalizer, pre_tokenizer, fallback):
    # SentencePiece's trainer, because the library's own gives other pieces each time.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pieces.model"
        sentencepiece_model(texts, "unigram", path)
        proto = spm_pb2.ModelProto()
        proto.ParseFromString(path.read_bytes())
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [(p.piece, p.score) for p in proto.pieces if p.type == 1]
    pieces += [(f"<0x{b:02X}>", 0.0) for b in range(256)] if fallback else []
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=fallback))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    metaspace = decoders.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), metaspace]) if fallback else metaspace
    tokenizer.add_special_tokens(special(["<pad>", "</s>", "<unk>", *CONTROL]))
    tokenizer.post_processor = template(tokenizer, [], ["</s>"])
    return tokenizer


def words(texts):
    """Every flag of an added token, and the rarer steps."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Nmt(), normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Replace("ß", "ss")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split("e", "merged_with_previous"),
        pre_tokenizers.Split(Regex("[aou]"), "merged_with_next"), pre_tokenizers.Split(Regex("[xyz]"), "contiguous"), pre_tokenizers.Split("q", "removed"),
        pre_tokenizers.Whitespace()])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<unk>"], **alphabet([t.lower() for t in texts], 150), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(CONTROL[0], lstrip=True, normalized=False), AddedToken(CONTROL[1], rstrip=True, normalized=False),
                                  AddedToken(CONTROL[2], lstrip=True, rstrip=True, normalized=True), AddedToken(CONTROL[3], single_word=True)])
    tokenizer.add_tokens([AddedToken("Hi", single_word=True), AddedToken("THE", normalized=True), AddedToken("fox", normalized=True, single_word=True),
                          AddedToken("über", lstrip=True, rstrip=True), AddedToken(" a", normalized=False)])
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.RobertaProcessing(*((name, tokenizer.token_to_id(name)) for name in ("<|im_end|>", "<|im_start|>")))
    return tokenizer


def merges_as_texts(state):
    state["model"]["merges"] = [" ".join(pair) for pair in state["model"]["merges"]]


class JSONReference:
    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(str(path))

    def encode(self, text, parse_special):
        self.tokenizer.encode_special_tokens = not parse_special
        return self.tokenizer.encode(text, add_special_tokens=parse_special).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


# tokenizer.model

def character_map(texts, path):
    """A small nmt_nfkc: what the corpus has of it. The whole one would be a quarter of a megabyte in each file."""
    characters = {c for text in texts for c in text}
    rules = {c: unicodedata.normalize("NFKC", c) for c in characters}
    rules |= {pair: unicodedata.normalize("NFKC", pair) for text in texts for pair in map("".join, zip(text, text[1:])) if unicodedata.combining(pair[1])}
    rules |= {c: " " for c in characters if c.isspace()} | {c: "" for c in characters if unicodedata.category(c) == "Cc" and not c.isspace()}
    rules = {old: new for old, new in rules.items() if old != new and "\0" not in old and "\ufffd" not in old}
    code = lambda text: " ".join(f"{ord(c):X}" for c in text)
    path.write_text("".join(f"{code(old)}\t{code(new)}\n" for old, new in sorted(rules.items())))
    return str(path)


def sentencepiece_model(texts, kind, path, **options):
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(pathlib.Path(folder) / "tiny")
        if options.pop("maps", False):
            options["normalization_rule_tsv"] = character_map(texts, pathlib.Path(folder) / "map.tsv")
        else:
            options["normalization_rule_name"] = "identity"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(t for t in texts if t.strip() and "\0" not in t), model_prefix=prefix, model_type=kind, vocab_size=900, character_coverage=0.98,
            num_threads=1, minloglevel=2, control_symbols=CONTROL, user_defined_symbols=["<think>", "</think>", "東京タワー"], **options)
        proto = spm_pb2.ModelProto()
        proto.ParseFromString(pathlib.Path(prefix + ".model").read_bytes())
        # A temporary folder's name is nobody's business.
        proto.trainer_spec.model_prefix = proto.normalizer_spec.normalization_rule_tsv = ""
        path.write_bytes(proto.SerializeToString())


class ModelReference:
    def __init__(self, path):
        proto = spm_pb2.ModelProto()
        proto.ParseFromString(path.read_bytes())
        self.kinds = {p.piece: p.type for p in proto.pieces}
        self.ids = {p.piece: i for i, p in enumerate(proto.pieces)}
        self.processors = {}
        dummy = proto.normalizer_spec.add_dummy_prefix
        for prefix in (True, False):
            proto.normalizer_spec.add_dummy_prefix = prefix and dummy
            self.processors[prefix] = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def encode(self, text, parse_special):
        names = [name for name, kind in self.kinds.items() if kind in (2, 3)] if parse_special else []
        parts = re.split("(" + "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)) + ")", text) if names else [text]
        ids, prefix = [self.ids["<s>"]] if parse_special else [], True
        for part in filter(None, parts):
            if part in names:
                ids.append(self.ids[part])
                prefix = part == "<s>"
            else:
                ids += self.processors[prefix].encode(part)
                prefix = False
        return ids

    def decode(self, ids):
        # It would write a question mark for the unknown piece, which as a special token is left out.
        return self.processors[True].decode([i for i in ids if i != self.processors[True].unk_id()])


# Files

def leb128(number):
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def write_goldens(reference, corpus, path):
    out, texts = bytearray(), []
    for entry in corpus:
        for parse_special in (True, False) if entry["k"] == "special" else (True,):
            ids = reference.encode(entry["t"], parse_special)
            out += leb128(len(ids)) + b"".join(map(leb128, ids))
            if parse_special:
                text = reference.decode(ids)
                texts.append(None if text == entry["t"] else text)
    path.with_suffix(".ids").write_bytes(out)
    path.with_suffix(".texts").write_text(json.dumps(texts, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size} bytes, ids {len(out)}, {sum(t is not None for t in texts)} texts differ")


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "hf-tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    corpus = [entry for entry in map(json.loads, (ROOT / "tokenizer/corpus.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")) if "t" in entry]
    # The library's NFKC is of a Unicode before 13 and keeps these digits; ours knows them.
    goldens = [entry for entry in corpus[::2] if not re.search("[\U0001FBF0-\U0001FBF9]", entry["t"])]
    texts = [entry["t"] for entry in corpus if entry["k"] not in ("special", "random", "control")]

    level = pre_tokenizers.ByteLevel
    replace = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    metaspace = pre_tokenizers.Metaspace
    made = {
        "llama3": (byte_level(texts, split(LLAMA3), bos=True, ignore_merges=True), None),
        "qwen2": (byte_level(texts, split(QWEN2), normalizers.NFC()), merges_as_texts),
        "gpt2": (byte_level(texts, level(add_prefix_space=True)), merges_as_texts),
        "gpt4o": (byte_level(texts, split(GPT4O)), None),
        "cl100k": (byte_level(texts, split(CL100K), normalizers.NFKC()), None),
        "smollm": (byte_level(texts, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level(add_prefix_space=False)])), None),
        "llama2": (character_bpe(texts, replace, None, llama_decoder()), merges_as_texts),
        "metaspace": (character_bpe(texts, normalizers.NFC(), metaspace(prepend_scheme="first", split=False), llama_decoder(), fallback=False), None),
        "unigram": (unigram(texts, normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), metaspace(), False), None),
        "unigram-bytes": (unigram(texts, normalizers.Replace("``", '"'), metaspace(), True), None),
        "words": (words(texts), None),
    }
    for name, (tokenizer, change) in made.items():
        state = json.loads(tokenizer.to_str())
        if change:
            change(state)
        path = folder / f"{name}.json"
        path.write_text(json.dumps(state, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        write_goldens(JSONReference(path), goldens, path)

    plain = dict(remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True)
    for name, kind, options in [
        ("sp-bpe", "bpe", dict(byte_fallback=True, **plain)), ("sp-unigram", "unigram", dict(byte_fallback=True, maps=True)),
        ("sp-bpe-maps", "bpe", dict(maps=True, add_dummy_prefix=False)), ("sp-unigram-plain", "unigram", plain),
    ]:
        path = folder / f"{name}.model"
        sentencepiece_model(texts, kind, path, **options)
        write_goldens(ModelReference(path), goldens, path)
    # Hugging Face's own reading of a character map, which goes by clusters.
    proto = spm_pb2.ModelProto()
    proto.ParseFromString((folder / "sp-unigram.model").read_bytes())
    pieces = [(p.piece, p.score) for p in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_special_tokens(special(["<unk>", "<s>", "</s>", *CONTROL]))
    path = folder / "precompiled.json"
    tokenizer.save(str(path), pretty=False)
    write_goldens(JSONReference(path), goldens, path)


if __name__ == "__main__":
    main()
