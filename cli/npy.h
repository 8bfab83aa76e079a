/* SPDX-License-Identifier: Apache-2.0 */
/** NumPy's .npy files: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef ATTEND_CLI_NPY_H
#define ATTEND_CLI_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** Element types that are read: those the command line has a use for. */
typedef enum attend_npy_type {
  ATTEND_NPY_BOOL,
  ATTEND_NPY_F32,
  ATTEND_NPY_F16,
  ATTEND_NPY_I32,
  ATTEND_NPY_I64,
  ATTEND_NPY_U16,
  ATTEND_NPY_F64,
  ATTEND_NPY_U8,
  ATTEND_NPY_BF16, /**< as the packages ml_dtypes and JAX write it: '<V2' */
  ATTEND_NPY_TYPE_COUNT
} attend_npy_type;

/** Most dimensions of a file, as in NumPy 1. */
#define ATTEND_NPY_MAX_RANK 32

/** An array, in C order and in the byte order of this machine. */
typedef struct attend_npy {
  attend_npy_type type;
  int rank;
  int64_t shape[ATTEND_NPY_MAX_RANK];
  size_t count; /**< elements: the product of the shape, 1 for rank 0 */
  void *data;   /**< of attend_alloc() */
} attend_npy;

/** "float32", ... and the size of an element in bytes. */
const char *attend_npy_type_name(attend_npy_type type);
size_t attend_npy_type_size(attend_npy_type type);

/** "(2, 3)", as Python writes it, cut off where `text` ends. Returns `text`. */
char *attend_npy_shape_text(int rank, const int64_t *shape, char *text, size_t size);

/**
 * Reads a file of version 1.0, 2.0 or 3.0 that holds one array and nothing more. On failure `why` says which field of
 * the file is not as expected, without the file's name, and *array is zeroed.
 */
bool attend_npy_read(const char *path, attend_npy *array, char *why, size_t why_size);

/** Frees the data of an array read, and zeroes it. */
void attend_npy_free(attend_npy *array);

/** Writes a float32 array as version 1.0, its data aligned to 64 bytes. False as soon as the file has an error. */
bool attend_npy_write_f32(FILE *file, int rank, const int64_t *shape, const float *data);

#endif
