// The arithmetic of Staffel: matrix products, attention, norms, functions, quantisation, and the
// thread pool they run on. It knows no model, reads no file and keeps no global state.
//
// Every number here is fixed to the bit. Portable C is the rule; each instruction set must give the
// same bits, for any number of columns, rows in a batch, threads and chunks. Words used below:
// `fma(a, b, c)` is a*b+c rounded once; every other operation rounds on its own; "ascending" is the
// order in which roundings happen. NaN is NaN: its payload and sign are not part of the promise.
//
// Shapes stand beside pointers, slowest index first. All sizes are in elements unless a name ends in
// `bytes`. A wrong argument (null, negative, unaligned, columns that the type does not allow) is a
// bug of the caller and traps; nothing here reads bytes from outside that could be wrong.

#ifndef STAFFEL_KERNELS_H
#define STAFFEL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- Instruction sets ------------------------------------------------------------------------

typedef enum sk_isa {
    SK_ISA_PORTABLE = 0,  // plain C, the rule itself
    SK_ISA_AVX2 = 1,      // AVX2, FMA, F16C
    SK_ISA_AVX512 = 2,    // AVX-512 F, BW, DQ, VL and VNNI
    SK_ISA_NEON = 3,      // AArch64 with dot products (DotProd)
} sk_isa;

typedef enum sk_isa_error {
    SK_ISA_OK = 0,
    SK_ISA_UNKNOWN = 1,      // STAFFEL_ISA holds a word that names no instruction set
    SK_ISA_UNSUPPORTED = 2,  // STAFFEL_ISA names one that this processor or build lacks
} sk_isa_error;

/// The kernels of one instruction set. Immutable, lives as long as the process, safe to share.
typedef struct sk_kernels sk_kernels;

/// "portable", "avx2", "avx512", "neon".
const char *sk_isa_name(sk_isa isa);
/// Whether this build has the kernels and this processor (and its operating system) can run them.
bool sk_isa_is_supported(sk_isa isa);
/// The fastest supported one.
sk_isa sk_isa_best(void);
/// What STAFFEL_ISA asks for, or the best one where it is unset or empty. `*isa` is written only on SK_ISA_OK.
sk_isa_error sk_isa_from_environment(sk_isa *isa);
/// Null where `sk_isa_is_supported` is false.
const sk_kernels *sk_kernels_for(sk_isa isa);
/// The portable kernels as a processor without FMA runs them, where every `fma` is a call of libm. Slow; for tests.
const sk_kernels *sk_kernels_plain(void);
sk_isa sk_kernels_isa(const sk_kernels *k);

// ---- Thread pool -----------------------------------------------------------------------------

// What keeps a processor awake between two runs is in staffel_watch.h.

/// A fixed set of threads. One owner at a time calls `sk_pool_run` and takes part as thread 0.
typedef struct sk_pool sk_pool;

/// One share of a run: `thread` in 0 ..< `threads` is its number.
typedef void (*sk_pool_fn)(void *arg, int32_t thread, int32_t threads);

/// `threads` in 1...1024 counts the caller. `cpus`: null, or int32[threads]: the processor each thread is
/// pinned to, -1 for not pinned; entry 0 pins the thread that calls this, until the pool is destroyed. Null when threads or
/// memory cannot be had.
sk_pool *sk_pool_create(int32_t threads, const int32_t *cpus);
/// The same with a sub-pool for each memory node: node k has counts[k] threads (at least 1), numbered on from those of the nodes before; their
/// `cpus` should be processors of that node. Each node waits and arrives on lines in its own memory, and one line of each goes to the owner.
/// Which thread does what is as in a pool of one node, so each node has one contiguous part of every matrix; a thread that is done takes
/// from others of its node first. The nodes need not be this machine's: the bits are the same.
sk_pool *sk_pool_create_nodes(int32_t nodes, const int32_t *counts, const int32_t *cpus);
/// Ends and joins the workers, and unpins the owner where it is the one who calls. Null is allowed.
void sk_pool_destroy(sk_pool *pool);
int32_t sk_pool_threads(const sk_pool *pool);
int32_t sk_pool_nodes(const sk_pool *pool);
/// The node whose thread this is.
int32_t sk_pool_node_of(const sk_pool *pool, int32_t thread);
/// The processor that the calling thread runs on at this moment, -1 where the system does not say.
int32_t sk_processor_now(void);
/// The processors that the calling thread may run on, ascending; writes at most `count` of them to cpus and returns how many there are.
/// 0 where the system does not say.
int32_t sk_processors_allowed(int32_t *cpus, int32_t count);
/// Lets the calling thread run wherever the process's first one may: a thread that a pinned one made is pinned with it.
void sk_processors_as_first_thread(void);
/// Calls `fn` once for each share and returns when all have returned. Share i is thread i's, unless that thread is late: then the
/// caller takes it, so one thread that has lost its processor stops nobody. What is kept for each `thread` is therefore kept for each
/// share, and used by one at a time. Everything written before the call is seen by every share, everything they wrote is seen after
/// it. Not reentrant. Allocates nothing.
void sk_pool_run(sk_pool *pool, sk_pool_fn fn, void *arg);
/// The same, but share i is surely thread i's, however late: for work that belongs to a processor or its memory (the first touch of
/// weights).
void sk_pool_run_each(sk_pool *pool, sk_pool_fn fn, void *arg);

/// Row groups that matrix products have handed out.
typedef struct sk_pool_units {
    uint64_t own;        // of the share's own part of a matrix
    uint64_t of_node;    // taken from shares of the same memory node that were slower
    uint64_t of_others;  // taken from those of other nodes
} sk_pool_units;

/// Whose row groups `thread` takes when it has come to step `step` of 0 ..< threads: its own, then those of the others on its memory node,
/// then of the other nodes.
int32_t sk_pool_victim(const sk_pool *pool, int32_t thread, int32_t step);
/// What was handed out since the last call, over all shares.
sk_pool_units sk_pool_units_taken(sk_pool *pool);

// Functions below that take a `pool` split their work over it; null means on the calling thread. The bits are the same.

// ---- Tensor types and packed matrices ----------------------------------------------------------

/// GGUF's numbers. Only types with kernels stand here.
typedef enum sk_type {
    SK_TYPE_F32 = 0,
    SK_TYPE_F16 = 1,
    SK_TYPE_Q4_0 = 2,
    SK_TYPE_Q4_1 = 3,
    SK_TYPE_Q5_0 = 6,
    SK_TYPE_Q5_1 = 7,
    SK_TYPE_Q8_0 = 8,
    SK_TYPE_Q2_K = 10,
    SK_TYPE_Q3_K = 11,
    SK_TYPE_Q4_K = 12,
    SK_TYPE_Q5_K = 13,
    SK_TYPE_Q6_K = 14,
    SK_TYPE_IQ4_NL = 20,
    SK_TYPE_IQ4_XS = 23,
    SK_TYPE_BF16 = 30,
} sk_type;

/// What a matrix product takes as its right-hand side.
typedef enum sk_activation_kind {
    SK_ACTIVATION_F32 = 0,     // the row itself
    SK_ACTIVATION_Q8_32 = 1,   // signed 8 bit in blocks of 32, see the table
    SK_ACTIVATION_Q8_256 = 2,  // signed 8 bit in blocks of 256, see the table
} sk_activation_kind;

// The one table of formats. For output row r and one activation row; blocks b ascending, i within a block.
//
// | type   | values of a weight block               | activations | rule per block: acc starts at +0                             |
// |--------|----------------------------------------|-------------|--------------------------------------------------------------|
// | Q4_0   | w = d (q - 8), 32 of q in 0...15       | Q8_32       | acc = fma(d * s, float(sum q a - 8 S), acc)                  |
// | Q4_1   | w = d q + m,   32 of q in 0...15       | Q8_32       | acc = fma(d * s, float(sum q a), acc); acc = fma(m, t, acc)  |
// | Q5_0   | w = d (q - 16), 32 of q in 0...31      | Q8_32       | acc = fma(d * s, float(sum q a - 16 S), acc)                 |
// | Q5_1   | w = d q + m,   32 of q in 0...31       | Q8_32       | as Q4_1                                                      |
// | Q8_0   | w = d q,       32 of q in -128...127   | Q8_32       | acc = fma(d * s, float(sum q a), acc)                        |
// | IQ4_NL | w = d v[q],    32 of q in 0...15       | Q8_32       | acc = fma(d * s, float(sum v[q] a), acc)                     |
// | Q4_K   | w = d c q - dmin m, parts below        | Q8_256      | acc = fma(d * s, float(D), acc); acc = fma(dmin * s, float(-N), acc) |
// | Q5_K   | as Q4_K                                | Q8_256      | as Q4_K                                                      |
// | Q2_K   | as Q4_K                                | Q8_256      | as Q4_K                                                      |
// | Q6_K   | w = d c q, parts below                 | Q8_256      | acc = fma(d * s, float(D), acc)                              |
// | Q3_K   | as Q6_K                                | Q8_256      | as Q6_K                                                      |
// | IQ4_XS | as Q6_K                                | Q8_256      | as Q6_K                                                      |
// | F32    | w, 256 to a block (last may be less)   | F32         | blk = +0; k ascending: blk = fma(w, x, blk); acc = acc + blk |
// | F16    | as F32, widened exactly                | F32         | as F32                                                       |
// | BF16   | as F32, widened exactly                | F32         | as F32                                                       |
//
// v = -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113.
// d and m are the file's f16 widened exactly; sums are exact int32. Q8_32 of 32 values x, from their largest magnitude M:
//   s = M / 127, a = the integer nearest to x * (127 / M), halves to even, S = sum a, t = s * float(S);
//   M < 2^-100: all zero. Any value not finite: s = t = NaN, a = 0, so that every output of the row is NaN.
// Q8_256 of 256 values: s and a by the same rule.
//
// The blocks of 256 columns have parts j with integer scales c, in some types minima m; q, c and m as the file gives them, offsets taken off.
// D = sum over j of c_j (sum over the part of q a), N = sum over j of m_j (sum over the part of a): exact int32 for any bytes of a block
// (the bounds stand in packed_super.h). Their conversion to float rounds, once.
//
// | type   | columns of a part | q                     | c          | m      |
// |--------|-------------------|-----------------------|------------|--------|
// | Q2_K   | 16                | 0...3                 | 0...15     | 0...15 |
// | Q3_K   | 16                | -4...3                | -32...31   |        |
// | Q4_K   | 32                | 0...15                | 0...63     | 0...63 |
// | Q5_K   | 32                | 0...31                | 0...63     | 0...63 |
// | Q6_K   | 16                | -32...31              | -128...127 |        |
// | IQ4_XS | 32                | 16 of them, -127...113 | -32...31  |        |

/// Whether kernels exist; `type` is a number found in a file.
bool sk_type_is_supported(uint32_t type);
/// Columns of a matrix must be a multiple of this (256, 32 or 1).
int32_t sk_type_block(sk_type type);
/// Bytes of one row as GGUF stores it.
size_t sk_type_row_bytes(sk_type type, int32_t columns);
sk_activation_kind sk_type_activation(sk_type type);

enum {
    SK_ROW_GROUP = 16,       // output rows that lie side by side in a packed matrix
    SK_ALIGNMENT = 64,       // bytes; of packed matrices, activations, KV memory and workspaces
};

/// A matrix [rows, columns] packed by `sk_pack_rows`; borrows its bytes.
typedef struct sk_matrix {
    sk_type type;
    int32_t rows;
    int32_t columns;
    const void *packed;  // sk_packed_bytes(type, rows, columns), aligned to SK_ALIGNMENT
} sk_matrix;

/// Bytes of a packed matrix: rows rounded up to SK_ROW_GROUP times the row's bytes, no more. Packed bytes are the same on
/// every instruction set, so they may be kept in a file; `SK_PACKED_VERSION` changes with the layout.
size_t sk_packed_bytes(sk_type type, int32_t rows, int32_t columns);
/// Where row `row` (a multiple of SK_ROW_GROUP) starts in the packed bytes.
size_t sk_packed_offset(sk_type type, int32_t row, int32_t columns);
enum { SK_PACKED_VERSION = 2 };

/// Packs rows as a GGUF file holds them. `source`: `rows` rows of sk_type_row_bytes each, any alignment. `packed`: receives
/// sk_packed_bytes(type, rows, columns); missing rows of the last group become zeros. To pack in parts, or several
/// matrices into one (Q, K and V as one product), begin each part at a multiple of SK_ROW_GROUP rows: packed + sk_packed_offset(...).
void sk_pack_rows(sk_type type, const void *source, int32_t rows, int32_t columns, void *packed);

/// One row of a packed matrix as floats, out: f32[columns]: the dequantised values (table above, one rounding each). Serves an
/// embedding that shares its matrix with the output head.
void sk_packed_row_to_f32(const sk_matrix *matrix, int32_t row, float *out);

// ---- Matrix products ---------------------------------------------------------------------------

/// Bytes of one activation row; rows of a batch follow each other at this distance. A multiple of SK_ALIGNMENT.
size_t sk_activation_bytes(sk_activation_kind kind, int32_t columns);
/// x: f32[rows, ldx], `columns` used. out: [rows][sk_activation_bytes]. Columns must suit the kind (256, 32 or 1).
void sk_quantise(const sk_kernels *k, sk_pool *pool, sk_activation_kind kind, const float *x, size_t ldx, int32_t rows,
                 int32_t columns, void *out);

/// What quantising left out of each row: out = fma(-s, a, x) with the block's s and the element's a; +0 for SK_ACTIVATION_F32. A product of x
/// and one of this, added, stand for about 15 bits of x. activations: what `sk_quantise` made of x. out: f32[rows, ldo].
void sk_quantisation_rest(const sk_kernels *k, sk_activation_kind kind, const float *x, size_t ldx, const void *activations, int32_t rows,
                          int32_t columns, float *out, size_t ldo);

/// out[c, r] = matrix[r, :] . activations[c, :]   for c < columns of the batch, r < matrix.rows.
typedef struct sk_product {
    sk_matrix matrix;
    const void *activations;  // [batch][sk_activation_bytes(sk_type_activation(type), matrix.columns)]
    float *out;               // f32[batch, ldo]
    size_t ldo;               // >= matrix.rows
} sk_product;

/// Computes `count` products in one run of the pool (Q with K with V; gate with up), all with the same batch size. Products
/// must not read what others write.
void sk_matmul(const sk_kernels *k, sk_pool *pool, const sk_product *products, int32_t count, int32_t batch);
/// The row groups first_group ..< last_group (of SK_ROW_GROUP rows) that a thread of a pool of so many computes of this matrix, in
/// whatever run it stands; others may take the end of them from a thread that is slower. So this is who should touch their pages first.
void sk_matmul_share(const sk_matrix *matrix, int32_t thread, int32_t threads, int32_t *first_group, int32_t *last_group);

// ---- Rows: norms, sums, gates --------------------------------------------------------------------
// x, y, out: f32[rows, ld...], `columns` used of each row; out may be an input.
// Sum over a row: 16 partial sums from +0, element i into partial i mod 16, ascending; then partial j += partial j + 8 for
// j < 8, then + 4, + 2, + 1.

typedef enum sk_norm_kind {
    SK_NORM_RMS = 0,    // r = 1 / sqrt(sum x*x / n + eps), by fma(x, x, partial); y = (x * r) * weight
    SK_NORM_LAYER = 1,  // mean = sum x / n; c = x - mean; r = 1 / sqrt(sum c*c / n + eps); y = fma(c * r, weight, bias)
} sk_norm_kind;

typedef struct sk_norm {
    sk_norm_kind kind;
    float epsilon;
    const float *weight;  // f32[columns]
    const float *bias;    // f32[columns] or null (LAYER only; null counts as +0)
} sk_norm;

void sk_normalise(const sk_kernels *k, sk_pool *pool, const sk_norm *norm, const float *x, size_t ldx, int32_t rows,
                  int32_t columns, float *out, size_t ldo);
/// `sk_normalise`, then `sk_quantise` of the result, in one run. normed: f32[rows, ldn] receives the normed rows.
void sk_normalise_quantise(const sk_kernels *k, sk_pool *pool, const sk_norm *norm, const float *x, size_t ldx, int32_t rows,
                           int32_t columns, float *normed, size_t ldn, sk_activation_kind kind, void *out);

typedef enum sk_function {
    SK_FUNCTION_SILU = 0,        // x / (1 + e^-x)
    SK_FUNCTION_GELU_ERF = 1,    // x/2 (1 + erf(x / sqrt 2))
    SK_FUNCTION_GELU_TANH = 2,   // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    SK_FUNCTION_GELU_QUICK = 3,  // x / (1 + e^(-1.702 x))
    SK_FUNCTION_TANH = 4,
    SK_FUNCTION_SOFTPLUS = 5,    // ln(1 + e^x)
    SK_FUNCTION_EXP = 6,
} sk_function;

/// out[i] = function(x[i]), i < count. At most 2 ulp from the real value over all floats.
void sk_apply(const sk_kernels *k, sk_function function, const float *x, float *out, size_t count);
/// out = function(gate) * up, then `sk_quantise` of it where `activations` is not null. gate, up: f32[rows, ld]; out:
/// f32[rows, ldo], may be gate or up.
void sk_gate(const sk_kernels *k, sk_pool *pool, sk_function function, const float *gate, const float *up, size_t ld,
             int32_t rows, int32_t columns, float *out, size_t ldo, sk_activation_kind kind, void *activations);

/// x += y. f32[rows, ld...]
void sk_add(const sk_kernels *k, sk_pool *pool, float *x, size_t ldx, const float *y, size_t ldy, int32_t rows, int32_t columns);
/// x = fma(scale, y, x): a residual with a multiplier.
void sk_add_scaled(const sk_kernels *k, sk_pool *pool, float *x, size_t ldx, const float *y, size_t ldy, float scale,
                   int32_t rows, int32_t columns);
/// x += bias in every row; bias: f32[columns].
void sk_add_bias(const sk_kernels *k, sk_pool *pool, float *x, size_t ldx, const float *bias, int32_t rows, int32_t columns);
/// x *= scale
void sk_scale(const sk_kernels *k, float *x, float scale, size_t count);

/// Boundary values: f32 <-> bf16, to nearest even, NaN stays NaN (quiet). `sk_round_bf16` leaves in x what a round trip leaves.
void sk_round_bf16(const sk_kernels *k, float *x, size_t count);
void sk_to_bf16(const sk_kernels *k, const float *x, uint16_t *out, size_t count);
void sk_from_bf16(const sk_kernels *k, const uint16_t *x, float *out, size_t count);
/// f32 <-> f16, to nearest even, overflow to infinity, subnormals kept, NaN stays NaN (quiet).
void sk_to_f16(const sk_kernels *k, const float *x, uint16_t *out, size_t count);
void sk_from_f16(const sk_kernels *k, const uint16_t *x, float *out, size_t count);

// ---- Projections -----------------------------------------------------------------------------------

enum { SK_PROJECTION_MATRICES_MAX = 4 };

/// Products of one input with all that stands around them in a layer, in one run of the pool:
///   y = norm(x), out = each matrix . quantised y + bias, side by side; then either out[i] = function(out[i]) * out[rows + i]
///   (`gated`: the first matrix's rows are gates, the second's as many ups) or residual += out. Each step as its function below says,
///   so the bits are theirs.
typedef struct sk_projection {
    const float *x;               // f32[rows, ldx], `columns` used
    size_t ldx;
    int32_t columns;
    const sk_norm *norm;          // null: x as it is
    int32_t count;                // 1...SK_PROJECTION_MATRICES_MAX; all with `columns` columns, of any types
    const sk_matrix *matrices;
    float *out;                   // f32[rows, ldo]: the outputs of all matrices side by side; with `gated` the first half is what counts
    size_t ldo;                   // >= rows of all matrices
    const float *bias;            // f32[rows of all matrices] or null
    bool gated;                   // needs two matrices of equally many rows
    sk_function function;         // of the gate
    float *residual;              // f32[rows, ldr] or null
    size_t ldr;
    float residual_scale;         // 1: residual += out; else residual = fma(residual_scale, out, residual)
} sk_projection;

/// Bytes that `sk_project` needs for so many rows on a pool of so many threads.
size_t sk_project_workspace_bytes(const sk_projection *projection, int32_t rows, int32_t threads);
/// workspace: aligned to SK_ALIGNMENT, may hold anything. out and residual must not overlap x.
void sk_project(const sk_kernels *k, sk_pool *pool, const sk_projection *projection, int32_t rows, void *workspace);

// ---- Experts ---------------------------------------------------------------------------------------
// A feed-forward layer of which each row uses a few of many experts. For one row, with l = router_matrix . norm(x):
//   chosen: the `used` experts of the largest l, by (l descending, index ascending; -0 and +0 are equal);
//   weights, by the router's kind:
//     SOFTMAX_TOP  p = sk_softmax of all l; w_i = p of the i-th chosen; with `renormalise` w_i = w_i / (w_0 + w_1 + ..., added in this order)
//     TOP_SOFTMAX  w = sk_softmax of the chosen l in the order chosen
//   (an l that is not finite: experts 0 ..< used, all weights NaN, so that the row becomes NaN and is seen);
//   d_e = down_e . q(function(gate_e . q(norm(x))) * (up_e . q(norm(x)))) for each chosen expert, q as the matrix's type quantises;
//   y = +0, then y = fma(w_e, d_e, y) for the chosen in ascending index; residual += y, or fma(residual_scale, y, residual) where that is not 1.
// No number depends on which other rows are there: rows are sorted by expert only so that each matrix is read once.

enum { SK_EXPERTS_MAX = 512 };

typedef enum sk_router_kind {
    SK_ROUTER_SOFTMAX_TOP = 0,  // Mixtral, with `renormalise`
    SK_ROUTER_TOP_SOFTMAX = 1,  // Granite
} sk_router_kind;

typedef struct sk_router {
    sk_router_kind kind;
    int32_t experts;   // 1...SK_EXPERTS_MAX
    int32_t used;      // 1...experts
    bool renormalise;  // SOFTMAX_TOP only
} sk_router;

/// logits: f32[rows, ldl]. chosen: int32[rows, used] in the order of logits, weights: f32[rows, used].
void sk_route(const sk_kernels *k, const sk_router *router, const float *logits, size_t ldl, int32_t rows, int32_t *chosen,
              float *weights);

/// Sorts the choices of `rows` rows by (expert, row) into slots. first: int32[experts + 1], expert e has slots first[e] ..< first[e + 1].
/// row_of_slot: int32[rows * used]. slot_of_choice: int32[rows, used].
void sk_group_by_expert(const int32_t *chosen, int32_t rows, int32_t used, int32_t experts, int32_t *first, int32_t *row_of_slot,
                        int32_t *slot_of_choice);

/// A product with a batch of its own; as `sk_product` otherwise.
typedef struct sk_grouped_product {
    sk_matrix matrix;
    const void *activations;  // [batch][sk_activation_bytes(sk_type_activation(type), matrix.columns)]
    int32_t batch;            // 0: nothing to do
    float *out;               // f32[batch, ldo]
    size_t ldo;
} sk_grouped_product;

/// Computes `count` products, 64 of them to a run of the pool; every thread takes its share of each matrix.
void sk_matmul_grouped(const sk_kernels *k, sk_pool *pool, const sk_grouped_product *products, int32_t count);

typedef struct sk_experts {
    sk_router router;
    sk_matrix router_matrix;  // [experts, columns]
    const sk_matrix *gates;   // [experts] matrices [width, columns]
    const sk_matrix *ups;     // as gates
    const sk_matrix *downs;   // [experts] matrices [columns, width]
    sk_function function;     // of the gate
    const float *x;           // f32[rows, ldx]
    size_t ldx;
    int32_t columns;
    const sk_norm *norm;      // null: x as it is
    float *residual;          // f32[rows, ldr]; may be x
    size_t ldr;
    float residual_scale;
} sk_experts;

size_t sk_experts_workspace_bytes(const sk_experts *layer, int32_t rows);
/// The whole layer. workspace: aligned to SK_ALIGNMENT, may hold anything.
void sk_feed_experts(const sk_kernels *k, sk_pool *pool, const sk_experts *layer, int32_t rows, void *workspace);

/// What the matrices of a layer were given by its last run, in its workspace: valid until that is used again.
typedef struct sk_experts_inputs {
    const int32_t *first;        // int32[experts + 1]: expert e has slots first[e] ..< first[e + 1]
    const int32_t *row_of_slot;  // int32[rows * used]
    const float *rows;           // f32[rows, columns]: of gates and ups
    const float *slots;          // f32[rows * used, lds]: of downs, as many values as these have columns
    size_t lds;
} sk_experts_inputs;
/// The layer, rows and workspace as they were given to `sk_feed_experts`. The layer has a norm; without, its x may be overwritten.
sk_experts_inputs sk_experts_see(const sk_experts *layer, int32_t rows, void *workspace);

// ---- Logits ----------------------------------------------------------------------------------------

/// The index of the largest, the lowest index among equals (-0 and +0 are equal). No NaN in x; count > 0.
int32_t sk_argmax(const sk_kernels *k, const float *x, int32_t count);
bool sk_all_finite(const sk_kernels *k, const float *x, size_t count);
/// Writes every i with low <= x[i] < high to ids, ascending, and returns how many there are. ids: int32[count].
int32_t sk_collect(const sk_kernels *k, const float *x, int32_t count, float low, float high, int32_t *ids);
/// out[i] = (x[i] - highest) / temperature. out may be x.
void sk_temper(const sk_kernels *k, const float *x, float highest, float temperature, float *out, int32_t count);
/// out[i] = e_i / sum e with e_i = exp(x_i - max x), sums over a row as above. out may be x.
void sk_softmax(const sk_kernels *k, const float *x, float *out, int32_t count);
/// max x + ln(sum e) with the e and the sum of `sk_softmax`; the logarithm in double.
double sk_log_sum_exp(const sk_kernels *k, const float *x, int32_t count);

// ---- RoPE ------------------------------------------------------------------------------------------
// All in double with own functions, because libm's last bits differ between versions.

/// frequencies: f64[dims / 2]: theta^(-2i / dims), divided by divisors[i] where divisors (f32[dims / 2]) is not null.
void sk_rope_frequencies(double theta, int32_t dims, const float *divisors, double *frequencies);
/// frequencies[i] /= factor
void sk_rope_scale_linear(double *frequencies, int32_t count, double factor);
/// Llama 3's scaling: wavelengths over context / low are divided by `factor`, those under context / high stay, between them it is blended.
void sk_rope_scale_llama3(double *frequencies, int32_t count, double factor, double low, double high, double original_context);
/// YaRN's: with p(t) = count * ln(original_context / (2 pi t)) / ln theta, the pair that turns t times over the original context, low = floor
/// p(beta_fast) and high = ceil p(beta_slow), both within 0 ... 2 count - 1: pairs up to low stay, those from high on are divided by `factor`,
/// between them the two are blended. theta > 1.
void sk_rope_scale_yarn(double *frequencies, int32_t count, double theta, double factor, double beta_fast, double beta_slow,
                        double original_context);
/// ln x for a normal, positive x, at most 1 ulp off; the same bits everywhere.
double sk_natural_log(double x);
/// cosines, sines: f32[positions, count] for positions first ..< first + positions: float(cos(position * frequency) * magnitude).
void sk_rope_table(const double *frequencies, int32_t count, int32_t first, int32_t positions, double magnitude, float *cosines,
                   float *sines);

typedef enum sk_rope_pairing {
    SK_ROPE_HALVES = 0,    // element i with i + dims / 2
    SK_ROPE_ADJACENT = 1,  // element 2i with 2i + 1
} sk_rope_pairing;

/// Turns the first `dims` elements of each head in place: a' = fma(a, cos, -(b * sin)), b' = fma(b, cos, a * sin).
/// x: f32[rows, ldx], heads of head_dim side by side. positions: int32[rows], each a row of the tables f32[*, dims / 2].
void sk_rope(const sk_kernels *k, sk_pool *pool, sk_rope_pairing pairing, float *x, size_t ldx, int32_t rows, int32_t heads,
             int32_t head_dim, int32_t dims, const int32_t *positions, const float *cosines, const float *sines);

// ---- Paged attention -----------------------------------------------------------------------------------

enum {
    SK_KV_BLOCK = 32,          // positions of a KV block
    SK_ATTENTION_CHUNK = 256,  // absolute positions of a chunk, aligned to multiples of it
};

typedef enum sk_kv_type {
    SK_KV_F32 = 0,
    SK_KV_F16 = 1,
    SK_KV_Q8 = 2,  // signed 8 bit in blocks of 32 dimensions of one position and head, each with a bf16 scale
} sk_kv_type;

// What is kept of x. F32: x. F16: x rounded to nearest even. Q8, for the 32 (or last few) dimensions of a block with largest magnitude M:
//   s = M / 127 rounded to bf16 away from zero,  a = the integer nearest to x * (1 / s), halves to even;  M < 2^-100: s = a = 0.
// What is not finite, or becomes so, is kept as NaN (Q8: as a scale of NaN, so for its whole block), and whatever sees that position is NaN:
// a key of -infinity would else be passed over in silence.

/// One layer's KV blocks: block b lies at base + b * stride. Inside it, for each KV head: keys [2][head_dim][16 positions],
/// then values [32 positions][head_dim rounded up to 16]; Q8 then has, from the next multiple of SK_ALIGNMENT on, the scales of the keys
/// and those of the values, each bf16 [head_dim / 32 rounded up][32 positions].
typedef struct sk_kv {
    sk_kv_type type;
    int32_t kv_heads;
    int32_t head_dim;
    void *base;     // aligned to SK_ALIGNMENT
    size_t stride;  // bytes, a multiple of SK_ALIGNMENT, >= sk_kv_block_bytes
} sk_kv;

/// Bytes of one block of one layer (keys and values of all its KV heads), a multiple of SK_ALIGNMENT.
size_t sk_kv_block_bytes(sk_kv_type type, int32_t kv_heads, int32_t head_dim);

/// Consecutive positions of one sequence: rows first_row ..< first_row + rows of a batch are its positions first_position, + 1, …
typedef struct sk_span {
    const int32_t *blocks;  // block of position p is blocks[p / SK_KV_BLOCK]
    int32_t first_position;
    int32_t first_row;
    int32_t rows;
} sk_span;

/// Writes keys (already turned) and values of the spans' rows. keys: f32[rows, ldk], values: f32[rows, ldv], each kv_heads * head_dim.
void sk_kv_write(const sk_kernels *k, sk_pool *pool, const sk_kv *kv, const sk_span *spans, int32_t count, const float *keys,
                 size_t ldk, const float *values, size_t ldv);

typedef struct sk_attention {
    sk_kv kv;
    int32_t heads;   // query heads, a multiple of kv.kv_heads; head h reads KV head h / (heads / kv_heads)
    float scale;     // of the scores
    int32_t window;  // 0: each row sees all positions up to its own; W: only the last W of them, its own included
} sk_attention;

// For one row and head, over the visible positions, chunks ascending:
//   score_p = (fma over d ascending of key[p, d] * q[d], from +0) * scale;  m = max;  e_p = exp(score_p - m);  l = sum of e over the
//   chunk's 256 positions as a sum over a row (position p mod 16);  v[d] = fma(e_p, value[p, d], v[d]) for p ascending, from +0.
// Q8, with the integers a, blocks b ascending:  score_p = (dot = fma(s[p, b], fma over d of b ascending of a[p, d] * q[d] from +0, dot),
//   from +0) * scale;  v[d] = fma(e_p * s[p, b], a[p, d], v[d]).
// The first chunk is the state (M, L, V). Each next: M' = max(M, m), f = exp(M - M'), g = exp(m - M'), L = fma(L, f, l * g),
//   V[d] = fma(V[d], f, v[d] * g). At the end out[d] = V[d] * (1 / L).

/// Bytes `sk_attend` needs for these spans on a pool of so many threads.
size_t sk_attention_workspace_bytes(const sk_attention *attention, const sk_span *spans, int32_t count, int32_t threads);
/// q: f32[rows, ldq], out: f32[rows, ldo], heads of kv.head_dim side by side. KV of the spans' own rows must have been written.
/// workspace: aligned to SK_ALIGNMENT, may hold anything.
void sk_attend(const sk_kernels *k, sk_pool *pool, const sk_attention *attention, const sk_span *spans, int32_t count,
               const float *q, size_t ldq, float *out, size_t ldo, void *workspace);

#ifdef __cplusplus
}
#endif

#endif
