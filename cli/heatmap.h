/* SPDX-License-Identifier: Apache-2.0 */
/** Attention weights as a picture: an SVG document with a panel for each head. */
#ifndef ATTEND_CLI_HEATMAP_H
#define ATTEND_CLI_HEATMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Labels of an axis, UTF-8. */
typedef struct attend_labels {
  int64_t count;
  char **text;
} attend_labels;

/**
 * Reads labels: a file with one on each line if there is one of that name, else a list between commas. False after
 * reporting why not; to be freed either way.
 */
bool attend_labels_read(attend_labels *labels, const char *option, const char *text);
/** Adds one at the end, if there are any labels and it is not NULL. False after reporting that there is no memory. */
bool attend_labels_append(attend_labels *labels, const char *text);
void attend_labels_free(attend_labels *labels);

/** What is drawn. Labels of another count than their axis has are not allowed; none are numbers. */
typedef struct attend_heatmap {
  const float *weights; /**< (panels, queries, keys), each from 0 to 1 */
  int64_t panels, queries, keys;
  bool averaged; /**< the one panel is the mean over `heads` */
  int64_t heads; /**< 0 = the layer has none, and panels is 1 */
  const attend_labels *query_labels, *key_labels;
} attend_heatmap;

/** Most cells of a picture: more make files that no viewer is glad to open. */
enum { ATTEND_HEATMAP_MOST_CELLS = 100000 };

/** The document, to be freed with free(). NULL after reporting that there is no memory. */
char *attend_heatmap_draw(const attend_heatmap *map);

#endif
