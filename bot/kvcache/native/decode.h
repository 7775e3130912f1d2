/* The shape of a decoder in memory, and the functions that one instruction set provides.
 *
 * All arithmetic is specified to the bit: sums of floats run in eight lanes joined as
 * ((0+1)+(2+3))+((4+5)+(6+7)), nothing is contracted to fused multiply-adds, and integer sums
 * are exact. So every instruction set, thread count and batch gives the same bits. */
#ifndef KVTRADER_DECODE_H
#define KVTRADER_DECODE_H

#include <stddef.h>
#include <stdint.h>

#define TILE 32          /* rows of a weight tile */
#define GROUP 16         /* tokens whose softmax weights share a step; aligned in positions */
#define MAX_ROWS 64      /* tokens of one step */
#define MAX_HEAD_DIM 256
#define MAX_GROUPED 16   /* query heads that share a key head */
#define WEIGHT_BITS 12   /* of a group's largest softmax weight */

enum { FORMAT_FLOAT32 = 0, FORMAT_INT8 = 1, FORMAT_INT8_TILES = 2 };
enum { STORE, ADD, GELU };

/* A weight matrix [rows, cols]. Tiles hold TILE rows each, the last one padded with zeros.
 * int8: [rows/32][cols/4][32][4] with a scale and a sum of codes per row; float: [rows/32][cols][32]. */
typedef struct {
    const void *tiles;
    const float *scales;  /* NULL: the tiles are float */
    const int32_t *sums;
    int rows, cols;
} Matrix;

typedef struct {
    const float *attention_norm, *q_norm, *k_norm, *sink, *mlp_norm;
    Matrix qkv, out, up, down;
} Layer;

typedef struct {
    int features, width, layers, heads, kv_heads, head_dim, hidden, outputs;
    int64_t window;
} Shape;

typedef struct {
    Shape shape;
    Layer *layers;
    Matrix embed, head;
    const float *embed_bias, *head_bias, *final_norm;
    const uint64_t *turns; /* [head_dim / 2], 2^-64 turns per token */
} Model;

/* Where the sections of a pool's blocks lie. Float and int8 codes lie token by token, [token][dim];
 * tiles are made for dot products of four bytes: keys [token/16][dim/4][16][4], values
 * [token/4][dim][4]. So GROUP tokens take the same bytes in all three. */
typedef struct {
    char *base;
    int64_t slab_bytes, per_slab, block_bytes;
    int format, layers, kv_heads, head_dim, block_size;
    int64_t k_codes, v_codes, k_params, v_params; /* byte offsets within a block */
} Storage;

/* Consecutive tokens of one sequence: rows [first_row, first_row + rows) of the step. */
typedef struct {
    const Storage *storage;
    char **blocks;       /* addresses, oldest first */
    int64_t first_block; /* logical index of blocks[0] */
    int64_t position;    /* of the first row */
    int64_t start;       /* no position before this one is held */
    int rows, first_row;
} Span;

/* The rows of a step as one matrix product reads them. */
typedef struct {
    float *values;   /* [rows][stride] */
    int8_t *codes;   /* [rows][stride], and what the instruction set reads beside them: */
    uint8_t *mates;
    float *scales;   /* [rows] */
    int stride;
} Activations;

typedef float HeadRow[MAX_HEAD_DIM + 16];

/* A query head as codes, with what the instruction set reads beside them. */
typedef struct {
    int8_t codes[MAX_HEAD_DIM + 64];
    uint8_t mates[MAX_HEAD_DIM + 64], signs[MAX_HEAD_DIM + 64];
    int32_t offset;
    float scale;
} Query;

/* What a thread works in; nobody else touches it. */
typedef struct {
    Activations own;
    HeadRow *keys, *queries; /* [kv_heads], [heads] */
    Query *codes;            /* [heads] */
    float *scores;     /* [MAX_GROUPED][span] */
    int16_t *weights;  /* [MAX_GROUPED][span] */
    float *steps;      /* [MAX_GROUPED][span / GROUP] */
    int64_t span;
} Workspace;

/* A layer's attention: where it comes from and goes to. */
typedef struct {
    const Model *model;
    const Layer *layer;
    int layer_index;
    const float *qkv;  /* [rows][qkv_stride] */
    float *attended;   /* [rows][attended_stride] */
    const float *cos, *sin; /* [rows][head_dim / 2] */
    int qkv_stride, attended_stride;
} AttentionInput;

typedef struct {
    const char *name;
    /* out[row][n] (=, += or gelu) product of tiles [first, last) with the activations */
    void (*multiply_int8)(const Matrix *, int first, int last, const Activations *, int rows,
                          float *out, int stride, int epilogue);
    void (*multiply_float)(const Matrix *, int first, int last, const Activations *, int rows,
                           float *out, int stride, int epilogue);
    /* RMSNorm of one row of n numbers */
    void (*normalize)(const float *x, const float *weight, int n, float *out);
    /* symmetric codes of one row; n is padded with zeros to a multiple of 16 */
    void (*quantize)(const float *x, int n, int8_t *codes, uint8_t *mates, float *scale);
    /* append a span's keys and values of key heads [first, last), then attend with their queries */
    void (*attend)(const AttentionInput *, const Span *, int first, int last, Workspace *);
    uint64_t (*read)(const char *bytes, size_t count);
} Kernels;

extern const Kernels kernels_plain;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_X86 1
extern const Kernels kernels_avx2, kernels_vnni;
#endif

/* A fixed team of threads that run one function together; member 0 is the caller. */
typedef struct Team Team;
Team *team_create(int threads);
void team_destroy(Team *);
int team_run(Team *, void (*work)(void *argument, int member), void *argument);
void team_wait(Team *); /* a barrier for the members */

typedef struct Decoder Decoder;
Decoder *decoder_create(const Model *, const Kernels *, int threads, int64_t span);
void decoder_destroy(Decoder *);
/* x [rows][features] to out [rows][outputs]; spans cover the rows in order. 0, or -1 if the
 * team's threads could not be started. */
int decoder_step(Decoder *, const Span *spans, int spans_count, const float *x, float *out);
/* Read bytes with the team and drop them: the time a step cannot beat. */
int decoder_read(Decoder *, const char *bytes, size_t count);

#endif
