/*
 * How far two answers to the same request are apart.
 *
 * Text is compared as JSON where both are JSON, else byte by byte; tensors one by one, by name. Two numbers agree when
 * they differ by no more than the tolerance, absolutely or in relation to the larger one; everything else (structure,
 * names, shapes, types, strings) must be equal. Not a number is equal to itself here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "util/strbuf.h"

struct frame_entry;

struct difference {
    bool agree;
    bool is_numeric;         /* they have one structure, and numbers in it were compared */
    double max_abs, max_rel; /* the largest of all numbers; 0 where none was compared */
};

void difference_of_text(const char *a, size_t a_length, const char *b, size_t b_length, double tolerance,
                        struct difference *ret);
/* Both have passed frame_check() (format/frame.h). */
void difference_of_frames(const char *a, const char *b, double tolerance, struct difference *ret);
/* The elements of a tensor for people, each after a blank, until the text is full. */
void difference_print(struct strbuf *text, const char *frame, const struct frame_entry *entry);
