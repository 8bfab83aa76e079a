/* SPDX-License-Identifier: Apache-2.0 */
/* The .npy reader and writer: what they take, and what they refuse. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

/* The program's sources are in no library; this is the whole of the unit under test. */
#include "cli/npy.c"

static char path[64];
static char why[512];
static attend_npy array;

static void make_path(void) {
  snprintf(path, sizeof path, "%s/attend-test-npy-XXXXXX", P_tmpdir);
  int descriptor = mkstemp(path);
  cr_assert(descriptor >= 0);
  close(descriptor);
}

static void remove_path(void) {
  attend_npy_free(&array);
  unlink(path);
}

TestSuite(npy, .init = make_path, .fini = remove_path);

static bool read_from(const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  cr_assert(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
  attend_npy_free(&array);
  strcpy(why, "untouched");
  return attend_npy_read(path, &array, why, sizeof why);
}

/* A file of version `major` with a header's text as it stands, and `data` bytes 1, 2, 3, ... after it. */
static size_t compose(unsigned char *bytes, int major, const char *text, size_t data) {
  size_t length = strlen(text), at = 8;
  memcpy(bytes, magic, sizeof magic);
  bytes[6] = (unsigned char)major;
  bytes[7] = 0;
  for (int i = 0; i < (major == 1 ? 2 : 4); i++) bytes[at++] = (unsigned char)(length >> 8 * i);
  memcpy(bytes + at, text, length);
  at += length;
  for (size_t i = 0; i < data; i++) bytes[at++] = (unsigned char)(i + 1);
  return at;
}

static bool read_text(int major, const char *text, size_t data) {
  unsigned char bytes[4096];
  cr_assert(strlen(text) + data < sizeof bytes - 12);
  return read_from(bytes, compose(bytes, major, text, data));
}

Test(npy, round_trip) {
  static const struct {
    int rank;
    int64_t shape[5];
  } shapes[] = {{0, {0}}, {1, {1}}, {1, {7}}, {2, {3, 5}}, {3, {2, 0, 9}}, {4, {2, 3, 4, 5}}, {5, {1, 1, 1, 1, 3}}};
  float data[120];
  for (int i = 0; i < 120; i++) data[i] = (float)i - 0.125f;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && attend_npy_write_f32(file, shapes[i].rank, shapes[i].shape, data));
    size_t count = 1;
    for (int j = 0; j < shapes[i].rank; j++) count *= (size_t)shapes[i].shape[j];
    cr_expect((ftell(file) - (long)(count * sizeof(float))) % 64 == 0, "data at a multiple of 64 bytes");
    cr_assert(fclose(file) == 0);
    attend_npy_free(&array);
    cr_assert(attend_npy_read(path, &array, why, sizeof why), "%s", why);
    cr_expect(array.type == ATTEND_NPY_F32 && array.rank == shapes[i].rank && array.count == count);
    cr_expect(memcmp(array.shape, shapes[i].shape, (size_t)array.rank * sizeof *array.shape) == 0);
    cr_expect(memcmp(array.data, data, count * sizeof *data) == 0);
  }
}

Test(npy, writes_what_numpy_writes) {
  static const char expected[] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
  const int64_t shape[2] = {1, 2};
  const float data[2] = {1, 2};
  char bytes[256];
  FILE *file = fopen(path, "w+b");
  cr_assert(file && attend_npy_write_f32(file, 2, shape, data));
  rewind(file);
  cr_expect(fread(bytes, 1, sizeof bytes, file) == 128 + sizeof data);
  fclose(file);
  cr_expect(memcmp(bytes, expected, sizeof expected - 1) == 0);
  for (size_t i = sizeof expected - 1; i < 127; i++) cr_expect(bytes[i] == ' ');
  cr_expect(bytes[127] == '\n');
}

Test(npy, a_full_disk_is_noticed) {
  const int64_t shape[1] = {100000};
  float *data = calloc(100000, sizeof *data);
  FILE *file = fopen("/dev/full", "wb");
  cr_assert(data && file);
  bool written = attend_npy_write_f32(file, 1, shape, data);
  bool closed = fclose(file) == 0;
  cr_expect(!(written && closed));
  free(data);
}

Test(npy, versions_and_types) {
  static const struct {
    const char *descr;
    attend_npy_type type;
    size_t size;
  } cases[] = {{"|b1", ATTEND_NPY_BOOL, 1}, {"<b1", ATTEND_NPY_BOOL, 1}, {"<f4", ATTEND_NPY_F32, 4},
               {"<f2", ATTEND_NPY_F16, 2},  {"<i4", ATTEND_NPY_I32, 4},  {"<i8", ATTEND_NPY_I64, 8},
               {"<u2", ATTEND_NPY_U16, 2},  {"<f8", ATTEND_NPY_F64, 8},  {"|u1", ATTEND_NPY_U8, 1},
               {"<V2", ATTEND_NPY_BF16, 2}, {"|V2", ATTEND_NPY_BF16, 2}};
  for (int major = 1; major <= 3; major++)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      char text[256];
      snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (2, 3), }   \n", cases[i].descr);
      cr_assert(read_text(major, text, 6 * cases[i].size), "%s: %s", cases[i].descr, why);
      cr_expect(array.type == cases[i].type && attend_npy_type_size(array.type) == cases[i].size);
      cr_expect(array.rank == 2 && array.shape[0] == 2 && array.shape[1] == 3 && array.count == 6);
      for (size_t j = 0; j < 6 * cases[i].size; j++) cr_expect(((unsigned char *)array.data)[j] == j + 1);
    }
}

Test(npy, headers_as_others_write_them) {
  static const char *const texts[] = {
      "{'descr':'<f4','fortran_order':False,'shape':(2,)}",
      "{\"shape\": (2,), \"fortran_order\": False, \"descr\": \"<f4\"}",
      " { 'fortran_order' : False ,\t'descr' : '<f4' , 'shape' : ( 2 , ) , } \r\n",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, ), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (002,), }",
      ("{'descr': '<f4', 'fortran_order': False, "
       "'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2)}"),
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    cr_expect(read_text(1, texts[i], 8), "%s: %s", texts[i], why);
    cr_expect(array.count == 2);
  }
}

Test(npy, big_endian) {
  static const struct {
    const char *descr;
    attend_npy_type type;
    size_t size;
  } cases[] = {{">b1", ATTEND_NPY_BOOL, 1}, {">f2", ATTEND_NPY_F16, 2}, {">u2", ATTEND_NPY_U16, 2},
               {">f4", ATTEND_NPY_F32, 4},  {">i4", ATTEND_NPY_I32, 4}, {">i8", ATTEND_NPY_I64, 8},
               {">f8", ATTEND_NPY_F64, 8},  {">V2", ATTEND_NPY_BF16, 2}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const size_t size = cases[i].size;
    char text[256];
    snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (3,), }", cases[i].descr);
    cr_assert(read_text(1, text, 3 * size), "%s: %s", cases[i].descr, why);
    cr_expect(array.type == cases[i].type && array.count == 3);
    const unsigned char *bytes = array.data;
    for (size_t j = 0; j < 3 * size; j++)
      cr_expect(bytes[j] == j / size * size + (size - 1 - j % size) + 1, "%s, byte %zu", cases[i].descr, j);
  }
}

Test(npy, fortran_order_of_what_has_no_order) {
  static const struct {
    const char *shape;
    size_t count;
  } cases[] = {{"()", 1}, {"(4,)", 4}, {"(1, 4)", 4}, {"(4, 1)", 4}, {"(1, 3, 1, 1)", 3}, {"(2, 0, 3)", 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[256];
    snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': True, 'shape': %s, }", cases[i].shape);
    cr_expect(read_text(1, text, 4 * cases[i].count), "%s: %s", cases[i].shape, why);
    cr_expect(array.count == cases[i].count);
    for (size_t j = 0; j < 4 * array.count; j++) cr_expect(((unsigned char *)array.data)[j] == j + 1);
  }
}

/* Elements are numbered as they lie in the file: element (i, j, ...) is i + j * (the first extent) + ... */
Test(npy, fortran_order) {
  static const struct {
    int rank;
    int64_t shape[5];
  } shapes[] = {{2, {2, 3}}, {2, {3, 2}}, {3, {2, 3, 4}}, {4, {1, 2, 1, 3}}, {4, {3, 1, 2, 2}}, {5, {2, 2, 2, 2, 2}}};
  static const char *const descrs[] = {"|b1", "<f2", ">f2", "<f4", ">f4", "<i8", ">f8"};
  for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++)
    for (size_t d = 0; d < sizeof descrs / sizeof *descrs; d++) {
      const int64_t *shape = shapes[n].shape;
      const size_t size = (size_t)(descrs[d][2] - '0');
      char shape_text[64], text[256];
      size_t count = 1;
      for (int i = 0; i < shapes[n].rank; i++) count *= (size_t)shape[i];
      snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': True, 'shape': %s, }", descrs[d],
               attend_npy_shape_text(shapes[n].rank, shape, shape_text, sizeof shape_text));
      cr_assert(read_text(1, text, count * size), "%s: %s", text, why);
      cr_expect(array.count == count && array.rank == shapes[n].rank);
      const unsigned char *bytes = array.data;
      for (size_t at = 0; at < count; at++) {
        size_t rest = at, place = 0, steps[5], step = 1;
        for (int i = 0; i < array.rank; i++) steps[i] = step, step *= (size_t)shape[i];
        for (int i = array.rank; i-- > 0; rest /= (size_t)shape[i]) place += rest % (size_t)shape[i] * steps[i];
        for (size_t j = 0; j < size; j++) {
          const size_t in_file = descrs[d][0] == '>' ? size - 1 - j : j;
          cr_expect(bytes[at * size + j] == (unsigned char)(place * size + in_file + 1), "%s, element %zu", text, at);
        }
      }
    }
}

#define DESCR "'descr': '<f4', "
#define ORDER "'fortran_order': False, "
#define SHAPE "'shape': (2,), "
#define WITH_DESCR(d) "{'descr': " d ", " ORDER SHAPE "}"
#define WITH_SHAPE(s) "{" DESCR ORDER "'shape': " s "}"

Test(npy, bad_headers) {
  static const struct {
    const char *text, *why;
  } cases[] = {
      {"", "expected a Python dict"},
      {"   \n", "expected a Python dict"},
      {"[]", "expected a Python dict"},
      {"{", "a field's name in quotes"},
      {"{}", "'descr' is missing"},
      {"{" ORDER SHAPE "}", "'descr' is missing"},
      {"{" DESCR SHAPE "}", "'fortran_order' is missing"},
      {"{" DESCR ORDER "}", "'shape' is missing"},
      {"{" DESCR ORDER SHAPE "'more': 1}", "unknown field 'more'"},
      {"{" DESCR ORDER SHAPE SHAPE "}", "'shape' is there twice"},
      {"{" DESCR ORDER SHAPE "} x", "unexpected text after"},
      {"{" DESCR ORDER SHAPE "}{", "unexpected text after"},
      {"{" DESCR ORDER "'shape': (2,)", "expected ',' or '}'"},
      {"{" DESCR ORDER "'shape': (2,) 'x'", "expected ',' or '}'"},
      {"{" DESCR ORDER "'shape' (2,)}", "expected ':'"},
      {"{" DESCR ORDER "'shape", "closed quotes"},
      {"{" DESCR ORDER "'sh\\x61pe': (2,)}", "closed quotes"},
      {"{" DESCR ORDER "shape: (2,)}", "in quotes"},
      {"{'a name that is longer than any field of a header has': 1}", "too long"},
      {WITH_DESCR("'=f4'"), "field 'descr' is '=f4'"},
      {WITH_DESCR("'f4'"), "field 'descr' is 'f4'"},
      {WITH_DESCR("'<f16'"), "field 'descr' is '<f16', expected '<f4'"},
      {WITH_DESCR("'|f8'"), "field 'descr' is '|f8'"},
      {WITH_DESCR("'|O'"), "object arrays"},
      {WITH_DESCR("'O'"), "object arrays"},
      {WITH_DESCR("'<c8'"), "field 'descr' is '<c8'"},
      {WITH_DESCR("'|i1'"), "field 'descr' is '|i1'"},
      {WITH_DESCR("'|f4'"), "field 'descr' is '|f4'"},
      {WITH_DESCR("'<U5'"), "field 'descr' is '<U5'"},
      {WITH_DESCR("''"), "field 'descr' is ''"},
      {WITH_DESCR("'<'"), "field 'descr' is '<'"},
      {WITH_DESCR("'<f4 and much more than a type has'"), "too long"},
      {WITH_DESCR("[('a', '<f4')]"), "structured"},
      {WITH_DESCR("4"), "in quotes"},
      {"{" DESCR "'fortran_order': True, 'shape': (2, 2)}", "truncated: the data needs 16 bytes, the file has 8"},
      {"{" DESCR "'fortran_order': 0, " SHAPE "}", "expected True or False"},
      {"{" DESCR "'fortran_order': Falsehood, " SHAPE "}", "expected ',' or '}'"},
      {WITH_SHAPE("2"), "expected a tuple"},
      {WITH_SHAPE("(2)"), "expected a tuple"},
      {WITH_SHAPE("[2]"), "expected a tuple"},
      {WITH_SHAPE("(2"), "expected a tuple"},
      {WITH_SHAPE("(,)"), "expected a whole number"},
      {WITH_SHAPE("(2,,)"), "expected a whole number"},
      {WITH_SHAPE("(2, 3"), "expected a tuple"},
      {WITH_SHAPE("(2.0,)"), "expected a tuple"},
      {WITH_SHAPE("('2',)"), "expected a whole number"},
      {WITH_SHAPE("(None,)"), "expected a whole number"},
      {WITH_SHAPE("(-2,)"), "negative dimension"},
      {WITH_SHAPE("(9223372036854775808,)"), "beyond 2^63"},
      {WITH_SHAPE("(99999999999999999999999999999999999999,)"), "beyond 2^63"},
      {WITH_SHAPE("(9223372036854775807,)"), "larger than memory"},
      {WITH_SHAPE("(4294967296, 4294967296)"), "larger than memory"},
      {WITH_SHAPE("(0, 4294967296, 4294967296)"), "larger than memory"},
      {WITH_SHAPE("(2305843009213693952,)"), "larger than memory"},
      {WITH_SHAPE("(1152921504606846976, 2)"), "larger than memory"},
      {WITH_SHAPE("(1000000000000,)"), "truncated: the data needs 4000000000000 bytes, the file has 8"},
      {WITH_SHAPE("(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2)"), "at most 32 dimensions"},
      {WITH_SHAPE("()"), "unexpected bytes after the "},
      {WITH_SHAPE("(0,)"), "unexpected bytes after the "},
      {WITH_SHAPE("(1,)"), "unexpected bytes after the "},
      {WITH_SHAPE("(3,)"), "truncated: the data needs 12 bytes, the file has 8"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cr_expect(!read_text(1, cases[i].text, 8), "%s", cases[i].text);
    cr_expect(strstr(why, cases[i].why), "%s: expected '%s', got '%s'", cases[i].text, cases[i].why, why);
    cr_expect(!array.data && array.rank == 0 && array.count == 0);
  }
}

Test(npy, bad_beginnings) {
  static const struct {
    const char *bytes;
    size_t size;
    const char *why;
  } cases[] = {
      {"", 0, "not an .npy file"},
      {"PK\3\4 a zip archive", 17, "not an .npy file"},
      {"\x93NUMPZ\1\0\0\0", 10, "not an .npy file"},
      {"\x93NUMPY", 6, "before its version"},
      {"\x93NUMPY\1", 7, "before its version"},
      {"\x93NUMPY\0\0\0\0", 10, "version is 0.0"},
      {"\x93NUMPY\4\0\0\0", 10, "version is 4.0"},
      {"\x93NUMPY\1\1\0\0", 10, "version is 1.1"},
      {"\x93NUMPY\1\0\xff", 9, "truncated: the header's length needs 2 bytes, the file has 1"},
      {"\x93NUMPY\2\0\1\0\0", 11, "truncated: the header's length needs 4 bytes, the file has 3"},
      {"\x93NUMPY\1\0\xff\xff{", 11, "truncated: the header needs 65535 bytes, the file has 1"},
      {"\x93NUMPY\2\0\xff\xff\xff\xff{", 13, "header length is 4294967295 bytes"},
      {"\x93NUMPY\3\0\1\0\x10\0{", 13, "header length is 1048577 bytes"},
      {"\x93NUMPY\3\0\0\0\x10\0{", 13, "truncated: the header needs 1048576 bytes, the file has 1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cr_expect(!read_from(cases[i].bytes, cases[i].size));
    cr_expect(strstr(why, cases[i].why), "expected '%s', got '%s'", cases[i].why, why);
  }
}

Test(npy, files_that_cannot_be_read) {
  cr_expect(!attend_npy_read("/nowhere/at/all.npy", &array, why, sizeof why));
  cr_expect(strstr(why, "cannot open: No such file"), "%s", why);
  cr_expect(!attend_npy_read("/", &array, why, sizeof why));
  cr_expect(strstr(why, "cannot read: Is a directory"), "%s", why);
}

Test(npy, cut_off_anywhere) {
  unsigned char bytes[256];
  for (int major = 1; major <= 3; major++) {
    size_t size = compose(bytes, major, "{" DESCR ORDER SHAPE "}", 8);
    cr_assert(read_from(bytes, size));
    for (size_t cut = 0; cut < size; cut++) {
      cr_expect(!read_from(bytes, cut));
      cr_expect(strstr(why, cut < sizeof magic ? "not an .npy file" : "truncated"), "%zu: %s", cut, why);
    }
  }
}

/* A file that cannot be measured is read to its end: what is missing is noticed there. */
Test(npy, cut_off_stream) {
  unsigned char bytes[256];
  size_t size = compose(bytes, 1, "{" DESCR ORDER SHAPE "}", 8);
  for (size_t cut = 1; cut <= size; cut++) {
    FILE *file = fmemopen(bytes, cut, "rb");
    cr_assert(file);
    array = (attend_npy){0};
    cr_expect(read_array(file, &array, why, sizeof why) == (cut == size), "%zu", cut);
    attend_npy_free(&array);
    fclose(file);
  }
}

static uint64_t random_state;

static uint64_t random_number(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  return random_state ^= random_state << 17;
}

Test(npy, random_damage) {
  unsigned char whole[256], bytes[300];
  const size_t size = compose(whole, 1, "{" DESCR ORDER "'shape': (2, 3), }      \n", 24);
  int refused = 0;
  random_state = 20240229;
  for (int i = 0; i < 20000; i++) {
    size_t length = size;
    memcpy(bytes, whole, size);
    for (uint64_t damages = 1 + random_number() % 4; damages > 0; damages--) {
      size_t at = random_number() % length;
      switch (random_number() % 4) {
      case 0: bytes[at] = (unsigned char)random_number(); break;
      case 1: bytes[at] = (unsigned char)"{}()[]',:\"-0123456789 \\"[random_number() % 23]; break;
      case 2: bytes[at] ^= (unsigned char)(1 << random_number() % 8); break;
      case 3: length = at + 1; break;
      }
    }
    FILE *file = fmemopen(bytes, length, "rb");
    cr_assert(file);
    array = (attend_npy){0};
    why[0] = '\0';
    if (read_array(file, &array, why, sizeof why)) {
      size_t count = 1;
      for (int j = 0; j < array.rank; j++) count *= (size_t)array.shape[j];
      cr_expect(count == array.count && count * attend_npy_type_size(array.type) <= sizeof bytes);
    } else {
      cr_expect(why[0]);
      refused++;
    }
    attend_npy_free(&array);
    fclose(file);
  }
  cr_expect(refused > 10000 && refused < 20000, "%d refused", refused);
}

Test(npy, random_bytes) {
  unsigned char bytes[128];
  random_state = 1;
  for (int i = 0; i < 20000; i++) {
    for (size_t j = 0; j < sizeof bytes; j++) bytes[j] = (unsigned char)random_number();
    memcpy(bytes, "\x93NUMPY\1\0\x60\0{", i % 12);
    FILE *file = fmemopen(bytes, sizeof bytes, "rb");
    cr_assert(file);
    array = (attend_npy){0};
    cr_expect(!read_array(file, &array, why, sizeof why));
    attend_npy_free(&array);
    fclose(file);
  }
}

Test(npy, no_memory) {
  unsigned char bytes[256];
  size_t size = compose(bytes, 1, "{" DESCR ORDER SHAPE "}", 8);
  for (long nth = 1; nth <= 2; nth++) {
    attend_fail_allocation(nth);
    cr_expect(!read_from(bytes, size));
    cr_expect(strstr(why, "no memory"), "%s", why);
    cr_expect(!array.data);
  }
  attend_fail_allocation(0);
  cr_expect(read_from(bytes, size));
  size = compose(bytes, 1, "{" DESCR "'fortran_order': True, 'shape': (2, 3)}", 24);
  attend_fail_allocation(3);
  cr_expect(!read_from(bytes, size));
  cr_expect(strstr(why, "no memory for 24 bytes in C order"), "%s", why);
  cr_expect(!array.data);
  attend_fail_allocation(0);
  cr_expect(read_from(bytes, size));
}

Test(npy, shape_text) {
  const int64_t shape[3] = {2, 0, 9223372036854775807};
  char text[64], little[6];
  cr_expect_str_eq(attend_npy_shape_text(0, shape, text, sizeof text), "()");
  cr_expect_str_eq(attend_npy_shape_text(1, shape, text, sizeof text), "(2,)");
  cr_expect_str_eq(attend_npy_shape_text(3, shape, text, sizeof text), "(2, 0, 9223372036854775807)");
  cr_expect_str_eq(attend_npy_shape_text(3, shape, little, sizeof little), "(2, 0");
}
