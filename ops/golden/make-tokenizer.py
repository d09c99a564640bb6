#!/usr/bin/env python3
"""Makes Tests/PromptTests/Fixtures/tokenizer: small vocabularies, a corpus, and the reference's ids for it.

Requirements: pip install tokenizers==0.23.3 transformers==5.23.0 sentencepiece==0.2.3 protobuf==7.36.2 gguf==0.19.0
Usage:        ops/golden/make-tokenizer.py SMOLLM2.gguf [OUTPUT_FOLDER]

What is compared with what
--------------------------
* Byte-level families: the `tokenizers` library over the vocabulary and merges of the GGUF file, as transformers'
  `convert_gguf_tokenizer` builds it, with two corrections to what the families publish in their tokenizer.json,
  because a GGUF file says it only by the name in `tokenizer.ggml.pre`:
    - smollm, refact: Digits(individual_digits) before ByteLevel. transformers 5.23 leaves it out for GGUF files and so
      differs from the models' own tokenizers on 61 strings of the corpus (white space before digits, other scripts' digits);
    - llama-bpe, tekken: ignore_merges.
  No normaliser: Qwen 2 publishes NFC, but transformers 5.23 and llama.cpp both encode text as it stands when the
  vocabulary comes from a GGUF file, and so do we.
* SentencePiece: the `sentencepiece` library itself on text between special tokens; control tokens are cut out first,
  and the space in front is given to the text's start and after BOS. For the Phi-3 layout (`general.architecture` phi3):
  `tokenizers` with Prepend/Replace and rstrip on its added tokens, as Phi-3's tokenizer.json has them.
* Bytes that are not UTF-8 cannot be put to the reference. Each must give the token of that byte, or U+FFFD's where the
  vocabulary lacks it; the well-formed texts between them are put to the reference one by one.
* Decoding: for each string without special tokens it is asserted here that the reference decodes its ids to the string
  again, so that the tests may ask the same of ours. Damaged bytes decode as Python's errors="replace" has them ("r").

Files
-----
corpus.jsonl   one string a line: {"k": kind, "t": text} or {"k": "bytes", "b": base64, "r": decoded text}
NAME.gguf      metadata only: a vocabulary trained on the corpus with the family's own word pattern
NAME.ids       for each string of the corpus: ids with special tokens parsed; then, for kind "special" only, ids without.
               Each list is its length and its ids as LEB128.
smollm2.ids    the same for the real SmolLM2 vocabulary, which is not checked in
"""

import base64
import itertools
import json
import pathlib
import random
import re
import sys
import tempfile
import unicodedata

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as spm_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS, convert_gguf_tokenizer

SEED = 20261121
BYTE_LEVEL_VOCABULARY = 1000
SENTENCEPIECE_VOCABULARY = 1200
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"]
USER_DEFINED = ["<think>", "</think>", "<think>>", "\t\t\t\t", "東京タワー"]
# In the vocabulary, but no merge makes them: words for ignore_merges, traps for everyone else.
UNMERGED = ["Ġneighbourhood", "Überraschung", "Ġquintessential"]

ENGLISH = """the quick brown fox jumps over a lazy dog while seven engineers measure how many tokens every second the
machine can read and nobody knows whether it's true that we'll see what they've said or that she'd rather I'm not there
because don't and won't and can't are words too neighbourhood quintessential model cluster relay baton stage worker
gateway stream answer question river mountain winter summer letter number paper window""".split()
GERMAN = """der die das und nicht über Straße Überraschung Größe ähnlich schön Mädchen Fußgängerüberweg Donaudampfschiff
Äpfel Öl weiß heißt Würde möglich natürlich für zwischen Übung Geschwindigkeitsbegrenzung ẞ""".split()
OTHERS = {
    "cjk": "東京タワー は 高い です。 北京市 天气 很好， 我们 去 公园 吧！ 한국어 문장 입니다 カタカナ ひらがな 繁體中文 標點符號「引號」 、 ー 々".split(),
    "arabic": "مرحبا بالعالم كيف حالك اليوم السَّلامُ عَلَيْكُم ١٢٣٤ ، ؟ שלום עולם مَدرَسة كِتاب פרסית‎ ‏ فارسی می‌خواهم".split(),
    "cyrillic": "Привет мир как дела сегодня хорошо Ёлка ЩУКА ελληνικά Ωμέγα ΣΊΣΥΦΟΣ ς Հայերեն ქართული".split(),
    "indic": "नमस्ते दुनिया क्या हाल है தமிழ் மொழி ภาษาไทย สวัสดี বাংলা ລາວ မြန်မာ ខ្មែរ १२३ ๑๒๓".split(),
    "emoji": "👍 👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☕ 🤷🏻‍♀️ 1️⃣ 👨🏿‍💻 🫠 ✨ ⚡️ 😀😃😄".split(),
    "marks": ["é", "e\u0301", "ñ", "n\u0303", "Å", "A\u030a", "\u212b", "ﬁ", "ｆｕｌｌ", "Ω", "\u2126", "가", "\u1100\u1161", "ä\u0323",
              "q\u0307\u0323", "\u0301", "Z\u0351\u036b\u0343", "ǅ", "ʰ", "ªº", "ⅷ", "½", "²", "①", "𝟘𝟙", "ſ", "İ", "ı", "K"],
}
CODE = ["def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\ta[i] = b[i] + 1;\n}\n", "#include <stdio.h>\r\n\r\n",
        "let x = y?.z ?? 0", "SELECT * FROM t WHERE id='42';", "if err != nil {\n\treturn fmt.Errorf(\"%w\", err)\n}\n", "a->b::c<d>(e);",
        "<div class=\"x\">&nbsp;</div>", "$HOME/.config && ls -la | grep '^d'", "\\frac{a}{b}", "0xDEADBEEF 1e-10 3.14f", "https://a.b/c?d=e&f=%20",
        "{\"k\": [1, 2.5, null, true]}", "@property\n    def camelCaseName(self): pass", "  // ------- ///\n", "x=1;y=22;z=333;w=4444", "HTTPServer2Go XMLHttpRequest iPhone15Pro"]
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\u00a0", "\u3000", "\u2003", "\u1680", "\u180e", "\u200b", "\u2028",
          "\u2029", "\u0085", "\u202f", "\u205f", "\x0b", "\x0c", "\x1c", "\ufeff"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'vE", "'M", "'lL", "'LL", "'D", "'ſ", "’s", "'x", "''s", "'", "'r", "'l", "'v"]


# Corpus

def make_corpus():
    rng = random.Random(SEED)
    corpus = []

    def add(kind, text):
        corpus.append({"k": kind, "t": text})

    def words(source, count):
        return [rng.choice(source) for _ in range(count)]

    for text in ["", " ", "  ", "a", "\n", "\0", "▁", "▁▁a ▁b", "Ġ", "<unk>", "Hello, world!", " Hello", "Hello "]:
        add("edge", text)
    for _ in range(220):
        text = " ".join(words(ENGLISH, rng.randint(1, 14)))
        add("english", rng.choice([text, text.capitalize() + ".", text.upper(), " " + text, text + "?!", text.title(), text.replace(" ", "  ", 2)]))
    for _ in range(170):
        add("german", rng.choice([" ", " ", ", ", "-", " – "]).join(words(GERMAN, rng.randint(1, 9))))
    for kind, source in OTHERS.items():
        for _ in range(120):
            add(kind, rng.choice(["", " ", " ", "\n"]).join(words(source + ENGLISH[:3], rng.randint(1, 8))))
    for _ in range(150):
        add("code", rng.choice(["", " ", "    ", "\n"]).join(words(CODE, rng.randint(1, 2))))
    for _ in range(180):
        parts = [w + rng.choice(["", "", s]) for w, s in zip(words(SPACES, 8), words(["a", "1", ".", "é", "Ab", "東"], 8))]
        add("space", "".join(parts[: rng.randint(1, 8)]))
    for length in [3, 7, 16, 31, 47, 48, 49, 50, 64, 100, 257]:
        for character in [" ", "\n", "\t", "\u00a0", "a", "=", "é", "1", " \n"]:
            add("run", character * length)
            add("run", "x" + character * (length // 3) + "y")
    for _ in range(110):
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 12)))
        add("digits", rng.choice(["{}", " {}", "  {}", "a{}b", "-{}", "{}.{}", "\n\n{}", "{},{},{}", "   \t{} {}", "${}", "٣{}", "½{}²", "v{}.x"]).replace("{}", digits))
    for _ in range(140):
        add("contraction", rng.choice(ENGLISH + ["I", "WE", "1", "é", ""]) + rng.choice(CONTRACTIONS) + rng.choice(["", " ", "a", "S", "'s", " x"]))
    for _ in range(70):
        add("control", "".join(chr(rng.choice([*range(32), 127, *range(128, 160), 97, 98])) for _ in range(rng.randint(1, 12))))
    for _ in range(140):
        add("special", special_text(rng))
    planes = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    low = [c for c in planes if c < 0x3000]
    for _ in range(260):
        add("random", "".join(chr(rng.choice(rng.choice([planes, low, low]))) for _ in range(rng.randint(1, 12))))
    for _ in range(170):
        data = damaged_text(rng)
        corpus.append({"k": "bytes", "b": base64.b64encode(data).decode(), "r": data.decode(errors="replace")})
    return corpus


def special_text(rng):
    parts = CONTROL + USER_DEFINED + ["<s>", "</s>", "<|im_", "im_end|>", "<|", "|>", "<", "<think", "<|im_end|", "hello", " hello", "\n", "user\nHi", "", " ",
                                      "<|im_START|>", "<| im_end |>", "[INST]", "a b"]
    return "".join(rng.choice(parts) for _ in range(rng.randint(1, 7)))


def damaged_text(rng):
    bad = [b"\xff", b"\xc0\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xf0\x9f", b"\xc3", b"\xf0\x9f\x98", b"\xe9t\xe9", b"\xfe\xff"]
    good = [b"abc", b" def", "é".encode(), "東".encode(), "😀".encode(), b" ", b"  ", b"12", b"\n", b"<|im_end|>", b"'s"]
    data = b"".join(rng.choice(rng.choice([bad, good])) for _ in range(rng.randint(1, 9)))
    return data + rng.choice(bad)


def raw(entry):
    return base64.b64decode(entry["b"]) if "b" in entry else entry["t"].encode()


def pieces(data):
    """Well-formed texts and single bytes that are not UTF-8, in order."""
    start = 0
    while start < len(data):
        try:
            yield data[start:].decode()
            return
        except UnicodeDecodeError as error:
            if error.start > 0:
                yield data[start : start + error.start].decode()
            start += error.start
            yield data[start]
            start += 1


# Byte-level families

BYTE_SPELLING = {}
for byte in range(256):
    printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF
    BYTE_SPELLING[byte] = chr(byte) if printable else chr(256 + sum(1 for c in BYTE_SPELLING.values() if ord(c) > 255))


def official_pre_tokenizer(pre):
    if pre in ("smollm", "refact"):
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    if pre == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[pre]), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train_byte_level(pre, texts, path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = official_pre_tokenizer(pre)
    alphabet = sorted(BYTE_SPELLING.values())
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=BYTE_LEVEL_VOCABULARY, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    tokens += [token for token in UNMERGED if token not in tokens]
    types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.USER_DEFINED] * len(USER_DEFINED)
    tokens += CONTROL + USER_DEFINED

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokens.index("<|im_start|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    write(writer)


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def metadata(path):
    fields = gguf.GGUFReader(path).fields
    return {key.removeprefix("tokenizer.ggml."): field.contents() for key, field in fields.items()}


class ByteLevelReference:
    def __init__(self, path):
        data = metadata(path)
        names = {"tokenizer_type": "model", "pre_tokenizer_type": "pre", "tokens": "tokens", "token_type": "token_type", "merges": "merges"}
        self.tokenizer, _ = convert_gguf_tokenizer(data["general.architecture"], {new: data[old] for new, old in names.items()})
        # transformers leaves out added tokens that are not written in the byte alphabet; the file means them all the same.
        state = json.loads(self.tokenizer.to_str())
        state["model"]["vocab"] = {token: index for index, token in enumerate(data["tokens"])}
        state["model"]["unk_token"] = None
        state["model"]["ignore_merges"] = data["pre"] in ("llama-bpe", "tekken")
        state["added_tokens"] = []
        self.tokenizer = Tokenizer.from_str(json.dumps(state))
        self.tokenizer.pre_tokenizer = official_pre_tokenizer(data["pre"])
        by_kind = lambda kind: [token for token, this in zip(data["tokens"], data["token_type"]) if this == kind]
        self.tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in by_kind(gguf.TokenType.CONTROL)])
        self.tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in by_kind(gguf.TokenType.USER_DEFINED)])
        assert self.tokenizer.get_vocab_size() == len(data["tokens"]), "added tokens have got ids of their own"
        replacement = self.tokenizer.encode("\ufffd", add_special_tokens=False).ids
        self.bytes = {byte: [data["tokens"].index(spelling)] if spelling in data["tokens"] else replacement for byte, spelling in BYTE_SPELLING.items()}

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def encode(self, data, parse_special):
        self.tokenizer.encode_special_tokens = not parse_special
        ids = []
        for piece in pieces(data):
            if isinstance(piece, int):
                ids += self.bytes[piece]
            else:
                ids += self.tokenizer.encode(piece, add_special_tokens=False).ids
        return ids


# SentencePiece

def train_sentencepiece(texts, path, phi3_path):
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(pathlib.Path(folder) / "tiny")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=prefix, model_type="bpe", vocab_size=SENTENCEPIECE_VOCABULARY, byte_fallback=True,
            character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            allow_whitespace_only_pieces=True, add_dummy_prefix=True, num_threads=1, minloglevel=2)
        proto = spm_pb2.ModelProto()
        proto.ParseFromString(pathlib.Path(prefix + ".model").read_bytes())
    kinds = {1: gguf.TokenType.NORMAL, 2: gguf.TokenType.UNKNOWN, 3: gguf.TokenType.CONTROL, 6: gguf.TokenType.BYTE}
    pieces_ = [(p.piece, p.score, kinds[p.type]) for p in proto.pieces]
    for target, architecture in [(path, "llama"), (phi3_path, "phi3")]:
        added = [(t, -1000.0, gguf.TokenType.CONTROL) for t in CONTROL]
        added += [(t, -1000.0, gguf.TokenType.USER_DEFINED) for t in USER_DEFINED]
        writer = gguf.GGUFWriter(target, architecture)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        tokens, scores, types = zip(*(pieces_ + added))
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        write(writer)
    return proto


class SentencePieceReference:
    def __init__(self, proto, path):
        data = metadata(path)
        self.processors = {}
        for prefix in (True, False):
            proto.normalizer_spec.add_dummy_prefix = prefix
            self.processors[prefix] = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        self.ids = {token: index for index, token in enumerate(data["tokens"])}
        self.kinds = dict(zip(data["tokens"], data["token_type"]))

    def decode(self, ids):
        # The processor does not know the tokens that were added to its vocabulary.
        size = self.processors[True].vocab_size()
        return self.processors[True].decode(ids) if all(i < size for i in ids) else None

    def split(self, data, parse_special):
        kinds = [gguf.TokenType.USER_DEFINED] + ([gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN] if parse_special else [])
        added = sorted((t.encode() for t, kind in self.kinds.items() if kind in kinds), key=len, reverse=True)
        return [part for part in re.split(b"(" + b"|".join(re.escape(t) for t in added) + b")", data) if part]

    def encode(self, data, parse_special):
        ids, prefix = [], True
        for part in self.split(data, parse_special):
            text = part.decode(errors="ignore")
            if text in self.kinds and self.kinds[text] in (2, 3, 4) and text.encode() == part and (parse_special or self.kinds[text] == 4):
                ids.append(self.ids[text])
                prefix = text == "<s>"
                continue
            first = True
            for piece in pieces(part):
                if isinstance(piece, int):
                    # The space in front is there, whatever follows it.
                    ids += self.processors[False].encode(" ") if first and prefix else []
                    ids.append(self.ids[f"<0x{piece:02X}>"])
                else:
                    ids += self.processors[first and prefix].encode(piece)
                first = False
            prefix = False
        return ids


class Phi3Reference:
    NOT_STRIPPED = {"<s>", "<unk>", "<|endoftext|>"}

    def __init__(self, path):
        data = metadata(path)
        vocabulary = {token: index for index, token in enumerate(data["tokens"])}
        scores = dict(zip(data["tokens"], data["scores"]))
        usable = {t for t, kind in zip(data["tokens"], data["token_type"]) if kind == gguf.TokenType.NORMAL}
        merges = []
        for token in usable:
            for cut in range(1, len(token)):
                if token[:cut] in usable and token[cut:] in usable:
                    merges.append((-scores[token], vocabulary[token[:cut]], vocabulary[token[cut:]], token[:cut], token[cut:]))
        merges = [(left, right) for _, _, _, left, right in sorted(merges)]
        self.tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=True, byte_fallback=True, unk_token="<unk>"))
        self.tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        for token, kind in zip(data["tokens"], data["token_type"]):
            added = AddedToken(token, normalized=False, rstrip=token not in self.NOT_STRIPPED, special=kind != gguf.TokenType.USER_DEFINED)
            if kind in (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN):
                self.tokenizer.add_special_tokens([added])
            elif kind == gguf.TokenType.USER_DEFINED:
                self.tokenizer.add_tokens([added])
        self.bytes = {byte: vocabulary[f"<0x{byte:02X}>"] for byte in range(256)}

    def encode(self, data, parse_special):
        self.tokenizer.encode_special_tokens = not parse_special
        return self.tokenizer.encode(data.decode(), add_special_tokens=False).ids


# Files

def leb128(number):
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def write_ids(reference, corpus, path):
    out = bytearray()
    for entry in corpus:
        if entry["k"] not in ("special", "bytes") and path.stem not in ("smollm2", "phi3") and "▁" not in entry["t"]:
            decoded = reference.decode(reference.encode(raw(entry), False))
            assert decoded in (entry["t"], None), (path.name, entry, decoded)
        for parse_special in (True, False) if entry["k"] == "special" else (True,):
            ids = reference.encode(raw(entry), parse_special)
            out += leb128(len(ids)) + b"".join(map(leb128, ids))
    path.write_bytes(out)
    print(f"{path.name}: {len(out)} bytes")


def main():
    smollm2 = sys.argv[1]
    default = pathlib.Path(__file__).resolve().parents[2] / "Tests/PromptTests/Fixtures/tokenizer"
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else default
    folder.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus()
    lines = [json.dumps(entry, ensure_ascii=False) for entry in corpus]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(corpus)} strings, seed {SEED}")
    texts = [entry["t"] for entry in corpus if "t" in entry and entry["k"] not in ("special", "random", "control")]

    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"]:
        path = folder / f"{pre}.gguf"
        train_byte_level(pre, texts, path)
        write_ids(ByteLevelReference(path), corpus, folder / f"{pre}.ids")
    write_ids(ByteLevelReference(smollm2), corpus, folder / "smollm2.ids")

    proto = train_sentencepiece([t for t in texts if t.strip()], folder / "llama.gguf", folder / "phi3.gguf")
    write_ids(SentencePieceReference(proto, folder / "llama.gguf"), corpus, folder / "llama.ids")
    write_ids(Phi3Reference(folder / "phi3.gguf"), [e for e in corpus if e["k"] != "bytes"], folder / "phi3.ids")


if __name__ == "__main__":
    main()
