#!/usr/bin/env python3
"""Makes the golden files of CKernelsTests: floats, and what foreign quantisers make of them.

pip install gguf==0.17.1 numpy==2.4.6 llama-cpp-python==0.3.36

Usage: ops/golden/make-quantise.py [Tests/CKernelsTests/Fixtures]

For each format of which the package gguf has a quantiser one file NAME.quantised: magic "SGQT", format number (i32), elements
(u32), bytes of blocks (u32), the elements as float32, the blocks; all little-endian. The elements are blocks of ordinary
numbers, ties between codes, equal magnitudes of both signs, one sign only, constants, zeros, and scales that are
subnormal as halves.

quantise-errors.golden: magic "SGQE", elements (u32), formats (u32), the elements as float32, then for each format its number
(i32) and as float64 the sum of squared errors that llama.cpp's quantiser leaves, without and with importance; then the
importance as float32. What is searched need not give the same bytes, but should leave no larger error.
"""

import ctypes
import glob
import pathlib
import struct
import sys

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES

SEED = 20261121
SIMPLE = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
SEARCHED = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
# As the weights of models are: heavier tails than normal, rows and columns of different size. Whole blocks of 256.
ROWS, COLUMNS = 8, 1024


def simple_values(name, rng):
    blocks = [rng.standard_normal(32) * scale for scale in (1, 0.02, 1e-3, 3e-5, 1e-7, 300)]
    blocks += [rng.integers(-16, 17, 32) / 2.0 for _ in range(6)]  # halves of codes
    blocks += [rng.integers(-254, 255, 32) / 2.0 for _ in range(4)]
    blocks += [np.where(np.arange(32) % 2 == 0, 1.5, -1.5), np.where(np.arange(32) % 2 == 0, -1.5, 1.5)]
    blocks += [np.abs(rng.standard_normal(32)) + 1, -np.abs(rng.standard_normal(32)) - 1]
    blocks += [np.full(32, 0.75), np.full(32, -0.75), np.zeros(32), np.arange(32) * 1.0, np.arange(32) - 31.0]
    blocks += [rng.standard_normal(32) ** 5 for _ in range(6)]
    if name != "F16":
        blocks += [rng.uniform(-1, 1, 32) * 65500, rng.uniform(0, 1, 32) * 65500]
    values = np.concatenate(blocks)
    if name in ("F16", "BF16"):
        # Halfway between neighbours, subnormals of both formats, and the largest.
        edges = [1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 2**-14, 2**-14 - 2**-25, 2**-24, 2**-25, 1.5 * 2**-24, 2**-26,
                 1e-39, 65504, 65519, 0.0, -0.0, np.inf]
        values = np.concatenate([values, edges, -np.array(edges)])
    return values.astype(np.float32)


def write_simple(name, folder):
    rng = np.random.default_rng([SEED, int(Type[name])])
    values = simple_values(name, rng)
    blocks = np.ascontiguousarray(quants.quantize(values.reshape(1, -1), Type[name])).view(np.uint8).ravel()
    size, block_bytes = GGML_QUANT_SIZES[Type[name]]
    assert len(values) // size * block_bytes == len(blocks)
    data = b"SGQT" + struct.pack("<iII", int(Type[name]), len(values), len(blocks)) + values.tobytes() + blocks.tobytes()
    (folder / f"{name}.quantised").write_bytes(data)
    print(f"{name}: {len(values)} elements, {len(data)} bytes")


def peer_error(library, name, values, importance, weights):
    """The weighted sum of squared errors of llama.cpp's quantiser."""
    size, block_bytes = GGML_QUANT_SIZES[Type[name]]
    out = np.zeros(values.size // size * block_bytes, np.uint8)
    pointer = None if importance is None else importance.ctypes.data
    library.ggml_quantize_chunk(int(Type[name]), values.ctypes.data, out.ctypes.data, 0, values.shape[0], values.shape[1], pointer)
    found = quants.dequantize(out.reshape(values.shape[0], -1), Type[name]).reshape(values.shape)
    return float((weights * (found.astype(np.float64) - values) ** 2).sum())


def write_errors(folder):
    rng = np.random.default_rng([SEED, 1])
    spread = np.exp(rng.normal(0, 0.4, (ROWS, 1))) * np.exp(rng.normal(0, 0.3, (1, COLUMNS)))
    values = (rng.standard_t(5, (ROWS, COLUMNS)) * spread * 0.03).astype(np.float32)
    importance = rng.lognormal(0, 1, COLUMNS).astype(np.float32)
    [path] = glob.glob(str(pathlib.Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    library = ctypes.CDLL(path)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    data = b"SGQE" + struct.pack("<II", values.size, len(SEARCHED)) + values.tobytes()
    for name in SEARCHED:
        errors = peer_error(library, name, values, None, 1.0), peer_error(library, name, values, importance, importance.astype(np.float64))
        data += struct.pack("<idd", int(Type[name]), *errors)
        print(f"{name}: squared error {errors[0]:.4e}, weighted {errors[1]:.4e}")
    (folder / "quantise-errors.golden").write_bytes(data + importance.tobytes())


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "Tests/CKernelsTests/Fixtures")
    for name in SIMPLE:
        write_simple(name, folder)
    write_errors(folder)


if __name__ == "__main__":
    main()
