/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/byte_order.h"
#include "dispatch/dispatch.h"
#include "kernels/size.h"

/* How numbers lie in this machine's memory, as 'descr' says it. */
static const char own_order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

/* Ten thousand times what an array of numbers needs; only structured types have long headers. */
enum { MAX_HEADER = 1 << 20 };

static const struct {
  const char *code, *name;
  size_t size;
} types[ATTEND_NPY_TYPE_COUNT] = {
    [ATTEND_NPY_BOOL] = {"b1", "bool", 1},     [ATTEND_NPY_F32] = {"f4", "float32", 4},
    [ATTEND_NPY_F16] = {"f2", "float16", 2},   [ATTEND_NPY_I32] = {"i4", "int32", 4},
    [ATTEND_NPY_I64] = {"i8", "int64", 8},     [ATTEND_NPY_U16] = {"u2", "uint16", 2},
    [ATTEND_NPY_F64] = {"f8", "float64", 8},   [ATTEND_NPY_U8] = {"u1", "uint8", 1},
    [ATTEND_NPY_BF16] = {"V2", "bfloat16", 2},
};

const char *attend_npy_type_name(attend_npy_type type) { return types[type].name; }

size_t attend_npy_type_size(attend_npy_type type) { return types[type].size; }

char *attend_npy_shape_text(int rank, const int64_t *shape, char *text, size_t size) {
  size_t length = 0;
  for (int i = 0; i < rank && length < size; i++)
    length += (size_t)snprintf(text + length, size - length, "%s%" PRId64, i ? ", " : "(", shape[i]);
  if (length < size) snprintf(text + length, size - length, rank == 0 ? "()" : rank == 1 ? ",)" : ")");
  return text;
}

/* --------------------------------------------------------------------------------------------------------- header */

/* How a file has its array, where that is another way than in memory. */
typedef struct npy_order {
  bool swapped; /* numbers are in the other byte order than this machine's */
  bool fortran; /* elements that differ in the first index lie together */
} npy_order;

/* The header's text, a Python dict literal, and how far it has been read. */
typedef struct parser {
  const char *at, *end;
  char *why;
  size_t why_size;
  npy_order order;
} parser;

__attribute__((format(printf, 3, 4))) static bool fail(char *why, size_t size, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, size, format, arguments);
  va_end(arguments);
  return false;
}

#define FAIL(p, ...) fail((p)->why, (p)->why_size, __VA_ARGS__)

static void skip_space(parser *p) {
  while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r')) p->at++;
}

/* Skips white space, and `c` if that comes next. */
static bool accept(parser *p, char c) {
  skip_space(p);
  if (p->at == p->end || *p->at != c) return false;
  p->at++;
  return true;
}

static bool accept_word(parser *p, const char *word) {
  size_t length = strlen(word);
  skip_space(p);
  if ((size_t)(p->end - p->at) < length || memcmp(p->at, word, length) != 0) return false;
  p->at += length;
  return true;
}

/* A quoted string without escapes, which no header of a plain array has. `what` names it in errors. */
static bool string(parser *p, const char *what, char *text, size_t size) {
  skip_space(p);
  char quote = p->at < p->end ? *p->at : '\0';
  if (quote != '\'' && quote != '"') return FAIL(p, "header: expected %s in quotes", what);
  const char *begin = ++p->at;
  while (p->at < p->end && *p->at != quote && *p->at != '\\') p->at++;
  size_t length = (size_t)(p->at - begin);
  if (p->at == p->end || *p->at == '\\') return FAIL(p, "header: expected %s in closed quotes", what);
  if (length >= size) return FAIL(p, "header: %s is too long", what);
  memcpy(text, begin, length);
  text[length] = '\0';
  p->at++;
  return true;
}

/* "<f4": byte order, kind, bytes. */
static bool parse_descr(parser *p, attend_npy *array) {
  char descr[32];
  if (accept(p, '[')) return FAIL(p, "field 'descr': structured arrays are not supported");
  if (!string(p, "the value of 'descr'", descr, sizeof descr)) return false;
  const char *code = descr + 1;
  for (int type = 0; descr[0] && type < ATTEND_NPY_TYPE_COUNT; type++)
    if (strcmp(code, types[type].code) == 0) {
      bool no_order = (types[type].size == 1 || type == ATTEND_NPY_BF16) && descr[0] == '|';
      if (descr[0] != '<' && descr[0] != '>' && !no_order) break;
      p->order.swapped = types[type].size > 1 && !no_order && descr[0] != own_order;
      array->type = (attend_npy_type)type;
      return true;
    }
  const char *hint = strchr(descr, 'O') ? "; object arrays hold no numbers" : "";
  return FAIL(p,
              "field 'descr' is '%s', expected '<f4', '<f2', '<f8', '<V2' (bfloat16), '<u2', '<i4', '<i8', '|u1' or "
              "'|b1', or '>' for '<'%s",
              descr, hint);
}

static bool parse_order(parser *p) {
  if (accept_word(p, "False")) return true;
  p->order.fortran = accept_word(p, "True");
  return p->order.fortran || FAIL(p, "field 'fortran_order': expected True or False");
}

static bool parse_extent(parser *p, int64_t *extent) {
  skip_space(p);
  if (p->at < p->end && *p->at == '-') return FAIL(p, "field 'shape': negative dimension");
  if (p->at == p->end || *p->at < '0' || *p->at > '9') return FAIL(p, "field 'shape': expected a whole number");
  for (*extent = 0; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
    if (__builtin_mul_overflow(*extent, 10, extent) || __builtin_add_overflow(*extent, *p->at - '0', extent))
      return FAIL(p, "field 'shape': dimension beyond 2^63 - 1");
  return true;
}

static bool parse_shape(parser *p, attend_npy *array) {
  if (!accept(p, '(')) return FAIL(p, "field 'shape': expected a tuple");
  while (!accept(p, ')')) {
    if (array->rank == ATTEND_NPY_MAX_RANK)
      return FAIL(p, "field 'shape': expected at most %d dimensions", ATTEND_NPY_MAX_RANK);
    if (!parse_extent(p, &array->shape[array->rank++])) return false;
    if (accept(p, ',')) continue;
    /* In Python, (3) is a number and (3,) a tuple. */
    if (array->rank == 1 || !accept(p, ')')) return FAIL(p, "field 'shape': expected a tuple, as in (2, 3) or (2,)");
    return true;
  }
  return true;
}

static bool parse_header(parser *p, attend_npy *array) {
  static const char *const names[] = {"descr", "fortran_order", "shape"};
  bool found[3] = {false};
  if (!accept(p, '{')) return FAIL(p, "header: expected a Python dict");
  while (!accept(p, '}')) {
    char key[32];
    int field = 0;
    if (!string(p, "a field's name", key, sizeof key)) return false;
    while (field < 3 && strcmp(key, names[field]) != 0) field++;
    if (field == 3) return FAIL(p, "header: unknown field '%s', expected 'descr', 'fortran_order' and 'shape'", key);
    if (found[field]) return FAIL(p, "header: field '%s' is there twice", key);
    found[field] = true;
    if (!accept(p, ':')) return FAIL(p, "header: expected ':' after '%s'", key);
    if (!(field == 0 ? parse_descr(p, array) : field == 1 ? parse_order(p) : parse_shape(p, array))) return false;
    if (accept(p, ',')) continue;
    if (!accept(p, '}')) return FAIL(p, "header: expected ',' or '}' after '%s'", key);
    break;
  }
  skip_space(p);
  if (p->at != p->end) return FAIL(p, "header: unexpected text after the dict");
  for (int field = 0; field < 3; field++)
    if (!found[field]) return FAIL(p, "header: field '%s' is missing", names[field]);
  return true;
}

/* ----------------------------------------------------------------------------------------------------------- file */

/* Reads exactly `size` bytes. `what` names them in errors. */
static bool read_bytes(FILE *file, void *bytes, size_t size, const char *what, char *why, size_t why_size) {
  size_t done = fread(bytes, 1, size, file);
  if (done == size) return true;
  if (ferror(file)) return fail(why, why_size, "cannot read: %s", strerror(errno));
  return fail(why, why_size, "truncated: %s needs %zu bytes, the file has %zu of them", what, size, done);
}

/* Whether elements lie alike in Fortran and in C order: those of vectors, and of arrays without elements. */
static bool is_vector(const attend_npy *array) {
  int long_ones = 0;
  for (int i = 0; i < array->rank; i++) {
    if (array->shape[i] == 0) return true;
    long_ones += array->shape[i] > 1;
  }
  return long_ones <= 1;
}

/* Reads everything in front of the data. */
static bool read_header(FILE *file, attend_npy *array, npy_order *order, char *why, size_t why_size) {
  unsigned char start[sizeof magic + 2], length[4] = {0};
  size_t got = fread(start, 1, sizeof start, file);
  if (ferror(file)) return fail(why, why_size, "cannot read: %s", strerror(errno));
  if (got < sizeof magic || memcmp(start, magic, sizeof magic) != 0)
    return fail(why, why_size, "not an .npy file: it does not begin with \\x93NUMPY");
  if (got < sizeof start) return fail(why, why_size, "truncated: the file ends before its version");
  if (start[6] < 1 || start[6] > 3 || start[7] != 0)
    return fail(why, why_size, "version is %d.%d, expected 1.0, 2.0 or 3.0", start[6], start[7]);
  if (!read_bytes(file, length, start[6] == 1 ? 2 : 4, "the header's length", why, why_size)) return false;
  size_t size = length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 | (size_t)length[3] << 24;
  if (size > MAX_HEADER)
    return fail(why, why_size, "header length is %zu bytes, expected at most %d", size, MAX_HEADER);

  char *text = attend_alloc(size);
  if (!text) return fail(why, why_size, "no memory for a header of %zu bytes", size);
  parser p = {.at = text, .end = text + size, .why = why, .why_size = why_size};
  bool ok = read_bytes(file, text, size, "the header", why, why_size) && parse_header(&p, array);
  attend_free(text);
  *order = p.order;
  return ok;
}

/* Puts an array that was read in Fortran order into C order. */
static bool transpose(attend_npy *array, char *why, size_t why_size) {
  const size_t size = types[array->type].size;
  const unsigned char *from = array->data;
  unsigned char *data = attend_alloc(array->count * size), *to = data;
  size_t stride[ATTEND_NPY_MAX_RANK], step = size;
  int64_t index[ATTEND_NPY_MAX_RANK] = {0};
  if (!data) return fail(why, why_size, "no memory for %zu bytes in C order", array->count * size);
  for (int i = 0; i < array->rank; i++) stride[i] = step, step *= (size_t)array->shape[i];
  for (size_t n = 0; n < array->count; n++, to += size) {
    memcpy(to, from, size);
    for (int i = array->rank; i-- > 0; index[i] = 0) {
      from += stride[i];
      if (++index[i] < array->shape[i]) break;
      from -= stride[i] * (size_t)array->shape[i];
    }
  }
  attend_free(array->data);
  array->data = data;
  return true;
}

/* Elements of the array, if their bytes can be counted at all. */
static bool count_elements(attend_npy *array, size_t *bytes, char *why, size_t why_size) {
  size_t product = types[array->type].size; /* of the dimensions that are not 0: so that 0 hides no overflow */
  array->count = 1;
  for (int i = 0; i < array->rank; i++) {
    product = size_mul(product, array->shape[i] ? (size_t)array->shape[i] : 1);
    array->count *= (size_t)array->shape[i];
  }
  if (product > PTRDIFF_MAX) return fail(why, why_size, "field 'shape': the array is larger than memory can be");
  *bytes = array->count * types[array->type].size;
  return true;
}

static bool read_array(FILE *file, attend_npy *array, char *why, size_t why_size) {
  size_t bytes = 0;
  npy_order order = {0};
  if (!read_header(file, array, &order, why, why_size) || !count_elements(array, &bytes, why, why_size)) return false;
  /* A header may promise anything: where the file's size is known, compare before asking for the memory. */
  struct stat info;
  off_t at = ftello(file);
  if (fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode) && at >= 0) {
    size_t left = info.st_size > at ? (size_t)(info.st_size - at) : 0;
    if (left < bytes)
      return fail(why, why_size, "truncated: the data needs %zu bytes, the file has %zu of them", bytes, left);
  }
  array->data = attend_alloc(bytes);
  if (!array->data) return fail(why, why_size, "no memory for %zu bytes of data", bytes);
  if (!read_bytes(file, array->data, bytes, "the data", why, why_size)) return false;
  if (fgetc(file) != EOF) return fail(why, why_size, "unexpected bytes after the %zu bytes of data", bytes);
  if (ferror(file)) return fail(why, why_size, "cannot read: %s", strerror(errno));
  if (order.swapped) attend_cli_swap_bytes(array->data, array->count, types[array->type].size);
  return !order.fortran || is_vector(array) || transpose(array, why, why_size);
}

bool attend_npy_read(const char *path, attend_npy *array, char *why, size_t why_size) {
  *array = (attend_npy){0};
  FILE *file = fopen(path, "rb");
  if (!file) return fail(why, why_size, "cannot open: %s", strerror(errno));
  bool ok = read_array(file, array, why, why_size);
  fclose(file);
  if (!ok) attend_npy_free(array);
  return ok;
}

void attend_npy_free(attend_npy *array) {
  attend_free(array->data);
  *array = (attend_npy){0};
}

bool attend_npy_write_f32(FILE *file, int rank, const int64_t *shape, const float *data) {
  char header[1024], text[ATTEND_NPY_MAX_RANK * 22 + 4];
  size_t count = 1;
  for (int i = 0; i < rank; i++) count *= (size_t)shape[i];
  int length = snprintf(header, sizeof header, "%.6s%c%c%c%c{'descr': '%cf4', 'fortran_order': False, 'shape': %s, }",
                        magic, 1, 0, 0, 0, own_order, attend_npy_shape_text(rank, shape, text, sizeof text));
  size_t padded = size_align((size_t)length + 1, 64), rest = padded - sizeof magic - 4;
  memset(header + length, ' ', padded - (size_t)length);
  header[padded - 1] = '\n';
  header[8] = (char)(rest & 255);
  header[9] = (char)(rest >> 8);
  return fwrite(header, 1, padded, file) == padded && fwrite(data, sizeof *data, count, file) == count;
}
