/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* open_memstream(), getline(), strdup() */
#include "cli/heatmap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/options.h"
#include "cli/text.h"

/* ---------------------------------------------------------------------------------------------------------- labels */

enum { MOST_LABEL = 1000 }; /* bytes: a label stands in the title of each of its cells */

/* Labels as errors have to name them: the option, and the file if it is one. */
typedef struct source {
  const char *option, *path;
} source;

#define FAIL(from, ...) attend_cli_file_error((from)->option, (from)->path, __VA_ARGS__)

static bool add_label(attend_labels *labels, const source *from, const char *text, size_t length) {
  const size_t count = (size_t)labels->count;
  if (count == ATTEND_HEATMAP_MOST_CELLS) return FAIL(from, "expected at most %zu labels", count);
  if (length > MOST_LABEL)
    return FAIL(from, "label %zu has %zu bytes, expected at most %d", count + 1, length, MOST_LABEL);
  char **grown = labels->text;
  if ((count & (count - 1)) == 0) grown = realloc(grown, (count ? 2 * count : 1) * sizeof *grown);
  if (grown) labels->text = grown;
  char *copy = grown ? strndup(text, length) : NULL;
  if (!copy) return FAIL(from, "no memory for %zu labels", count + 1);
  labels->text[labels->count++] = copy;
  return true;
}

static bool read_lines(attend_labels *labels, const source *from, FILE *file) {
  char *line = NULL;
  size_t size = 0;
  ssize_t length;
  bool ok = true;
  while (ok && (length = getline(&line, &size, file)) >= 0) {
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) length--;
    ok = add_label(labels, from, line, (size_t)length);
  }
  const int reason = errno;
  free(line);
  return ok && (feof(file) || FAIL(from, "cannot read: %s", strerror(reason)));
}

bool attend_labels_read(attend_labels *labels, const char *option, const char *text) {
  struct stat info;
  bool ok = true;
  const bool is_file = stat(text, &info) == 0 && S_ISREG(info.st_mode);
  const source *from = &(source){option, is_file ? text : NULL};
  *labels = (attend_labels){0};
  if (is_file) {
    FILE *file = fopen(text, "r");
    if (!file) return FAIL(from, "cannot open: %s", strerror(errno));
    ok = read_lines(labels, from, file);
    fclose(file);
    return ok;
  }
  for (const char *end; ok; text = end + 1) {
    end = strchr(text, ',');
    ok = add_label(labels, from, text, end ? (size_t)(end - text) : strlen(text));
    if (!end) break;
  }
  return ok;
}

bool attend_labels_append(attend_labels *labels, const char *text) {
  return !labels->count || !text || add_label(labels, &(source){"tokens", NULL}, text, strlen(text));
}

void attend_labels_free(attend_labels *labels) {
  for (int64_t i = 0; i < labels->count; i++) free(labels->text[i]);
  free(labels->text);
  *labels = (attend_labels){0};
}

/* What is no character becomes a question mark. */
static void print_escaped(FILE *to, const char *text) {
  while (*text) {
    const int length = attend_cli_character(text);
    if (*text == '<')
      fputs("&lt;", to);
    else if (*text == '&')
      fputs("&amp;", to);
    else if (*text == '>') /* "]]>" must not be in a text */
      fputs("&gt;", to);
    else if (length == 0)
      fputc('?', to);
    else
      fwrite(text, 1, (size_t)length, to);
    text += length ? length : 1;
  }
}

static void print_label(FILE *to, const attend_labels *labels, int64_t i) {
  if (labels->count)
    print_escaped(to, labels->text[i]);
  else
    fprintf(to, "%" PRId64, i);
}

static int columns_of(const char *text) {
  int columns = 0;
  for (int length; *text; text += length ? length : 1, columns++) length = attend_cli_character(text);
  return columns;
}

/* --------------------------------------------------------------------------------------------------------- drawing */

/* Sizes in pixels. */
typedef struct layout {
  int cell, font, left, top; /* labels are as high as cells, left and top are what they need */
  int width, height;         /* of a panel */
  int across;                /* panels side by side */
} layout;

enum { GAP = 24, TITLE = 22, MARGIN = 16, LEGEND = 44, PANELS_ACROSS = 4, VALUES_FROM = 26, LABELS_FROM = 9 };

static int label_size(const attend_labels *labels, int font) {
  int most = 3;
  for (int64_t i = 0; i < labels->count; i++) {
    const int columns = columns_of(labels->text[i]);
    if (columns > most) most = columns;
  }
  return 10 + most * font * 62 / 100; /* a monospaced digit is 0.6 of its height wide */
}

static layout lay_out(const attend_heatmap *map) {
  const int64_t longest = map->queries > map->keys ? map->queries : map->keys;
  layout l = {.across = map->panels < PANELS_ACROSS ? (int)map->panels : PANELS_ACROSS};
  l.cell = longest <= 16 ? 34 : longest <= 48 ? 16 : longest <= 160 ? 6 : 3;
  if (map->panels > 1 && l.cell > 22) l.cell = 22;
  l.font = l.cell >= 12 ? 12 : l.cell;
  if (l.cell >= LABELS_FROM)
    l.left = label_size(map->query_labels, l.font), l.top = label_size(map->key_labels, l.font);
  l.width = l.left + (int)map->keys * l.cell + GAP;
  l.height = TITLE + l.top + (int)map->queries * l.cell + GAP;
  return l;
}

/* From near white over blue to near black; 0 and 1 can be told from the paper and from the text. */
static void print_colour(FILE *to, double part) {
  static const double stops[3][3] = {{240, 246, 252}, {94, 160, 208}, {8, 38, 92}};
  const int from = part < 0.5 ? 0 : 1;
  const double x = 2 * part - from;
  fprintf(to, "#");
  for (int i = 0; i < 3; i++)
    fprintf(to, "%02x", (int)(stops[from][i] + x * (stops[from + 1][i] - stops[from][i]) + 0.5));
}

static void draw_labels(FILE *to, const attend_heatmap *map, const layout *l, int x, int y) {
  if (l->left == 0) return;
  for (int64_t j = 0; j < map->keys; j++) {
    const int at = x + (int)j * l->cell + l->cell / 2 + l->font / 3;
    fprintf(to, "<text transform=\"translate(%d %d) rotate(-90)\">", at, y - 6);
    print_label(to, map->key_labels, j);
    fprintf(to, "</text>\n");
  }
  for (int64_t i = 0; i < map->queries; i++) {
    fprintf(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", x - 6,
            y + (int)i * l->cell + l->cell / 2 + l->font / 3);
    print_label(to, map->query_labels, i);
    fprintf(to, "</text>\n");
  }
}

static void draw_cell(FILE *to, const attend_heatmap *map, const layout *l, int64_t i, int64_t j, double weight,
                      double most, int x, int y) {
  const double part = weight > 0 ? weight / most : 0; /* NaN is drawn as 0, and told by its title */
  fprintf(to, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"", x, y, l->cell, l->cell);
  print_colour(to, part);
  fprintf(to, "\"><title>");
  print_label(to, map->query_labels, i);
  fprintf(to, " → ");
  print_label(to, map->key_labels, j);
  fprintf(to, ": %.4g</title></rect>\n", weight);
  if (l->cell < VALUES_FROM || weight == 0) return; /* an empty cell says it better */
  fprintf(to, "<text class=\"%s\" x=\"%d\" y=\"%d\">%.2f</text>\n", part > 0.5 ? "value light" : "value",
          x + l->cell / 2, y + l->cell / 2 + 4, weight);
}

static void draw_panel(FILE *to, const attend_heatmap *map, const layout *l, int64_t panel, double most) {
  const int left = MARGIN + (int)(panel % l->across) * l->width + l->left;
  const int top = MARGIN + (int)(panel / l->across) * l->height + TITLE + l->top;
  const float *weights = map->weights + panel * map->queries * map->keys;
  fprintf(to, "<g class=\"cells\">\n<text class=\"head\" x=\"%d\" y=\"%d\">", left, top - l->top - 8);
  if (map->averaged)
    fprintf(to, "mean of %" PRId64 " head%s</text>\n", map->heads, map->heads == 1 ? "" : "s");
  else if (map->heads == 0)
    fprintf(to, "attention weights</text>\n");
  else
    fprintf(to, "head %" PRId64 "</text>\n", panel);
  draw_labels(to, map, l, left, top);
  for (int64_t i = 0; i < map->queries; i++)
    for (int64_t j = 0; j < map->keys; j++)
      draw_cell(to, map, l, i, j, (double)weights[i * map->keys + j], most, left + (int)j * l->cell,
                top + (int)i * l->cell);
  fprintf(to, "</g>\n");
}

static void draw_legend(FILE *to, double most, int y) {
  enum { STEPS = 40, STEP = 4 };
  for (int i = 0; i < STEPS; i++) {
    fprintf(to, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"10\" fill=\"", MARGIN + i * STEP, y, STEP);
    print_colour(to, i / (STEPS - 1.0));
    fprintf(to, "\"/>\n");
  }
  fprintf(to, "<text x=\"%d\" y=\"%d\">0</text>\n", MARGIN, y + 24);
  fprintf(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text>\n", MARGIN + STEPS * STEP, y + 24, most);
  fprintf(to, "<text x=\"%d\" y=\"%d\">weight of a key (column) for a query (row)</text>\n", MARGIN + STEPS * STEP + 12,
          y + 9);
}

static double largest(const attend_heatmap *map) {
  double most = 0;
  for (int64_t i = 0; i < map->panels * map->queries * map->keys; i++)
    if ((double)map->weights[i] > most) most = (double)map->weights[i];
  return most;
}

static void draw(FILE *to, const attend_heatmap *map) {
  enum { LEGEND_WIDTH = 540 };
  const layout l = lay_out(map);
  const double most = largest(map);
  const int down = (int)((map->panels + l.across - 1) / l.across), legend = MARGIN + down * l.height;
  int width = 2 * MARGIN - GAP + l.across * l.width;
  const int height = legend + LEGEND;
  if (width < LEGEND_WIDTH) width = LEGEND_WIDTH;
  fprintf(to,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n"
          "<title>Attention weights</title>\n"
          "<desc>%" PRId64 " panel%s of %" PRId64 " queries (rows) by %" PRId64
          " keys (columns); the largest weight is %.4g.</desc>\n"
          "<style>text{font:%dpx monospace;fill:#222}.head{font-weight:bold;font-size:13px}"
          ".value{font-size:10px;text-anchor:middle}.light{fill:#fff}.cells rect{stroke:#fff;stroke-width:%s}</style>\n"
          "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
          width, height, width, height, map->panels, map->panels == 1 ? "" : "s", map->queries, map->keys, most,
          l.font < 10 ? 12 : l.font, l.cell >= 16 ? "1" : "0");
  for (int64_t panel = 0; panel < map->panels; panel++) draw_panel(to, map, &l, panel, most);
  draw_legend(to, most, legend);
  fprintf(to, "</svg>\n");
}

char *attend_heatmap_draw(const attend_heatmap *map) {
  char *text = NULL;
  size_t size = 0;
  FILE *to = open_memstream(&text, &size);
  bool ok = to != NULL;
  if (to) {
    draw(to, map);
    ok = !ferror(to);
    if (fclose(to) != 0) ok = false;
  }
  if (ok) return text;
  free(text);
  attend_cli_error("no memory for the heatmap");
  return NULL;
}
