/*
 * Intrusive doubly linked list: the node lives in the element.
 *
 *     head <-> node <-> node <-> head          an empty head, and an unlinked node, point to themselves
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "util/cleanup.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name) {&(name), &(name)}

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_after_(struct list *at, struct list *node)
{
    node->prev = at;
    node->next = at->next;
    at->next->prev = node;
    at->next = node;
}

/* At the end. */
static inline void list_append(struct list *head, struct list *node)
{
    list_insert_after_(head->prev, node);
}

/* At the front. */
static inline void list_prepend(struct list *head, struct list *node)
{
    list_insert_after_(head, node);
}

/* Does nothing for a node that is not linked. */
static inline void list_unlink(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#define list_entry(ptr, type, member)  container_of(ptr, type, member)
#define list_first(head, type, member) (list_is_empty(head) ? NULL : list_entry((head)->next, type, member))

#define list_for_each(pos, head, member)                                                                               \
    for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head);                             \
         pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The current element may be unlinked and freed. */
#define list_for_each_safe(pos, tmp, head, member)                                                                     \
    for (pos = list_entry((head)->next, __typeof__(*pos), member),                                                     \
        tmp = list_entry(pos->member.next, __typeof__(*pos), member);                                                  \
         &pos->member != (head); pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*tmp), member))
