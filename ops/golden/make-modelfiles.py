#!/usr/bin/env python3
"""Makes the golden files of ModelFilesTests: blocks of every tensor format and what they mean as floats.

pip install gguf==0.19.0 numpy==2.4.6

Usage: ops/golden/make-modelfiles.py [Tests/ModelFilesTests/Fixtures]

For each format one file NAME.golden: magic "SGLD", format number (i32), elements (u32), bytes of blocks (u32), the blocks,
the elements as float32; all little-endian. The blocks are, in this order: random values quantised by the reference
where it can quantise; random bytes with ordinary scales; and hostile ones, whose scales are zero, negative zero, the
smallest subnormal, the largest number, infinities and NaN, and whose codes are all zeros and all ones. The reference is
gguf.quants.dequantize. NaNs stay in; the test asks only that a NaN meets a NaN.

Also metadata.gguf, written by the reference's own writer: every metadata type, arrays and arrays of arrays, and one
tensor of each of three formats; what must be read from it stands in the test.
"""

import pathlib
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES

SEED = 20261121
FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
           "IQ4_NL", "IQ4_XS"]
# Byte offsets of the half-precision scales within a block.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
HOSTILE_HALVES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E01]


def float_blocks(name, rng):
    """Every kind of number that a float format has, as bytes."""
    width = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}[name]
    if name == "F16":
        # Every 37th of all 65,536 halves, and the borders between the kinds.
        edges = [0, 1, 0x3FF, 0x400, 0x401, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7FFF]
        halves = list(range(0, 65536, 37)) + edges + [0x8000 | e for e in edges]
        return np.array(halves, dtype=width).view(np.uint8)
    bits = rng.integers(0, np.iinfo(width).max, 500, dtype=width, endpoint=True)
    shift = 0 if name == "F32" else 16
    edges = [0, 1 << 16, 0x007F0000, 0x00800000, 0x3F800000, 0x7F7F0000, 0x7F800000, 0x7FC00000]
    edges = [e >> shift for e in edges + [0x80000000 | e for e in edges]]
    return np.concatenate([bits, np.array(edges, dtype=width)]).view(np.uint8)


def quantised_blocks(name, rng):
    size, block_bytes = GGML_QUANT_SIZES[Type[name]]
    blocks = []
    try:
        values = (rng.standard_normal((2, size)) * 0.1).astype(np.float32)
        blocks += list(quants.quantize(values, Type[name]).reshape(-1, block_bytes))
    except NotImplementedError:
        pass
    hostile = [(h, fill) for h in HOSTILE_HALVES for fill in (None, 0x00, 0xFF)][::2]
    # Large blocks: not every pair, so that the file stays small.
    if size == 256:
        hostile = [(h, None) for h in HOSTILE_HALVES[::2]] + [(0x3C00, 0x00), (0x3C00, 0xFF)]
    for _ in range(6 if size == 256 else 16):
        block = rng.integers(0, 256, block_bytes, dtype=np.uint8)
        for offset in SCALES[name]:
            block[offset:offset + 2] = np.array([rng.standard_normal() * 0.01], dtype=np.float16).view(np.uint8)
        blocks.append(block)
    for half, fill in hostile:
        block = rng.integers(0, 256, block_bytes, dtype=np.uint8)
        if fill is not None:
            block[:] = fill
        for number, offset in enumerate(SCALES[name]):
            # The second scale takes the next hostile value, so that the pairs differ.
            value = HOSTILE_HALVES[(HOSTILE_HALVES.index(half) + 3 * number) % len(HOSTILE_HALVES)] \
                if half in HOSTILE_HALVES else half
            block[offset:offset + 2] = np.array([value], dtype=np.uint16).view(np.uint8)
        blocks.append(block)
    return np.concatenate(blocks)


def write_golden(name, folder):
    # A seed of its own for each format, so that adding one leaves the others as they are.
    rng = np.random.default_rng([SEED, int(Type[name])])
    blocks = float_blocks(name, rng) if name in ("F32", "F16", "BF16") else quantised_blocks(name, rng)
    with np.errstate(all="ignore"):
        floats = quants.dequantize(blocks.reshape(1, -1), Type[name]).ravel()
    assert floats.dtype == np.float32
    size, block_bytes = GGML_QUANT_SIZES[Type[name]]
    assert len(floats) == len(blocks) // block_bytes * size
    data = b"SGLD" + struct.pack("<iII", int(Type[name]), len(floats), len(blocks)) + blocks.tobytes() + floats.tobytes()
    (folder / f"{name}.golden").write_bytes(data)
    print(f"{name}: {len(floats)} elements, {len(data)} bytes, {int(np.isfinite(floats).sum())} finite")


def write_metadata(folder):
    path = folder / "metadata.gguf"
    writer = GGUFWriter(path, "test")
    writer.add_uint8("scalar.u8", 200)
    writer.add_int8("scalar.i8", -100)
    writer.add_uint16("scalar.u16", 60000)
    writer.add_int16("scalar.i16", -30000)
    writer.add_uint32("scalar.u32", 4000000000)
    writer.add_int32("scalar.i32", -2000000000)
    writer.add_uint64("scalar.u64", 18000000000000000000)
    writer.add_int64("scalar.i64", -9000000000000000000)
    writer.add_float32("scalar.f32", 0.1)
    writer.add_float64("scalar.f64", 0.1)
    writer.add_bool("scalar.yes", True)
    writer.add_bool("scalar.no", False)
    writer.add_string("scalar.text", "Größe 体 👩‍🚀")
    writer.add_array("array.text", ["", "a", "Ġthe", "体"])
    writer.add_array("array.bool", [True, False, True])
    writer.add_array("array.i32", [1, -2, 3])
    writer.add_array("array.f32", [0.5, -0.25])
    writer.add_key_value("array.u8", bytes([1, 2, 255]), GGUFValueType.ARRAY)
    writer.add_array("array.nested", [[1, 2], [3], [4, 5, 6]])
    writer.add_tensor("first", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("second", np.array([1.5, -2.5], dtype=np.float16))
    third = quants.quantize(np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32), Type.Q8_0)
    writer.add_tensor("third", third, raw_dtype=Type.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"metadata.gguf: {path.stat().st_size} bytes")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "Tests/ModelFilesTests/Fixtures")
    for name in FORMATS:
        write_golden(name, folder)
    write_metadata(folder)


if __name__ == "__main__":
    main()
