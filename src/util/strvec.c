#include <stdint.h>
#include <string.h>
#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/xalloc.h"

void strvec_release(struct strvec *sv)
{
    for (size_t i = 0; i < sv->count; i++)
        free(sv->items[i]);
    free(sv->items);
    *sv = (struct strvec)STRVEC_INIT;
}

void strvec_push_take(struct strvec *sv, char *s)
{
    if (sv->count + 1 >= sv->capacity) {
        sv->capacity = sv->capacity ? sv->capacity * 2 : 8;
        sv->items = xreallocarray(sv->items, sv->capacity, sizeof(char *));
    }
    sv->items[sv->count++] = s;
    sv->items[sv->count] = NULL;
}

void strvec_push(struct strvec *sv, const char *s)
{
    strvec_push_take(sv, xstrdup(s));
}

void strvec_pushf(struct strvec *sv, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    strvec_push_take(sv, xvasprintf(format, args));
    va_end(args);
}

bool strvec_contains(const struct strvec *sv, const char *s)
{
    for (size_t i = 0; i < sv->count; i++)
        if (strcmp(sv->items[i], s) == 0)
            return true;
    return false;
}

void strvec_split(struct strvec *sv, const char *s, char separator)
{
    for (;;) {
        const char *end = strchrnul(s, separator);

        strvec_push_take(sv, xstrndup(s, (size_t)(end - s)));
        if (!*end)
            return;
        s = end + 1;
    }
}

char *strvec_join(const struct strvec *sv, const char *separator)
{
    struct strbuf sb = STRBUF_INIT(SIZE_MAX / 2);

    for (size_t i = 0; i < sv->count; i++) {
        if (i)
            strbuf_adds(&sb, separator);
        strbuf_adds(&sb, sv->items[i]);
    }
    return strbuf_detach(&sb, NULL);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void strvec_sort(struct strvec *sv)
{
    if (sv->count > 1)
        qsort(sv->items, sv->count, sizeof(char *), compare);
}
