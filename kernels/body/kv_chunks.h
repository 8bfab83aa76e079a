/* SPDX-License-Identifier: Apache-2.0 */
/**
 * How decode goes over keys and values: in blocks, and within them in chunks that all rows work on together, each a
 * run of rows that lie evenly or several where they lie in pages; with each run what is to be prefetched meanwhile.
 */
#ifndef ATTEND_KERNELS_BODY_KV_CHUNKS_H
#define ATTEND_KERNELS_BODY_KV_CHUNKS_H

#include "kernels/body/operand.h"

/**
 * Keys that all rows work on before the next ones are read: 64 stay in the L1 cache. A block holds several chunks, so
 * that keys, and then values, are read in long streams: 64 keys at a time reached 42 GB/s where 512 reach 49.
 */
enum { DECODE_CHUNK = 64 };

/** Keys or values that follow one another and lie evenly in memory. */
typedef struct kv_run {
  const char *at;
  int64_t stride; /**< bytes from row to row */
  int64_t count;
  int64_t ahead; /**< bytes from the first row to what is prefetched meanwhile; 0 = nothing */
  int64_t apart; /**< bytes from what a row prefetches to what the next one does */
} kv_run;

/** Keys or values that follow one another: one run, or several where they lie in pages. */
typedef struct kv_rows {
  int64_t dim;   /**< elements of a row */
  int64_t bytes; /**< of a row */
  int64_t count; /**< of all runs */
  bool to_l1;    /**< see attend_tiling */
  int64_t share; /**< see kv_block */
  int64_t left;  /**< bytes of a row ahead that no tile of values has prefetched, the current one's share aside */
  int64_t until; /**< the column from which on tiles prefetch nothing */
  int runs;
  kv_run run[DECODE_CHUNK];
} kv_rows;

/** A block of keys or values, and what is read after it. */
typedef struct kv_block {
  const attend_rows *all;  /**< of the first head */
  int64_t key, count;      /**< the first of its rows, and their number */
  int64_t dim, bytes;      /**< of a row */
  int64_t head;            /**< bytes from a head's rows to the next one's */
  bool packed;             /**< rows of all heads fill memory, and are prefetched in the order of addresses */
  int64_t ahead;           /**< rows from the current one to the one to prefetch */
  bool to_l1;              /**< see attend_tiling */
  int64_t share;           /**< bytes of a row that a pass prefetches of what lies ahead: all, or chunks are small */
  int64_t chunk;           /**< rows of a chunk */
  const attend_rows *next; /**< read after it, from row next_key on; NULL = nothing, or spaced otherwise */
  int64_t next_key;

  /* Where its rows lie together: */
  const char *begin;
  int64_t turn;                      /**< from this row on, those of `next` are asked for */
  int64_t ahead_bytes, turned_bytes; /**< from a row before it, and from it on, to what is asked for */
} kv_block;

/**
 * Passes that share what is to be prefetched, at most: with more memory is not the limit, and smaller chunks took 1.04
 * times as long (mla-decode, 64 passes).
 */
enum { MOST_SHARES = 8 };

/** Rows of a chunk of `most` bytes: whole vectors of scores. */
ATTEND_INLINE int64_t chunk_rows(int64_t most, int64_t row_bytes) {
  const int64_t rows = most / max_i64(1, row_bytes) / 16 * 16;
  return rows < 16 ? 16 : rows > DECODE_CHUNK ? DECODE_CHUNK : rows;
}

/** Bytes of a row that each of some passes prefetches: a line at least. */
ATTEND_INLINE int64_t share_of(int64_t bytes, int64_t passes) {
  return min_i64(bytes, max_i64(64, divide_up(bytes, passes)));
}

/** Of one that is read from a format: 16 KiB of plain elements, which stay in the L1 cache beside the queries. */
ATTEND_INLINE int64_t plain_chunk_rows(int64_t dim) {
  return chunk_rows(16384, plain_stride(dim) * element_size(ATTEND_COMPUTE));
}

/**
 * Rows are prefetched ahead of the current one: by about 8 KiB in f32, by more in 16 bits, which are used up faster: by
 * 16 into L2 (6 to 12 % faster than 12 on Zen 4 without huge pages), by 12 into L1 (16 took 2 to 4 % longer on Zen 5).
 * Zen 5 drops prefetches that find all miss buffers taken, so they come evenly and in the order of addresses: half rows
 * of values, prefetched in two passes, reached 31 GB/s where whole rows reach 43.
 *
 * Where several passes go over a chunk, because registers do not hold the sums of all rows, and all that is read comes
 * from beyond L2, each pass, or each half of one with a tall tile (decode_values.h), prefetches its share of what lies
 * ahead, evenly: if the first one does it all, memory waits while the others compute. Chunks are so small then that the
 * first pass does not come to rows that the last one is to prefetch. (Of keys the first pass prefetches all; smaller
 * chunks alone made AVX2, which passes twice, 0.88 of the time, and sharing brought no more.) Zen 5, 32/8 heads,
 * D = 128, 8192 keys, one thread, before and after: AVX2 f32 2867 to 1811 us, f16 1822 to 1478; AVX-512 f32 1884 to
 * 1795, bf16 762 to 677, f16 the same (from L3). In pages, at whose ends the hardware's own prefetchers stop, 2662 to
 * 2376, 1070 to 908, 1113 to 996. From L2 it took 1.09 times as long, for more chunks.
 */
ATTEND_INLINE void take_block(const attend_rows *all, int64_t dim, int64_t key, int64_t count,
                              const attend_tiling *tiling, int64_t passes, kv_block *block) {
  const int64_t bytes = attend_row_size(all->dtype, dim);
  const bool format = attend_is_format(all->dtype);
  const bool flat = all->stride == bytes, to_l1 = tiling->to_l1 && flat;
  const bool far = tiling->out_of_cache && flat && !format, f32 = all->dtype == ATTEND_F32;
  const int64_t distance = f32 ? 8192 : to_l1 && !far ? 12288 : 16384;
  const int64_t few = chunk_rows(f32 ? 8192 : 16384, bytes);
  int64_t ahead = max_i64(1, distance / max_i64(1, bytes));
  if (all->page_rows && ahead > all->page_rows) ahead -= ahead % all->page_rows; /* runs of whole pages */
  const bool evenly = far && passes > 1 && passes <= MOST_SHARES && few <= ahead;
  /* One by one: what was built elsewhere and copied would wait for its stores, 15 ns of a head with 16 keys. */
  block->all = all;
  block->key = key, block->count = count;
  block->dim = dim, block->bytes = bytes;
  block->head = 0, block->packed = false;
  block->ahead = ahead;
  block->to_l1 = to_l1;
  block->share = evenly ? share_of(bytes, passes) : bytes;
  block->chunk = format ? plain_chunk_rows(dim) : evenly ? few : DECODE_CHUNK;
  block->next = NULL, block->next_key = 0;
  block->begin = all->page_rows ? NULL : attend_row(all, key);
  block->turn = count;
  block->ahead_bytes = ahead * all->stride, block->turned_bytes = 0;
}

/**
 * Lets `heads` heads, `head` bytes apart, take turns on a block, chunk by chunk. Rows of a head lie several KiB apart
 * then, in few sets of the L1 cache, where 64 of them drive one another out. So a chunk is so small that the rows of
 * all heads stay there, beside the next one's: in 16 bits half of them, because chunks cost as much as they save there.
 * And heads prefetch for one another, in the order of addresses: each its own rows reached half the speed in f32.
 *
 * `least` rows are a group of scores. On Zen 5, one thread, from memory, 8192 keys of 8 or 4 heads with 4 or 7 rows
 * each, that took 0.62 to 0.88 of the time of slices of one head and 512 keys (f32, f16, bf16; docs/performance.md),
 * 0.86 to 1.03 with keys in q8_0; with AVX2 0.55 to 0.92, in one case 1.03.
 */
ATTEND_INLINE void take_turns(kv_block *block, int heads, int64_t head, int64_t least, int64_t passes, bool in_place,
                              bool to_l1) {
  const attend_rows *all = block->all;
  const int64_t row = heads * block->bytes, bytes = all->dtype == ATTEND_F32 ? 16384 : 32768;
  block->head = head;
  if (!in_place) return; /* chunks are what a buffer holds */
  block->chunk = min_i64(DECODE_CHUNK, max_i64(least, bytes / max_i64(1, row) / 4 * 4));
  block->packed = all->stride == row;
  if (block->packed) {
    block->to_l1 = to_l1;
    block->ahead = block->chunk;
    if (passes <= MOST_SHARES && !attend_is_format(all->dtype)) block->share = share_of(block->bytes, passes);
  }
  block->ahead_bytes = block->ahead * all->stride;
}

/**
 * What is read after a block, if rows lie there as they do in it: to be asked for when its end comes near. Values after
 * their keys, keys of the next block or slice after values (5 to 9 % faster from memory in 16 bits).
 */
ATTEND_INLINE void expect(kv_block *block, const attend_rows *next, int64_t dim, int64_t key) {
  const int64_t stride = block->all->stride;
  if (next->stride != stride || next->dtype != block->all->dtype || dim != block->dim || block->ahead > block->count)
    return;
  block->next = next, block->next_key = key;
  const int64_t unit = min_i64(LANES, block->chunk);
  if (!block->begin || block->ahead < unit) return;
  block->turn = (block->count - block->ahead) / unit * unit; /* chunks begin with whole operands */
  block->ahead_bytes = (block->count - block->turn) * stride;
  block->turned_bytes = (int64_t)((uintptr_t)attend_row(next, key) - (uintptr_t)(block->begin + block->turn * stride));
}

/** The chunk of keys or values that begins at row `first` of a block whose rows lie together. */
ATTEND_INLINE void flat_chunk(const kv_block *block, int64_t first, kv_rows *chunk) {
  const bool turned = first >= block->turn;
  chunk->runs = 1;
  chunk->count = min_i64(block->chunk, (turned ? block->count : block->turn) - first);
  chunk->run[0] = (kv_run){.at = block->begin + first * block->all->stride,
                           .stride = block->all->stride,
                           .count = chunk->count,
                           .ahead = turned && block->next ? block->turned_bytes : block->ahead_bytes,
                           .apart = block->packed ? block->bytes : block->all->stride};
}

/**
 * The same for rows in pages. A run is rows that lie together, in whole operands, and so do the rows that are
 * prefetched meanwhile. Where a page ends within an operand, the rows of that operand are a run of their own: two rows
 * are always evenly spaced.
 */
ATTEND_OUTLINE void paged_chunk(const kv_block *block, int64_t first, kv_rows *chunk) {
  const attend_rows *all = block->all;
  const int64_t end = min_i64(block->count, first + block->chunk);
  chunk->runs = 0;
  chunk->count = end - first;
  for (int64_t j = first; j < end;) {
    const int64_t row = block->key + j, together = attend_rows_together(all, row), later = j + block->ahead;
    kv_run *run = &chunk->run[chunk->runs++];
    *run = (kv_run){.at = attend_row(all, row), .stride = all->stride, .count = min_i64(together, end - j)};
    const attend_rows *fetched = later < block->count ? all : block->next;
    const int64_t fetch = later < block->count ? block->key + later : block->next_key + later - block->count;
    if (fetched) {
      run->count = min_i64(run->count, attend_rows_together(fetched, fetch));
      run->ahead = (int64_t)((uintptr_t)attend_row(fetched, fetch) - (uintptr_t)run->at);
    }
    run->apart = block->packed ? block->bytes : all->stride;
    if (run->count < end - j && run->count % PER_OPERAND)
      run->count = run->count > PER_OPERAND ? run->count / PER_OPERAND * PER_OPERAND : PER_OPERAND;
    if (run->count > together) run->stride = (int64_t)((uintptr_t)attend_row(all, row + 1) - (uintptr_t)run->at);
    j += run->count;
  }
}

/** The rows of a block from its row `first` on that are worked on together. */
ATTEND_INLINE void next_chunk(const kv_block *block, int64_t first, kv_rows *chunk) {
  chunk->dim = block->dim, chunk->bytes = block->bytes;
  chunk->to_l1 = block->to_l1, chunk->share = block->share;
  if (block->begin)
    flat_chunk(block, first, chunk);
  else
    paged_chunk(block, first, chunk);
}

/**
 * The same rows of the head that is the `head`-th from the first. Where heads fill memory, each prefetches as many
 * bytes of what lies ahead as it reads, one after the other.
 */
ATTEND_INLINE void chunk_of_head(const kv_block *block, const kv_rows *first, int64_t head, kv_rows *chunk) {
  chunk->dim = first->dim, chunk->bytes = first->bytes, chunk->count = first->count;
  chunk->to_l1 = first->to_l1, chunk->share = first->share, chunk->runs = first->runs;
  for (int i = 0; i < first->runs; i++) {
    kv_run *run = &chunk->run[i];
    *run = first->run[i];
    run->at += head * block->head;
    if (run->ahead && block->packed) run->ahead += head * (run->count * block->bytes - block->head);
  }
}

/**
 * Reads a chunk of a format to `plain`, prefetching what lies ahead, and lets the chunk be that. `all` are the rows of
 * its head.
 */
ATTEND_OUTLINE void read_chunk(const kv_block *block, const attend_rows *all, int64_t first, kv_rows *chunk,
                               char *plain) {
  const int64_t stride = plain_stride(block->dim) * element_size(ATTEND_COMPUTE);
  /* Here each head reads alone, and prefetches its own. */
  const int64_t own_ahead = block->begin ? block->ahead * all->stride : 0;
  int64_t row = block->key + first;
  char *to = plain;
  for (const kv_run *run = chunk->run; run < chunk->run + chunk->runs;
       row += run->count, to += run->count * stride, run++)
    read_rows(all, row, run->count, block->dim, to, block->packed ? own_ahead : run->ahead, block->to_l1);
  chunk->run[0] = (kv_run){plain, stride, chunk->count, 0, stride};
  chunk->runs = 1;
  chunk->bytes = chunk->share = block->dim * element_size(ATTEND_COMPUTE);
}

#endif
